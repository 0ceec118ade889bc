//! Chaos: real processes play all primitives at once and die of real faults at moments that nobody chose.
//!
//! Stepping shows every instruction of one operation in one situation; this shows situations that nobody thought of: several
//! deaths at a time, a death while another is repaired, parties that are preempted anywhere on several processors. Every
//! result is held against a serial model, and every survivor must go on within the deadline.

mod act;
mod acts;
mod arena;
pub(crate) mod dice;
pub(crate) mod fault;
mod game;
mod me;
mod score;
mod seat;
mod urgency;

use std::time::Instant;

use crate::stage::Stage;
use crate::surroundings::Surroundings;
use crate::watchdog::DEADLINE;
use acts::Flaw;
use dice::Dice;
use game::{Foul, Game};
use score::Score;

/// A game is ended and its state looked at after so many kills; the next one begins with fresh memory.
const KILLS_PER_GAME: u64 = 1000;
/// More fouls than this end the run.
const FOULS_MAX: usize = 5;
/// A flaw that is not caught by so many kills is not caught.
const KILLS_PER_FLAW: u64 = 400;

/// Kills so many. Gives (passed, failed): games without and with a foul; a run that hit too few operations is a failure too.
pub(crate) fn run(kills: u64, seed: u64) -> Result<(usize, usize), String> {
    println!("seed {seed}");
    let stage = Stage::build().map_err(|error| error.to_string())?;
    let before = Surroundings::take();
    let (mut score, mut seeds) = (Score::new(), Dice::new(seed));
    let (mut passed, mut failed) = (0, 0);
    urgency::come_first();
    let start = Instant::now();
    while score.kills() < kills && failed < FOULS_MAX {
        let goal = kills.min(score.kills() + KILLS_PER_GAME);
        let game = Game::begin(&stage, seeds.roll(), acts::all)?;
        let outcome = play(game, goal, &mut score);
        let fair = score.note(outcome) & score.note_left(before.compare(DEADLINE));
        *(if fair { &mut passed } else { &mut failed }) += 1;
        score.progress(kills, start.elapsed());
    }
    score.print(start.elapsed());
    failed += usize::from(!score.hit_enough());
    Ok((passed, failed))
}

fn play(mut game: Game<'_>, goal: u64, score: &mut Score) -> Result<u32, Foul> {
    while score.kills() < goal {
        game.strike(score)?;
    }
    game.end()
}

/// Who tests the game: a sound toy must pass, and the same with a flaw must be caught. Gives (passed, failed).
pub(crate) fn self_test() -> Result<(usize, usize), String> {
    let stage = Stage::build().map_err(|error| error.to_string())?;
    let (mut passed, mut failed) = (0, 0);
    for (flaw, name) in [
        (Flaw::None, "a sound toy"),
        (Flaw::SilentHandover, "a dead holder's value is taken as it is"),
        (Flaw::NoOwner, "nobody knows who holds the lock (raw_sync)"),
    ] {
        let mut score = Score::new();
        let game = Game::begin(&stage, 1, |arena| acts::toy(arena, flaw))?;
        let outcome = play(game, KILLS_PER_FLAW, &mut score);
        let as_expected = match flaw {
            Flaw::None => outcome.is_ok(),
            Flaw::SilentHandover => matches!(outcome, Err(Foul::Wrong(_))),
            Flaw::NoOwner => matches!(outcome, Err(Foul::Hung(_))),
        };
        let sign = match outcome {
            Ok(_) => format!("passed, {} kills", score.kills()),
            Err(Foul::Hung(what)) => format!("hung after {} kills: {what}", score.kills()),
            Err(Foul::Wrong(what)) => format!("wrong after {} kills: {what}", score.kills()),
        };
        println!("{} chaos: {name:<69} {sign}", if as_expected { "ok  " } else { "FAIL" });
        *(if as_expected { &mut passed } else { &mut failed }) += 1;
    }
    Ok((passed, failed))
}
