//! Whatever is killed, stopped or taken away while a job runs, its result is the serial one, bit for bit; and when it is the
//! coordinator, nothing is left.
//!
//! `SWATH_FULL=1` runs the long forms: 1,000 kills of workers and 200 of coordinators.

mod stage;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use stage::{Actor, PROMISE, Shm, eventually, is_full, signal_pid};
use swath::prelude::*;
use swath::{admin, set_worker_state, with_worker_state};
use swath_platform::{process, signal};

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        updates_without_any_option_survive_kills,
        updates_under_the_lock_survive_kills,
        the_same_through_out_shows_the_mistake,
        many_small_phases_survive_kills,
        coordinators_killed_at_random_leave_nothing,
        coordinators_of_tasks_killed_at_random_leave_nothing,
        a_killed_guardian_is_replaced_and_the_job_goes_on,
        nothing_of_the_users_runs_before_there_is_a_guardian,
        names_removed_by_hand_cost_nothing,
        workers_that_slept_through_phases_change_nothing,
        workers_stopped_anywhere_in_a_phase_change_nothing_later,
        a_poisonous_chunk_costs_its_phase_and_no_other,
        reports_count_what_happened,
        lines_of_workers_arrive_whole_and_in_order,
        a_held_output_lock_stops_nobody,
        a_deadline_holds_when_nobody_reads_the_output,
        the_environment_overrides_the_number_of_workers,
        exit_of_the_host_ends_an_idle_pool,
        exit_of_the_host_ends_a_busy_pool,
    ];
    let roles: &[stage::Role] =
        stage::cast![life, life_of_tasks, job, first, chatty, holds_the_output, unread, counts, exits];
    stage::main(tests, roles)
}

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().expect("a pool")
}

/// A cheap generator for the tests' own choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Repeats `work` until so many workers of `pool` were killed, chosen at random, a few milliseconds apart. No round of `work`
/// has more than two kills (three, if one falls on the border): no chunk can run out of its three retries, however slow
/// the machine.
fn under_kills(pool: &Pool, kills: u64, mut work: impl FnMut()) {
    let (over, killed, rounds) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut dice, mut round, mut in_round) = (Dice(7), 0, 0);
            while !over.load(Ordering::Relaxed) && killed.load(Ordering::Relaxed) < kills {
                std::thread::sleep(Duration::from_micros(2000 + dice.below(15_000)));
                let now = rounds.load(Ordering::Relaxed);
                if now != round {
                    (round, in_round) = (now, 0);
                }
                if in_round < 2 && kill_one(pool, &mut dice) {
                    in_round += 1;
                    killed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let _over = AtEnd(&over);
        while killed.load(Ordering::Relaxed) < kills {
            work();
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn kill_one(pool: &Pool, dice: &mut Dice) -> bool {
    let pids = pool.pids();
    let Some(pid) = pids.get(dice.below(pids.len().max(1) as u64) as usize) else { return false };
    // Through a pidfd, and the list is read again after it was opened: the pid may be a stranger's by now.
    let Ok(pidfd) = process::pidfd_open(*pid) else { return false };
    pool.pids().contains(pid) && process::pidfd_signal(&pidfd, signal::KILL).is_ok()
}

/// Sets its flag on every way out.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn same_bits(a: &SharedArray<f64, ndarray::Ix1>, b: &[f64]) -> bool {
    a.len() == b.len() && a.view().iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// What `rounds` times `y += x` makes of zeros.
fn serial_sum(n: usize, rounds: u32, x: impl Fn(usize) -> f64) -> Vec<f64> {
    let one = |i| {
        let x = x(i);
        (0..rounds).fold(0.0, |y, _| y + x)
    };
    (0..n).map(one).collect()
}

// ---- workers are killed ----------------------------------------------------------------------------------------------

fn updates_without_any_option_survive_kills() {
    let kills = if is_full() { 1000 } else { 100 };
    let pool = pool(2);
    let n = 200_000;
    let x = SharedArray::from_shape_fn(n, |i| (i as f64).sin()).expect("room");
    let mut y = SharedArray::<f64, _>::zeros(n).expect("room");
    let (mut rounds, mut in_chunk) = (0, 0);
    under_kills(&pool, kills, || {
        let report = pool.phase((&x, &mut y)).for_each_report(|_, (x, mut y)| y += &x).expect("survives");
        rounds += 1;
        in_chunk += report.killed_in_chunk;
    });
    assert!(in_chunk >= kills / 10, "of {kills} kills only {in_chunk} hit a chunk");
    assert!(
        same_bits(&y, &serial_sum(n, rounds, |i| (i as f64).sin())),
        "{rounds} rounds, {in_chunk} in a chunk"
    );
}

/// Every chunk adds one to every element of an array that is locked, slowly enough to be killed in the middle, and one to a
/// row of its own: both exactly once.
fn updates_under_the_lock_survive_kills() {
    let kills = if is_full() { 1000 } else { 60 };
    let pool = pool(2);
    let (n, bins) = (40, 20_000);
    let mut own = SharedArray::<u64, _>::zeros(n).expect("room");
    let mut all = SharedArray::<u64, _>::zeros(bins).expect("room");
    let (mut rounds, mut in_chunk) = (0, 0);
    under_kills(&pool, kills, || {
        let phase = pool.phase((&mut own, locked(&mut all))).chunk(Chunk::Rows(1));
        let report = phase.for_each_report(|_, (mut own, mut all)| {
            own += 1;
            for bin in &mut all.lock() {
                *bin = std::hint::black_box(*bin) + 1;
            }
            let first = all.lock()[0];
            assert!(all.lock().iter().all(|bin| *bin == first), "half an update");
        });
        rounds += 1;
        in_chunk += report.expect("survives").killed_in_chunk;
    });
    assert!(in_chunk >= kills / 10, "of {kills} kills only {in_chunk} hit a chunk");
    assert!(own.view().iter().all(|row| *row == rounds), "{rounds} rounds");
    assert!(all.view().iter().all(|bin| *bin == rounds * n as u64), "{rounds} rounds: {:?}", all.view());
}

fn the_same_through_out_shows_the_mistake() {
    if !cfg!(debug_assertions) {
        println!("skipped: only debug builds, or SWATH_CHECK=1, fill rows before they are written");
        return;
    }
    let pool = pool(2);
    let x = SharedArray::from_shape_fn(1000, |i| i as f64).expect("room");
    let mut y = SharedArray::<f64, _>::zeros(1000).expect("room");
    pool.phase((&x, out(&mut y))).for_each(|_, (x, mut y)| y += &x).expect("runs");
    assert!(y.view().iter().all(|v| v.is_nan()), "reading what out() promises not to read is seen at once");
}

fn many_small_phases_survive_kills() {
    let pool = pool(2);
    let mut a = SharedArray::<u64, _>::zeros(8).expect("room");
    let mut rounds = 0;
    under_kills(&pool, 50, || {
        pool.phase(&mut a).chunk(Chunk::Rows(1)).for_each(|_, mut a| a += 1).expect("survives");
        rounds += 1;
        let sum = pool.phase(&a).chunk(Chunk::Rows(3)).map(|_, a| a.sum()).reduce(0, |a, b| a + b);
        assert_eq!(sum.expect("survives"), 8 * rounds);
    });
    assert!(rounds >= 25);
}

fn a_poisonous_chunk_costs_its_phase_and_no_other() {
    let pool = pool(2);
    let mut a = SharedArray::<u32, _>::zeros(40).expect("room");
    for round in 0..8u32 {
        let poison = round as usize % 4;
        let error = pool
            .phase(&mut a)
            .args(poison)
            .chunk(Chunk::Rows(10))
            .for_each(|ctx, mut a| {
                a += 1;
                if ctx.chunk() == *ctx.args() {
                    std::process::exit(3);
                }
            })
            .expect_err("poison");
        assert_eq!(error.kind(), ErrorKind::Failed);
        let [failure] = error.failures() else { panic!("one chunk: {error}") };
        assert_eq!((failure.chunk, failure.attempts), (poison, 4));
        let rows = poison * 10..poison * 10 + 10;
        assert_eq!(error.rows().done.iter().map(ExactSizeIterator::len).sum::<usize>(), 30);
        assert_eq!(error.rows().untouched, std::slice::from_ref(&rows));
        // The caller repairs what is missing; the other phases are as if nothing had been.
        let mut view = a.view_mut();
        rows.for_each(|row| view[row] += 1);
        pool.phase(&mut a).for_each(|_, mut a| a += 1).expect("a phase without poison");
        assert!(a.view().iter().all(|v| *v == 2 * (round + 1)), "{:?}", a.view());
    }
}

fn reports_count_what_happened() {
    let pool = pool(2);
    let mut a = SharedArray::<u32, _>::zeros(60).expect("room");
    let report = pool
        .phase(&mut a)
        .name("counted")
        .chunk(Chunk::Rows(1))
        .for_each_report(|ctx, mut a| {
            a += 1;
            // Chunks 0, 20, 40 kill one worker each, chunk 50 three.
            let deaths = if ctx.chunk() == 50 { 3 } else { u32::from(ctx.chunk() % 20 == 0) };
            if ctx.attempt() < deaths {
                signal_pid(process::getpid(), signal::KILL);
            }
        })
        .expect("survives");
    assert!(a.view().iter().all(|v| *v == 1));
    assert_eq!(
        (report.name.as_str(), report.workers, report.chunks, report.rows_per_chunk),
        ("counted", 2, 60, 1)
    );
    assert_eq!((report.killed_in_chunk, report.workers_lost, report.retried), (6, 6, 6));
    assert_eq!(report.committed_by_worker.iter().sum::<u64>(), 60);
    assert!(report.failed.is_empty() && report.wall > Duration::ZERO);
    let report = pool.phase(&mut a).chunk(Chunk::Rows(1)).for_each_report(|_, mut a| a += 1).expect("runs");
    assert_eq!(
        (report.killed_in_chunk, report.workers_lost, report.retried),
        (0, 0, 0),
        "each phase from zero"
    );
}

// ---- workers are stopped ---------------------------------------------------------------------------------------------

/// Three phases that have nothing in common with others, on arrays that come and go.
fn other_phases(pool: &Pool) {
    let a = SharedArray::from_shape_fn((30, 7), |(i, j)| (i * 7 + j) as f32).expect("room");
    let sum = pool.phase(&a).chunk(Chunk::Rows(4)).map(|_, a| a.sum()).reduce(0.0, |a, b| a + b);
    assert_eq!(sum.expect("a phase"), (209 * 105) as f32);
    let mut b = SharedArray::<u8, _>::zeros(5000).expect("room");
    pool.phase(out(&mut b)).for_each(|_, mut b| b.fill(9)).expect("a phase");
    assert!(b.view().iter().all(|v| *v == 9));
    let step = |_: &Ctx<()>, n: &mut usize, b: ArrayView1<'_, u8>| *n += b.len();
    let count = pool.phase(&b).chunk(Chunk::Rows(1)).fold(|| 0, step).merge(|a, b| a + b);
    assert_eq!(count.expect("a phase"), 5000);
}

/// Everybody takes part: who was late has caught up.
fn meet(pool: &Pool) {
    let mut seats = SharedArray::<u32, _>::zeros(2).expect("room");
    let all = pool.team(&mut seats).run(|team, mut seats| {
        seats.mine().fill(1);
        team.barrier()?;
        Ok(())
    });
    all.expect("all ranks");
    assert_eq!(seats.view().sum(), 2);
}

fn stop(pid: u32) {
    signal_pid(pid, signal::STOP);
    assert!(eventually(PROMISE, || process::state_char(pid) == Some('T')));
}

fn workers_that_slept_through_phases_change_nothing() {
    let pool = pool(2);
    for _ in 0..5 {
        let mut a = SharedArray::<u64, _>::zeros(500).expect("room");
        pool.phase(&mut a).chunk(Chunk::Rows(1)).for_each(|_, mut a| a += 1).expect("a phase");
        let sleeper = pool.pids()[0];
        stop(sleeper);
        pool.phase(&mut a).chunk(Chunk::Rows(1)).for_each(|_, mut a| a += 1).expect("without it");
        other_phases(&pool);
        signal_pid(sleeper, signal::CONT);
        meet(&pool);
        assert!(a.view().iter().all(|v| *v == 2));
        assert!(pool.pids().contains(&sleeper), "slow is not dead");
    }
}

/// Stops a worker somewhere in a phase. If it holds a chunk the phase waits for it, and it is let go; otherwise it sleeps
/// through the phases after it, and wakes up with whatever it had in mind.
fn workers_stopped_anywhere_in_a_phase_change_nothing_later() {
    let pool = pool(2);
    let mut dice = Dice(3);
    let (mut late, mut rounds) = (0, 0);
    let wanted = if is_full() { 300 } else { 15 };
    let mut a = SharedArray::<u64, _>::zeros(2000).expect("room");
    while late < wanted {
        let sleeper = pool.pids()[dice.below(2) as usize];
        let (over, delay) = (AtomicBool::new(false), Duration::from_micros(dice.below(3000)));
        let (began, held) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !began.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                std::thread::sleep(delay);
                stop(sleeper);
                if !eventually(Duration::from_millis(100), || over.load(Ordering::Acquire)) {
                    held.store(true, Ordering::Release);
                    signal_pid(sleeper, signal::CONT);
                }
            });
            let _over = AtEnd(&over);
            began.store(true, Ordering::Release);
            pool.phase(&mut a).chunk(Chunk::Rows(1)).for_each(|_, mut a| a += 1).expect("a phase");
        });
        rounds += 1;
        if !held.load(Ordering::Acquire) {
            late += 1;
            other_phases(&pool);
            signal_pid(sleeper, signal::CONT);
            meet(&pool);
        }
        assert!(a.view().iter().all(|v| *v == rounds), "round {rounds}, {late} times late");
        assert!(rounds < 100 * wanted, "it always holds a chunk: {late} of {rounds}");
    }
}

// ---- coordinator, guardian, names ------------------------------------------------------------------------------------

/// Everything that a program does, over and over.
fn life(_: &[String]) {
    loop {
        let x = SharedArray::from_shape_fn(20_000, |i| i as f64).expect("room");
        let mut y: SharedArray<f64, _> = SharedArray::options().unnamed().create(20_000).expect("room");
        let pool = pool(2);
        for _ in 0..5 {
            pool.phase((&x, &mut y)).for_each(|_, (x, mut y)| y += &x).expect("a phase");
            let _ = pool.phase(&y).map(|_, y| y.sum()).reduce(0.0, |a, b| a + b).expect("a phase");
        }
        drop(x);
        drop(pool);
    }
}

/// All that tasks have: queued ones, running ones, long results that nobody fetched, callbacks, streams half read, cancelled ones.
fn life_of_tasks(_: &[String]) {
    let long = |bytes: usize| vec![7_u8; bytes];
    let rest = |millis: u64| std::thread::sleep(Duration::from_millis(millis));
    let pool = pool(2);
    for round in 0.. {
        let tasks: Vec<_> = (0..30).map(|n| pool.submit(long, n << 12).expect("submitted")).collect();
        tasks[0].add_done_callback(|task| drop(task.result()));
        let slow = pool.submit(rest, 5).expect("submitted");
        let mut stream = pool.imap(long, (0..100).map(|n| n * 1000));
        assert!(stream.by_ref().take(10).all(|value| value.is_ok()));
        slow.cancel();
        for (n, task) in tasks.iter().enumerate().step_by(3) {
            assert_eq!(task.result().expect("a value").len(), n << 12);
        }
        println!("round {round}");
    }
}

fn coordinators_killed_at_random_leave_nothing() {
    killed_at_random("life");
}

fn coordinators_of_tasks_killed_at_random_leave_nothing() {
    let mut actor = Actor::play("life_of_tasks", &[]);
    actor.told("round");
    drop(actor);
    killed_at_random("life_of_tasks");
}

fn killed_at_random(role: &str) {
    let mut dice = Dice(11);
    for _ in 0..if is_full() { 200 } else { 20 } {
        let mut actor = Actor::play(role, &[]);
        std::thread::sleep(Duration::from_micros(dice.below(80_000)));
        actor.kill();
        actor.assert_gone();
    }
}

/// Updates an array for ever, and says how far it is.
fn job(_: &[String]) {
    let pool = pool(2);
    let mut y = SharedArray::<u64, _>::zeros(1000).expect("room");
    for round in 1.. {
        pool.phase(&mut y).for_each(|_, mut y| y += 1).expect("a phase");
        assert!(y.view().iter().all(|v| *v == round));
        println!("round {round}");
    }
}

fn a_killed_guardian_is_replaced_and_the_job_goes_on() {
    let mut actor = Actor::play("job", &[]);
    actor.told("round");
    for _ in 0..3 {
        let guardian = actor.processes_called("swath-guardian")[0];
        signal_pid(guardian, signal::KILL);
        let is_replaced = || {
            let now = actor.processes_called("swath-guardian");
            now.len() == 1 && now[0] != guardian
        };
        assert!(eventually(PROMISE, is_replaced), "{:?}", actor.processes_called("swath-guardian"));
        (0..100).for_each(|_| drop(actor.told("round")));
    }
    actor.kill();
    actor.assert_gone();
}

/// Whether this worker's session has its name and a guardian.
fn is_guarded() -> bool {
    let sessions = admin::list().expect("a list");
    sessions.iter().any(|session| session.owner_pid == process::getppid() && session.guardian_pid != 0)
}

/// `first HOW`: the first that the first pool of a program does for its user.
fn first(how: &[String]) {
    let found = match how[0].as_str() {
        "task" => pool(1).apply(|_: ()| is_guarded(), ()).expect("a value"),
        "phase" => {
            let pool = pool(1);
            let mut found: SharedArray<u8, _> = SharedArray::options().unnamed().create(1).expect("room");
            pool.phase(&mut found)
                .for_each(|_, mut found| found[0] = u8::from(is_guarded()))
                .expect("a phase");
            found.view()[0] == 1
        }
        _ => {
            let keep = |_: ()| set_worker_state(is_guarded());
            let builder = Pool::builder().workers(1).initializer(keep, ());
            let pool = builder.build().expect("a pool");
            pool.apply(|_: ()| with_worker_state(|found: &mut bool| *found), ()).expect("a value")
        }
    };
    println!("found {found}");
}

/// Who could be killed with it, and leave to nobody what kernels had started.
fn nothing_of_the_users_runs_before_there_is_a_guardian() {
    for how in ["task", "phase", "initializer"].into_iter().cycle().take(30) {
        let mut actor = Actor::play("first", &[how]);
        assert_eq!(actor.told("found"), "true", "{how}");
        assert!(actor.wait().success());
    }
}

fn names_removed_by_hand_cost_nothing() {
    let shm = Shm::now();
    let pool = pool(2);
    let n = 20_000;
    let named = format!("swath-removed-{}", process::getpid());
    let x: SharedArray<f64, _> =
        SharedArray::options().name(&named).from_shape_fn(n, |i| (i as f64).cos()).expect("room");
    let mut y = SharedArray::<f64, _>::zeros(n).expect("room");
    let session = swath::segment::Session::current().expect("ours").id().to_owned();
    let mut names = Shm::names_with(&session);
    names.push(named);
    assert_eq!(names.len(), 3, "lock file and two arrays: {names:?}");
    names.iter().for_each(|name| std::fs::remove_file(swath::segment::shm_path(name)).expect("there"));
    let mut rounds = 0;
    under_kills(&pool, 20, || {
        pool.phase((&x, &mut y)).for_each(|_, (x, mut y)| y += &x).expect("survives");
        rounds += 1;
    });
    assert!(same_bits(&y, &serial_sum(n, rounds, |i| (i as f64).cos())));
    other_phases(&pool);
    drop((x, y, pool));
    assert_eq!(shm.new_names(), Vec::<String>::new());
}

// ---- output, environment, exit ---------------------------------------------------------------------------------------

/// Workers print lines of all lengths, in pieces; some are killed right after. `main` returns at once.
fn chatty(_: &[String]) {
    static LINES: AtomicU32 = AtomicU32::new(0);
    let pool = pool(3);
    let a = SharedArray::<u8, _>::zeros(300).expect("room");
    let kernel = |ctx: &Ctx<()>, _: ArrayView1<'_, u8>| {
        let length = match ctx.chunk() % 100 {
            99 => 50_000,
            n => n * 3,
        };
        print!("{} {} ", process::getpid(), LINES.fetch_add(1, Ordering::Relaxed));
        println!("{length} {}", "x".repeat(length));
        if ctx.chunk() % 50 == 7 && ctx.attempt() == 0 {
            signal_pid(process::getpid(), signal::KILL);
        }
    };
    pool.phase(&a).chunk(Chunk::Rows(1)).for_each(kernel).expect("survives");
}

fn lines_of_workers_arrive_whole_and_in_order() {
    let (status, said) = Actor::play("chatty", &[]).finish();
    assert!(status.success(), "{status}");
    let mut next = std::collections::BTreeMap::<u32, u32>::new();
    let mut count = 0;
    for line in said.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let [pid, number, length, text] = parts[..] else { panic!("not whole: {line:.200}") };
        let [pid, number, length] = [pid, number, length].map(|n| n.parse::<u32>().expect("a number"));
        assert!(text.len() == length as usize && text.bytes().all(|b| b == b'x'), "not whole: {line:.200}");
        let expected = next.entry(pid).or_default();
        assert_eq!(number, *expected, "the lines of {pid} in their order, none missing");
        *expected += 1;
        count += 1;
    }
    assert_eq!(count, 300 + 6, "every line, also the last ones of the killed");
}

/// As many commands do it: the output is locked once, for all of the program.
fn holds_the_output(_: &[String]) {
    use std::io::Write;
    let pool = pool(2);
    let mut a = SharedArray::<u32, _>::zeros(20).expect("room");
    let mut out = std::io::stdout().lock();
    let kernel = |ctx: &Ctx<()>, mut a: ArrayViewMut1<'_, u32>| {
        println!("a line of chunk {}", ctx.chunk());
        a += 1;
        if ctx.chunk() % 10 == 3 && ctx.attempt() == 0 {
            signal_pid(process::getpid(), signal::KILL);
        }
    };
    pool.phase(&mut a).chunk(Chunk::Rows(1)).for_each(kernel).expect("survives");
    writeln!(out, "sum {}", a.view().sum()).expect("somebody reads");
}

fn a_held_output_lock_stops_nobody() {
    let (status, said) = Actor::play("holds_the_output", &[]).finish();
    assert!(status.success(), "{status}");
    assert!(said.lines().any(|line| line == "sum 20"), "{said}");
}

/// Workers that print more than a pipe holds, while nobody reads.
fn unread(_: &[String]) {
    let pool = pool(2);
    let a = SharedArray::<u32, _>::zeros(1000).expect("room");
    let outcome = pool
        .phase(&a)
        .chunk(Chunk::Rows(1))
        .deadline(Duration::from_millis(300))
        .for_each(|_, _| println!("{}", "y".repeat(5000)));
    let kind = outcome.err().map(|e| e.kind());
    std::process::exit(if kind == Some(ErrorKind::Deadline) { 17 } else { 1 });
}

fn a_deadline_holds_when_nobody_reads_the_output() {
    let mut actor = Actor::play("unread", &[]);
    assert_eq!(actor.wait().code(), Some(17));
    actor.assert_gone();
}

/// `counts`: a pool of two, or why there is none.
fn counts(_: &[String]) {
    match Pool::builder().workers(2).build() {
        Ok(pool) => {
            let a = SharedArray::from_shape_fn(100, |i| i as u32).expect("room");
            let sum = pool.phase(&a).map(|_, a| a.sum()).reduce(0, |a, b| a + b).expect("a phase");
            println!("{} {} {sum}", pool.workers(), pool.pids().len());
        }
        Err(error) => println!("{:?} {error}", error.kind()),
    }
}

fn the_environment_overrides_the_number_of_workers() {
    let with = |value: &str| {
        let set = |command: &mut std::process::Command| {
            command.env("SWATH_WORKERS", value);
        };
        Actor::play_with("counts", &[], set).finish().1.trim().to_owned()
    };
    assert_eq!(with("3"), "3 3 4950");
    assert_eq!(with("0"), "0 0 4950");
    assert_eq!(with(""), "2 2 4950");
    let refused = with("many");
    assert!(refused.starts_with("Usage") && refused.contains("many"), "{refused}");
}

/// `exits idle|busy`: the program ends without dropping its pool.
fn exits(args: &[String]) {
    let pool = pool(2);
    let mut a = SharedArray::<u32, _>::zeros(10).expect("room");
    pool.phase(&mut a).for_each(|_, mut a| a += 1).expect("a phase");
    let under_way = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if args[0] == "busy" {
            scope.spawn(|| {
                let phase = pool.phase(&mut a).progress(|_| under_way.store(true, Ordering::Release));
                phase.for_each(|_, mut a| {
                    while std::hint::black_box(true) {
                        a += 1;
                    }
                })
            });
            while !under_way.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
        std::process::exit(7);
    });
}

fn exit_of_the_host_ends_an_idle_pool() {
    exit_of_the_host("idle");
}

fn exit_of_the_host_ends_a_busy_pool() {
    exit_of_the_host("busy");
}

fn exit_of_the_host(how: &str) {
    let mut actor = Actor::play("exits", &[how]);
    assert_eq!(actor.wait().code(), Some(7));
    actor.assert_gone();
}
