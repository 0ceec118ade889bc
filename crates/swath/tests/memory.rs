//! Pools in little memory: in a memory cgroup of their own, where one can be made.

mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use stage::{Actor, eventually};
use swath::limits::PRESSURE_LOOK;
use swath::prelude::*;

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 256 * MIB;
/// Per task, several times the limit in all.
const LEAK: u64 = 24 * MIB;
const TASKS: u64 = 30;

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        a_pool_that_recycles_does_not_meet_the_kernels_killer,
        the_budget_of_memory_is_the_cgroups,
    ];
    stage::main(tests, stage::cast![leaking, budgeted])
}

/// A memory cgroup, removed at the end; `None` where none can be made.
struct Cgroup(PathBuf);

impl Cgroup {
    fn with_limit(bytes: u64) -> Option<Cgroup> {
        let roots = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        let make = |(root, limit): (&str, &str)| {
            let path = Path::new(root).join(format!("swath-test-{}", std::process::id()));
            std::fs::create_dir(&path).ok()?;
            let group = Cgroup(path);
            std::fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        };
        let group = roots.into_iter().find_map(make);
        if group.is_none() {
            println!("skipped: no memory cgroup can be made");
        }
        group
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        eventually(Duration::from_secs(5), || std::fs::remove_dir(&self.0).is_ok());
    }
}

/// The actor moves into the group, and what it starts is born there.
fn enter(group: &str) {
    let procs = Path::new(group).join("cgroup.procs");
    std::fs::write(procs, std::process::id().to_string()).expect("a cgroup of ours");
}

fn leak(bytes: u64) {
    std::mem::forget(vec![1_u8; bytes as usize]);
    // Slower than the pool looks: memory that is gone in a moment nobody can watch.
    std::thread::sleep(4 * PRESSURE_LOOK);
}

/// Leaks in two workers; prints how many died.
fn leaking(args: &[String]) {
    enter(&args[0]);
    let builder = Pool::builder().workers(2);
    let builder = if args[1] == "recycles" { builder.recycle_at_memory(0.5) } else { builder };
    let pool = builder.build().expect("a pool");
    let tasks: Vec<_> = (0..TASKS).map(|_| pool.submit(leak, LEAK).expect("submitted")).collect();
    let failed = tasks.iter().filter(|task| task.result().is_err()).count();
    println!("failed {failed}");
    println!("died {}", pool.stats().died);
}

fn a_pool_that_recycles_does_not_meet_the_kernels_killer() {
    for (how, dies) in [("does not", true), ("recycles", false)] {
        let Some(group) = Cgroup::with_limit(LIMIT) else { return };
        let mut actor = Actor::play("leaking", &[group.path(), how]);
        let (failed, died) = (actor.told("failed"), actor.told("died"));
        assert!(actor.finish().0.success());
        assert_eq!((failed != "0", died != "0"), (dies, dies), "{how}: {failed} failed, {died} died");
    }
}

/// Prints why a task that needs more than the cgroup has cannot run.
fn budgeted(args: &[String]) {
    enter(&args[0]);
    let pool = Pool::builder().workers(1).build().expect("a pool");
    let error = pool.submit_with(leak, 0).memory(LIMIT).submit().expect_err("all of it");
    println!("error {error}");
    let half = pool.submit_with(leak, 0).memory(LIMIT / 2).submit().expect("it fits");
    half.result().expect("a value");
}

fn the_budget_of_memory_is_the_cgroups() {
    let Some(group) = Cgroup::with_limit(LIMIT) else { return };
    let mut actor = Actor::play("budgeted", &[group.path()]);
    let error = actor.told("error");
    let text = format!("(the limit of {LIMIT} bytes set by {}, less {} in reserve", group.path(), LIMIT / 16);
    assert!(error.contains(&text), "{error}");
    assert!(actor.finish().0.success());
}
