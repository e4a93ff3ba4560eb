//! What is below the script frames of stacks that were noted without it.
//!
//! A holder's stack that a waiter read, and one noted at a release, end with script frames; samples go on into machine code,
//! and tell when garbage is collected. What the same thread did below the same script frames, sampled while it owned the lock,
//! tells in which proportion the time of such a stack belongs to what. Where nothing was sampled and machine code was wanted,
//! a marker says so. No nanosecond is lost.

use rustc_hash::FxHashMap;

use crate::{
    ledger::apportion,
    model::{
        ids::{LockId, Tid},
        profile::{Blame, Profile, StackTime},
        stack::{Frame, FrameKind, GARBAGE_COLLECTION, NATIVE_CUT, NATIVE_UNREAD, StackId, StackTable},
        state::{State, StateClass},
        time::Nanos,
    },
    session::joiner::marked,
};

/// By holder and script stack: the whole stacks sampled, each with its time.
type Sampled = FxHashMap<(Tid, StackId), Vec<(StackId, Nanos)>>;

/// Whether a stack that is no sample tells that garbage is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collections {
    /// It does.
    Noted,
    /// It ends with the script frame all the same.
    Unnoted,
}

/// Splits the stacks of samples without machine code, and then those of blame; completes those of long holds where there is no
/// doubt.
pub(super) fn complete(profile: &mut Profile, collections: Collections) {
    let Profile { threads, stacks, .. } = &mut *profile;
    for thread in threads {
        thread.stacks = completed(std::mem::take(&mut thread.stacks), stacks);
    }
    let sampled = sampled_inside(profile, collections);
    let Profile { blame, long_holds, stacks, native, .. } = profile;
    let split = |entry: &Blame| split(entry, (&sampled, *native), stacks);
    *blame = merged(blame.iter().flat_map(split).collect());
    for hold in long_holds {
        if !is_script_only(stacks, hold.stack) {
            continue;
        }
        match sampled.get(&(hold.tid, hold.stack)).map(Vec::as_slice) {
            Some([(only, _)]) => hold.stack = *only,
            _ if *native => hold.stack = unread(stacks, hold.stack),
            _ => {}
        }
    }
}

/// The same time, that of samples without machine code spread over those of the same state and script stack that have it.
fn completed(parts: Vec<StackTime>, stacks: &mut StackTable) -> Vec<StackTime> {
    let (unread, mut read): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| is_unread(stacks, part.stack));
    if unread.is_empty() {
        return read;
    }
    let mut known: FxHashMap<(State, Option<LockId>, StackId), Vec<usize>> = FxHashMap::default();
    for (place, part) in read.iter().enumerate() {
        known
            .entry((part.state, part.lock, stacks.changed(part.stack, |frames| as_noted(frames, Collections::Noted))))
            .or_default()
            .push(place);
    }
    let mut left = Vec::new();
    for part in unread {
        let script = stacks.changed(part.stack, |mut frames| {
            frames.pop();
            frames
        });
        let Some(places) = known.get(&(part.state, part.lock, script)) else {
            left.push(part);
            continue;
        };
        let weights: Vec<u64> = places.iter().map(|place| read[*place].time.as_nanos()).collect();
        let shares = apportion(part.time, &weights);
        places.iter().zip(shares).for_each(|(place, share)| read[*place].time += share);
    }
    read.extend(left);
    read
}

fn sampled_inside(profile: &mut Profile, collections: Collections) -> Sampled {
    let mut sampled = Sampled::default();
    for thread in &profile.threads {
        for part in thread.stacks.iter().filter(|part| part.state.class() == StateClass::Inside) {
            if is_unread(&profile.stacks, part.stack) {
                continue;
            }
            let script = profile.stacks.changed(part.stack, |frames| as_noted(frames, collections));
            let parts = sampled.entry((thread.tid, script)).or_default();
            match parts.iter_mut().find(|(stack, _)| *stack == part.stack) {
                Some((_, time)) => *time += part.time,
                None => parts.push((part.stack, part.time)),
            }
        }
    }
    sampled
}

fn split(entry: &Blame, (sampled, native): (&Sampled, bool), stacks: &mut StackTable) -> Vec<Blame> {
    if !is_script_only(stacks, entry.stack) {
        return vec![*entry];
    }
    let parts = entry.holder.and_then(|holder| sampled.get(&(holder, entry.stack)));
    let Some(parts) = parts else {
        let stack = if native { unread(stacks, entry.stack) } else { entry.stack };
        return vec![Blame { stack, ..*entry }];
    };
    let weights: Vec<u64> = parts.iter().map(|(_, time)| time.as_nanos()).collect();
    let times = apportion(entry.wait, &weights);
    let parts = parts.iter().zip(times).filter(|(_, wait)| *wait > Nanos::ZERO);
    parts.map(|((stack, _), wait)| Blame { stack: *stack, wait, ..*entry }).collect()
}

/// One entry for each lock, pair of threads and stack; largest first.
fn merged(entries: Vec<Blame>) -> Vec<Blame> {
    let mut places: FxHashMap<_, usize> = FxHashMap::default();
    let mut merged: Vec<Blame> = Vec::with_capacity(entries.len());
    for entry in entries {
        let place = *places.entry((entry.lock, entry.waiter, entry.holder, entry.stack)).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(known) => known.wait += entry.wait,
            None => merged.push(entry),
        }
    }
    merged.sort_by_key(|entry| std::cmp::Reverse(entry.wait));
    merged
}

fn is_unread(stacks: &StackTable, stack: StackId) -> bool {
    stacks.frames(stack).next_back() == Some(&Frame::marker(NATIVE_UNREAD))
}

fn is_script_only(stacks: &StackTable, stack: StackId) -> bool {
    stacks.frames(stack).next_back().is_some_and(|frame| frame.kind == FrameKind::Script)
}

fn unread(stacks: &mut StackTable, stack: StackId) -> StackId {
    stacks.changed(stack, marked)
}

/// A sample's stack as whoever is no sample would have noted it.
fn as_noted(mut frames: Vec<Frame>, collections: Collections) -> Vec<Frame> {
    let (cut, collector) = (Frame::marker(NATIVE_CUT), Frame::marker(GARBAGE_COLLECTION));
    frames.retain(|frame| {
        let noted = matches!(frame.kind, FrameKind::Script | FrameKind::Marker) && *frame != cut;
        noted && (collections == Collections::Noted || *frame != collector)
    });
    frames
}

#[cfg(test)]
mod tests {
    use super::{Sampled, completed, merged, split};
    use crate::model::{
        ids::{LockId, Tid},
        profile::{Blame, StackTime},
        stack::{Frame, FrameKind, NATIVE_UNREAD, StackTable},
        state::State,
        time::Nanos,
    };

    fn script(function: &str) -> Frame {
        Frame { kind: FrameKind::Script, function: function.to_owned(), file: "a.py".to_owned(), line: Some(1) }
    }

    #[test]
    fn time_is_split_as_sampled_and_kept_to_the_nanosecond() {
        let mut stacks = StackTable::default();
        let tid = |raw| Tid::from_raw(raw).unwrap();
        let plain = stacks.intern(&[script("f")]);
        let whole = |name: &str| vec![script("f"), Frame::native(name, "libx.so")];
        let (dump, load) = (stacks.intern(&whole("dump")), stacks.intern(&whole("load")));
        let sampled =
            Sampled::from_iter([((tid(2), plain), vec![(dump, Nanos::from_nanos(3)), (load, Nanos::from_nanos(1))])]);
        let entry = |stack, wait| Blame {
            lock: LockId::from_index(0),
            waiter: Some(tid(1)),
            holder: Some(tid(2)),
            wait: Nanos::from_nanos(wait),
            stack,
        };
        let parts = split(&entry(plain, 1001), (&sampled, true), &mut stacks);
        assert_eq!(parts, [entry(dump, 751), entry(load, 250)]);
        let joined = merged([parts, vec![entry(load, 900)]].concat());
        assert_eq!(joined, [entry(load, 1150), entry(dump, 751)]);
        let other = Blame { holder: Some(tid(3)), ..entry(plain, 7) };
        let left = split(&other, (&sampled, true), &mut stacks);
        let last = stacks.frames(left[0].stack).next_back().cloned();
        assert_eq!((left.len(), left[0].wait.as_nanos(), last), (1, 7, Some(Frame::marker(NATIVE_UNREAD))));
    }

    #[test]
    fn samples_without_machine_code_follow_those_with_it() {
        let mut stacks = StackTable::default();
        let dump = stacks.intern(&[script("f"), Frame::native("dump", "libx.so")]);
        let bare = stacks.intern(&[script("f")]);
        let unread = stacks.intern(&[script("f"), Frame::marker(NATIVE_UNREAD)]);
        let part = |state, stack, time| StackTime { state, lock: None, stack, time: Nanos::from_nanos(time) };
        let (running, waiting) = (State::HeldRunning, State::WaitQueued);
        let parts = [(running, dump, 30), (running, bare, 10), (running, unread, 7), (waiting, unread, 5)];
        let found = completed(parts.map(|(state, stack, time)| part(state, stack, time)).into(), &mut stacks);
        let expected = [(running, dump, 35), (running, bare, 12), (waiting, unread, 5)];
        assert_eq!(found, expected.map(|(state, stack, time)| part(state, stack, time)));
    }
}
