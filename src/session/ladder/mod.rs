//! The rungs: every way to take lock events, best first, each really tried until one bears.
//!
//! A rung is tried by beginning to record on it; nothing is inferred from rights or settings. Invariant: a rung that did not
//! bear has left nothing behind, and why it did not is kept for whoever wants to know.

mod launch;
mod rung;

pub(super) use self::launch::{Climbed, climb_before_start};
pub use self::rung::{Fallen, Rung};

use crate::{
    model::ids::Pid,
    session::{
        error::SessionError,
        options::{BackendChoice, NoteDetail, RecordOptions},
        recording::Recording,
    },
    source::kin::SharedKin,
    target::discover::{DiscoverError, Target},
};

/// Begins to record a running target on the best rung that bears.
pub(super) fn climb(
    target: &Target,
    (options, kin): (RecordOptions, Option<&SharedKin>),
    fallen: Vec<Fallen>,
) -> Result<(Rung, Recording), SessionError> {
    let pid = target.pid;
    let mut fallen = fallen;
    let known: Vec<Rung> = fallen.iter().map(|fallen| fallen.rung).collect();
    for rung in Rung::for_attach(options).filter(|rung| !known.contains(rung)) {
        match rung.attach_beside(target, options, kin) {
            Ok(mut recording) => {
                recording.note_rung((rung, options), &fallen);
                return Ok((rung, recording));
            }
            Err(why) => fallen.push(Fallen::because(rung, why, Some(pid))),
        }
        if !lives(pid) {
            // Whatever went wrong, this is why.
            return Err(DiscoverError::Ended(pid).into());
        }
    }
    Err(nothing_bears(options.backend, Some(pid), fallen))
}

/// That no rung bears.
fn nothing_bears(choice: BackendChoice, pid: Option<Pid>, fallen: Vec<Fallen>) -> SessionError {
    SessionError::NoRung { choice, pid, fallen }
}

/// Which rung is taken and, with `detail`, why none of the better ones.
pub(super) fn taken(rung: Rung, fallen: &[Fallen], detail: NoteDetail) -> String {
    let mut note = format!("lock events are taken by {}", rung.words());
    if detail == NoteDetail::Full {
        let whys: Vec<String> = fallen.iter().map(Fallen::words_in_full).collect();
        if !whys.is_empty() {
            note += &format!("; {}", whys.join("; "));
        }
    }
    // One that does not suit the program is no matter of the place.
    let names: Vec<&str> = fallen
        .iter()
        .filter(|fallen| !matches!(fallen.why, SessionError::Unsuited))
        .map(|fallen| fallen.rung.name())
        .collect();
    if detail == NoteDetail::Brief && !names.is_empty() {
        note += &format!("; {} did not work here (gilscope doctor says why)", names.join(", "));
    }
    note
}

fn lives(pid: Pid) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| !exe.as_os_str().is_empty())
}
