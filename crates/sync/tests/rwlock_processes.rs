//! The readers-writer lock between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use support::*;
use swath_sync::{DeathCause, InPlace, LockError, PoisonedBy, RwLock, Taken};

const WAITERS: u32 = 1 << 31;
const CELLS: usize = 64;

type Pair = [u64; 2];

fn rwlock() -> &'static RwLock<Pair> {
    // SAFETY: zeroed, aligned, never unmapped; all users are parties of the one table.
    unsafe { RwLock::at(shared_memory(size_of::<RwLock<Pair>>()), 1) }
}

/// The writer's word, the doubt word, its pid, a reserved one, then the readers' cells (see `layout.rs`).
fn word(lock: &RwLock<Pair>) -> &[AtomicU32; 4 + CELLS] {
    // SAFETY: the words are atomics there.
    unsafe { &*std::ptr::from_ref(lock).cast() }
}

fn taken_cells(lock: &RwLock<Pair>) -> usize {
    word(lock)[4..].iter().filter(|cell| cell.load(Ordering::SeqCst) != 0).count()
}

fn somebody_sleeps_for_a_reader(lock: &RwLock<Pair>) -> bool {
    word(lock)[4..].iter().any(|cell| cell.load(Ordering::SeqCst) & WAITERS != 0)
}

/// A child that reads until killed.
fn reader(life: Life, lock: &'static RwLock<Pair>) -> Child {
    let [reading] = words();
    let child = fork(life, |party| {
        let _guard = lock.read(party).unwrap();
        raise(reading);
        await_the_end();
    });
    until(|| raised(reading));
    child
}

/// A child that is half-way through a change until killed.
fn writer(life: Life, lock: &'static RwLock<Pair>) -> Child {
    let [writing] = words();
    let child = fork(life, |party| {
        let Taken::Acquired(mut guard) = lock.write(party).unwrap() else { panic!("nobody died") };
        guard[0] += 1;
        raise(writing);
        await_the_end();
    });
    until(|| raised(writing));
    child
}

#[test]
fn readers_read_together_and_a_writer_waits_for_all() {
    let _watchdog = Watchdog::new("readers_read_together_and_a_writer_waits_for_all");
    let lock = rwlock();
    let mut readers = [reader(Life::Watched, lock), reader(Life::Unwatched, lock)];
    let mine = lock.read(&me()).unwrap();
    assert_eq!((*mine, taken_cells(lock)), ([0, 0], 3));
    let writing = fork(Life::Watched, |party| {
        let mut guard = lock.write(party).unwrap().acquired().expect("a dead reader changes nothing");
        *guard = [5, 5];
    });
    until(|| somebody_sleeps_for_a_reader(lock) && writing.state() == 'S');
    drop(mine);
    readers.iter_mut().for_each(Child::bury);
    writing.join();
    assert_eq!(*lock.read(&me()).unwrap(), [5, 5]);
    assert_eq!(taken_cells(lock), 0);
}

/// Row A9: the kernel's mark alone tells.
#[test]
fn a_dead_reader_is_swept() {
    let _watchdog = Watchdog::new("a_dead_reader_is_swept");
    let lock = rwlock();
    let mut child = reader(Life::Watched, lock);
    child.kill();
    assert!(lock.write(&me()).unwrap().acquired().is_some());
    assert_eq!(taken_cells(lock), 0);
}

#[test]
fn a_waiting_writer_keeps_new_readers_out_and_is_not_starved() {
    let _watchdog = Watchdog::new("a_waiting_writer_keeps_new_readers_out_and_is_not_starved");
    let lock = rwlock();
    let guard = lock.read(&me()).unwrap();
    let writing = fork(Life::Watched, |party| *lock.write(party).unwrap().acquired().unwrap() = [1, 1]);
    until(|| word(lock)[0].load(Ordering::SeqCst) != 0 && writing.state() == 'S');
    let other = fork(Life::Watched, |party| {
        assert!(matches!(lock.try_read(party), Err(LockError::TimedOut { .. })), "the writer was first");
        assert_eq!(*lock.read(party).unwrap(), [1, 1]);
    });
    until(|| other.state() == 'S');
    drop(guard);
    writing.join();
    other.join();
}

/// Readers that come and go all the time, while writers come: each writer gets in.
#[test]
fn a_crowd_of_readers_does_not_starve_a_writer() {
    let _watchdog = Watchdog::new("a_crowd_of_readers_does_not_starve_a_writer");
    let lock = rwlock();
    let [end] = words();
    let readers = [0, 1, 2].map(|_| {
        fork(Life::Watched, |party| {
            while !raised(end) {
                let guard = lock.read(party).unwrap();
                assert_eq!(guard[0], guard[1]);
                mem::drop(guard);
            }
        })
    });
    for n in 1..=200 {
        let mut guard = lock.write(&me()).unwrap().acquired().unwrap();
        guard[0] = n;
        guard[1] = n;
    }
    raise(end);
    Child::join_all(readers);
    assert_eq!(*lock.read(&me()).unwrap(), [200, 200]);
}

#[test]
fn nobody_reads_what_a_dead_writer_left_half_written() {
    let _watchdog = Watchdog::new("nobody_reads_what_a_dead_writer_left_half_written");
    for life in [Life::Watched, Life::Unwatched] {
        let lock = rwlock();
        let mut child = writer(life, lock);
        child.kill();
        if life == Life::Unwatched {
            child.mark_dead(DeathCause::killed_by(libc::SIGKILL));
        }
        for _ in 0..2 {
            let Err(LockError::NeedsRepair { dead }) = lock.read(&me()) else { panic!("half written") };
            assert_eq!((dead.slot, dead.pid), (child.id, child.pid));
        }
        let Ok(Taken::Recovered(mut guard)) = lock.write(&me()) else { panic!("the writer died") };
        assert_eq!((guard.dead().slot, *guard), (child.id, [1, 0]));
        guard[1] = 1;
        drop(guard.repaired());
        assert_eq!(*lock.read(&me()).unwrap(), [1, 1]);
    }
}

#[test]
fn a_reader_may_repair_by_itself() {
    let _watchdog = Watchdog::new("a_reader_may_repair_by_itself");
    let lock = rwlock();
    writer(Life::Unwatched, lock).bury();
    assert_eq!(*lock.read_or_repair(&me(), |value| value[1] = value[0]).unwrap(), [1, 1]);
}

#[test]
fn an_unrepaired_value_is_poisoned_in_the_name_of_the_dead() {
    let _watchdog = Watchdog::new("an_unrepaired_value_is_poisoned_in_the_name_of_the_dead");
    let lock = rwlock();
    let mut child = writer(Life::Watched, lock);
    child.kill();
    drop(lock.write(&me()).unwrap());
    for _ in 0..2 {
        let Err(LockError::Poisoned { who: PoisonedBy::Death(dead) }) = lock.read(&me()).map(|_| ()) else {
            panic!("nobody repaired it")
        };
        assert_eq!((dead.slot, dead.pid), (child.id, child.pid));
        assert!(matches!(lock.write(&me()), Err(LockError::Poisoned { .. })));
    }
    lock.clear();
    assert_eq!(*lock.read(&me()).unwrap(), [1, 0]);
}

/// A writer that dies while it still waits for readers has changed nothing, and nobody is told of it.
#[test]
fn a_writer_that_dies_waiting_is_passed_over() {
    let _watchdog = Watchdog::new("a_writer_that_dies_waiting_is_passed_over");
    let lock = rwlock();
    let guard = lock.read(&me()).unwrap();
    let mut child = fork(Life::Watched, |party| drop(lock.write(party)));
    until(|| somebody_sleeps_for_a_reader(lock) && child.state() == 'S');
    child.kill();
    let beside = fork(Life::Watched, |party| assert_eq!(*lock.read(party).unwrap(), [0, 0]));
    beside.join();
    drop(guard);
    assert!(lock.write(&me()).unwrap().acquired().is_some());
}

#[test]
fn who_has_it_and_asks_again_is_told_so() {
    let _watchdog = Watchdog::new("who_has_it_and_asks_again_is_told_so");
    let lock = rwlock();
    let relock =
        |error: LockError| matches!(error, LockError::Relock { holder } if holder.pid == std::process::id());
    let guard = lock.write(&me()).unwrap();
    assert!(relock(lock.read(&me()).unwrap_err()));
    assert!(relock(lock.write(&me()).unwrap_err()));
    drop(guard);
    let guard = lock.read(&me()).unwrap();
    assert!(relock(lock.write(&me()).unwrap_err()));
    let again = lock.read(&me()).expect("no writer waits");
    drop(again);
    let waiting = fork(Life::Watched, |party| drop(lock.write(party).unwrap()));
    until(|| somebody_sleeps_for_a_reader(lock) && waiting.state() == 'S');
    assert!(relock(lock.read(&me()).unwrap_err()), "it would wait for the writer that waits for it");
    assert!(relock(lock.write(&me()).unwrap_err()));
    drop(guard);
    waiting.join();
}

#[test]
fn a_cycle_through_readers_is_a_deadlock() {
    let _watchdog = Watchdog::new("a_cycle_through_readers_is_a_deadlock");
    let locks = [rwlock(), rwlock()];
    let ready: &[AtomicU32; 2] = words();
    let ids = [table().reserve().unwrap(), table().reserve().unwrap()];
    let children = [0, 1].map(|mine| {
        let theirs = 1 - mine;
        fork_as(ids[mine], Life::Watched, move |party| {
            let own = locks[mine].read(party).unwrap();
            raise(&ready[mine]);
            until(|| raised(&ready[theirs]));
            match locks[theirs].write(party) {
                Ok(_) => {} // the other one gave way
                Err(LockError::Deadlock { parties }) => {
                    let slots: Vec<_> = parties.iter().map(|party| party.slot).collect();
                    assert_eq!(slots, [ids[mine], ids[theirs]]);
                }
                Err(other) => panic!("{other}"),
            }
            drop(own);
        })
    });
    Child::join_all(children);
    for lock in locks {
        assert!(lock.try_write(&me()).unwrap().acquired().is_some());
    }
}

#[test]
fn a_stopped_reader_is_not_a_dead_one() {
    let _watchdog = Watchdog::new("a_stopped_reader_is_not_a_dead_one");
    let lock = rwlock();
    let child = reader(Life::Watched, lock);
    child.signal(libc::SIGSTOP);
    until(|| child.state() == 'T');
    let error = lock.write_timeout(&me(), Duration::from_millis(120)).unwrap_err();
    let LockError::TimedOut { holder, held_for } = &error else { panic!("{error}") };
    assert_eq!((holder.slot, holder.pid), (child.id, child.pid));
    assert!(*held_for >= Duration::from_millis(100), "{held_for:?}");
    // Who gave up has left the word.
    assert_eq!(*lock.try_read(&me()).unwrap(), [0, 0]);
}

/// With all cells taken a reader waits until one becomes free, or its reader is dead.
#[test]
fn more_readers_than_cells_wait_their_turn() {
    let _watchdog = Watchdog::new("more_readers_than_cells_wait_their_turn");
    let lock = rwlock();
    let mut last = reader(Life::Watched, lock);
    let mut guards: Vec<_> = (1..CELLS).map(|_| lock.read(&me()).unwrap()).collect();
    assert!(matches!(lock.try_read(&me()), Err(LockError::TimedOut { .. })));
    let waiting = fork(Life::Watched, |party| drop(lock.read(party).unwrap()));
    until(|| waiting.state() == 'S');
    guards.pop();
    waiting.join();
    guards.push(lock.read(&me()).unwrap());
    last.kill();
    guards.push(lock.read(&me()).unwrap());
    drop(guards);
    assert_eq!(taken_cells(lock), 0);
}

/// Rows A2 to A7 in bulk: readers and writers killed at random, 150 times.
#[test]
fn reading_and_writing_goes_on_while_all_are_killed() {
    let _watchdog = Watchdog::new("reading_and_writing_goes_on_while_all_are_killed");
    let lock = rwlock();
    let repair = |value: &mut Pair| value[1] = value[0];
    let laps = laps_under_kills(150, |party| {
        let guard = lock.read_or_repair(party, repair).unwrap();
        assert_eq!(guard[0], guard[1]);
        drop(guard);
        let mut guard = lock.write_or_repair(party, repair).unwrap();
        assert_eq!(guard[0], guard[1]);
        guard[0] += 1;
        guard[1] += 1;
    });
    let guard = lock.write_or_repair(&me(), repair).unwrap();
    assert_eq!(guard[0], guard[1]);
    assert!(laps.contains(&guard[0]), "{} of {laps:?}", guard[0]);
    drop(guard);
    assert_eq!(taken_cells(lock), 0);
}

proptest! {
    /// One thread, no waiting: readers as a number, the writer as a flag.
    #[test]
    fn behaves_like_a_number_and_a_flag(deeds in prop::collection::vec(0..4_u8, 0..80)) {
        let (lock, me) = (rwlock(), me());
        let (mut readers, mut writer) = (Vec::new(), None);
        let mut written = 0;
        for deed in deeds {
            match deed {
                0 => match lock.try_read(&me) {
                    Ok(guard) => {
                        prop_assert!(writer.is_none());
                        prop_assert_eq!(*guard, [written, written]);
                        readers.push(guard);
                    }
                    Err(LockError::Relock { .. }) => prop_assert!(writer.is_some()),
                    Err(other) => prop_assert!(false, "{}", other),
                },
                1 => drop(readers.pop()),
                2 => match lock.try_write(&me) {
                    Ok(taken) => {
                        prop_assert!(writer.is_none() && readers.is_empty());
                        let mut guard = taken.acquired().unwrap();
                        written += 1;
                        *guard = [written, written];
                        writer = Some(guard);
                    }
                    Err(LockError::Relock { .. }) => prop_assert!(writer.is_some() || !readers.is_empty()),
                    Err(other) => prop_assert!(false, "{}", other),
                },
                _ => drop(writer.take()),
            }
            prop_assert_eq!(taken_cells(lock), readers.len());
            prop_assert_eq!(word(lock)[0].load(Ordering::SeqCst) != 0, writer.is_some());
        }
    }
}
