//! Golden bytes: what the words in shared memory are, byte by byte. A change here is a new layout version.

#![cfg(not(loom))]

mod support;

use support::*;
use swath_sync::{Barrier, DeathCause, Event, Mutex, Party, SlotTable};

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

    table.started(id, 0x01_0203, 0x0A0B_0C0D);
    assert!(table.enter(id, false));
    assert_eq!(bytes(slot(5), 0..4), [0b110, 0, 0, 0]);
    assert_eq!(bytes(slot(5), 16..20), [3, 2, 1, 0]);
    assert_eq!(bytes(slot(5), 24..32), [0x0D, 0x0C, 0x0B, 0x0A, 0, 0, 0, 0]);
    Party::install(table, id);
    let me = Party::current().unwrap();
    assert_eq!(bytes(slot(5), 128..132), [1, 0, 0, 0]);

    table.mark_dead(ids[4], DeathCause::exit(3));
    assert_eq!(bytes(slot(4), 0..16), [0b111, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0]);
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

    assert_eq!(Barrier::size(2), 192);
    // SAFETY: as above, and nobody knows it yet.
    let barrier = unsafe { Barrier::init(words.add(128), &[id]) };
    assert_eq!(barrier.wait(&me, None), Ok(true));
    assert_eq!(bytes(words, 128..140), [4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(bytes(words, 192..200), [5, 4, 0, 0, 1, 0, 0, 0]);
    barrier.abort();
    assert_eq!(bytes(words, 128..129), [4 | 2]);
}
