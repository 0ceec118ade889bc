//! Values, records and locked arrays between real processes, some of which are killed, and beside models.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use support::*;
use swath_sync::{
    Arithmetic, ArrayError, InPlace, LockError, LockedArray, Number, Plan, PoisonedBy, Record, Value,
};

fn placed<P: Plan>(plan: P) -> &'static P::Object {
    let cells = plan.cells();
    let memory = shared_memory(P::Object::layout(cells).unwrap().size());
    // SAFETY: zeroed, aligned to a page, never unmapped, and nobody knows it yet.
    unsafe {
        plan.place(memory);
        P::Object::at(memory, cells)
    }
}

fn confirm(child: &mut Child) {
    child.bury();
}

#[test]
fn additions_of_all_processes_are_in_the_sum() {
    let _watchdog = Watchdog::new("additions_of_all_processes_are_in_the_sum");
    const EACH: usize = 20_000;
    let (words, bytes, floats) =
        (placed(Value::new(0_u64)), placed(Value::new(0_i8)), placed(Value::new(0.0_f64)));
    let children = [1, 2, 3].map(|n| {
        fork(Life::Watched, move |_| {
            for _ in 0..EACH {
                words.fetch_add(n);
                bytes.fetch_sub(1);
                floats.fetch_add(0.5);
            }
        })
    });
    Child::join_all(children);
    assert_eq!(words.load(), 6 * EACH as u64);
    assert_eq!(bytes.load(), 0_i8.wrapping_sub((3 * EACH % 256) as u8 as i8));
    assert_eq!(floats.load(), 1.5 * EACH as f64);
}

fn every_number_comes_back<T: Number + PartialEq + std::fmt::Debug>(numbers: &[T]) {
    let value = Value::new(numbers[0]);
    for pair in numbers.windows(2) {
        assert_eq!((value.load(), value.swap(pair[1])), (pair[0], pair[0]));
        assert_eq!(value.compare_exchange(pair[1], pair[0]), Ok(pair[1]));
        assert_eq!(value.update(|_| pair[1]), pair[0]);
    }
    value.store(numbers[0]);
    assert_eq!(value.load(), numbers[0]);
}

/// Row I4: integers wrap at their own width.
fn wraps<T: Arithmetic + PartialEq + std::fmt::Debug>(least: T, greatest: T, one: T) {
    let value = Value::new(greatest);
    assert_eq!((value.fetch_add(one), value.load()), (greatest, least));
    assert_eq!((value.fetch_sub(one), value.load()), (least, greatest));
    assert_eq!(
        (value.fetch_min(least), value.fetch_max(greatest), value.load()),
        (greatest, least, greatest)
    );
}

#[test]
fn numbers_of_every_kind() {
    every_number_comes_back(&[0_i8, -1, i8::MIN, i8::MAX]);
    every_number_comes_back(&[0_i64, -1, i64::MIN, i64::MAX]);
    every_number_comes_back(&[0_u64, 1, u64::MAX]);
    every_number_comes_back(&[0.0_f32, -0.5, f32::INFINITY, f32::MIN_POSITIVE]);
    every_number_comes_back(&[0.0_f64, -0.5, f64::NEG_INFINITY, f64::MAX]);
    every_number_comes_back(&[false, true, false]);
    wraps(i8::MIN, i8::MAX, 1);
    wraps(u16::MIN, u16::MAX, 1);
    wraps(i32::MIN, i32::MAX, 1);
    wraps(u64::MIN, u64::MAX, 1);
    wraps(i64::MIN, i64::MAX, 1);
    assert!(Value::new(f64::NAN).load().is_nan());
}

/// One that changes the record, and says how often it did, until killed.
fn counter(record: &'static Record<[u64; 64]>, done: &'static AtomicU32) -> Child {
    fork(Life::Watched, |party| {
        loop {
            record.update(party, |value| *value = value.map(|word| word + 1)).unwrap();
            done.fetch_add(1, Ordering::SeqCst);
        }
    })
}

#[test]
fn a_record_is_whole_whoever_is_killed() {
    let _watchdog = Watchdog::new("a_record_is_whole_whoever_is_killed");
    let record = placed(Record::new([0_u64; 64]));
    let done: &[AtomicU32; 2] = words();
    let mut children = [counter(record, &done[0]), counter(record, &done[1])];
    let total = || done.iter().map(|done| u64::from(done.load(Ordering::SeqCst))).sum::<u64>();
    let look = || {
        let value = record.get();
        assert!(value.iter().all(|word| *word == value[0]), "{value:?}");
        value[0]
    };
    for kill in 0..200_u64 {
        let (before, reached) = (look(), total() + 1 + kill * 7 % 50);
        until(|| total() >= reached);
        assert!(look() >= before);
        let index = (kill % 2) as usize;
        confirm(&mut children[index]);
        look();
        children[index] = counter(record, &done[index]);
    }
    children.iter_mut().for_each(confirm);
    // Each kill may have come between the change and the child's note of it.
    assert!((total()..=total() + 202).contains(&look()), "{} of {}", look(), total());
    record.set(&me(), [7; 64]).unwrap();
    assert_eq!(look(), 7);
}

#[test]
fn nobody_waits_for_who_stands_still_in_a_change_to_read_the_record() {
    let _watchdog = Watchdog::new("nobody_waits_for_who_stands_still_in_a_change_to_read_the_record");
    let record = placed(Record::new(1_u64));
    let [changing] = words();
    let mut child = fork(Life::Watched, |party| {
        let _ = record.update(party, |value| {
            *value = 2;
            raise(changing);
            await_the_end();
        });
    });
    until(|| raised(changing));
    assert_eq!(record.get(), 1);
    let late = record.update_timeout(&me(), Duration::from_millis(60), |_| ());
    assert!(matches!(late, Err(LockError::TimedOut { holder, .. }) if holder.pid == child.pid));
    child.kill();
    assert_eq!(record.update(&me(), |value| *value += 10), Ok(()));
    assert_eq!(record.get(), 11);
    // A panic leaves it as it was, and free.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        record.update(&me(), |_| panic!("as a test"))
    }));
    assert!(caught.is_err());
    assert!(matches!(record.update(&me(), |_| record.set(&me(), 0)), Ok(Err(LockError::Relock { .. }))));
    assert_eq!(record.get(), 11);
}

#[test]
fn a_locked_array_has_bounds_and_a_lock() {
    let _watchdog = Watchdog::new("a_locked_array_has_bounds_and_a_lock");
    let array = placed(LockedArray::from_slice(&[1.5_f64, 2.5, 3.5]));
    assert_eq!((array.len(), array.is_empty(), array.get(&me(), 2)), (3, false, Ok(3.5)));
    for index in [3, usize::MAX] {
        assert_eq!(array.get(&me(), index), Err(ArrayError::OutOfBounds { index, len: 3 }));
        assert_eq!(array.set(&me(), index, 0.0), Err(ArrayError::OutOfBounds { index, len: 3 }));
    }
    fork(Life::Watched, |party| {
        array.set(party, 0, -1.0).unwrap();
        array.lock(party).unwrap().acquired().unwrap()[1..].fill(0.25);
    })
    .join();
    assert_eq!(*array.lock(&me()).unwrap().acquired().unwrap(), [-1.0, 0.25, 0.25]);
    let guard = array.lock(&me()).unwrap();
    assert!(matches!(array.get(&me(), 0), Err(ArrayError::Lock(LockError::Relock { .. }))));
    drop(guard);
    let none = placed(LockedArray::<u8>::zeros(0));
    assert!(none.is_empty() && none.lock(&me()).unwrap().acquired().unwrap().is_empty());
}

#[test]
fn a_locked_array_reports_who_died_holding_it() {
    let _watchdog = Watchdog::new("a_locked_array_reports_who_died_holding_it");
    let array = placed(LockedArray::<u32>::zeros(100));
    let die_in_the_middle = || {
        let [held] = words();
        let mut child = fork(Life::Watched, |party| {
            let mut guard = array.lock(party).unwrap().acquired().unwrap();
            guard[..50].fill(9);
            raise(held);
            await_the_end();
        });
        until(|| raised(held));
        child.kill();
        child
    };
    let _child = die_in_the_middle();
    let guard = array.lock_or_repair(&me(), |values| values.fill(0)).unwrap();
    assert_eq!(guard.iter().sum::<u32>(), 0);
    drop(guard);
    let child = die_in_the_middle();
    for _ in 0..2 {
        // An element alone cannot repair the whole.
        let found = array.get(&me(), 99);
        let Err(ArrayError::Lock(LockError::Poisoned { who: PoisonedBy::Death(dead) })) = found else {
            panic!("{found:?}")
        };
        assert_eq!(dead.pid, child.pid);
    }
    array.clear();
    assert_eq!((array.get(&me(), 0), array.get(&me(), 99)), (Ok(9), Ok(0)));
}

proptest! {
    #[test]
    fn a_record_is_the_last_value_that_was_set(values in prop::collection::vec(any::<[u8; 13]>(), 1..20)) {
        let record = placed(Record::new([0_u8; 13]));
        for value in values {
            record.set(&me(), value).unwrap();
            prop_assert_eq!(record.get(), value);
        }
    }

    #[test]
    fn a_locked_array_is_a_vector(
        first in prop::collection::vec(any::<u16>(), 0..40),
        deeds in prop::collection::vec((0..50_usize, any::<u16>()), 0..40),
    ) {
        let mut model = first.clone();
        let array = placed(LockedArray::from_slice(&first));
        for (index, value) in deeds {
            let set = array.set(&me(), index, value);
            match model.get_mut(index) {
                Some(element) => { *element = value; prop_assert_eq!(set, Ok(())); }
                None => prop_assert_eq!(set, Err(ArrayError::OutOfBounds { index, len: first.len() })),
            }
            prop_assert_eq!(array.get(&me(), index).ok(), model.get(index).copied());
        }
        prop_assert_eq!(&*array.lock(&me()).unwrap().acquired().unwrap(), &model[..]);
    }
}
