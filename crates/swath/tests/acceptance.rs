//! Acceptance cases of the engine: what must hold when a whole program is killed, interrupted, or starts its workers at a bad
//! moment.
//!
//! Cases of the layers below are tested there, under the same names: C37 (names and sizes) in
//! `crates/segment/tests/conformance.rs` and `crates/array/tests/acceptance.rs`, C39 (no room) in `crates/segment/tests/room.rs`,
//! C40(a) (views outlive the close) in `crates/array/tests/acceptance.rs`.

mod stage;

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stage::{Actor, PROMISE, eventually, signal_pid};
use swath::admin;
use swath::prelude::*;
use swath_platform::{process, signal};

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        c17_coordinator_killed_with_busy_workers,
        c17_coordinator_killed_just_after_spawning_began,
        c17_coordinator_and_guardian_killed_then_clean,
        c17_coordinator_and_guardian_killed_then_the_next_start,
        c18_one_interrupt_ends_everything,
        c18_one_interrupt_ends_kernels_that_ignore_requests,
        c18_an_interrupt_between_phases_is_seen_by_the_next,
        c28_workers_start_while_locks_are_held,
    ];
    stage::main(tests, stage::cast![busy, starting, hello, interrupted, late_phase, crowded])
}

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

// ---- C17: the parent is killed ---------------------------------------------------------------------------------------

/// Three arrays, four workers that compute for ever, each with a program that it has started.
fn busy(_: &[String]) {
    let named: SharedArray<f64, _> = SharedArray::options()
        .name(format!("swath-busy-{}", process::getpid()))
        .create(10_000)
        .expect("an array with a name");
    let automatic = SharedArray::<u8, _>::zeros(1 << 20).expect("an array");
    let mut unnamed: SharedArray<u32, _> = SharedArray::options().unnamed().create(4).expect("a memfd");
    let pool = Pool::builder().workers(4).build().expect("a pool");
    let _ = pool.phase((&mut unnamed, whole(&named), whole(&automatic))).chunk(Chunk::Rows(1)).for_each(
        |_, (mut mine, ..)| {
            let helper = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn();
            println!("helper {}", helper.expect("a program").id());
            println!("busy");
            while std::hint::black_box(true) {
                mine += 1;
            }
        },
    );
    unreachable!("the phase never ends");
}

/// The role, as far as everybody in it is at work.
fn play_busy() -> Actor {
    let mut actor = Actor::play("busy", &[]);
    (0..4).for_each(|_| drop(actor.told("busy")));
    assert_eq!(actor.processes_called("swath-worker").len(), 4);
    assert_eq!(actor.processes_called("swath-guardian").len(), 1);
    // Four programs besides. One that was just started has no environment for a moment, and so no mark.
    assert!(eventually(PROMISE, || actor.processes().len() == 10), "{:?}", actor.processes());
    // The lock file and two of the three arrays.
    assert_eq!(actor.new_names().len(), 3, "{:?}", actor.new_names());
    actor
}

fn c17_coordinator_killed_with_busy_workers() {
    let mut actor = play_busy();
    actor.kill();
    actor.assert_gone();
}

/// `starting WORKERS`: says when it begins to start them.
fn starting(args: &[String]) {
    let _array = SharedArray::<u8, _>::zeros(1 << 20).expect("an array");
    let _other: SharedArray<u8, _> = SharedArray::options().unnamed().create(1 << 20).expect("a memfd");
    println!("now");
    let _pool = Pool::builder().workers(args[0].parse().expect("a number")).build().expect("a pool");
    println!("up");
    park();
}

fn c17_coordinator_killed_just_after_spawning_began() {
    let mut before_all_were_up = 0;
    for round in 0..12 {
        let mut actor = Actor::play("starting", &["8"]);
        actor.told("now");
        std::thread::sleep(Duration::from_micros([1000, 0, 300, 2000, 4000, 8000][round % 6]));
        actor.kill();
        actor.assert_gone();
        before_all_were_up += u32::from(actor.next_line().is_none());
    }
    assert!(before_all_were_up > 0, "no kill came early enough to test anything");
}

/// Coordinator and guardian die together: the coordinator is stopped first, so that it cannot start another guardian.
/// The workers end at once, by PDEATHSIG; what they had started goes on until somebody cleans.
fn kill_both(actor: &mut Actor) {
    let guardian = actor.processes_called("swath-guardian")[0];
    actor.signal(signal::STOP);
    assert!(eventually(PROMISE, || process::state_char(actor.pid()) == Some('T')));
    signal_pid(guardian, signal::KILL);
    assert!(eventually(PROMISE, || process::state_char(guardian) == Some('Z')));
    actor.kill();
    let workers_are_gone = || actor.processes_called("swath-worker").is_empty();
    assert!(eventually(PROMISE, workers_are_gone), "{:?}", actor.processes());
    assert_eq!(actor.processes_called("sleep").len(), 4, "the helpers");
    assert_eq!(actor.new_names().len(), 3, "nobody was left to remove them: {:?}", actor.new_names());
}

fn c17_coordinator_and_guardian_killed_then_clean() {
    let mut actor = play_busy();
    kill_both(&mut actor);
    let found = admin::list().expect("a list");
    let dead = found.iter().find(|s| s.owner_pid == actor.pid()).expect("listed");
    assert!(!dead.alive);
    let report = admin::clean(false).expect("a cleaning");
    let cleaned = report.cleaned.iter().find(|c| c.id == dead.id).expect("cleaned");
    assert_eq!((cleaned.names.len(), report.failed.len()), (3, 0), "{report:?}");
    assert_eq!(cleaned.programs.len(), 4, "{report:?}");
    actor.assert_no_processes();
    assert_eq!(actor.new_names(), Vec::<String>::new());
}

fn c17_coordinator_and_guardian_killed_then_the_next_start() {
    let mut actor = play_busy();
    kill_both(&mut actor);
    let (status, said) = Actor::play("hello", &[]).finish();
    assert!(status.success() && said.contains("sum 45"), "{status} {said}");
    actor.assert_no_processes();
    assert_eq!(actor.new_names(), Vec::<String>::new());
}

/// A small program from beginning to end.
fn hello(_: &[String]) {
    let pool = Pool::builder().workers(2).build().expect("a pool");
    let a = SharedArray::from_shape_fn(10, |i| i as u32).expect("an array");
    println!("sum {}", pool.phase(&a).map(|_, a| a.sum()).reduce(0, |a, b| a + b).expect("a phase"));
}

// ---- C18: one interrupt ----------------------------------------------------------------------------------------------

/// A command as programs write them: one very long job, and 130 when the user does not want it any more.
fn interrupted(args: &[String]) {
    let pool = Pool::builder().workers(4).handle_interrupts(true).build().expect("a pool");
    let mut a = SharedArray::<u32, _>::zeros(10_000).expect("an array");
    let outcome = pool.phase(&mut a).args(args[0] == "deaf").chunk(Chunk::Rows(1)).for_each(|ctx, mut a| {
        if *ctx.args() {
            process::ignore_signal(signal::TERM);
        }
        println!("begun");
        let five_minutes = Instant::now() + Duration::from_secs(300);
        while Instant::now() < five_minutes {
            a += 1;
            if !*ctx.args() {
                std::thread::sleep(Duration::from_secs(300));
            }
        }
    });
    let error = outcome.expect_err("interrupted");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let unchanged = a.view().iter().all(|v| *v == 0);
    drop(pool);
    println!("unchanged {unchanged}");
    drop(a);
    std::process::exit(130);
}

/// One SIGINT to the whole foreground group, as a terminal sends it.
fn interrupt(mode: &str) {
    let errors = tempfile::NamedTempFile::new().expect("a file");
    let mut actor = Actor::play_with("interrupted", &[mode], |command| {
        command.stderr(errors.reopen().expect("the file again"));
    });
    (0..4).for_each(|_| drop(actor.told("begun")));
    let began = Instant::now();
    process::kill_group(actor.pid(), signal::INT).expect("the group is there");
    let status = actor.wait();
    let took = began.elapsed();
    assert_eq!(status.code(), Some(130), "{status}");
    let limit = swath::limits::TERM_GRACE + Duration::from_secs(1);
    assert!(took <= limit, "{took:?}, more than grace and a second ({limit:?})");
    let (_, rest) = actor.finish();
    assert_eq!(rest.trim(), "unchanged true");
    let said = std::fs::read_to_string(errors.path()).expect("the file");
    assert!(said.lines().count() <= 4, "at most a line per worker: {said}");
    actor.assert_gone();
}

fn c18_one_interrupt_ends_everything() {
    interrupt("asleep");
}

fn c18_one_interrupt_ends_kernels_that_ignore_requests() {
    interrupt("deaf");
}

/// Phase after phase, with the signal coming in between.
fn late_phase(_: &[String]) {
    let pool = Pool::builder().workers(2).handle_interrupts(true).build().expect("a pool");
    let a = SharedArray::<u32, _>::zeros(1000).expect("an array");
    println!("ready");
    while signal::caught().is_none() {
        std::thread::yield_now();
    }
    let error = pool.phase(&a).chunk(Chunk::Rows(1)).for_each(|_, _| ()).err();
    println!("{:?}", error.map(|e| e.kind()));
}

fn c18_an_interrupt_between_phases_is_seen_by_the_next() {
    let mut actor = Actor::play("late_phase", &[]);
    actor.told("ready");
    process::kill_group(actor.pid(), signal::INT).expect("the group is there");
    let (status, said) = actor.finish();
    assert!(status.success() && said.trim() == "Some(Interrupted)", "{status} {said}");
    actor.assert_gone();
}

// ---- C28: starting while locks are held ------------------------------------------------------------------------------

/// Starts 100 workers in five pools while other threads hold the allocator's and the output's lock most of the time.
fn crowded(_: &[String]) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    (1..64usize).for_each(|k| drop(std::hint::black_box(vec![0u8; k * 999])));
                }
            });
            scope.spawn(|| {
                use std::io::Write;
                while !over.load(Ordering::Relaxed) {
                    let mut out = std::io::stdout().lock();
                    let _ = writeln!(out, "noise");
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
        }
        let starts: Vec<_> = (0..5).map(|_| scope.spawn(twenty)).collect();
        let sums: Vec<u64> = starts.into_iter().map(|start| start.join().expect("no panic")).collect();
        over.store(true, Ordering::Relaxed);
        println!("sums {sums:?}");
    });
}

/// Twenty workers that allocate, print and compute.
fn twenty() -> u64 {
    let pool = Pool::builder().workers(20).build().expect("a pool");
    let a = SharedArray::from_shape_fn(400, |i| i as u64).expect("an array");
    let kernel = |_: &Ctx<()>, a: ArrayView1<'_, u64>| {
        println!("chunk of {}", process::getpid());
        let copies: Vec<Vec<u64>> = (0..20).map(|_| a.to_vec()).collect();
        copies.iter().flatten().sum::<u64>()
    };
    pool.phase(&a).chunk(Chunk::Rows(1)).map(kernel).reduce(0, |a, b| a + b).expect("a phase")
}

fn c28_workers_start_while_locks_are_held() {
    let mut actor = Actor::play("crowded", &[]);
    let mut chunks = 0;
    let sums = loop {
        let line = actor.next_line().expect("it ended early, or hung");
        chunks += u32::from(line.starts_with("chunk of "));
        if let Some(sums) = line.strip_prefix("sums ") {
            break sums.to_owned();
        }
    };
    assert_eq!(sums, format!("{:?}", [20 * 399 * 200; 5]));
    let (status, rest) = actor.finish();
    chunks += rest.lines().filter(|line| line.starts_with("chunk of ")).count() as u32;
    assert!(status.success(), "{status}");
    assert_eq!(chunks, 5 * 400, "every line of every worker arrives");
    actor.assert_gone();
}
