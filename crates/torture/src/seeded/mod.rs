//! Toy protocols, each sound as written and each with known flaws to be switched on: what the battery must catch.
//!
//! A toy is small enough to be read in one go, so that a catch can be believed; its sound form runs through the same
//! battery and must pass, so that a catch is not noise. They speak the harness's own language ([`Scenario`]) and
//! use nothing of swath. Where a flaw was published as a bug of another system, its name says so.
//!
//! [`Scenario`]: crate::scenario::Scenario

mod barrier;
mod channel;
mod condition;
mod doubt;
mod ledger;
mod lock;
mod names;
mod permits;
mod probe;
mod robust;
mod roster;
mod slot;

use crate::scenario::Case;

/// How a flaw shows.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Sign {
    Hung,
    Wrong,
}

/// A bug put in on purpose.
pub(crate) struct Seed {
    /// What was done wrong.
    pub(crate) bug: &'static str,
    /// By what it must be caught.
    pub(crate) sign: Sign,
    /// The scenarios of which at least one must catch it.
    pub(crate) cases: Vec<Case>,
}

/// All seeded bugs.
pub(crate) fn bugs() -> Vec<Seed> {
    let mut bugs = lock::bugs();
    bugs.extend(doubt::bugs());
    bugs.extend(robust::bugs());
    bugs.extend(barrier::bugs());
    bugs.extend(condition::bugs());
    bugs.extend(permits::bugs());
    bugs.extend(channel::bugs());
    bugs.extend(ledger::bugs());
    bugs.extend(names::bugs());
    bugs.extend(slot::bugs());
    bugs.extend(probe::bugs());
    bugs
}

/// The same toys without a flaw.
pub(crate) fn sound() -> Vec<Case> {
    let mut cases = lock::sound();
    cases.extend(doubt::sound());
    cases.extend(robust::sound());
    cases.extend(barrier::sound());
    cases.extend(condition::sound());
    cases.extend(permits::sound());
    cases.extend(channel::sound());
    cases.extend(ledger::sound());
    cases.extend(names::sound());
    cases.extend(slot::sound());
    cases.extend(probe::sound());
    cases
}

pub(crate) use probe::{NOPS, nops};
