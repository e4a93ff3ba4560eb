//! One reading of a thread's chain of frames, and what two readings have in common.
//!
//! Two readings of a running thread agree on a frame only when its address, its code, its instruction and, where they
//! lie beside it, its variables are the same in both: a frame that was left and entered again in between differs.

use crate::{
    model::address::LiveAddress,
    stack::{
        StackFailure,
        python::{
            pages::Pages,
            walk::{Chain, WalkError, Walker},
        },
    },
    target::memory::Memory,
};

/// Frames whose callees begin further behind them are compared by their heads only.
const LONGEST_FRAME: u64 = 2048;

/// One walk and the memory it saw.
#[derive(Debug, Default)]
pub struct Reading {
    pages: Pages,
    /// The frames, innermost first.
    pub chain: Chain,
}

impl Reading {
    /// Walks from the innermost frame `top`.
    pub fn walk(&mut self, walker: &Walker, memory: &dyn Memory, top: LiveAddress) -> Result<(), StackFailure> {
        walker.walk(memory, top, &mut self.pages, &mut self.chain).map_err(|error| match error {
            WalkError::Memory(_) => StackFailure::Unreadable,
            WalkError::Cycle(_) | WalkError::Ended(_) => StackFailure::Torn,
        })
    }

    /// Whether the other reading saw the same: everything but where the innermost frame is, for that one moves on.
    pub fn agrees(&self, other: &Self) -> bool {
        let (mine, others) = (&self.chain.frames, &other.chain.frames);
        let (Some(inner), Some(other_inner)) = (mine.first(), others.first()) else {
            return mine.is_empty() && others.is_empty();
        };
        inner.address == other_inner.address
            && inner.frame.code == other_inner.frame.code
            && mine[1..] == others[1..]
            && mine.windows(2).all(|pair| self.agrees_in_full(other, pair[1].address, pair[0].address))
    }

    /// How many outer frames both readings saw in the same state; none when they need not be the outermost ones.
    pub fn stable_outer(&self, other: &Self) -> usize {
        if self.chain.cut || other.chain.cut {
            return 0;
        }
        let (mine, others) = (self.chain.frames.iter().rev(), other.chain.frames.iter().rev());
        let equal = mine.zip(others).take_while(|(mine, others)| mine == others).count();
        let outer: Vec<_> = self.chain.frames.iter().rev().take(equal).collect();
        let changed = outer.windows(2).position(|pair| !self.agrees_in_full(other, pair[0].address, pair[1].address));
        changed.map_or(equal, |outer_of_pair| outer_of_pair)
    }

    /// Where the callee lies right behind its caller, the caller's variables lie between, and a caller's variables do not
    /// change while the callee runs: another call from the same place would most likely have left others.
    fn agrees_in_full(&self, other: &Self, caller: LiveAddress, callee: LiveAddress) -> bool {
        let adjacent = callee > caller && callee.raw() - caller.raw() <= LONGEST_FRAME;
        !adjacent || self.pages.agree(&other.pages, caller, callee)
    }
}
