//! Processes that start processes: each level has a session of its own, each level's death takes those below along, and nothing is
//! left of any.

mod stage;

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stage::{Actor, PROMISE, Shm, eventually, signal_pid};
use swath::limits::NESTING_MAX;
use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::{Event, Locked, Mutex};
use swath::{admin, current_process, isolated, parent_process, try_isolated};
use swath_platform::{process, signal};

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        c29_a_process_has_processes_pools_and_calls_of_its_own,
        c29_a_kernel_has_processes_pools_and_calls_of_its_own,
        c29_nested_pools_share_the_processors,
        c29_too_deep_is_an_error_that_names_the_limit,
        objects_reach_every_level_and_come_back,
        a_lock_is_recovered_over_two_levels,
        a_fork_below_is_a_guest_by_name_alone,
        those_below_are_waited_for_level_by_level,
        the_topmost_killed_leaves_nothing,
        the_topmost_killed_at_any_moment_leaves_nothing,
        the_topmost_and_its_guardian_killed_then_clean,
        one_in_the_middle_killed_takes_those_below_along,
    ];
    stage::main(tests, stage::cast![levels, tree])
}

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

// ---- C29 -----------------------------------------------------------------------------------------------------------------

/// Uses everything that there is; what came of it.
fn use_everything(n: u64) -> Result<u64> {
    let pool = Pool::builder().workers(2).build()?;
    let mut a = SharedArray::from_shape_fn(100, |i| i as u64)?;
    pool.phase(&mut a).args(n).for_each(|ctx, mut a| a += *ctx.args())?;
    let sum = pool.phase(&a).map(|_, a| a.sum()).reduce(0, |a, b| a + b)?;
    let counter = Shared::new(Mutex::new(0_u64))?;
    let add = |counter: Shared<Mutex<u64>>| -> Result<()> {
        *counter.lock()?.acquired().expect("whole") += 1;
        Ok(())
    };
    let started: Vec<Process> =
        (0..3).map(|_| Process::spawn(add, counter.clone())).collect::<Result<_>>()?;
    for process in &started {
        assert!(process.join()?.success());
    }
    let counted = *counter.lock()?.acquired().expect("whole");
    Ok(sum + counted + isolated(|n: u64| n * 1000, n)?)
}

fn expected(n: u64) -> u64 {
    99 * 50 + 100 * n + 3 + 1000 * n
}

fn c29_a_process_has_processes_pools_and_calls_of_its_own() {
    assert_eq!(use_everything(1).expect("a value"), expected(1));
    assert_eq!(try_isolated(use_everything, 2).expect("a value"), expected(2));
    let twice = |n: u64| -> Result<(u64, u32)> {
        Ok((try_isolated(use_everything, n)? + use_everything(n)?, current_process().depth()))
    };
    // Beside a session of its own, with the same objects in use at the same time.
    let outer = Shared::new(Mutex::new(0_u64)).expect("a mutex");
    assert_eq!(try_isolated(twice, 3).expect("a value"), (2 * expected(3), 1));
    assert_eq!(*outer.lock().expect("the lock").acquired().expect("whole"), 0);
}

fn c29_a_kernel_has_processes_pools_and_calls_of_its_own() {
    let pool = Pool::builder().workers(2).build().expect("a pool");
    let mut a = SharedArray::from_shape_fn(6, |i| i as u64).expect("an array");
    for _ in 0..2 {
        let values = pool
            .phase(&a)
            .chunk(Chunk::Rows(1))
            .try_map(|_, a| {
                assert_eq!((current_process().depth(), parent_process().map(|p| p.depth())), (1, Some(0)));
                use_everything(a[0])
            })
            .collect();
        assert_eq!(values.expect("values"), (0..6).map(expected).collect::<Vec<_>>());
    }
    // The workers have had sessions of their own: their places in ours are what they were.
    let sum = Shared::new(Mutex::new(0_u64)).expect("a mutex");
    pool.phase(&a)
        .chunk(Chunk::Rows(1))
        .args(&sum)
        .for_each(|ctx, a| -> Result<()> {
            let mut sum = ctx.args().lock()?.acquired().expect("whole");
            *sum += use_everything(a[0])?;
            Ok(())
        })
        .expect("a phase");
    let total = (0..6).map(expected).sum::<u64>();
    assert_eq!(*sum.lock().expect("the lock").acquired().expect("whole"), total);
    pool.team(&mut a)
        .run(|team, mut a| {
            team.barrier()?;
            use_everything(1)?;
            team.barrier()?;
            a.mine().fill(team.rank() as u64);
            Ok(())
        })
        .expect("a team");
    assert_eq!(a.view().sum(), 3);
}

/// Workers of a pool that nobody gave a number, and of one in its worker.
fn head_counts(_: ()) -> Result<(usize, usize)> {
    let count = |_: ()| -> Result<usize> { Ok(Pool::builder().build()?.workers()) };
    let pool = Pool::builder().build()?;
    // A process of its own counts on what its starter does.
    assert_eq!(try_isolated(count, ())?, pool.workers());
    Ok((pool.workers(), pool.try_submit(count, ())?.result()?))
}

fn c29_nested_pools_share_the_processors() {
    if std::env::var_os("SWATH_WORKERS").is_some() {
        return eprintln!("skipped: c29_nested_pools_share_the_processors: SWATH_WORKERS decides");
    }
    let processors = swath::cpu_count();
    for workers in [1, 2] {
        let pool = Pool::builder().workers(workers).build().expect("a pool");
        let (below, further) = pool.try_submit(head_counts, ()).expect("room").result().expect("numbers");
        assert_eq!(below, (processors / workers).max(1), "of {processors}");
        assert_eq!(further, (processors / workers / below).max(1), "of {processors}");
    }
    let pool = Pool::builder().workers(processors.max(2)).build().expect("a pool");
    let one = pool.try_submit(head_counts, ()).expect("room").result().expect("numbers");
    assert_eq!(one.0, 1);
    pool.resize(1).expect("possible");
    // The one that is left, when the others have gone.
    assert!(eventually(PROMISE, || pool.pids().len() == 1));
    let all = pool.try_submit(head_counts, ()).expect("room").result().expect("numbers");
    assert_eq!(all.0, processors, "they are its own now");
}

/// How deep it goes, or why it does not.
fn descend(told: u32) -> Result<u32> {
    assert_eq!(current_process().depth(), told);
    match try_isolated(descend, told + 1) {
        Ok(deepest) => Ok(deepest),
        Err(error) if error.kind() == ErrorKind::TooDeep => {
            let text = error.to_string();
            assert!(text.contains("NESTING_MAX") && text.contains("10 deep"), "{text}");
            // For all ways to start one.
            let others = [
                Process::spawn(|_: ()| (), ()).expect_err("too deep").kind(),
                Process::fork(|| ()).expect_err("too deep").kind(),
                Pool::builder().workers(1).build().err().expect("too deep").kind(),
            ];
            assert_eq!(others, [ErrorKind::TooDeep; 3]);
            assert_eq!(Pool::builder().inline().build()?.workers(), 0);
            Ok(told)
        }
        Err(error) => Err(error),
    }
}

fn c29_too_deep_is_an_error_that_names_the_limit() {
    assert_eq!(descend(0).expect("it ends at the limit"), NESTING_MAX);
}

// ---- what reaches over levels --------------------------------------------------------------------------------------------

type Counter = Shared<Mutex<u64>>;

/// Adds one at every level below, and hands the object back.
fn add_below((counter, levels): (Counter, u32)) -> Result<Counter> {
    *counter.lock()?.acquired().expect("whole") += 1;
    match levels {
        0 => Ok(counter),
        // With a session of its own.
        _ => {
            let own = Shared::new(Mutex::new(0_u64))?;
            let back = try_isolated(add_below, (counter, levels - 1))?;
            *own.lock()?.acquired().expect("whole") += 1;
            Ok(back)
        }
    }
}

fn objects_reach_every_level_and_come_back() {
    let name = format!("swath-nested-{}", process::getpid());
    for counter in [Counter::new(Mutex::new(0)), Counter::named(name, Mutex::new(0))] {
        let counter = counter.expect("a mutex");
        let back = try_isolated(add_below, (counter.clone(), 3)).expect("four levels");
        *back.lock().expect("the lock").acquired().expect("whole") += 1;
        assert_eq!(*counter.lock().expect("the lock").acquired().expect("whole"), 5);
    }
    // What a call makes itself ends with it.
    let error = try_isolated(|_: ()| Counter::new(Mutex::new(0)), ()).expect_err("its session has ended");
    assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
}

/// Two levels down, until it is killed.
fn hold((counter, there): (Counter, Shared<Event>)) {
    let mut guard = counter.lock().expect("the lock").acquired().expect("whole");
    *guard = u64::from(process::getpid());
    there.set().expect("an event");
    park();
}

/// Its end, as an exit code.
fn have_it_held(both: (Counter, Shared<Event>)) -> i32 {
    let holder = Process::spawn(hold, both).expect("a process");
    -holder.join().expect("ours").number().unwrap_or(0)
}

fn a_lock_is_recovered_over_two_levels() {
    let (counter, there) = (Counter::new(Mutex::new(0)), Shared::new(Event::new()));
    let (counter, there) = (counter.expect("a mutex"), there.expect("an event"));
    let outer = Process::spawn(have_it_held, (counter.clone(), there.clone())).expect("a process");
    there.wait().expect("an event");
    assert!(counter.try_lock().is_err(), "held");
    let is_below = |pid: &u32| process::stat(*pid).is_ok_and(|stat| stat.parent == outer.id());
    let comm = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut below = process::all_pids().expect("/proc").into_iter().filter(is_below);
    let holder = below.find(|pid| comm(*pid) == "swath-process\n").expect("the holder");
    signal_pid(holder, signal::KILL);
    match counter.lock().expect("the lock") {
        Locked::Acquired(_) => panic!("nobody let go of it"),
        Locked::Recovered(guard) => {
            assert_eq!((guard.dead().pid, *guard), (holder, u64::from(holder)));
            drop(guard.repaired());
        }
    }
    assert_eq!(outer.join().expect("ours").code(), Some(signal::KILL));
}

/// A process forks a copy of itself, which is no member of the session that its original was started for.
fn a_fork_below_is_a_guest_by_name_alone() {
    let name = format!("swath-forked-{}", process::getpid());
    let counter = Counter::named(&name, Mutex::new(0)).expect("a mutex");
    let below = |(counter, name): (Counter, String)| {
        let fork = Process::fork(move || {
            assert!(counter.lock().is_err(), "what it takes along is its original's");
            let own = Counter::attach(&name).expect("the counter");
            *own.lock().expect("the lock").acquired().expect("whole") += 1;
            assert_eq!(current_process().depth(), 2);
            use_everything(1).expect("a value") == expected(1)
        });
        fork.expect("a process with one thread").join().expect("ours").code().unwrap_or(-1)
    };
    let process = Process::spawn(below, (counter.clone(), name)).expect("a process");
    assert_eq!(process.join().expect("ours").code(), Some(1), "true");
    assert_eq!(*counter.lock().expect("the lock").acquired().expect("whole"), 1);
}

// ---- ends ----------------------------------------------------------------------------------------------------------------

/// Each level starts one more and ends before it.
fn levels(_: &[String]) {
    fn down(left: u32) {
        if left > 0 {
            drop(Process::spawn(down, left - 1).expect("a process"));
        }
        std::thread::sleep(Duration::from_millis(20));
        println!("level {left}");
    }
    down(3);
}

fn those_below_are_waited_for_level_by_level() {
    let mut actor = Actor::play("levels", &[]);
    let (status, said) = actor.finish();
    assert!(status.success(), "{status}");
    let lines: BTreeSet<&str> = said.lines().collect();
    assert_eq!(lines, ["level 0", "level 1", "level 2", "level 3"].into());
    assert!(actor.processes().is_empty(), "the topmost ended last");
    actor.assert_gone();
}

/// What a level of the tree is to do.
#[derive(Clone, Serialize, Deserialize)]
struct Level {
    left: u32,
}

/// A program, a pool at work, names in `/dev/shm`, and one more level.
fn grow(level: Level) {
    let _session = Shared::new(Event::new()).expect("a session");
    println!("level {} {}", level.left, process::getpid());
    // The topmost is started by no coordinator: nobody looks for what it has started itself.
    let _program = (current_process().depth() > 0).then(|| Command::new("sleep").arg("1000").spawn());
    let _named: SharedArray<u8, _> = SharedArray::options()
        .name(format!("swath-tree-{}", process::getpid()))
        .create(10_000)
        .expect("an array with a name");
    let mut unnamed: SharedArray<u32, _> = SharedArray::options().unnamed().create(2).expect("a memfd");
    let _below =
        (level.left > 0).then(|| Process::spawn(grow, Level { left: level.left - 1 }).expect("a process"));
    let pool = Pool::builder().workers(2).build().expect("a pool");
    let _ = pool.phase(&mut unnamed).chunk(Chunk::Rows(1)).for_each(|_, mut a| {
        let helper = Command::new("sleep").arg("1000").spawn();
        println!("up {}", helper.expect("a program").id());
        while std::hint::black_box(true) {
            a += 1;
        }
    });
}

/// `tree LEVELS`.
fn tree(args: &[String]) {
    grow(Level { left: args[0].parse().expect("a number") });
}

/// Plays a tree of three levels, as far as everybody in it is at work; the pids of the levels.
fn play_tree() -> (Actor, Vec<u32>) {
    let mut actor = Actor::play("tree", &["2"]);
    let (mut pids, mut up) = (vec![0; 3], 0);
    while up < 6 {
        let line = actor.next_line().expect("it ended early, or hung");
        if let Some((left, pid)) = line.strip_prefix("level ").and_then(|rest| rest.split_once(' ')) {
            pids[2 - left.parse::<usize>().expect("a number")] = pid.parse().expect("a number");
        }
        up += u32::from(line.starts_with("up "));
    }
    assert_eq!(actor.processes_called("swath-worker").len(), 6);
    assert_eq!(actor.processes_called("swath-process").len(), 2);
    assert_eq!(actor.processes_called("swath-guardian").len(), 3, "each level has its own");
    assert_eq!(actor.processes_called("sleep").len(), 8);
    (actor, pids)
}

fn names_of_trees() -> usize {
    Shm::names_with("swath-tree-").len()
}

fn the_topmost_killed_leaves_nothing() {
    let (mut actor, _) = play_tree();
    if stage::is_private() {
        assert_eq!(names_of_trees(), 3);
    }
    actor.kill();
    actor.assert_gone();
}

/// Also sessions of the levels below that had no guardian yet: that of the level above sees to it.
fn the_topmost_killed_at_any_moment_leaves_nothing() {
    let rounds = if stage::is_full() { 200 } else { 25 };
    let mut before_all_were_up = 0;
    for round in 0..rounds {
        let mut actor = Actor::play("tree", &["2"]);
        actor.told("level 2");
        std::thread::sleep(Duration::from_micros(round * 1500 % 37_000));
        actor.kill();
        actor.assert_gone();
        let up = std::iter::from_fn(|| actor.next_line()).filter(|line| line.starts_with("up ")).count();
        before_all_were_up += u32::from(up < 6);
    }
    assert!(before_all_were_up > 0, "no kill came early enough to test anything");
}

/// The topmost is stopped first, so that it cannot start another guardian.
fn the_topmost_and_its_guardian_killed_then_clean() {
    let (mut actor, _) = play_tree();
    let guardians = actor.processes_called("swath-guardian");
    let parent_of = |pid: &u32| process::stat(*pid).map_or(0, |stat| stat.parent);
    let guardian = guardians.into_iter().find(|pid| parent_of(pid) == actor.pid()).expect("one of its own");
    actor.signal(signal::STOP);
    assert!(eventually(PROMISE, || process::state_char(actor.pid()) == Some('T')));
    signal_pid(guardian, signal::KILL);
    assert!(eventually(PROMISE, || process::state_char(guardian) == Some('Z')));
    actor.kill();
    // The levels below, and what they had, go by themselves: each has a guardian.
    let swaths = || {
        let comms = ["swath-worker", "swath-process", "swath-guardian"];
        comms.iter().map(|comm| actor.processes_called(comm).len()).sum::<usize>()
    };
    assert!(eventually(PROMISE, || swaths() == 0), "{:?}", actor.processes());
    // Unless a guardian below has seen to it already.
    let report = admin::clean(false).expect("a cleaning");
    assert_eq!(report.failed, Vec::<String>::new());
    actor.assert_gone();
}

fn one_in_the_middle_killed_takes_those_below_along() {
    let (mut actor, pids) = play_tree();
    signal_pid(pids[1], signal::KILL);
    // The topmost, its two workers, their programs, its guardian; and its template, where workers are copies.
    let left = || actor.processes().len() - actor.processes_called("swath-template").len();
    assert!(eventually(PROMISE, || left() == 6), "{:?}", actor.processes());
    assert!(actor.processes().contains(&pids[0]));
    if stage::is_private() {
        assert!(eventually(PROMISE, || names_of_trees() == 1), "{:?}", Shm::names_with("swath-"));
        assert!(eventually(PROMISE, || actor.new_names().len() == 2), "{:?}", actor.new_names());
    }
    actor.kill();
    actor.assert_gone();
}
