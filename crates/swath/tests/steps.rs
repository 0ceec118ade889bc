//! A worker of a real pool is stepped, instruction by instruction, from the end of its kernel on one chunk to the beginning of
//! its kernel on the next, and killed on the way: commit, claim, copy aside, arm. The phase goes on with its
//! successor, and the result is the serial one, bit for bit. The same from the end of one task's function to the beginning of the next:
//! answer, wake, take; and hand an array over.
//!
//! At every instruction in a release build; a sample in a debug build, unless `SWATH_FULL=1` asks for all.
#![cfg(target_arch = "x86_64")]

#[allow(dead_code, reason = "the other test that uses it follows a program from call to call")]
#[path = "../../segment/tests/tracer/calls.rs"]
mod calls;

use std::mem::offset_of;

use calls::{ptrace, wait};
use swath::prelude::*;
use swath::{Task, Until};
use swath_platform::process;

swath::worker_entry!();

const ROWS: usize = 24;
const ROWS_PER_CHUNK: usize = 8;
/// How many kill points the short form takes.
const SAMPLE: usize = 30;
/// Fewer instructions than this are not sampled: a release build has some 400, a debug build 19,000.
const FEW: usize = 1000;
/// From here on a sample is smaller still: handing over an array is some 300,000 in a debug build.
const LONG: usize = 100_000;

/// Stops the traced worker at the end of its first chunk and at the beginning of its second. Others run through: `args`
/// is the process that is traced.
fn kernel(ctx: &Ctx<u32>, mut rows: ArrayViewMut1<'_, f64>) {
    let traced = process::getpid() == *ctx.args();
    if traced && ctx.chunk() == 1 {
        trap();
    }
    rows.mapv_inplace(next);
    if traced && ctx.chunk() == 0 {
        trap();
    }
}

/// Another value whatever it was: a chunk that is run twice, or not at all, shows.
fn next(value: f64) -> f64 {
    value * 1.000_1 + 1.0
}

/// Tracer and tracee (children inherit it) on one processor: a step is a plain switch then, twice as fast.
fn pin() {
    // SAFETY: an all-zero set is empty, the number is below CPU_SETSIZE, the size is the set's.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

#[inline(never)]
fn trap() {
    // SAFETY: a breakpoint; who comes here is traced.
    unsafe { std::arch::asm!("int3", options(nostack)) };
}

#[test]
fn a_worker_killed_between_two_kernels_leaves_every_chunk_done_once() {
    pin();
    let pool = Pool::builder().workers(1).build().expect("a pool");
    let mut a = SharedArray::from_shape_fn(ROWS, |i| i as f64).expect("room");
    let mut serial: Vec<f64> = (0..ROWS).map(|i| i as f64).collect();
    let mut play = |point| {
        let (passed, retried) = phase_with_a_kill(&pool, &mut a, point);
        serial.iter_mut().for_each(|value| *value = next(*value));
        let same = a.view().iter().zip(&serial).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "killed after {point:?} instructions: {:?} instead of {serial:?}", a.view());
        (passed, retried)
    };
    let (kills, retries) = at_every_point(&mut play);
    assert!(retries > 0 && retries < kills, "some kills come before the commit and some after the claim");
}

/// Plays without a kill, then with one at each instruction, or a sample of them. How many kills, and how often something was run
/// again.
fn at_every_point(play: &mut dyn FnMut(Option<usize>) -> (usize, u64)) -> (u64, u64) {
    let (length, _) = play(None);
    assert!(length > 100, "{length} instructions between two calls");
    let is_full = std::env::var_os("SWATH_FULL").is_some_and(|v| v == "1");
    let points: Vec<usize> = match length {
        _ if is_full || length < FEW => (0..length).collect(),
        // Each step of such a way takes its time: closer and closer to the end, where the answer is.
        LONG.. => (8..16).step_by(2).map(|k| length - (1 << k)).chain([length / 2]).collect(),
        _ => (0..length).step_by(length.div_ceil(SAMPLE)).collect(),
    };
    let (mut kills, mut retries) = (0, 0);
    for point in points {
        let (_, retried) = play(Some(point));
        kills += 1;
        retries += retried;
    }
    println!("{kills} kills in {length} instructions, {retries} times run again");
    (kills, retries)
}

/// Stops the traced worker at the end of task 0 and at the beginning of task 1.
fn task((traced, n): (u32, u64)) -> Vec<u64> {
    let traced = process::getpid() == traced;
    if traced && n == 1 {
        trap();
    }
    // Of task 0 too long for the table: it lies in the worker's file, which goes with it.
    let value = vec![n; if n == 0 { 50 } else { 1 }];
    if traced && n == 0 {
        trap();
    }
    value
}

#[test]
fn a_worker_killed_between_two_tasks_leaves_each_with_its_value() {
    pin();
    let pool = Pool::builder().workers(1).build().expect("a pool");
    let (kills, retries) = at_every_point(&mut |point| {
        let before = pool.stats().tasks.retried;
        let pid = seize(&pool);
        let submit = |n| pool.submit_with(task, (pid, n)).retries(1).submit().expect("taken");
        let tasks: Vec<_> = (0..3).map(submit).collect();
        let passed = while_others_wait(&tasks[..1], || step_and_kill(pid as libc::pid_t, point));
        for (n, task) in (0..3).zip(&tasks) {
            let value = task.result().expect("a value");
            assert_eq!(value, vec![n; if n == 0 { 50 } else { 1 }], "killed after {point:?} instructions");
        }
        (passed, pool.stats().tasks.retried - before)
    });
    assert!(kills > 0 && retries > 0, "some kills come before the answer");
}

type Tasks = [Task<Vec<u64>>];

/// Does something while one thread sleeps until the first of `tasks` is over, and another one until all of them are; whatever is done,
/// both wake up.
fn while_others_wait<R>(tasks: &Tasks, act: impl FnOnce() -> R) -> R {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waits: [fn(&Tasks); 2] =
            [|tasks| drop(tasks[0].exception()), |tasks| drop(swath::wait(tasks, Until::AllCompleted, None))];
        for wait in waits {
            let tell = tell.clone();
            scope.spawn(move || {
                // SAFETY: takes nothing and changes nothing.
                tell.send(unsafe { libc::gettid() }).expect("somebody listens");
                wait(tasks);
                tell.send(0).expect("somebody listens");
            });
        }
        for thread in [told.recv().expect("one"), told.recv().expect("the other")] {
            let call = || std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
            while !call().is_ok_and(|call| call.starts_with(&format!("{} ", libc::SYS_futex))) {
                std::thread::yield_now();
            }
        }
        let result = act();
        for _ in waits {
            if told.recv_timeout(std::time::Duration::from_secs(60)).is_err() {
                eprintln!("nobody has woken one who waits for a task");
                std::process::abort();
            }
        }
        result
    })
}

/// As `task`, with arrays as values: of task 0 one that is on its way to the coordinator when the worker is killed.
fn task_that_makes((traced, n): (u32, u64)) -> SharedArray<u64, Ix1> {
    let traced = process::getpid() == traced;
    if traced && n == 1 {
        trap();
    }
    let array = SharedArray::from_shape_fn(50, |_| n).expect("room");
    if traced && n == 0 {
        trap();
    }
    array
}

#[test]
fn a_worker_killed_while_it_hands_an_array_over_leaves_one_or_none() {
    pin();
    let files = || std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    let pool = Pool::builder().workers(1).build().expect("a pool");
    let mut before_all = None;
    let (kills, retries) = at_every_point(&mut |point| {
        let before = pool.stats().tasks.retried;
        let pid = seize(&pool);
        let submit = |n| pool.submit_with(task_that_makes, (pid, n)).retries(1).submit().expect("taken");
        let tasks: Vec<_> = (0..3).map(submit).collect();
        let passed = step_and_kill(pid as libc::pid_t, point);
        for (n, task) in (0..3).zip(&tasks) {
            let array = task.result().expect("a value");
            assert!(array.len() == 50 && array.view().iter().all(|v| *v == n), "killed after {point:?}");
        }
        drop(tasks);
        // What was sent for an attempt that came to nothing has gone with its sender: no more files than after the first time.
        let most = *before_all.get_or_insert_with(files);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while files() > most {
            assert!(
                std::time::Instant::now() < end,
                "{} files, {most} before: killed after {point:?}",
                files()
            );
            std::thread::yield_now();
        }
        (passed, pool.stats().tasks.retried - before)
    });
    assert!(kills > 0 && retries > 0, "some kills come before the answer");
}

/// One phase, its worker killed after `point` instructions from the trap at the end of the first chunk; without a point,
/// at the trap in the second. The instructions passed, and how many chunks were run again.
fn phase_with_a_kill(pool: &Pool, a: &mut SharedArray<f64, Ix1>, point: Option<usize>) -> (usize, u64) {
    let pid = seize(pool);
    let worker = pid as libc::pid_t;
    std::thread::scope(|scope| {
        let phase = scope.spawn(|| {
            let phase = pool.phase(a).args(pid).chunk(Chunk::Rows(ROWS_PER_CHUNK));
            phase.for_each_report(kernel).expect("survives")
        });
        let passed = step_and_kill(worker, point);
        let report = phase.join().expect("the phase's thread");
        (passed, report.retried)
    })
}

/// Traces the pool's one worker; its process id.
fn seize(pool: &Pool) -> u32 {
    let pid = loop {
        match pool.pids()[..] {
            [pid] => break pid,
            _ => std::thread::yield_now(), // the successor is on its way
        }
    };
    ptrace(libc::PTRACE_SEIZE, pid as libc::pid_t, libc::PTRACE_O_EXITKILL).expect("may trace our own child");
    pid
}

fn step_and_kill(worker: libc::pid_t, point: Option<usize>) -> usize {
    assert_eq!(wait(worker), Some((worker, libc::SIGTRAP)), "the trap at the end of the first chunk");
    let mut passed = 0;
    while point.map_or_else(|| !stands_at_trap(worker), |point| passed < point) {
        ptrace(libc::PTRACE_SINGLESTEP, worker, 0).expect("it stands still");
        assert_eq!(wait(worker), Some((worker, libc::SIGTRAP)), "one instruction");
        passed += 1;
    }
    // As the signal with which it goes on: it dies without another instruction, and its parent alone hears of it.
    ptrace(libc::PTRACE_DETACH, worker, libc::SIGKILL).expect("it stands still");
    passed
}

/// Whether its next instruction is a breakpoint.
fn stands_at_trap(worker: libc::pid_t) -> bool {
    let counter = offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, rip);
    // SAFETY: reads a word of the tracee's registers, and one of its text; glibc returns it.
    let word = unsafe {
        let pc = libc::ptrace(libc::PTRACE_PEEKUSER, worker, counter, 0);
        libc::ptrace(libc::PTRACE_PEEKTEXT, worker, pc, 0)
    };
    word.to_le_bytes()[0] == 0xcc
}
