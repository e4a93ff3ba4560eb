//! Recording while a program runs.

use std::{thread, time::Duration};

use gilscope::{
    model::{event::Event, time::MonoNanos},
    perf::clock,
    source::Source,
};

use crate::live::running::Running;

/// Drains until the program prints `word`, then ends the recording; events in order of time.
pub fn record_until(source: &mut dyn Source, program: &mut Running, word: &str) -> Vec<Event> {
    let (mut events, mut seen) = (Vec::new(), String::new());
    let mut watermark = MonoNanos::from_monotonic(0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while {
                seen = program.line();
                seen != word && !seen.is_empty()
            } {}
        });
        while !reader.is_finished() {
            let now = clock::now();
            let next = source.drain(now, &mut events);
            assert!(next >= watermark && next <= now);
            watermark = next;
            thread::sleep(Duration::from_millis(5));
        }
    });
    source.finish(&mut events);
    events.sort_by_key(|event| event.at);
    events
}
