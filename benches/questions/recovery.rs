//! How long is a task in nobody's hands when its worker is killed? Against the notice of a death and a bare start.
//!
//! `cargo bench -p swath-benches --bench recovery`; `-- N` for N kills (1,000).

use std::time::{Duration, Instant};

use swath::prelude::*;
use swath_benches::attempts::Attempts;
use swath_benches::spawn_rival::{self, Starting};
use swath_benches::{machine, timing};
use swath_platform::{clock, process, signal};

const KILLS: usize = 1_000;
/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a start or a replacement.
const SETTLE: Duration = Duration::from_millis(4);

fn main() -> Result<()> {
    spawn_rival::answer();
    swath::init();
    let kills = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(KILLS);
    println!("{}\na pool of 2, {kills} kills in turn with {kills} bare starts\n", machine::line());
    let pool = Pool::builder().workers(2).build()?;
    let (path, attempts) = Attempts::shared().map_err(|e| Error::other(e.to_string()))?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..=kills {
        let (again, replaced) = (kill_one(&pool, &path, attempts)?, bare_replacement());
        if round > 0 {
            ours.push(again);
            bare.push(replaced.map_err(|e| Error::other(e.to_string()))?);
        }
    }
    let (ours, bare) = (timing::Times::new(ours), timing::Times::new(bare));
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        println!(
            "{name}   killed → next attempt has begun {:8.1} µs   death noticed + bare spawn {:8.1} µs   {:.2} ×   (goal ≤ 2)",
            ours.at(share) * 1e6,
            bare.at(share) * 1e6,
            ours.at(share) / bare.at(share)
        );
    }
    Ok(())
}

/// Says who runs the attempt and since when, and stays until it is let go.
fn attempt(path: String) -> u32 {
    let number = swath::current_task().expect("a task").attempt();
    Attempts::open(&path).expect("the coordinator's memory").stay(number as usize);
    number
}

/// Seconds from the kill of a task's worker until its next attempt.
fn kill_one(pool: &Pool, path: &str, attempts: Attempts) -> Result<f64> {
    attempts.reset();
    let task = pool.submit_with(attempt, path.to_owned()).retries(1).submit()?;
    let (first, _) = attempts.wait(0, PATIENCE).expect("a first attempt");
    let pidfd = process::pidfd_open(first).expect("it lives");
    let killed = clock::now_ns();
    process::pidfd_signal(&pidfd, signal::KILL).expect("it lives");
    let (second, began) = attempts.wait(1, PATIENCE).expect("a second attempt");
    attempts.end();
    assert_eq!(task.result()?, 1, "the second attempt's value");
    assert_ne!(first, second, "it ran elsewhere");
    let since = Instant::now();
    while pool.pids().len() < 2 || pool.pids().contains(&first) {
        assert!(since.elapsed() < PATIENCE, "a pool that stays incomplete");
        std::thread::sleep(Duration::from_micros(100));
    }
    // The replacement comes up: the next task finds two that are idle.
    std::thread::sleep(SETTLE);
    Ok((began - killed) as f64 / 1e9)
}

/// Seconds from the kill of a process, through the notice of its death, until another one has said hello.
fn bare_replacement() -> std::io::Result<f64> {
    let mut first = Starting::begin()?;
    first.hello()?;
    std::thread::sleep(SETTLE);
    let pidfd = process::pidfd_open(first.pid())?;
    let killed = Instant::now();
    process::pidfd_signal(&pidfd, signal::KILL)?;
    process::wait_exit(&pidfd, PATIENCE);
    let mut second = Starting::begin()?;
    second.hello()?;
    let took = killed.elapsed().as_secs_f64();
    first.end()?;
    second.end()?;
    Ok(took)
}
