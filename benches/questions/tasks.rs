//! What does a function call cost that survives its worker's death? Against multiprocessing, the executor, and bare futexes.
//!
//! `cargo bench -p swath-benches --bench tasks`; `-- tiny`, `latency`, `start`, `stream` for one of the four.

use std::time::Duration;

use swath::prelude::*;
use swath_benches::futex_rival::PingPong;
use swath_benches::partner::{Placement, Processors};
use swath_benches::spawn_rival::{self, Starting};
use swath_benches::{machine, multiprocessing_rival, timing};

const WORKERS: usize = 2;
/// Tasks of one call of `map`.
const TASKS: u64 = 1_000_000;
/// Python gets fewer, and is asked for the time of one.
const TASKS_OF_PYTHON: u32 = 50_000;
const MAPS: usize = 5;
/// Round trips of one measurement.
const TRIPS: u32 = 2_000;
const ROUNDS: usize = 15;
const STARTS: usize = 41;
/// Items of the stream, and when memory is first looked at.
const STREAM: u64 = 10_000_000;
const SETTLED: u64 = 1_000_000;

fn main() -> Result<()> {
    spawn_rival::answer();
    swath::init();
    println!("{}\nmedians of interleaved pairs\n", machine::line());
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if asked("tiny") {
        tiny()?;
    }
    if asked("latency") {
        latency()?;
    }
    if asked("start") {
        start()?;
    }
    if asked("stream") {
        stream()?;
    }
    Ok(())
}

fn square(n: u64) -> u64 {
    n.wrapping_mul(n)
}

fn sum_of_squares(n: u64) -> u64 {
    (0..n).map(square).fold(0, u64::wrapping_add)
}

/// A million tasks that do nothing, each claimed by itself, against Python's `Pool.map` with chunks of one.
fn tiny() -> Result<()> {
    println!("{TASKS} tasks, one per chunk, {WORKERS} workers");
    let pool = Pool::builder().workers(WORKERS).build()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=MAPS {
        let mut call = None;
        let took = timing::time(|| call = Some(pool.map_with(square, 0..TASKS).chunk(1).collect_report()));
        let (values, report) = call.expect("made")?;
        assert_eq!((report.chunks as u64, report.rows_per_chunk), (TASKS, 1), "a claim per task");
        // A worker counts what it has committed after the fact: the last one of each may not be in yet.
        assert!(report.committed_by_worker.iter().sum::<u64>() >= TASKS - WORKERS as u64, "{report:?}");
        assert_eq!(values.iter().fold(0, |a: u64, b| a.wrapping_add(*b)), sum_of_squares(TASKS), "all work");
        let python = multiprocessing_rival::map_each(TASKS_OF_PYTHON);
        if let Ok((_, sum)) = python {
            assert_eq!(sum, sum_of_squares(TASKS_OF_PYTHON.into()), "equal work per task");
        }
        if round > 0 {
            ours.push(took.as_secs_f64() / TASKS as f64);
            theirs.push(python);
        }
    }
    let ours = timing::Times::new(ours).median();
    print!("  swath {:7.1} ns each", ours * 1e9);
    match theirs.into_iter().collect::<std::result::Result<Vec<_>, String>>() {
        Err(why) => println!("   multiprocessing.Pool skipped: {why}"),
        Ok(times) => {
            let theirs = timing::Times::new(times.into_iter().map(|(seconds, _)| seconds).collect()).median();
            let ratio = theirs / ours;
            println!(
                "   multiprocessing.Pool {:6.2} µs each   {ratio:.0} × faster   (goal ≥ 100)",
                theirs * 1e6
            );
        }
    }
    Ok(())
}

/// The worker's side of the bare hand-over: the same two processes that exchange tasks.
fn answer((path, times): (String, u32)) {
    PingPong::open(&path).expect("the coordinator's memory").answer(times);
}

/// There and back on an idle pool of one worker.
fn latency() -> Result<()> {
    println!("submit, wait for the result: one worker, idle");
    let pool = Pool::builder().workers(1).build()?;
    let worker = pool.pids()[0];
    let processors = Processors::allowed();
    let (path, ball) = PingPong::shared().map_err(|e| Error::other(e.to_string()))?;
    let mut free = f64::NAN;
    for (placement, name) in Placement::ALL {
        processors.place(placement, worker);
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let tasks = timing::time(|| {
                for n in 0..u64::from(TRIPS) {
                    let task = pool.submit(square, n).expect("taken");
                    assert_eq!(task.result().expect("a value"), n * n);
                }
            });
            let balls = bare_trips(&pool, &ball, &path)?;
            if round > 0 {
                ours.push(tasks.as_secs_f64() * 1e6 / f64::from(TRIPS));
                bare.push(balls.as_secs_f64() * 1e6 / f64::from(TRIPS));
            }
        }
        let (ours, bare) = (timing::Times::new(ours), timing::Times::new(bare));
        let goal = if placement == Placement::Free { "" } else { "   (goal ≤ 1.3)" };
        println!(
            "  {name:18}  swath {:7.2} µs (p10 {:.2}, p90 {:.2})   bare futexes {:7.2} µs   {:.2} × bare{goal}",
            ours.median(),
            ours.at(0.1),
            ours.at(0.9),
            bare.median(),
            ours.median() / bare.median()
        );
        free = ours.median();
    }
    assert_eq!(pool.pids(), [worker], "it was the same worker all the time");
    match multiprocessing_rival::executor_round_trip(TRIPS) {
        Err(why) => println!("  ProcessPoolExecutor skipped: {why}"),
        Ok(theirs) => println!(
            "  {:18}  ProcessPoolExecutor {:.0} µs   {:.0} × faster   (goal ≥ 3)",
            "free",
            theirs * 1e6,
            theirs * 1e6 / free
        ),
    }
    Ok(())
}

fn bare_trips(pool: &Pool, ball: &PingPong, path: &str) -> Result<Duration> {
    ball.reset();
    let task = pool.submit(answer, (path.to_owned(), TRIPS + 1))?;
    // The first one waits until the worker is there.
    ball.serve(1);
    let took = timing::time(|| ball.serve_from(1, TRIPS));
    task.result()?;
    Ok(took)
}

/// From nothing to two workers that wait for work, against two processes that have said hello.
fn start() -> Result<()> {
    println!("a pool of {WORKERS}, ready");
    start_pools("with its session", "   (goal ≤ 2)", |_| ())?;
    start_pools("that, and a first task", "", |pool| assert_eq!(pool.apply(square, 3).expect("a value"), 9))?;
    // An array keeps the session.
    let _array = SharedArray::<u8, _>::zeros(1)?;
    start_pools("in a session that is there", "   (goal ≤ 2)", |_| ())
}

fn start_pools(name: &str, goal: &str, then: impl Fn(&Pool)) -> Result<()> {
    let (ours, bare) = timing::pairs(
        STARTS,
        || {
            let mut pool = None;
            let took = timing::time(|| {
                then(pool.insert(Pool::builder().workers(WORKERS).build().expect("a pool")));
            });
            let pool = pool.expect("built");
            assert_eq!(pool.pids().len(), WORKERS);
            took
        },
        || bare_start().expect("processes"),
    );
    println!(
        "  {name:30}  swath {:6.2} ms (p90 {:.2})   bare spawns {:6.2} ms (p90 {:.2})   {:.2} × bare{goal}",
        ours.median() * 1e3,
        ours.at(0.9) * 1e3,
        bare.median() * 1e3,
        bare.at(0.9) * 1e3,
        ours.median() / bare.median()
    );
    Ok(())
}

fn bare_start() -> std::io::Result<Duration> {
    let mut all = Vec::new();
    let began = std::time::Instant::now();
    for _ in 0..WORKERS {
        all.push(Starting::begin()?);
    }
    for process in &mut all {
        process.hello()?;
    }
    let took = began.elapsed();
    for process in all {
        process.end()?;
    }
    Ok(took)
}

/// Memory over a stream: neither the items nor the values are ever held whole.
fn stream() -> Result<()> {
    println!("imap over {STREAM} items, {WORKERS} workers: resident memory");
    let pool = Pool::builder().workers(WORKERS).build()?;
    let everybody: Vec<u32> = pool.pids().into_iter().chain([std::process::id()]).collect();
    let began = std::time::Instant::now();
    let (mut sum, mut early) = (0u64, 0);
    for (n, value) in (1..).zip(pool.imap(square, 0..STREAM)) {
        sum = sum.wrapping_add(value?);
        if n == SETTLED {
            early = resident_kib(&everybody);
        }
    }
    let late = resident_kib(&everybody);
    assert_eq!(sum, sum_of_squares(STREAM), "all work");
    println!(
        "  at {SETTLED}: {:.1} MiB   at the end: {:.1} MiB   {:.2} ×   (goal: flat)   {:.1} M items per second",
        early as f64 / 1024.0,
        late as f64 / 1024.0,
        late as f64 / early as f64,
        STREAM as f64 / began.elapsed().as_secs_f64() / 1e6
    );
    Ok(())
}

/// Of all these processes together.
fn resident_kib(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    pids.iter().map(|pid| of(pid).expect("it lives")).sum()
}
