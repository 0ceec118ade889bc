//! Every interleaving of a list's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{ListValue, ShareableList};

/// One slot of two words.
const WORDS: usize = 1 + 1 + 2 * 3;

fn list() -> Arc<Box<ShareableList>> {
    Arc::new(ShareableList::for_model::<WORDS>(&[2]))
}

/// Two words that say the same.
fn value(letter: u8) -> ListValue {
    ListValue::Bytes(vec![letter; 16])
}

fn is_whole(found: &ListValue) -> bool {
    match found {
        ListValue::None => true,
        ListValue::Bytes(bytes) => bytes.len() == 16 && bytes.iter().all(|byte| *byte == bytes[0]),
        _ => false,
    }
}

#[test]
fn a_getter_sees_whole_values() {
    explore(2, || {
        let world = World::new(2);
        let list = list();
        let setter = {
            let list = list.clone();
            thread::spawn(move || {
                list.set(&world.party(1), 0, value(1)).unwrap();
                list.set(&world.party(1), 0, value(2)).unwrap();
            })
        };
        let found = list.get(0).unwrap();
        assert!(is_whole(&found), "{found:?}");
        setter.join().unwrap();
        assert_eq!(list.get(0), Ok(value(2)));
    });
}

#[test]
fn two_setters_wait_for_each_other_and_lose_no_wake() {
    explore(2, || {
        let world = World::new(2);
        let list = list();
        let other = {
            let list = list.clone();
            thread::spawn(move || without_slices(|| list.set(&world.party(1), 0, value(1)).unwrap()))
        };
        without_slices(|| list.set(&world.party(0), 0, value(2)).unwrap());
        other.join().unwrap();
        let found = list.get(0).unwrap();
        assert!(found == value(1) || found == value(2), "{found:?}");
    });
}

#[test]
fn a_setter_that_dies_at_any_step_has_set_it_or_not() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let list = list();
        let dying = {
            let list = list.clone();
            thread::spawn(move || mortal.live(world, 1, || list.set(&world.party(1), 0, value(1)).unwrap()))
        };
        let before = list.get(0).unwrap();
        assert!(is_whole(&before));
        let lived = dying.join().unwrap();
        let after = list.get(0).unwrap();
        assert!(after == value(1) || (!lived && after == ListValue::None), "{after:?}");
        list.try_set(&world.party(0), 0, value(2)).unwrap();
        assert_eq!(list.get(0), Ok(value(2)));
    });
}
