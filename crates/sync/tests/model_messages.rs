//! Queues, rings and lists against what they are on paper: any order of calls, one at a time, also across the wrap of every
//! counter.

#![cfg(not(loom))]

mod support;

use std::collections::VecDeque;

use proptest::prelude::*;
use support::*;
use swath_sync::{
    Delivery, InPlace, JoinableQueue, ListValue, Plan, QueueError, RingError, ShareableList, SpscRing,
};

/// Memory for the life of one case.
struct Place {
    words: Vec<[u64; 16]>,
}

impl Place {
    fn of<P: Plan>(plan: P) -> (Self, usize)
    where
        P::Object: InPlace,
    {
        let cells = plan.cells();
        let layout = P::Object::layout(cells).unwrap();
        // Aligned by hand: a line more than is needed.
        let mut place = Self { words: vec![[0; 16]; layout.size().div_ceil(128) + 1] };
        // SAFETY: zeroed, aligned, large enough.
        unsafe { plan.place(place.memory()) };
        (place, cells)
    }

    fn memory(&mut self) -> *mut u8 {
        let start = self.words.as_mut_ptr().cast::<u8>();
        // SAFETY: less than the line that is too much.
        unsafe { start.add(start.align_offset(128)) }
    }

    fn set(&mut self, offset: usize, word: u64) {
        // SAFETY: the callers' offsets lie within the object.
        unsafe { self.memory().add(offset).cast::<u64>().write(word) }
    }
}

#[derive(Copy, Clone, Debug)]
enum Call {
    Put(u64),
    PutFails,
    Get,
    Take,
    Done(usize),
    PutBack(usize),
    Close,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        6 => any::<u64>().prop_map(Call::Put),
        1 => Just(Call::PutFails),
        3 => Just(Call::Get),
        3 => Just(Call::Take),
        2 => any::<usize>().prop_map(Call::Done),
        1 => any::<usize>().prop_map(Call::PutBack),
        1 => Just(Call::Close).prop_filter("now and then", |_| true),
    ];
    prop::collection::vec(call, 1..120)
}

/// The lap before the last, so that every case wraps.
const LATE_LAP: u64 = (1 << 31) - 2;

fn check_queue(cells: usize, late: bool, calls: &[Call]) {
    let (mut place, cells) = Place::of(JoinableQueue::<u64>::with_capacity(cells));
    if late {
        // The tail, the head, and each cell free in that lap.
        place.set(128, LATE_LAP << 32);
        place.set(256, LATE_LAP << 32);
        for cell in 0..cells {
            place.set(384 + 16 * cell, LATE_LAP << 33);
        }
    }
    // SAFETY: placed above, and outlives the case.
    let queue: &JoinableQueue<u64> = unsafe { JoinableQueue::at(place.memory(), cells) };
    let me = me();
    let (mut waiting, mut returned) = (VecDeque::new(), Vec::new());
    let mut hands: Vec<Delivery<'_, u64>> = Vec::new();
    let (mut closed, mut held) = (false, false);
    for call in calls {
        let occupied = waiting.len() + returned.len() + hands.len();
        // What was put back comes whenever it is seen; the rest in order.
        let mut came =
            |item: u64, waiting: &mut VecDeque<u64>| match returned.iter().position(|other| *other == item) {
                Some(at) if waiting.front() != Some(&item) => drop(returned.swap_remove(at)),
                _ => assert_eq!(waiting.pop_front(), Some(item)),
            };
        match *call {
            Call::Put(item) => {
                let expected = match () {
                    () if closed => Err(QueueError::Closed),
                    () if occupied == cells => Err(QueueError::Full),
                    () => Ok(()),
                };
                let put = queue.try_put(&me, item);
                // Items that were in hand out of turn may leave room that is there when those before them have been got:
                // there is always one to get then.
                let in_the_way =
                    held && put == Err(QueueError::Full) && !(waiting.is_empty() && returned.is_empty());
                assert!(put == expected || in_the_way, "{put:?}");
                waiting.extend(put.is_ok().then_some(item));
            }
            Call::PutFails => {
                if !closed && occupied < cells && !held {
                    assert_eq!(queue.queue().put_with(&me, |_| Err::<(), _>(5)), Ok(Err(5)));
                }
            }
            Call::Get => match queue.queue().try_get(&me) {
                Ok(item) => came(item, &mut waiting),
                Err(QueueError::Empty { behind: None }) => assert!(!closed && occupied == hands.len()),
                Err(QueueError::Closed) => assert!(closed && occupied == hands.len()),
                Err(other) => panic!("{other}"),
            },
            Call::Take => {
                if let Ok(delivery) = queue.try_get(&me) {
                    came(*delivery, &mut waiting);
                    hands.push(delivery);
                    held = true;
                } else {
                    assert_eq!(occupied, hands.len());
                }
            }
            Call::Done(which) if !hands.is_empty() => hands.swap_remove(which % hands.len()).done(),
            Call::PutBack(which) if !hands.is_empty() => {
                let delivery = hands.swap_remove(which % hands.len());
                returned.push(*delivery);
                drop(delivery);
            }
            Call::Close if calls.len().is_multiple_of(3) => {
                queue.queue().close();
                closed = true;
            }
            Call::Done(_) | Call::PutBack(_) | Call::Close => {}
        }
        assert_eq!(queue.queue().len(), waiting.len() + returned.len());
        assert_eq!(queue.try_join(&me), waiting.is_empty() && returned.is_empty() && hands.is_empty());
    }
}

proptest! {
    #[test]
    fn a_queue_is_a_queue(cells in 1_usize..6, late: bool, calls in calls()) {
        check_queue(cells, late, &calls);
    }

    #[test]
    fn a_ring_is_a_queue_with_two_ends(room in 1_usize..9, late: bool, pushes in prop::collection::vec(any::<bool>(), 1..200)) {
        let (mut place, cells) = Place::of(SpscRing::<u64>::with_capacity(room));
        if late {
            place.set(128, u64::MAX - 5);
            place.set(256, u64::MAX - 5);
        }
        // SAFETY: placed above, and outlives the case.
        let ring: &SpscRing<u64> = unsafe { SpscRing::at(place.memory(), cells) };
        let me = me();
        let (mut producer, mut consumer) = (ring.producer(&me).unwrap(), ring.consumer(&me).unwrap());
        let mut model = VecDeque::new();
        for (number, push) in (0..).zip(pushes) {
            if push {
                let full = model.len() == ring.capacity();
                prop_assert_eq!(producer.try_push(number), if full { Err(RingError::Full) } else { Ok(()) });
                model.extend((!full).then_some(number));
            } else {
                prop_assert_eq!(consumer.try_pop(), model.pop_front().ok_or(RingError::Empty));
            }
            prop_assert_eq!(ring.len(), model.len());
        }
    }

    #[test]
    fn a_list_keeps_what_fits(sets in prop::collection::vec((0_usize..4, prop::collection::vec(any::<u8>(), 0..30)), 1..60)) {
        let rooms = [0_usize, 8, 13, 24];
        let plan = ShareableList::with_room(rooms.map(|room| (ListValue::None, room)));
        let (mut place, cells) = Place::of(plan);
        // SAFETY: placed above, and outlives the case.
        let list: &ShareableList = unsafe { ShareableList::at(place.memory(), cells) };
        let me = me();
        let mut model = vec![ListValue::None; rooms.len()];
        for (index, bytes) in sets {
            let fits = bytes.len() <= list.room(index).unwrap();
            prop_assert_eq!(list.set(&me, index, bytes.clone()).is_ok(), fits);
            if fits {
                model[index] = bytes.into();
            }
            prop_assert_eq!(list.to_vec(), Ok(model.clone()));
        }
    }
}
