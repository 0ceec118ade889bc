//! Chaos over pools: tasks, maps and streams are played in a coordinator of its own while its workers are killed at moments that
//! nobody chose.
//!
//! Rounds: a new pool; players that submit, wait, cancel; a killer; an end of the pool. Every task is held against what a serial
//! call gives and what was done to it, and must be over once; nothing may be left when the pool is gone.

mod acts;
mod deed;
mod ending;
mod judge;
mod killer;
mod player;
mod remains;
mod round;
mod tally;
mod watch;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::chaos::dice::Dice;
use crate::surroundings::Surroundings;
use remains::Remains;
use round::Round;
use tally::Tally;

/// After the coordinator's end all that it started is gone within this time.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// More fouls than this end the run.
const FOULS_MAX: u64 = 5;
/// Rounds until everything that is made once has been made: then memory is looked at for the first time.
const WARM_ROUNDS: u64 = 15;
/// How the coordinator's last line begins.
const LAST_LINE: &str = "rounds:";

/// In a worker of a pool that is played with: does its work and does not return.
pub(crate) fn become_worker() {
    if std::env::args_os().next().is_some_and(|name| name == "swath-worker") {
        swath::init();
    }
}

/// Kills so many. Gives (passed, failed): rounds without and with a foul.
pub(crate) fn run(kills: u64, seed: u64) -> Result<(usize, usize), String> {
    let before = Surroundings::take();
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(exe);
    command.args(["tasks", "--play", "--kills", &kills.to_string(), "--seed", &seed.to_string()]);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut coordinator = spawned.map_err(|error| format!("the coordinator cannot be started: {error}"))?;
    let mut rounds = None;
    for line in BufReader::new(coordinator.stdout.take().ok_or("no output")?).lines().map_while(Result::ok) {
        match line.strip_prefix(LAST_LINE) {
            Some(counts) => rounds = counts.trim().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
            None => println!("{line}"),
        }
    }
    let status = coordinator.wait().map_err(|error| error.to_string())?;
    let number = |text: &str| text.parse::<usize>().ok();
    let counts = rounds.and_then(|(passed, failed)| Some((number(&passed)?, number(&failed)?)));
    let (passed, mut failed) = counts.unwrap_or((0, 0));
    if counts.is_none() {
        println!("WRONG  the coordinator came to an end of its own: {status}");
        failed += 1;
    }
    if let Err(left) = before.compare(GONE_WITHIN) {
        println!("LEAKED {left}");
        failed += 1;
    }
    Ok((passed, failed))
}

/// The coordinator: plays, prints what came of it, and ends the process.
pub(crate) fn play(kills: u64, seed: u64) -> ! {
    swath::init();
    crate::chaos::fault::be_vulnerable();
    println!("seed {seed}");
    let (mut dice, mut tally) = (Dice::new(seed), Tally::new());
    watch::begin();
    let start = Instant::now();
    let (mut passed, mut failed) = (0u64, 0);
    let (mut first, mut warm) = (None, None);
    while tally.kills() < kills && failed < FOULS_MAX {
        let fouls = Round::new(&mut dice, passed + failed).play(&mut tally, kills, first.as_ref());
        let first = first.get_or_insert_with(Remains::settle);
        let left = (passed + failed > 0).then(|| first.compare()).and_then(Result::err);
        if passed + failed == WARM_ROUNDS {
            warm = Some(Remains::settle());
        }
        tally.note(&fouls, left.as_deref());
        *(if fouls.is_empty() && left.is_none() { &mut passed } else { &mut failed }) += 1;
        tally.progress(kills, start.elapsed());
    }
    if let Some(grown) = warm.and_then(|warm| warm.grown()) {
        tally.note(&[], Some(&grown));
        failed += 1;
    }
    tally.print(start.elapsed());
    println!("{LAST_LINE} {passed} {failed}");
    std::process::exit(i32::from(failed > 0))
}
