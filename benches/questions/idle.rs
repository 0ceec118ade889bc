//! What does a pool cost that has nothing to do? All processes of it together, against multiprocessing.Pool.
//!
//! `cargo bench -p swath-benches --bench idle`

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use swath::prelude::*;
use swath_benches::csv_rivals::python;
use swath_benches::machine;

const WORKERS: usize = 64;
/// After the pool is up, before it counts as idle: 5 s after a start, its service thread looks once whether all have come.
const SETTLE: Duration = Duration::from_secs(6);
const WATCHED: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    swath::init();
    if std::env::args().nth(1).as_deref() == Some("pool") {
        return pool();
    }
    println!("{}\nprocessor time of an idle pool of {WORKERS} in all, per second\n", machine::line());
    // The pool is another program: this one's looking around is not to be counted.
    let ours = std::env::current_exe().map_err(|e| e.to_string()).map(|exe| {
        let mut command = Command::new(exe);
        command.arg("pool");
        command
    });
    let program = format!(
        "import multiprocessing, sys\n\
         pool = multiprocessing.Pool({WORKERS})\n\
         pool.map(abs, range(1000))\n\
         print('up', flush=True)\n\
         sys.stdin.read()\n\
         pool.terminate()"
    );
    let mut theirs = Command::new(python());
    theirs.args(["-c", &program]);
    for (name, command, goal) in [("swath", ours, "   (goal ≤ 1)"), ("multiprocessing.Pool", Ok(theirs), "")]
    {
        match command.and_then(idle) {
            Ok(used) => println!("{name:20} {used:8.3} ms{goal}"),
            Err(why) => println!("{name:20} skipped: {why}"),
        }
    }
    Ok(())
}

/// A pool that has worked, and has nothing to do until standard input ends.
fn pool() -> Result<()> {
    let pool = Pool::builder().workers(WORKERS).build()?;
    let a = SharedArray::<f64, _>::zeros(100_000)?;
    let _ = pool.phase(&a).map(|_, a| a.sum()).reduce(0.0, |a, b| a + b)?;
    println!("up");
    let _ = std::io::stdin().lock().read_line(&mut String::new());
    Ok(())
}

/// What the pool of a program uses while it is idle.
fn idle(mut command: Command) -> std::result::Result<f64, String> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    let mut line = String::new();
    let out = child.stdout.take().ok_or("no output")?;
    BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
    if line.trim() != "up" {
        return Err("it did not come up".to_owned());
    }
    let used = watch(child.id());
    drop(child.stdin.take());
    child.wait().map_err(|e| e.to_string())?;
    Ok(used)
}

/// Milliseconds of processor time per second of a process and all its descendants, while they are left alone.
fn watch(root: u32) -> f64 {
    thread::sleep(SETTLE);
    let family = family(root);
    assert!(family.len() > WORKERS, "only {} processes", family.len());
    let before: u64 = family.iter().map(|pid| run_time_ns(*pid)).sum();
    thread::sleep(WATCHED);
    let after: u64 = family.iter().map(|pid| run_time_ns(*pid)).sum();
    (after - before) as f64 / 1e6 / WATCHED.as_secs_f64()
}

fn family(root: u32) -> Vec<u32> {
    let all = swath_platform::process::all_pids().unwrap_or_default();
    let parent = |pid: u32| swath_platform::process::stat(pid).map_or(0, |stat| stat.parent);
    let mut family = vec![root];
    loop {
        let new = |pid: &&u32| !family.contains(pid) && family.contains(&parent(**pid));
        let found: Vec<u32> = all.iter().filter(new).copied().collect();
        if found.is_empty() {
            return family;
        }
        family.extend(found);
    }
}

/// Of all its threads, to the nanosecond, as the scheduler counts.
fn run_time_ns(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(of).sum()
}
