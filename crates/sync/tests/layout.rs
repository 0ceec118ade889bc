//! Golden bytes: what the words in shared memory are, byte by byte. A change here is a new layout version.

#![cfg(not(loom))]

mod support;

use std::time::Duration;
use support::*;

use swath_sync::{
    Barrier, Condvar, DeathCause, Event, InPlace, LockedArray, Mutex, Once, Party, Plan, Record,
    RecursiveMutex, RwLock, Semaphore, SlotTable, Value, Witness,
};

fn bytes(memory: *const u8, range: std::ops::Range<usize>) -> Vec<u8> {
    // SAFETY: the tests' own mappings, nobody writes meanwhile.
    range.map(|offset| unsafe { memory.add(offset).read_volatile() }).collect()
}

/// One test, because it needs this process to be slot 5 of a table of its own.
#[test]
fn words_are_where_and_what_the_documents_say() {
    let memory = shared_memory(size_of::<SlotTable>());
    // SAFETY: zeroed, aligned, never unmapped.
    let table = unsafe { SlotTable::from_ptr(memory) };
    // SAFETY: in bounds.
    let slot = |index: usize| unsafe { memory.add(index * 256) };
    let ids: Vec<_> = (0..6).map(|_| table.reserve().unwrap()).collect();
    let id = ids[5];
    assert_eq!((id.index, id.generation), (5, 1));
    assert_eq!(bytes(slot(5), 0..4), [0b101, 0, 0, 0]);

    // SAFETY: nobody believes it.
    unsafe { table.started(id, 0x01_0203, 0x0A0B_0C0D, Witness::Service) };
    assert!(table.enter(id));
    assert_eq!(bytes(slot(5), 0..4), [0b110, 0, 0, 0]);
    assert_eq!(bytes(slot(5), 16..20), [3, 2, 1, 0]);
    assert_eq!(bytes(slot(5), 24..32), [0x0D, 0x0C, 0x0B, 0x0A, 0, 0, 0, 0]);
    // SAFETY: 1. reserved above; 2. and 3. there is no other table.
    unsafe { Party::install(table, id) };
    let me = Party::current().unwrap();
    assert_eq!(bytes(slot(5), 128..132), [1, 0, 0, 0]);

    // SAFETY: nobody has it.
    unsafe { table.mark_dead(ids[4], DeathCause::exit(3)) };
    assert_eq!(bytes(slot(4), 0..16), [0b111, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0b1_0000, 0]);
    assert_eq!(bytes(slot(0), 20..24), [1, 0, 0, 0]);
    table.release(ids[4]);
    assert_eq!(bytes(slot(4), 0..4), [0b100, 0, 0, 0]);

    let words = shared_memory(4096);
    // SAFETY: zeroed, aligned, never unmapped.
    let mutex = unsafe { Mutex::<u64>::at(words) };
    let mut guard = mutex.lock(&me).unwrap().acquired().unwrap();
    *guard = 0xAB;
    assert_eq!(
        bytes(words, 0..24),
        [5, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xAB, 0, 0, 0, 0, 0, 0, 0]
    );
    drop(guard);
    assert_eq!(bytes(words, 0..4), [0; 4]);

    // SAFETY: as above.
    let event = unsafe { Event::at(words.add(64)) };
    event.set();
    assert_eq!(bytes(words, 64..72), [1, 0, 0, 0x40, 0, 0, 0, 0]);
    event.clear();
    event.set();
    assert_eq!(bytes(words, 64..72), [2, 0, 0, 0x40, 0, 0, 0, 0]);

    assert_eq!(Barrier::layout(2).map(|layout| (layout.size(), layout.align())), Some((192, 64)));
    // SAFETY: as above, and nobody knows it yet.
    let barrier = unsafe {
        Barrier::of(&[id]).timeout(Duration::from_nanos(0x0102)).shrink().place(words.add(128));
        <Barrier as InPlace>::at(words.add(128), 1)
    };
    assert_eq!(barrier.wait(&me), Ok(true));
    assert_eq!(bytes(words, 128..144), [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(bytes(words, 152..160), [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(words, 192..200), [5, 4, 0, 0, 1, 0, 0, 0]);
    barrier.abort();
    assert_eq!(bytes(words, 128..136), [2, 0, 0, 0, 1, 0, 0, 0]);
    locks_and_values(words, &me);
}

/// The types that came after, each in 256 bytes of its own.
fn locks_and_values(words: *mut u8, me: &Party) {
    let name = [5, 4, 0, 0];
    // SAFETY: zeroed, aligned, never unmapped, each object in bytes of its own.
    let (rwlock, condvar, once, recursive, record, value) = unsafe {
        (
            RwLock::<u32>::at(words.add(512), 1),
            Condvar::at(words.add(1024), 1),
            Once::at(words.add(1280), 1),
            RecursiveMutex::<u64>::at(words.add(1536), 1),
            Record::<u16>::at(words.add(1792), 1),
            Value::<f64>::at(words.add(2048), 1),
        )
    };
    let guard = rwlock.write(me).unwrap();
    assert_eq!((bytes(words, 512..516), bytes(words, 516..520)), (name.to_vec(), name.to_vec()));
    drop(guard);
    let guard = rwlock.read(me).unwrap();
    assert_eq!(bytes(words, 512..520), [0; 8]);
    assert_eq!(bytes(words, 528..784).iter().filter(|byte| **byte != 0).count(), 2, "one reader's cell");
    drop(guard);
    condvar.notify_one();
    assert_eq!(bytes(words, 1024..1032), [0; 8], "nobody waits");
    once.call_once(me, |_| assert_eq!(bytes(words, 1280..1284), name)).unwrap();
    assert_eq!(bytes(words, 1280..1284), [0, 0, 0, 0x40]);
    recursive.lock(me).unwrap().acquired().unwrap().keep();
    recursive.lock(me).unwrap().acquired().unwrap().keep();
    assert_eq!(
        (bytes(words, 1536..1540), bytes(words, 1552..1560)),
        (name.to_vec(), vec![2, 0, 0, 0, 0, 0, 0, 0])
    );
    record.set(me, 0x0102).unwrap();
    assert_eq!(bytes(words, 1808..1820), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
    value.store(1.5);
    assert_eq!(bytes(words, 2048..2056), 1.5_f64.to_le_bytes());
    // SAFETY: as above.
    let semaphore = unsafe {
        Semaphore::with(2, 3).place(words.add(2304));
        <Semaphore as InPlace>::at(words.add(2304), 3)
    };
    semaphore.acquire(me).unwrap().keep();
    let cells = bytes(words, 2320..2332);
    assert_eq!(cells[8..], [0; 4], "a permit that does not exist");
    assert!(cells[..4] == [5, 4, 0, 0x40] || cells[4..8] == [5, 4, 0, 0x40], "{cells:?}");
    assert!(cells[..4] == [0, 0, 0, 0x80] || cells[4..8] == [0, 0, 0, 0x80], "{cells:?}");
    // SAFETY: as above.
    unsafe { LockedArray::from_slice(&[0x0102_u16, 3]).place(words.add(2560)) };
    assert_eq!(bytes(words, 2560..2580), [&[0; 16][..], &[2, 1, 3, 0]].concat());
}
