//! A coordinator with a pool is killed at the stops of its system calls, while it starts up and while it shuts down: no
//! process and no name of it is left. A client of a manager is killed at those of its calls: each is made, or it is not, and nobody
//! else notices.
//!
//! A sample by default; `SWATH_FULL=1` kills at every stop.

#[path = "../../segment/tests/tracer/calls.rs"]
mod calls;
mod stage;

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};

use calls::{End, follow, opened};
use stage::{PROMISE, Shm, eventually, is_full, marked};
use swath::Manager;
use swath::managed::Counter;
use swath::prelude::*;
use swath_platform::process;

/// What the environment of every process of one coordinator has.
const MARK: &str = "SWATH_CALLS";
/// How many stops of a stretch the short form takes.
const SAMPLE: usize = 40;

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        killed_at_the_system_calls_of_its_start,
        killed_at_the_system_calls_of_its_shutdown,
        killed_at_the_system_calls_between,
        a_managers_client_killed_at_its_system_calls,
    ];
    stage::main(tests, stage::cast![coordinator, client])
}

/// The whole life of a coordinator. The paths do not exist: opening them tells the tracer where it is.
fn coordinator(_: &[String]) {
    passes("start");
    let pool = Pool::builder().workers(2).build().expect("a pool");
    let mut a = SharedArray::<u64, _>::zeros(64).expect("room");
    passes("work");
    pool.phase(&mut a).chunk(Chunk::Rows(8)).for_each(|_, mut a| a += 1).expect("a phase");
    passes("end");
    drop(a);
    drop(pool);
    passes("over");
}

/// Two calls, the first with all that a connection needs.
fn client(args: &[String]) {
    let counter: Counter<String> = serde_json::from_str(&args[0]).expect("a proxy");
    passes("calls");
    counter.add("calls", 1).expect("the manager lives");
    counter.add("calls", 1).expect("the manager lives");
    passes("over");
}

fn a_managers_client_killed_at_its_system_calls() {
    let manager = Manager::new().expect("a manager");
    let counter = manager.counter::<String>().expect("a counter");
    let own = manager.stats().expect("it answers").clients;
    let json = serde_json::to_string(&counter).expect("a proxy is serde");
    let patient = counter.within(PROMISE);
    let (mut point, mut after) = (0, [0; 3]);
    loop {
        let before = patient.get("calls").expect("it answers");
        let (end, passed) = run(&["client", &json], "calls", "over", point);
        let made = patient.get("calls").expect("a client's death is nobody else's affair") - before;
        assert!(
            eventually(PROMISE, || manager.stats().expect("it answers").clients == own),
            "its thread ends"
        );
        if end == End::Finished || passed < point {
            assert_eq!(made, 2);
            break;
        }
        after[made as usize] += 1;
        point += 1;
    }
    println!("{point} kills: after none, one, both calls: {after:?}");
    assert!(after.iter().all(|kills| *kills > 0), "{after:?}");
}

fn passes(sign: &str) {
    assert!(std::fs::File::open(format!("/dev/null/{sign}")).is_err());
}

fn killed_at_the_system_calls_of_its_start() {
    killed_between("start", "work");
}

fn killed_at_the_system_calls_between() {
    killed_between("work", "end");
}

fn killed_at_the_system_calls_of_its_shutdown() {
    killed_between("end", "over");
}

fn killed_between(from: &str, to: &str) {
    if !stage::is_private() {
        println!("skipped: a /dev/shm of its own needs root and mount namespaces");
        return;
    }
    let (_, stops) = run(&["coordinator"], from, to, usize::MAX);
    nothing_is_left(from, stops);
    assert!(stops > 20, "{stops} stops between {from} and {to}");
    let stride = if is_full() { 1 } else { stops.div_ceil(SAMPLE) };
    // The number of stops differs from run to run, as threads take turns differently: the last run is the one in which
    // the stretch ended first.
    let mut point = 0;
    let mut kills = 0;
    loop {
        let (end, passed) = run(&["coordinator"], from, to, point);
        nothing_is_left(from, point);
        if end == End::Finished || passed < point {
            break;
        }
        kills += 1;
        point += stride;
    }
    println!("{from} to {to}: {kills} kills of {stops} stops");
    assert!(kills * stride >= stops / 2, "{kills} kills, one in {stride} of {stops} stops");
}

/// Follows who plays that role and kills it at the given stop after it passed `from`, or when it passes `to`. How it ended, and
/// the stops that it made in between.
fn run(role: &[&str], from: &str, to: &str, point: usize) -> (End, usize) {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command.arg("role").args(role).env(MARK, mark(true));
    let (mut between, mut passed) = (false, 0);
    let end = follow(&mut command, |thread| {
        let sign = opened(thread);
        let is_at = |name: &str| sign.as_deref().is_some_and(|path| path == format!("/dev/null/{name}"));
        if between && is_at(to) {
            return false;
        }
        passed += usize::from(between);
        between |= is_at(from);
        !(between && passed == point)
    });
    (end, passed)
}

/// The mark of the coordinator under way; a new one for the `next`.
fn mark(next: bool) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(u32::from(next), Ordering::Relaxed) + u32::from(next);
    format!("{}-{count}", process::getpid())
}

/// Within the promised time processes and names are gone, and no cleaner had to come.
fn nothing_is_left(from: &str, point: usize) {
    let processes = || marked(MARK, &mark(false));
    let names = || Shm::names_with("swath-");
    let gone = eventually(PROMISE, || {
        // Twice: a process that is in the middle of `exec` has no environment for a moment.
        processes().is_empty() && processes().is_empty() && names().is_empty()
    });
    assert!(gone, "killed {point} stops after `{from}`: processes {:?}, names {:?}", processes(), names());
}
