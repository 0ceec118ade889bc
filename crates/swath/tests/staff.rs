//! Workers as a staff: how they begin, what each keeps, when they are replaced, and how they leave.

#[path = "care/patience.rs"]
mod patience;

use std::time::Duration;

use swath::prelude::*;
use swath::process::Exceeded;
use swath::{What, set_worker_state, with_worker_state, worker_shared};
use swath_platform::{process, signal};

use patience::{PATIENCE, eventually};

swath::worker_entry!();

fn pid(_: u64) -> u32 {
    process::getpid()
}

/// What a worker keeps.
struct Count(u64);

fn add(n: u64) -> u64 {
    with_worker_state(|count: &mut Count| {
        count.0 += n;
        count.0
    })
}

#[test]
fn initializers_states_and_finalizers() {
    for workers in [0, 1, 3] {
        let pool = Pool::builder()
            .workers(workers)
            .initializer(|first: u64| set_worker_state(Count(first)), 1000)
            .finalizer(|| with_worker_state(|count: &mut Count| count.0))
            .build()
            .expect("a pool");
        let tasks: Vec<_> = (1..=100).map(|n| pool.submit(add, n).expect("taken")).collect();
        assert!(tasks.iter().all(|task| task.result().expect("a value") > 1000));
        let counts = pool.finish::<u64>().expect("of this type");
        let counts: Vec<u64> = counts.into_iter().map(|count| count.expect("no error")).collect();
        assert_eq!(counts.len(), workers.max(1));
        assert_eq!(counts.iter().sum::<u64>(), 5050 + 1000 * counts.len() as u64);
    }
}

#[test]
fn a_panic_does_not_lose_what_a_worker_keeps() {
    let pool =
        Pool::builder().workers(1).initializer(|()| set_worker_state(Count(7)), ()).build().expect("a pool");
    let fails = |n: u64| -> u64 { with_worker_state(|_: &mut Count| panic!("at {n}")) };
    pool.apply(fails, 1).expect_err("a panic");
    assert_eq!(pool.apply(add, 1).expect("a value"), 8);
    let other = |()| with_worker_state(|text: &mut String| text.len());
    let error = pool.apply(other, ()).expect_err("no such state").to_string();
    assert!(error.contains("keeps no alloc::string::String"), "{error}");
}

#[test]
fn an_object_is_sent_once_per_worker() {
    let table: Vec<u64> = (0..100_000).map(|n| n * 3).collect();
    for workers in [0, 2] {
        let pool = Pool::builder().workers(workers).shared(&table).build().expect("a pool");
        let look = |n: usize| worker_shared::<Vec<u64>>()[n];
        for n in [0, 7, 99_999] {
            assert_eq!(pool.apply(look, n).expect("a value"), n as u64 * 3);
        }
        let same = |()| std::sync::Arc::as_ptr(&worker_shared::<Vec<u64>>()) as usize;
        let pool = Pool::builder().workers(workers.min(1)).shared(&table).build().expect("a pool");
        assert_eq!(
            pool.apply(same, ()).expect("a value"),
            pool.apply(same, ()).expect("the same"),
            "decoded once"
        );
        let wrong = |()| worker_shared::<String>().len();
        let error = pool.apply(wrong, ()).expect_err("another type").to_string();
        assert!(error.contains("not a alloc::string::String"), "{error}");
    }
}

#[test]
fn c09_initializers_that_fail() {
    let build = |path: String| {
        let once = |path: String| match std::path::Path::new(&path).exists() {
            true => Err(format!("{path} is there")),
            false => Ok(()),
        };
        Pool::builder().workers(1).try_initializer(once, path).build()
    };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a").to_str().expect("UTF-8").to_owned();
    // At the beginning.
    std::fs::write(&path, "").expect("a place");
    let error = build(path.clone()).err().expect("it cannot begin");
    assert_eq!(error.kind(), ErrorKind::Initializer);
    assert!(error.to_string().contains("is there"), "{error}");
    // In a replacement: what is pending is told, and nobody is started for ever.
    std::fs::remove_file(&path).expect("it was there");
    let pool = build(path.clone()).expect("now it can");
    std::fs::write(&path, "").expect("a place");
    let die = |()| -> u64 { std::process::exit(3) };
    let dead = pool.submit(die, ()).expect("taken");
    let pending: Vec<_> = (0..10).map(|n| pool.submit(pid, n)).collect();
    let code = What::Exited { code: 3 };
    assert_eq!(dead.result().expect_err("it died").causes()[0].what, code);
    for task in pending.into_iter().flatten() {
        let error =
            task.result_timeout(PATIENCE).transpose().expect("a task that hangs").expect_err("nobody comes");
        assert!(error.kind() == ErrorKind::NoWorkers && error.to_string().contains("is there"), "{error}");
    }
    assert_eq!(pool.submit(pid, 1).expect_err("nobody is there").kind(), ErrorKind::NoWorkers);
    // And one that takes too long.
    let slow = |()| -> u64 {
        loop {
            std::thread::park();
        }
    };
    let limit = Duration::from_millis(100);
    let error = Pool::builder().workers(1).initializer(slow, ()).initializer_timeout(limit).build();
    let error = error.err().expect("too long");
    assert!(
        error.kind() == ErrorKind::Initializer && error.to_string().contains("longer than 100ms"),
        "{error}"
    );
}

#[test]
fn a_finalizer_that_takes_too_long_is_an_error() {
    let endless = || -> u64 {
        loop {
            std::thread::park();
        }
    };
    let limit = Duration::from_millis(50);
    let pool =
        Pool::builder().workers(1).finalizer(endless).finalizer_timeout(limit).build().expect("a pool");
    let words = pool.finish::<u64>().expect("words of the type");
    let [Err(error)] = &words[..] else { panic!("{words:?}") };
    assert!(error.to_string().contains("longer than 50ms"), "{error}");
}

/// They come up, and cannot do what every worker has to.
#[test]
fn workers_that_can_do_nothing_break_their_pool() {
    let limits = swath::process::Limits::new().open_files(0);
    let pool = Pool::builder().workers(1).limits(limits).build();
    let error = pool.and_then(|pool| pool.apply(|n: u64| n, 1)).expect_err("not one file");
    assert!(matches!(error.kind(), ErrorKind::NoWorkers | ErrorKind::Spawn), "{error}");
}

#[test]
fn times_beyond_the_clock_never_come() {
    let never = Duration::MAX;
    let pool = Pool::builder().workers(1).initializer(|()| (), ()).initializer_timeout(never);
    let pool = pool.finalizer(|| 7u64).finalizer_timeout(never).build().expect("a pool");
    assert_eq!(
        pool.map_with(|n: u64| n, 0..3).deadline(never).timeout(never).collect().expect("values"),
        [0, 1, 2]
    );
    assert_eq!(pool.finish::<u64>().expect("its type").remove(0).expect("in time"), 7);
}

#[test]
fn c10_workers_are_replaced_after_their_share() {
    for (workers, share, tasks) in [(1, 2, 6), (2, 2, 8), (1, 1, 5)] {
        let pool = Pool::builder().workers(workers).max_tasks_per_worker(share).build().expect("a pool");
        let tasks: Vec<_> = (0..tasks).map(|n| pool.submit(pid, n).expect("taken")).collect();
        let pids: Vec<u32> = tasks.iter().map(|task| task.result().expect("a pid")).collect();
        for pid in &pids {
            let times = pids.iter().filter(|other| *other == pid).count();
            assert!(times <= share as usize, "{pid} ran {times} of {share}: {pids:?}");
        }
        if workers == 1 {
            assert!(
                pids.chunks(share as usize).all(|same| same.iter().all(|pid| *pid == same[0])),
                "{pids:?}"
            );
        }
    }
    // Closed early, while workers are being replaced.
    let nap = |n: u64| {
        std::thread::sleep(Duration::from_millis(5));
        n
    };
    let pool = Pool::builder().workers(3).max_tasks_per_worker(1).build().expect("a pool");
    let tasks: Vec<_> = (0..6).map(|n| pool.submit(nap, n).expect("taken")).collect();
    pool.close();
    pool.join();
    assert!(tasks.iter().all(swath::Task::successful));
    // Maps and phases go on with those that come.
    let pool = Pool::builder().workers(2).max_tasks_per_worker(10).build().expect("a pool");
    assert_eq!(pool.map_chunked(|n: u64| n, 0..100, 1).expect("values"), (0..100).collect::<Vec<_>>());
    let mut a = SharedArray::<u64, _>::zeros(100).expect("an array");
    let report =
        pool.phase(&mut a).chunk(swath::Chunk::Rows(1)).for_each_report(|_, mut a| a += 1).expect("a phase");
    assert!(a.view().iter().all(|n| *n == 1));
    assert_eq!((report.workers_lost, report.retried), (0, 0), "leaving is not dying");
    let error = Pool::builder().workers(1).max_tasks_per_worker(0).build().err().expect("makes no sense");
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn a_worker_that_has_grown_is_replaced() {
    let pool = Pool::builder().workers(1).max_growth_per_worker(64 << 20).build().expect("a pool");
    let first = pool.apply(pid, 0).expect("a pid");
    let leak = |megabytes: usize| {
        std::mem::forget(vec![1u8; megabytes << 20]);
        // Longer than a worker goes between two looks at its memory.
        std::thread::sleep(2 * swath::limits::GROWTH_LOOK);
        process::getpid()
    };
    assert_eq!(pool.apply(leak, 10).expect("a pid"), first);
    assert_eq!(pool.apply(pid, 0).expect("a pid"), first);
    assert_eq!(pool.apply(leak, 100).expect("a pid"), first);
    assert_ne!(pool.apply(pid, 0).expect("a pid"), first, "too large");
}

#[test]
fn when_memory_runs_short_the_worker_that_has_grown_most_is_replaced() {
    // Any use of memory is more than this share of it, …
    let pool = Pool::builder().workers(2).recycle_at_memory(1e-9).build().expect("a pool");
    let leak = |megabytes: usize| {
        std::mem::forget(vec![1u8; megabytes << 20]);
        process::getpid()
    };
    let on = |worker, megabytes| {
        let task = pool.submit_with(leak, megabytes).on_worker(worker).submit().expect("submitted");
        task.result_timeout(PATIENCE).transpose().expect("a task that hangs").expect("a pid")
    };
    let seen = |looks: u32| std::thread::sleep(looks * swath::limits::PRESSURE_LOOK);
    let first = [on(0, 0), on(1, 0)];
    seen(10);
    // … but a little growth is no reason,
    assert_eq!([on(0, 1), on(1, 1)], first);
    seen(5);
    assert_eq!([on(0, 0), on(1, 0)], first);
    // and much is that of the one who has grown.
    assert_eq!(on(1, 100), first[1]);
    eventually("a successor", || on(1, 0) != first[1]);
    assert_eq!(on(0, 0), first[0]);
    assert_eq!(pool.stats().died, 0, "leaving is not dying");
    for share in [0.0, -1.0, 1.1, f64::NAN] {
        let error =
            Pool::builder().workers(1).recycle_at_memory(share).build().err().expect("makes no sense");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

#[test]
fn idle_workers_leave_and_come_back() {
    let pool = Pool::builder().workers(2).idle_timeout(Duration::from_millis(20)).build().expect("a pool");
    for round in 0..5 {
        let n = pool.apply(|n: u64| n + 1, round).expect("a value");
        assert_eq!(n, round + 1);
        assert_eq!(pool.map(|n: u64| n, 0..50).expect("values").len(), 50);
        eventually("they leave", || pool.pids().is_empty());
    }
    // Submitting while they are just leaving.
    for n in 0..100 {
        std::thread::sleep(Duration::from_micros(19_900 + n * 2));
        let task = pool.submit(|n: u64| n, n).expect("taken");
        assert_eq!(
            task.result_timeout(PATIENCE).transpose().expect("a task that hangs").expect("a value"),
            n
        );
    }
}

#[test]
fn idle_workers_come_back_for_a_team_and_for_company() {
    let builder = || Pool::builder().workers(2).max_workers(3).idle_timeout(Duration::from_millis(30));
    let pool = builder().build().expect("a pool");
    eventually("they leave", || pool.pids().is_empty());
    pool.resize(3).expect("three workers");
    assert_eq!(pool.workers(), 3);
    eventually("they leave", || pool.pids().is_empty());
    let mut ranks = SharedArray::<u64, _>::zeros(3).expect("room");
    pool.team(&mut ranks)
        .run(|team, mut ranks| {
            team.barrier()?;
            ranks.mine().fill(team.rank() as u64 + 1);
            Ok(())
        })
        .expect("a team");
    assert_eq!(ranks.view().to_vec(), [1, 2, 3]);
}

/// As many members as the team was made for are there until it is over.
#[test]
fn a_pool_that_is_resized_all_the_time_has_whole_teams() {
    let pool = Pool::builder().workers(1).max_workers(3).build().expect("a pool");
    let (sender, sizes) = std::sync::mpsc::sync_channel(0);
    std::thread::scope(|scope| {
        // One for each team, about when it begins.
        scope.spawn(|| sizes.into_iter().for_each(|workers| pool.resize(workers).expect("possible")));
        for workers in [3, 1, 2].into_iter().cycle().take(150) {
            sender.send(workers).expect("somebody resizes");
            let mut told = SharedArray::<u64, _>::zeros(6).expect("room");
            let met = pool.team(&mut told).deadline(PATIENCE).run(|team, mut told| {
                team.barrier()?;
                told.mine().fill(team.size() as u64);
                Ok(())
            });
            met.expect("a whole team");
            let size = told.view()[0];
            assert!((1..=3).contains(&size) && told.view().iter().all(|told| *told == size), "{told:?}");
        }
        drop(sender);
    });
}

/// Those that have done their share, or nothing for long, leave between two teams and never in one.
#[test]
fn teams_are_whole_though_workers_leave_by_themselves() {
    let idle = Duration::from_micros(300);
    for builder in [Pool::builder().max_tasks_per_worker(2), Pool::builder().idle_timeout(idle)] {
        let pool = builder.workers(2).build().expect("a pool");
        for _ in 0..100 {
            let mut met = SharedArray::<u64, _>::zeros(2).expect("room");
            let team = pool.team(&mut met).deadline(PATIENCE).run(|team, mut met| {
                team.barrier()?;
                met.mine().fill(1);
                Ok(())
            });
            team.expect("a whole team");
            assert_eq!(met.view().to_vec(), [1, 1]);
        }
        assert!(pool.stats().started > 2, "some left: {:?}", pool.stats());
        assert_eq!(pool.stats().died, 0);
    }
}

/// The barrier has as many seats as there are workers, not as there could be.
#[test]
fn a_pool_with_room_for_many_has_small_teams() {
    let pool = Pool::builder().workers(1).max_workers(500).build().expect("a pool");
    let mut one = SharedArray::<u64, _>::zeros(1).expect("room");
    pool.team(&mut one)
        .run(|team, mut one| {
            assert_eq!(team.size(), 1);
            team.barrier()?;
            one.mine().fill(7);
            Ok(())
        })
        .expect("a team");
    assert_eq!(one.view().to_vec(), [7]);
}

/// There is nobody left to try it again.
#[test]
fn a_task_for_a_worker_that_was_let_go_is_not_tried_again() {
    let pool = Pool::builder().workers(2).max_workers(2).build().expect("a pool");
    let for_ever = |_: u64| -> u64 {
        loop {
            std::thread::park();
        }
    };
    let task = pool.submit_with(for_ever, 0).on_worker(1).retries(3).submit().expect("taken");
    eventually("it runs", || task.running());
    let pid = pool.pids()[1];
    pool.resize(1).expect("smaller");
    let pidfd = process::pidfd_open(pid).expect("its worker");
    process::pidfd_signal(&pidfd, signal::KILL).expect("signalled");
    let end = task.result_timeout(PATIENCE).transpose().expect("a task that hangs");
    assert_eq!(end.expect_err("its worker is dead").kind(), ErrorKind::Died);
    let late = pool.submit_with(for_ever, 0).on_worker(1).submit().expect_err("nobody there");
    assert_eq!(late.kind(), ErrorKind::Usage);
}

#[test]
fn workers_can_be_pinned() {
    let pool = Pool::builder().workers(2).pin_workers().build().expect("a pool");
    let cpus = |_: u64| std::thread::available_parallelism().expect("known").get();
    for n in 0..20 {
        assert_eq!(pool.apply(cpus, n).expect("a value"), 1);
    }
}

#[test]
fn a_pool_grows_and_shrinks() {
    let pool = Pool::builder().workers(1).max_workers(4).build().expect("a pool");
    let mut a = SharedArray::<u64, _>::zeros(64).expect("an array");
    for (round, workers) in (1..).zip([1, 4, 2, 3, 1, 4]) {
        pool.resize(workers).expect("possible");
        assert_eq!(pool.workers(), workers);
        eventually("as many as wanted", || pool.pids().len() == workers);
        let indices = |()| swath::current_task().expect("a task").worker();
        for index in 0..workers {
            let task = pool.submit_with(indices, ()).on_worker(index).submit().expect("taken");
            assert_eq!(task.result().expect("a value"), index);
        }
        assert_eq!(pool.map(|n: u64| n + 1, 0..200).expect("values"), (1..201).collect::<Vec<_>>());
        pool.phase(&mut a).chunk(swath::Chunk::Rows(1)).for_each(|_, mut a| a += 1).expect("a phase");
        assert!(a.view().iter().all(|n| *n == round));
        let team = |team: &swath::Team<()>, _: swath::TeamArray<'_, u64, Ix1>| {
            team.barrier()?;
            assert!(team.rank() < team.size());
            Ok(())
        };
        pool.team(&mut a).run(team).expect("a team of those who are there");
        let stats = pool.stats();
        assert_eq!((stats.died, stats.workers.len()), (0, workers));
    }
    for bad in [0, 5] {
        assert_eq!(pool.resize(bad).expect_err("makes no sense").kind(), ErrorKind::Usage);
    }
    // Tasks for one that is let go.
    let dir = tempfile::tempdir().expect("a directory");
    let go = dir.path().join("go").to_str().expect("UTF-8").to_owned();
    let gate = |path: String| {
        while !std::path::Path::new(&path).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let on_three = || pool.submit_with(gate, go.clone()).on_worker(3).submit().expect("taken");
    let (running, queued) = (on_three(), on_three());
    eventually("running", || running.running());
    pool.resize(2).expect("possible");
    assert_eq!(queued.result().expect_err("nobody for it").kind(), ErrorKind::Cancelled);
    std::fs::write(&go, "").expect("a place");
    running.result().expect("it ran on");
    let counts = pool.stats().tasks;
    assert_eq!((counts.cancelled, counts.failed, counts.unresolved), (1, 0, 0));
}

#[test]
fn workers_have_limits() {
    let limits = swath::process::Limits::new().memory(300 << 20).cpu_seconds(1);
    let pool = Pool::builder().workers(1).limits(limits).build().expect("a pool");
    let fill = |megabytes: usize| vec![1u8; megabytes << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>();
    assert_eq!(pool.apply(fill, 10).expect("it fits"), 10 << 20);
    let error = pool.apply(fill, 1000).expect_err("too much");
    let refused = What::Killed { signal: libc::SIGABRT, likely_out_of_memory: false };
    assert_eq!(error.causes()[0].what, refused, "a program that is refused memory aborts");
    assert_eq!(error.causes()[0].exceeded, Some(Exceeded::LikelyMemory(300 << 20)));
    assert!(error.to_string().contains("likely since it wanted more than its 314572800 bytes"), "{error}");
    let spin = |_: u64| -> u64 {
        while std::hint::black_box(true) {}
        1
    };
    let error = pool.apply(spin, 1).expect_err("too long").to_string();
    assert!(error.contains("SIGXCPU, its 1 s of processor time were used up"), "{error}");
    assert_eq!(pool.apply(fill, 10).expect("the next one has its own second"), 10 << 20);
}
