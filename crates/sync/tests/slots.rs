//! The slot table: a party's life from its reservation to its release.

#![cfg(not(loom))]

mod support;

use std::os::unix::process as os;
use std::sync::atomic::Ordering;
use std::thread;

use support::*;
use swath_sync::{
    DeathCause, Liveness, LockError, Mutex, NoParty, Party, SLOTS_MAX, SlotId, SlotState, SlotTable, Witness,
};

fn fresh_table() -> &'static SlotTable {
    // SAFETY: zeroed, aligned, never unmapped.
    unsafe { SlotTable::from_ptr(shared_memory(size_of::<SlotTable>())) }
}

/// Of a party that is nobody.
fn mark_dead(table: &SlotTable, id: SlotId, cause: DeathCause) {
    // SAFETY: no process was started for it, and no party made of it.
    unsafe { table.mark_dead(id, cause) };
}

fn started(table: &SlotTable, id: SlotId, pid: u32, start_ticks: u64) {
    // SAFETY: nobody believes it.
    unsafe { table.started(id, pid, start_ticks, Witness::Service) };
}

#[test]
fn a_slot_goes_round_and_no_generation_is_said_to_live_twice() {
    let table = fresh_table();
    let first = table.reserve().unwrap();
    assert_eq!((first.index, first.generation), (0, 1));
    assert_eq!(table.liveness(first), Liveness::Starting);
    started(table, first, 7, 8);
    assert!(table.enter(first));
    assert_eq!(table.liveness(first), Liveness::Alive);
    assert!(!table.enter(first), "one enters once");
    table.release(first);
    assert_eq!(table.liveness(first), Liveness::Alive, "the living are not released");
    mark_dead(table, first, DeathCause::exit(3));
    mark_dead(table, first, DeathCause::exit(4));
    assert_eq!(table.liveness(first), Liveness::Dead(DeathCause::exit(3)), "one dies once");
    table.release(first);
    assert_eq!(table.liveness(first), Liveness::Gone);

    let second = table.reserve().unwrap();
    assert_eq!((second.index, second.generation), (0, 2));
    assert_eq!((table.pid(0), table.start_ticks(0)), (0, 0));
    assert_eq!(table.liveness(first), Liveness::Gone);
    mark_dead(table, first, DeathCause::exit(5));
    started(table, first, 9, 9);
    assert!(!table.enter(first));
    assert_eq!(
        (table.liveness(second), table.pid(0)),
        (Liveness::Starting, 0),
        "the former name does nothing"
    );
}

#[test]
fn a_party_that_is_given_up_cannot_enter() {
    let table = fresh_table();
    let id = table.reserve().unwrap();
    mark_dead(table, id, DeathCause::UNKNOWN);
    assert!(!table.enter(id));
    assert_eq!(table.state(0), (SlotState::Dead, 1));
}

#[test]
fn a_full_table_says_so_and_worn_slots_come_last() {
    let table = fresh_table();
    let all: Vec<_> = (0..SLOTS_MAX).map(|_| table.reserve().unwrap()).collect();
    assert_eq!(table.reserve(), None);
    for id in &all {
        mark_dead(table, *id, DeathCause::UNKNOWN);
        table.release(*id);
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..6000 {
        let id = table.reserve().unwrap();
        assert!(id.generation != 0 && seen.insert(id), "{id:?} came back");
        mark_dead(table, id, DeathCause::UNKNOWN);
        table.release(id);
    }
    assert_eq!(table.reserve().unwrap().index, 5, "1023 generations of one slot, then the next");
}

/// For who makes one table after the other at the same address.
#[test]
fn the_first_slot_of_a_fresh_table_has_the_generation_that_is_asked_for() {
    let table = fresh_table();
    let id = table.reserve_first(1000).expect("it is free");
    assert_eq!((id.index, id.generation, table.state(0)), (0, 1000, (SlotState::Starting, 1000)));
    assert_eq!(table.reserve_first(1001), None, "it is taken");
    assert_eq!(table.reserve().map(|id| id.index), Some(1));
    assert!(table.enter(id));
    mark_dead(table, id, DeathCause::UNKNOWN);
    table.release(id);
    assert_eq!(table.reserve_first(1000), None, "it was used");
}

/// The kernel's mark, for every way in which a process can end.
#[test]
fn the_life_word_tells_of_every_kind_of_death() {
    let _watchdog = Watchdog::new("the_life_word_tells_of_every_kind_of_death");
    table();
    let deaths = ["SIGKILL", "SIGSEGV", "SIGABRT", "exit 3", "exit 0"];
    for name in deaths {
        let mut child = fork(Life::Watched, |_| {
            die(name);
        });
        let cause = child.reap();
        assert_eq!(cause.to_string(), name);
        assert_eq!(table().liveness(child.id), Liveness::ThreadDead, "{name}");
        child.mark_dead(cause);
        assert_eq!(table().liveness(child.id), Liveness::Dead(cause));
    }
}

/// A watched thread ends and its process goes on: who comes after it is not taken for dead.
#[test]
fn the_number_of_a_watched_thread_is_nobody_elses() {
    let _watchdog = Watchdog::new("the_number_of_a_watched_thread_is_nobody_elses");
    let table = fresh_table();
    let id = table.reserve().unwrap();
    // SAFETY: 1. reserved above; 2. the mutex below is used with this table only.
    let party = || unsafe { Party::of(table, id, std::process::id()) }.unwrap();
    // SAFETY: that thread does nothing else.
    thread::spawn(move || assert!(unsafe { table.enter_watched(id) })).join().unwrap();
    assert_eq!(table.liveness(id), Liveness::ThreadDead);
    let mutex = Mutex::new(0);
    thread::scope(|scope| {
        let _guard = mutex.lock(&party()).unwrap();
        let other = scope.spawn(|| matches!(mutex.try_lock(&party()), Err(LockError::TimedOut { .. })));
        assert!(other.join().unwrap(), "its holder lives");
    });
}

/// Ends this process as `how` says, "exit 0" by way of an exec.
fn die(how: &str) {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let argv = [c"/bin/true".as_ptr(), std::ptr::null()];
    // SAFETY: plain system calls in a process that ends here; the pointers are valid.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
        match how {
            "SIGKILL" => libc::kill(libc::getpid(), libc::SIGKILL),
            "SIGSEGV" => {
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                libc::raise(libc::SIGSEGV)
            }
            "SIGABRT" => libc::abort(),
            "exit 3" => libc::_exit(3),
            _ => libc::execv(argv[0], argv.as_ptr()),
        };
    }
}

#[test]
fn a_forked_child_is_not_its_parent() {
    let _watchdog = Watchdog::new("a_forked_child_is_not_its_parent");
    let parent = me();
    let [same] = words();
    // SAFETY: the child looks at memory and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let forked = matches!(Party::current(), Err(NoParty::Forked { parent }) if parent == os::parent_id());
        same.store(1 + u32::from(forked), Ordering::SeqCst);
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(same.load(Ordering::SeqCst), 2);
    assert_eq!(Party::current().unwrap().slot(), parent.slot());
}
