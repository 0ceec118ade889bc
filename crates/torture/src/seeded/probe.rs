//! Probes of the harness itself: does it count, and does it notice what goes wrong outside the shared state?
#![allow(unsafe_code)]

use std::time::Duration;

use super::{Seed, Sign};
use crate::scenario::{Case, Finding, Moment, Scenario, Verdict, case};
use crate::stage::Stage;

/// How many instructions the counting probe adds.
pub(crate) const NOPS: usize = 100;

#[derive(Copy, Clone)]
enum Kind {
    Nothing,
    Nops,
    Crash,
    SleepForEver,
    OrphanProcess,
}

struct Probe(Kind);

impl Scenario for Probe {
    fn set(&self, _stage: &Stage) {}

    fn victim<'s>(&'s self, _stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        match self.0 {
            Kind::Nothing => Box::new(none),
            Kind::Nops => Box::new(hundred),
            Kind::Crash => Box::new(crash),
            Kind::SleepForEver => Box::new(|| std::thread::sleep(Duration::from_secs(3600))),
            Kind::OrphanProcess => Box::new(orphan),
        }
    }

    fn aftermath(&self, _stage: &Stage, _moment: Moment) -> Finding {
        Ok(Verdict::Clean)
    }
}

#[inline(never)]
fn none() {
    // SAFETY: nothing at all; keeps the function from being merged with another empty one.
    unsafe { std::arch::asm!("", options(nomem, nostack)) };
}

#[inline(never)]
fn hundred() {
    // SAFETY: a hundred times nothing (`NOPS`).
    unsafe { std::arch::asm!(".rept 100", "nop", ".endr", options(nomem, nostack)) };
}

#[inline(never)]
fn crash() {
    // SAFETY: an undefined instruction: the process dies of SIGILL, which is the point.
    unsafe { std::arch::asm!("ud2", options(nomem, nostack)) };
}

/// Leaves a process behind that nobody knows of.
fn orphan() {
    // SAFETY: the victim has one thread; the child only sleeps.
    if unsafe { libc::fork() } == 0 {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
}

/// The empty operation and the same with [`NOPS`] instructions more.
pub(crate) fn nops() -> (Case, Case) {
    (case("probe", "nothing", Probe(Kind::Nothing)), case("probe", "nops", Probe(Kind::Nops)))
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    vec![case("probe", "nops", Probe(Kind::Nops))]
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let seed = |bug, sign, kind| Seed { bug, sign, cases: vec![case("probe", "probe", Probe(kind))] };
    vec![
        seed("probe: the operation crashes by itself", Sign::Wrong, Kind::Crash),
        seed("probe: the operation never returns", Sign::Hung, Kind::SleepForEver),
        seed("probe: the operation leaves a process behind", Sign::Wrong, Kind::OrphanProcess),
    ]
}
