//! The list between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use support::*;
use swath_sync::{DeathCause, InPlace, ListError, ListValue, Plan, ShareableList, ShareableListPlan};

fn place(plan: ShareableListPlan) -> &'static ShareableList {
    let cells = plan.cells();
    let memory = shared_memory(ShareableList::layout(cells).unwrap().size());
    // SAFETY: zeroed, aligned to a page, large enough, never unmapped.
    unsafe {
        plan.place(memory);
        ShareableList::at(memory, cells)
    }
}

fn text(number: u32) -> String {
    let letter = char::from(b'a' + (number % 26) as u8);
    letter.to_string().repeat(1 + number as usize % 40)
}

#[test]
fn a_getter_sees_whole_values_while_setters_are_killed() {
    let _watchdog = Watchdog::new("a_getter_sees_whole_values_while_setters_are_killed");
    let list = place(ShareableList::with_room([(text(0), 40), (text(1), 40)]));
    let [set]: &[AtomicU32; 1] = words();
    for round in 0..60 {
        let before = set.load(Ordering::SeqCst);
        let mut setters = [(); 2].map(|()| {
            fork(Life::Unwatched, |party| {
                loop {
                    let number = set.fetch_add(1, Ordering::SeqCst);
                    list.set(party, 0, text(number)).unwrap();
                }
            })
        });
        while set.load(Ordering::SeqCst) < before + 50 + round {
            let Ok(ListValue::Text(whole)) = list.get(0) else { panic!("{list:?}") };
            assert!(whole.bytes().all(|letter| letter == whole.as_bytes()[0]), "torn: {whole}");
            assert_eq!(list.get(1), Ok(text(1).into()), "the neighbour is untouched");
        }
        for child in &mut setters {
            child.kill();
            child.mark_dead(DeathCause::killed_by(9));
        }
        list.set(&me(), 0, "zzz").unwrap();
        assert_eq!(list.get(0), Ok("zzz".into()));
    }
}

#[test]
fn a_stopped_setter_keeps_its_slot_and_nobody_who_gets_waits() {
    let _watchdog = Watchdog::new("a_stopped_setter_keeps_its_slot_and_nobody_who_gets_waits");
    let long = "x".repeat(4_000_000);
    let list = place(ShareableList::with_room([(ListValue::from(long.as_str()), 0), (ListValue::Int(5), 0)]));
    let [begun]: &[AtomicU32; 1] = words();
    let me = me();
    let child = fork(Life::Unwatched, |party| {
        raise(begun);
        loop {
            list.set(party, 0, long.as_str()).unwrap();
        }
    });
    until(|| raised(begun));
    // Stopped in the middle, sooner or later.
    loop {
        std::thread::sleep(Duration::from_millis(2));
        child.signal(libc::SIGSTOP);
        until(|| child.state() == 'T');
        match list.set_timeout(&me, 0, "mine", Duration::from_millis(60)) {
            Err(ListError::TimedOut { index: 0, holder }) => {
                assert_eq!(holder.pid, child.pid);
                break;
            }
            other => assert_eq!(other, Ok(())),
        }
        child.signal(libc::SIGCONT);
    }
    assert!(matches!(list.try_set(&me, 0, "mine"), Err(ListError::TimedOut { .. })));
    let whole = list.get(0).unwrap();
    assert!(whole == long.as_str().into() || whole == "mine".into());
    list.set(&me, 1, 6).unwrap();
    drop(child);
    list.set(&me, 0, "mine").unwrap();
    assert_eq!(list.to_vec(), Ok(vec!["mine".into(), 6.into()]));
}

#[test]
fn values_of_every_kind_come_back() {
    let values: Vec<ListValue> = vec![
        ListValue::None,
        true.into(),
        i64::MIN.into(),
        (-0.5).into(),
        "".into(),
        "encodés".into(),
        (&[0_u8, 1, 0, 0]).into(),
        Vec::<u8>::new().into(),
    ];
    let list = place(ShareableList::of(values.clone()));
    assert_eq!((list.len(), list.to_vec()), (8, Ok(values.clone())));
    assert_eq!(list.iter().map(Result::unwrap).collect::<Vec<_>>(), values);
    let me = me();
    // Every slot takes every kind that is no longer than eight bytes.
    for index in 0..8 {
        for value in &values {
            list.set(&me, index, value.clone()).unwrap();
            assert_eq!(list.get(index).as_ref(), Ok(value));
        }
        assert!(list.room(index).unwrap() >= 8);
    }
    assert_eq!(
        (list.count(Vec::<u8>::new()), list.index_of(Vec::<u8>::new()), list.index_of(77)),
        (8, Some(0), None)
    );
    let empty = place(ShareableList::of(Vec::<ListValue>::new()));
    assert!(empty.is_empty() && empty.get(0) == Err(ListError::Index { index: 0, len: 0 }));
}
