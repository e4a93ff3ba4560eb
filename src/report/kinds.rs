//! Held time and inflicted waiting by what the lock was held for.
//!
//! The invariants: over all kinds held time is the threads' time inside, and inflicted waiting is all blame, in whole nanoseconds.
//!
//! A held nanosecond has a state and a stack, which tell its kind. A wait that is charged to a stack has no state, and whoever
//! reads a holder's stack while waiting sees no machine code; such time goes to the kinds that were seen at the same place, in
//! the same proportion.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use crate::{
    model::{
        ids::Tid,
        profile::{LongHold, Profile},
        stack::{Frame, FrameKind, NATIVE_UNREAD, StackId},
        state::{State, StateClass, StateTimes},
        time::Nanos,
    },
    report::{
        charge::{Charge, acting_frame, charges, frames_of},
        kind::{HoldKind, NativeFrames},
    },
};

/// Time by kind.
type Parts<'a> = BTreeMap<HoldKind<'a>, Nanos>;

/// The kinds seen in a profile, by place.
#[derive(Debug)]
pub(super) struct Kinds<'a> {
    profile: &'a Profile,
    native: NativeFrames,
    /// All time inside, however many threads spent it.
    held: BTreeMap<(State, Option<StackId>), Nanos>,
    by_thread: HashMap<Tid, StateTimes>,
    by_stack: HashMap<StackId, Parts<'a>>,
    by_line: HashMap<Vec<&'a Frame>, Parts<'a>>,
    by_function: HashMap<(&'a str, &'a str), Parts<'a>>,
}

impl<'a> Kinds<'a> {
    /// What the threads of `profile` held locks for.
    pub(super) fn of(profile: &'a Profile) -> Self {
        let (native, held) = (NativeFrames::of(profile), held_by_place(profile));
        let (by_stack, by_line, by_function) = (HashMap::new(), HashMap::new(), HashMap::new());
        let by_thread = states_by_thread(profile);
        let mut kinds = Self { profile, native, held: BTreeMap::new(), by_thread, by_stack, by_line, by_function };
        held.iter().for_each(|((state, stack), time)| kinds.note(*state, *stack, *time));
        Self { held, ..kinds }
    }

    fn note(&mut self, state: State, stack: Option<StackId>, time: Nanos) {
        let kind = self.held(state, stack);
        let (line, function) = (self.line(stack), self.function(stack));
        let parts = [
            stack.map(|stack| self.by_stack.entry(stack).or_default()),
            Some(self.by_line.entry(line).or_default()),
            Some(self.by_function.entry(function).or_default()),
        ];
        for parts in parts.into_iter().flatten() {
            *parts.entry(kind).or_default() += time;
        }
    }

    /// The kind of time held in `state` at `stack`, which is the owner's own.
    pub(super) fn held(&self, state: State, stack: Option<StackId>) -> HoldKind<'a> {
        HoldKind::of(state, &frames_of(&self.profile.stacks, stack), self.native)
    }

    /// The kinds of `wait` charged to `holder` at `stack`; the parts sum to it.
    pub(super) fn inflicted(&self, (holder, stack): (Option<Tid>, StackId), wait: Nanos) -> Vec<(HoldKind<'a>, Nanos)> {
        let vague = self.unseen(stack) != HoldKind::GarbageCollection;
        let line = || self.by_line.get(&self.line(Some(stack))).filter(|_| vague);
        let function = || self.by_function.get(&self.function(Some(stack))).filter(|_| vague);
        match self.by_stack.get(&stack).filter(|_| self.is_whole(stack)).or_else(line).or_else(function) {
            Some(parts) => split(wait, parts),
            None => split(wait, &self.by_states(holder, stack)),
        }
    }

    /// What a holder without a tick at this place can have been doing, by all that it did while it owned a lock.
    fn by_states(&self, holder: Option<Tid>, stack: StackId) -> Parts<'a> {
        let states = holder.and_then(|holder| self.by_thread.get(&holder)).copied().unwrap_or_default();
        let off_cpu = [
            (HoldKind::Preempted, states.get(State::HeldPreempted)),
            (HoldKind::BlockedIn(None), states.get(State::HeldBlocked)),
        ];
        let running = states.get(State::HeldRunning).max(Nanos::from_nanos(1));
        let mut parts = Parts::from_iter(off_cpu);
        *parts.entry(self.unseen(stack)).or_default() += running;
        parts
    }

    /// What most of a long hold was for; where its own stack does not tell, what was seen most often at the same place.
    pub(super) fn long_hold(&self, hold: &LongHold) -> HoldKind<'a> {
        let Some((state, _)) = hold.states.iter().max_by_key(|(state, time)| (*time, Reverse(*state))) else {
            return HoldKind::Unknown;
        };
        let by_itself = match state {
            State::HeldRunning => self.unseen(hold.stack),
            state => self.held(state, Some(hold.stack)),
        };
        if !matches!(by_itself, HoldKind::Interpreter | HoldKind::BlockedIn(None)) {
            return by_itself;
        }
        let seen = self.by_line.get(&self.line(Some(hold.stack)));
        let fitting = seen.into_iter().flatten().filter(|(kind, _)| fits(state, **kind));
        fitting.max_by_key(|(_, time)| **time).map_or(by_itself, |(kind, _)| *kind)
    }

    /// Whether machine code was seen at all.
    pub(super) fn show_machine_code(&self) -> bool {
        let is_c_code = |kind: &HoldKind<'_>| matches!(kind, HoldKind::CCode(_));
        self.native == NativeFrames::Shown || self.by_function.values().flat_map(BTreeMap::keys).any(is_c_code)
    }

    /// All kinds with their costs, longest held first.
    pub(super) fn costs(&self) -> Vec<KindCost<'a>> {
        let mut costs: BTreeMap<_, [Nanos; 2]> = BTreeMap::new();
        let mut add = |kind, stack, column: usize, time| {
            costs.entry((kind, caller(self.profile, kind, stack))).or_default()[column] += time;
        };
        for ((state, stack), time) in &self.held {
            add(self.held(*state, *stack), *stack, 0, *time);
        }
        for (place, wait) in self.blame_by_place() {
            for (kind, part) in self.inflicted(place, wait) {
                add(kind, Some(place.1), 1, part);
            }
        }
        let cost = |((kind, caller), [held, inflicted]): (_, [Nanos; 2])| KindCost { kind, caller, held, inflicted };
        let mut costs: Vec<KindCost<'_>> = costs.into_iter().map(cost).collect();
        costs.sort_by_key(|cost| Reverse((cost.held, cost.inflicted)));
        costs
    }

    fn blame_by_place(&self) -> BTreeMap<(Option<Tid>, StackId), Nanos> {
        let mut sums: BTreeMap<_, Nanos> = BTreeMap::new();
        for blame in &self.profile.blame {
            *sums.entry((blame.holder, blame.stack)).or_default() += blame.wait;
        }
        sums
    }

    /// The kind of a stack that no tick has seen, if its owner had a CPU.
    fn unseen(&self, stack: StackId) -> HoldKind<'a> {
        self.held(State::HeldRunning, Some(stack))
    }

    /// Whether the stack tells all there is to it; one that was read without its machine code says so.
    fn is_whole(&self, stack: StackId) -> bool {
        self.profile.stacks.frames(stack).next_back() != Some(&Frame::marker(NATIVE_UNREAD))
    }

    /// The stack as far as it is the program's own.
    fn line(&self, stack: Option<StackId>) -> Vec<&'a Frame> {
        let mut frames = frames_of(&self.profile.stacks, stack);
        let own =
            frames.iter().rposition(|frame| frame.kind == FrameKind::Script).map_or(frames.len(), |last| last + 1);
        frames.truncate(own);
        frames
    }

    fn function(&self, stack: Option<StackId>) -> (&'a str, &'a str) {
        let frame = acting_frame(&self.profile.stacks, stack);
        (&frame.function, &frame.file)
    }
}

fn held_by_place(profile: &Profile) -> BTreeMap<(State, Option<StackId>), Nanos> {
    let mut held: BTreeMap<_, Nanos> = BTreeMap::new();
    let inside = |charge: &Charge| charge.state.class() == StateClass::Inside;
    for charge in profile.threads.iter().flat_map(charges).filter(inside) {
        *held.entry((charge.state, charge.stack)).or_default() += charge.time;
    }
    held
}

fn states_by_thread(profile: &Profile) -> HashMap<Tid, StateTimes> {
    let mut by_thread: HashMap<Tid, StateTimes> = HashMap::new();
    for thread in &profile.threads {
        let states = by_thread.entry(thread.tid).or_default();
        thread.states.iter().for_each(|(state, time)| states.add(state, time));
    }
    by_thread
}

/// Whether time of this kind is spent in this state.
fn fits(state: State, kind: HoldKind<'_>) -> bool {
    match kind {
        HoldKind::BlockedIn(_) | HoldKind::OnOtherLock => state == State::HeldBlocked,
        HoldKind::PageFault => true,
        HoldKind::Preempted | HoldKind::Unknown => false,
        _ => state == State::HeldRunning,
    }
}

/// `whole` in proportion to `parts`, which are not all zero; each boundary is rounded once, so that the parts sum to it.
fn split<'a>(whole: Nanos, parts: &Parts<'a>) -> Vec<(HoldKind<'a>, Nanos)> {
    let sum: u128 = parts.values().map(|part| u128::from(part.as_nanos())).sum();
    let (mut passed, mut given) = (0, 0);
    let mut shares = Vec::with_capacity(parts.len());
    for (kind, part) in parts {
        passed += u128::from(part.as_nanos());
        let until = u64::try_from(u128::from(whole.as_nanos()) * passed / sum.max(1)).unwrap_or(u64::MAX);
        shares.push((*kind, Nanos::from_nanos(until - given)));
        given = until;
    }
    shares.retain(|(_, share)| *share > Nanos::ZERO);
    shares
}

/// A kind, and where the program led to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct KindCost<'a> {
    /// The kind.
    pub(super) kind: HoldKind<'a>,
    /// The innermost function of the program; `None` where it does not matter or is not known.
    pub(super) caller: Option<&'a Frame>,
    /// Time held.
    pub(super) held: Nanos,
    /// How long others waited meanwhile.
    pub(super) inflicted: Nanos,
}

fn caller<'a>(profile: &'a Profile, kind: HoldKind<'_>, stack: Option<StackId>) -> Option<&'a Frame> {
    let caller = acting_frame(&profile.stacks, stack);
    (kind.has_caller() && caller.kind == FrameKind::Script).then_some(caller)
}
