//! Workers die in every way, at every moment, and every chunk still takes effect exactly once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use swath::What;
use swath::prelude::*;
use swath_platform::{process, signal};

swath::worker_entry!();

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().expect("a pool")
}

/// A cheap generator for the tests' own choices.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// Sends `signal` to workers of `pool` chosen at random while `work` runs; how often.
fn while_killing(pool: &Pool, signal: i32, pause: Duration, work: impl FnOnce()) -> u64 {
    let (over, killed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = 42;
            while !over.load(Ordering::Relaxed) {
                let pids = pool.pids();
                let victim = pids.get(next(&mut seed) as usize % pids.len().max(1));
                // A pidfd, so that a pid that was reused meanwhile is not hit: the pool's list is re-read after opening.
                let opened = victim.and_then(|pid| Some((*pid, process::pidfd_open(*pid).ok()?)));
                let sent = opened.is_some_and(|(pid, fd)| {
                    pool.pids().contains(&pid) && process::pidfd_signal(&fd, signal).is_ok()
                });
                killed.fetch_add(u64::from(sent), Ordering::Relaxed);
                std::thread::sleep(pause);
            }
        });
        let _over = AtEnd(&over);
        work();
    });
    killed.into_inner()
}

/// Tells the killer that it is over, on every way out.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn pairs(ranges: &[std::ops::Range<usize>]) -> Vec<(usize, usize)> {
    ranges.iter().map(|r| (r.start, r.end)).collect()
}

/// Spins for about a microsecond per element, so that kills find workers inside chunks.
fn work(n: usize) -> f64 {
    (0..n * 50).fold(1.0, |a: f64, i| (a * 1.000_000_1 + i as f64).sqrt())
}

#[test]
fn an_update_in_place_survives_kills_bit_for_bit() {
    let pool = pool(2);
    let n = 20_000;
    let x = SharedArray::from_shape_fn(n, |i| (i as f64).sin()).expect("room");
    let mut y = SharedArray::<f64, _>::zeros(n).expect("room");
    let rounds = 20;
    let mut in_chunk = 0;
    let kills = while_killing(&pool, signal::KILL, Duration::from_millis(3), || {
        for _ in 0..rounds {
            let report = pool
                .phase((&x, &mut y))
                .chunk(Chunk::Rows(100))
                .retries(1000)
                .for_each_report(|_, (x, mut y)| {
                    azip!((y in &mut y, &x in &x) {
                        *y += x;
                        std::hint::black_box(work(1));
                    })
                })
                .expect("survives");
            in_chunk += report.killed_in_chunk;
        }
    });
    assert!(kills > 10 && in_chunk > 0, "the test must kill: {kills} kills, {in_chunk} in a chunk");
    let mut serial = vec![0f64; n];
    for _ in 0..rounds {
        serial.iter_mut().enumerate().for_each(|(i, y)| *y += (i as f64).sin());
    }
    let same = y.view().iter().zip(&serial).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(same, "every chunk exactly once, after {kills} kills");
}

#[test]
fn folds_and_maps_survive_kills() {
    let pool = pool(3);
    let a = SharedArray::from_shape_fn(3000, |i| i as u64).expect("room");
    let kills = while_killing(&pool, signal::KILL, Duration::from_millis(5), || {
        for _ in 0..20 {
            let sum = pool
                .phase(&a)
                .chunk(Chunk::Rows(10))
                .retries(1000)
                .fold(
                    || (0u64, 0u64),
                    |_, acc, a| {
                        std::hint::black_box(work(a.len()));
                        *acc = (acc.0 + 1, acc.1 + a.sum());
                    },
                )
                .merge(|a, b| (a.0 + b.0, a.1 + b.1))
                .expect("survives");
            assert_eq!(sum, (300, 2999 * 3000 / 2));
            let parts = pool
                .phase(&a)
                .chunk(Chunk::Rows(10))
                .retries(1000)
                .map(|_, a| {
                    std::hint::black_box(work(a.len()));
                    a.to_vec()
                })
                .collect()
                .expect("survives");
            assert_eq!(parts.concat(), (0..3000).collect::<Vec<u64>>());
        }
    });
    assert!(kills > 10, "the test must kill: {kills}");
}

#[test]
fn a_chunk_that_kills_its_workers_is_given_up_and_all_others_are_finished() {
    let pool = pool(2);
    let mut a = SharedArray::from_shape_fn(100, |i| i as i64).expect("room");
    let error = pool
        .phase(&mut a)
        .chunk(Chunk::Rows(10))
        .retries(3)
        .for_each(|ctx, mut a| {
            a += 1000;
            if ctx.chunk() == 4 {
                std::process::abort();
            }
        })
        .expect_err("chunk 4 is poison");
    let [failure] = error.failures() else { panic!("one chunk: {error}") };
    assert_eq!((failure.chunk, failure.attempts, failure.causes.len()), (4, 4, 4));
    assert!(failure.causes.iter().all(|c| matches!(c.what, What::Killed { signal: 6, .. })), "{error}");
    let expected = |i: i64| if (40..50).contains(&i) { i } else { i + 1000 };
    assert!(a.view().iter().zip(0..).all(|(v, i)| *v == expected(i)), "{:?}", a.view());
    assert_eq!((pairs(&error.rows().untouched), error.rows().unknown.is_empty()), (vec![(40, 50)], true));
    while pool.pids().len() < 2 {
        std::thread::yield_now(); // a replacement is on its way; a pool that stays short hangs here, and the watchdog says so
    }
}

#[test]
fn the_cause_of_a_death_is_exact() {
    let pool = pool(1);
    let a = SharedArray::<u8, _>::zeros(1).expect("room");
    let die = |how: i32| {
        let error = pool.phase(&a).args(how).retries(0).for_each(|ctx, _| match *ctx.args() {
            code @ 0..=99 => std::process::exit(code),
            signal => {
                let own = process::pidfd_open(process::getpid()).expect("own pidfd");
                process::pidfd_signal(&own, signal - 100).expect("signalled");
                while std::hint::black_box(true) {
                    std::hint::spin_loop();
                }
            }
        });
        error.expect_err("died").failures()[0].causes[0].what.to_string()
    };
    assert!(die(0).contains("exited with code 0 in the middle"), "exit(0) is no success");
    assert!(die(99).contains("code 99"));
    assert!(die(109).contains("SIGKILL"));
    assert!(die(111).contains("SIGSEGV"));
    assert!(die(115).contains("SIGTERM"));
}

#[test]
fn a_chunk_that_takes_too_long_is_killed_and_tried_again() {
    let pool = pool(2);
    let mut a = SharedArray::<u32, _>::zeros(8).expect("room");
    let report = pool
        .phase(&mut a)
        .chunk(Chunk::Rows(1))
        .chunk_timeout(Duration::from_millis(100))
        .for_each_report(|ctx, mut a| {
            a += 1;
            while ctx.chunk() == 5 && ctx.attempt() == 0 {
                std::hint::spin_loop();
            }
        })
        .expect("the second attempt is quick");
    assert_eq!(report.retried, 1);
    assert!(a.view().iter().all(|v| *v == 1), "{:?}", a.view());
}

#[test]
fn stopped_workers_do_not_stop_the_job() {
    let pool = pool(2);
    let mut a = SharedArray::<u32, _>::zeros(200).expect("room");
    let stops = while_killing(&pool, signal::STOP, Duration::from_millis(20), || {
        for _ in 0..3 {
            pool.phase(&mut a)
                .chunk(Chunk::Rows(1))
                .chunk_timeout(Duration::from_millis(50))
                .retries(1000)
                .for_each(|_, mut a| {
                    std::hint::black_box(work(20));
                    a += 1;
                })
                .expect("survives");
        }
    });
    assert!(stops > 0);
    assert!(a.view().iter().all(|v| *v == 3), "{:?}", a.view());
}

#[test]
fn a_deadline_ends_the_phase_and_nobody_writes_afterwards() {
    let pool = pool(2);
    let mut a = SharedArray::<u32, _>::zeros(2).expect("room");
    let began = Instant::now();
    let error = pool
        .phase(&mut a)
        .chunk(Chunk::Rows(1))
        .deadline(Duration::from_millis(100))
        .for_each(|_, mut a| {
            while std::hint::black_box(true) {
                a += 1;
            }
        })
        .expect_err("it never ends by itself");
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert!(a.view().iter().all(|v| *v == 0), "restored: {:?}", a.view());
    assert_eq!(pairs(&error.rows().untouched), [(0, 2)]);
    pool.phase(&mut a).for_each(|_, mut a| a += 1).expect("the pool goes on");
    assert!(a.view().iter().all(|v| *v == 1));
}

#[test]
fn a_panic_in_the_callers_closure_leaves_nobody_writing() {
    let pool = pool(2);
    let mut a = SharedArray::<u32, _>::zeros(1000).expect("room");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.phase(&mut a).chunk(Chunk::Rows(1)).progress(|_| panic!("a callback panics")).for_each(
            |_, mut a| {
                a += 1;
                std::hint::black_box(work(2000));
            },
        )
    }));
    assert!(caught.is_err());
    let seen = a.to_owned();
    assert!(seen.iter().all(|v| *v <= 1));
    assert!(pool.phase(&a).map(|_, a| a.sum()).reduce(0, |a, b| a + b).expect("goes on") == seen.sum());
}

#[test]
fn a_team_ends_when_a_member_dies() {
    let pool = pool(3);
    let mut a = SharedArray::<u32, _>::zeros(30).expect("room");
    let error = pool
        .team(&mut a)
        .name("trio")
        .run(|team, mut a| {
            for step in 0.. {
                a.mine().fill(step);
                if step == 5 && team.rank() == 1 {
                    std::process::abort();
                }
                team.barrier()?;
            }
            Ok(())
        })
        .expect_err("rank 1 dies");
    assert_eq!(error.kind(), ErrorKind::Team);
    assert!(error.to_string().contains("SIGABRT"), "{error}");
    assert!(!a.torn().is_empty(), "the array says that its contents are unknown");
    pool.team(&mut a)
        .run(|team, mut a| {
            let all = a.all_rows();
            a.mine().fill(team.rank() as u32);
            team.barrier()?;
            assert_eq!(a.copy_rows(0..all).sum(), 30);
            Ok(())
        })
        .expect("another team of the same pool");
}

#[test]
fn nothing_is_left_behind() {
    let before = open_descriptors();
    for _ in 0..3 {
        let pool = pool(2);
        let mut a = SharedArray::<u32, _>::zeros(100).expect("room");
        pool.phase(&mut a).for_each(|_, mut a| a += 1).expect("works");
        let pids = pool.pids();
        drop(pool);
        assert!(pids.iter().all(|pid| process::state_char(*pid).is_none()), "workers are gone and reaped");
    }
    // The service thread's own descriptors stay; sessions of other tests come and go, so only growth counts.
    assert!(open_descriptors() <= before + 40, "{before} → {}", open_descriptors());
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// A frozen process of cgroup version 1 does not die of SIGKILL until it is thawed: what a dead network disk does too.
#[test]
fn who_cannot_be_killed_taints_what_it_could_write() {
    let Some(freezer) = Freezer::new() else {
        eprintln!("skipped: who_cannot_be_killed_taints_what_it_could_write needs a cgroup v1 freezer");
        return;
    };
    let pool = pool(1);
    let mut a = SharedArray::<u32, _>::zeros(1).expect("room");
    let folder = tempfile::tempdir().expect("a folder");
    let sign = folder.path().join("sign");
    freezer.take(pool.pids()[0]);
    std::thread::scope(|scope| {
        scope.spawn(|| freezer.freeze_once_there(&sign));
        let phase = pool.phase(&mut a).args(&sign).deadline(Duration::from_millis(300));
        let error = phase.for_each(|ctx, mut a| {
            std::fs::write(ctx.args(), "in a chunk").expect("may write into a folder of ours");
            while std::hint::black_box(true) {
                a += 1;
            }
        });
        assert_eq!(error.expect_err("it never ends").kind(), ErrorKind::Deadline);
    });
    let taint = a.tainted().expect("the array says that somebody may still write");
    assert!(taint.to_string().contains("SIGKILL"), "{taint}");
    assert!(a.try_view().is_err());
    let error = pool.phase(&a).for_each(|_, _| ()).expect_err("no phase over a tainted array");
    assert_eq!(error.kind(), ErrorKind::Memory);
    drop(freezer); // thawed, the worker dies at once, and the pool can end
}

/// A cgroup of our own in the version 1 freezer; thawed and removed when dropped.
struct Freezer(std::path::PathBuf);

impl Freezer {
    fn new() -> Option<Freezer> {
        let path =
            std::path::PathBuf::from(format!("/sys/fs/cgroup/freezer/swath-test-{}", process::getpid()));
        std::fs::create_dir(&path).ok()?;
        let freezer = Freezer(path);
        freezer.0.join("freezer.state").exists().then_some(freezer)
    }

    fn take(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("may move our own child");
    }

    /// Freezes once the kernel has given its sign, so that the worker has a chunk in hand.
    fn freeze_once_there(&self, sign: &std::path::Path) {
        while !sign.exists() {
            std::thread::yield_now();
        }
        std::fs::write(self.0.join("freezer.state"), "FROZEN").expect("may freeze");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("freezer.state"), "THAWED");
        // Its last process may take a moment to be gone.
        while self.0.exists() && std::fs::remove_dir(&self.0).is_err() {
            std::thread::yield_now();
        }
    }
}
