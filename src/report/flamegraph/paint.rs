//! One fixed colour a state, told apart by colour-blind readers too, and light enough for black text.
//!
//! inferno colours a frame by its name alone. Every name therefore carries a private-use character that stands for its
//! state; `polish` takes these marks out again.

use inferno::flamegraph::color::Color;

use crate::model::state::State;

/// The first of the nine marks; names are cleaned of this whole range beforehand.
const FIRST_MARK: u32 = 0xe000;

/// A frame with the state whose colour it wears.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Painted {
    /// Whether it keeps the state's colour as it is or may differ in brightness from its neighbours.
    pub(super) tone: Tone,
    /// The visible name.
    pub(super) name: String,
    /// The state.
    pub(super) state: State,
}

/// How close a frame's colour is to its state's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    /// The very colour.
    Pure,
    /// The colour at a brightness that depends on the name.
    Varied,
}

/// The colour of `state`.
pub(super) const fn state_colour(state: State) -> Color {
    let (r, g, b) = match state {
        State::HeldRunning => (0xf5, 0xa6, 0x23),
        State::HeldPreempted => (0xf9, 0xd7, 0x7e),
        State::HeldBlocked => (0xc8, 0x9b, 0x6d),
        State::WaitQueued => (0xe8, 0x6a, 0x5c),
        State::WaitHandoff => (0xf4, 0xb3, 0xc2),
        State::OutsideRunning => (0x5c, 0xb8, 0x7a),
        State::OutsidePreempted => (0xb5, 0xdd, 0xa4),
        State::OutsideBlocked => (0xa3, 0xbc, 0xd6),
        State::Unknown => (0xc4, 0xc4, 0xc4),
    };
    Color { r, g, b }
}

/// The mark that stands for `state` at the end of a name.
pub(super) fn mark(state: State) -> char {
    let position = State::ALL.iter().position(|other| *other == state);
    let offset = position.and_then(|position| u32::try_from(position).ok()).expect("nine states are listed");
    char::from_u32(FIRST_MARK + offset).expect("the private use area starts here")
}

/// Whether `shown` is one of the marks.
pub(super) fn is_mark(shown: char) -> bool {
    ('\u{e000}'..='\u{e008}').contains(&shown)
}

/// The colour of `frame`.
pub(super) fn colour_of(frame: &Painted) -> Color {
    let pure = state_colour(frame.state);
    match frame.tone {
        Tone::Pure => pure,
        Tone::Varied => lightened(pure, steps_of(&frame.name)),
    }
}

/// `colour` brought towards white by `steps` twentieths.
fn lightened(colour: Color, steps: u8) -> Color {
    let lighter = |channel: u8| channel + u8::try_from(u16::from(255 - channel) * u16::from(steps) / 20).unwrap_or(0);
    Color { r: lighter(colour.r), g: lighter(colour.g), b: lighter(colour.b) }
}

/// 0 to 6, the same for a name in every run (FNV-1a).
fn steps_of(name: &str) -> u8 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u8::try_from((hash >> 16) % 7).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{is_mark, mark, state_colour};
    use crate::model::state::State;

    #[test]
    fn every_state_has_a_mark_and_a_colour_of_its_own() {
        let marks: HashSet<char> = State::ALL.into_iter().map(mark).collect();
        assert_eq!(marks.len(), 9);
        assert!(marks.into_iter().all(is_mark));
        let colours: HashSet<_> = State::ALL.into_iter().map(|state| state_colour(state).to_string()).collect();
        assert_eq!(colours.len(), 9);
    }

    #[test]
    fn black_text_is_readable_on_every_colour() {
        for state in State::ALL {
            let colour = state_colour(state);
            let luminance = 0.2126 * linear(colour.r) + 0.7152 * linear(colour.g) + 0.0722 * linear(colour.b);
            let contrast = (luminance + 0.05) / 0.05;
            assert!(contrast > 6.0, "{state}: contrast {contrast:.1}");
        }
    }

    /// A channel of sRGB as light, after WCAG 2.
    fn linear(channel: u8) -> f64 {
        let channel = f64::from(channel) / 255.0;
        if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
    }
}
