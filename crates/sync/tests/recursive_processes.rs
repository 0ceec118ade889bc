//! The recursive mutex between real processes, some of which are killed, and beside a model.

#![cfg(not(loom))]

mod support;

use proptest::prelude::*;
use support::*;
use swath_sync::{DEPTH_MAX, InPlace, LockError, RecursiveGuard, RecursiveMutex, ReleaseError, Taken};

type Pair = [u64; 2];

fn mutex() -> &'static RecursiveMutex<Pair> {
    // SAFETY: zeroed, aligned, never unmapped; all users are parties of the one table.
    unsafe { RecursiveMutex::at(shared_memory(size_of::<RecursiveMutex<Pair>>()), 1) }
}

fn acquired(mutex: &'static RecursiveMutex<Pair>) -> RecursiveGuard<'static, Pair> {
    mutex.lock(&me()).unwrap().acquired().expect("nobody died")
}

#[test]
fn a_holder_that_dies_three_deep_is_reported_once() {
    let _watchdog = Watchdog::new("a_holder_that_dies_three_deep_is_reported_once");
    let mutex = mutex();
    let [held] = words();
    let mut child = fork(Life::Watched, |party| {
        for _ in 0..3 {
            let guard = mutex.lock(party).unwrap().acquired().unwrap();
            guard.with(|value| value[0] += 1).unwrap();
            guard.keep();
        }
        mutex
            .lock(party)
            .unwrap()
            .acquired()
            .unwrap()
            .with(|_| {
                raise(held);
                await_the_end();
            })
            .unwrap();
    });
    until(|| raised(held));
    child.kill();
    let Ok(Taken::Recovered(recovered)) = mutex.lock(&me()) else { panic!("the holder died") };
    assert_eq!(recovered.dead().slot, child.id);
    recovered.guard().with(|value| value[1] = value[0]).unwrap();
    let guard = recovered.repaired();
    assert_eq!(guard.with(|value| *value), Ok([3, 3]));
    drop(guard);
    assert_eq!(mutex.release(&me()), Err(ReleaseError::NotLocked), "the depth is the new holder's");
    drop(acquired(mutex));
}

#[test]
fn only_the_holder_gives_it_back_and_only_as_often_as_it_took_it() {
    let _watchdog = Watchdog::new("only_the_holder_gives_it_back_and_only_as_often_as_it_took_it");
    let mutex = mutex();
    for _ in 0..3 {
        acquired(mutex).keep();
    }
    let mine = std::process::id();
    fork(Life::Watched, |party| {
        let refused = mutex.release(party);
        assert!(matches!(refused, Err(ReleaseError::NotOwner { holder }) if holder.pid == mine));
        assert!(matches!(mutex.try_lock(party), Err(LockError::TimedOut { .. })));
    })
    .join();
    let found = [(); 4].map(|()| mutex.release(&me()));
    assert_eq!(found, [Ok(()), Ok(()), Ok(()), Err(ReleaseError::NotLocked)]);
    fork(Life::Watched, |party| drop(mutex.try_lock(party).unwrap())).join();
}

/// What makes `with` sound: the value is lent once at a time, and not without the lock.
#[test]
fn the_value_is_lent_to_one_at_a_time() {
    let _watchdog = Watchdog::new("the_value_is_lent_to_one_at_a_time");
    let mutex = mutex();
    let outer = acquired(mutex);
    outer
        .with(|value| {
            value[0] = 1;
            let inner = acquired(mutex);
            assert_eq!(inner.with(|_| ()), Err(ReleaseError::Lent));
            drop(inner);
            assert_eq!(mutex.release(&me()), Err(ReleaseError::Lent));
            value[1] = 1;
        })
        .unwrap();
    let inner = acquired(mutex);
    assert_eq!(inner.with(|value| *value), Ok([1, 1]));
    // Given back behind the guards' backs: they lend nothing, and their drops give nothing back.
    assert_eq!((mutex.release(&me()), mutex.release(&me())), (Ok(()), Ok(())));
    assert_eq!(inner.with(|_| ()), Err(ReleaseError::NotLocked));
    drop((inner, outer));
    drop(acquired(mutex));
    // A panic inside gives the value back too.
    let guard = acquired(mutex);
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| guard.with(|_| panic!("as a test"))));
    assert!(caught.is_err());
    assert_eq!(guard.with(|value| *value), Ok([1, 1]));
}

#[test]
fn the_depth_has_a_limit() {
    let mutex = mutex();
    for _ in 0..DEPTH_MAX {
        acquired(mutex).keep();
    }
    assert!(matches!(mutex.lock(&me()), Err(LockError::TooDeep { limit: DEPTH_MAX })));
}

proptest! {
    #[test]
    fn behaves_like_a_depth(deeds in prop::collection::vec(0..4_u8, 0..80)) {
        let mutex = mutex();
        let mut guards = Vec::new();
        let mut kept = 0;
        for deed in deeds {
            match deed {
                0 => guards.push(acquired(mutex)),
                1 => drop(guards.pop()),
                2 => if let Some(guard) = guards.pop() {
                    guard.keep();
                    kept += 1;
                },
                _ if kept > 0 => {
                    prop_assert_eq!(mutex.release(&me()), Ok(()));
                    kept -= 1;
                }
                _ if guards.is_empty() => prop_assert_eq!(mutex.release(&me()), Err(ReleaseError::NotLocked)),
                _ => {}
            }
            let text = format!("{mutex:?}");
            prop_assert!(text.contains(&format!("depth: {}", guards.len() + kept)), "{}", text);
            prop_assert_eq!(text.contains("holder: None"), guards.len() + kept == 0);
        }
    }
}
