//! Kills workers at random moments, as a stranger would: by their pid, through a pidfd.

use std::os::fd::OwnedFd;
use std::time::Duration;

use swath::Pool;
use swath_platform::{process, signal};

use super::judge::Facts;
use super::watch;
use crate::chaos::dice::Dice;

/// How often the killer comes.
#[derive(Clone, Copy)]
pub(crate) enum Mood {
    /// Every other millisecond.
    Storm,
    /// Long enough apart for a time-out to come first.
    Calm,
    /// Nobody is killed from outside: a worker that is stuck is not saved by its death.
    Quiet,
}

/// How long a quiet round is.
const QUIET: Duration = Duration::from_millis(400);

impl Mood {
    fn pause(self, dice: &mut Dice) -> Duration {
        let micros = |n: usize| n as u64;
        Duration::from_micros(match (self, dice.below(20)) {
            (Mood::Storm, 0) => micros(dice.below(30_000)),
            (Mood::Storm, _) => micros(dice.below(4_000)),
            (Mood::Calm, 0..3) => micros(dice.below(1_000)),
            (Mood::Calm | Mood::Quiet, _) => micros(dice.below(60_000)),
        })
    }
}

/// Kills until there were `quota` kills.
pub(crate) fn kill(pool: &Pool, facts: &Facts, mut dice: Dice, mood: Mood, quota: u64) -> u64 {
    if matches!(mood, Mood::Quiet) {
        std::thread::sleep(QUIET);
        return 0;
    }
    let mut kills = 0;
    while kills < quota {
        std::thread::sleep(mood.pause(&mut dice));
        for victim in choose(pool, &mut dice) {
            kills += strike(&victim, facts, &mut dice);
            watch::progress();
        }
    }
    kills
}

/// A worker that is there: its pid and what names it for certain.
pub(crate) struct Victim {
    pid: u32,
    pidfd: OwnedFd,
}

/// One worker, or all of them.
fn choose(pool: &Pool, dice: &mut Dice) -> Vec<Victim> {
    let mut all = present(pool);
    if !all.is_empty() && dice.below(12) > 0 {
        all = vec![all.swap_remove(dice.below(all.len()))];
    }
    all
}

/// All workers. Looked at again after they were opened: a pid may have been given to somebody else in between.
pub(crate) fn present(pool: &Pool) -> Vec<Victim> {
    let open = |pid: u32| Some(Victim { pid, pidfd: process::pidfd_open(pid).ok()? });
    let opened: Vec<Victim> = pool.pids().into_iter().filter_map(open).collect();
    let still = pool.pids();
    opened.into_iter().filter(|victim| still.contains(&victim.pid)).collect()
}

/// Kills it, at once or after it stood still. How many were killed: one, or none that still lived.
pub(crate) fn strike(victim: &Victim, facts: &Facts, dice: &mut Dice) -> u64 {
    if process::exited(&victim.pidfd) {
        return 0;
    }
    facts.will_kill(victim.pid);
    if dice.below(6) == 0 {
        let _ = process::pidfd_signal(&victim.pidfd, signal::STOP);
        // Sometimes longer than a slice.
        let most = if dice.below(10) == 0 { 70_000 } else { 2_000 };
        std::thread::sleep(Duration::from_micros(dice.below(most) as u64));
    }
    u64::from(process::pidfd_signal(&victim.pidfd, signal::KILL).is_ok())
}
