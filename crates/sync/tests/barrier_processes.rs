//! The barrier between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::*;
use swath_sync::{Barrier, BarrierError, BarrierPlan, DeathCause, InPlace, Party, Plan, SlotId, SlotState};

/// A barrier of this process and `others`.
fn barrier(others: &[SlotId]) -> &'static Barrier {
    placed(Barrier::of(&with_me(others)))
}

fn with_me(others: &[SlotId]) -> Vec<SlotId> {
    std::iter::once(me().slot()).chain(others.iter().copied()).collect()
}

fn placed(plan: BarrierPlan) -> &'static Barrier {
    let cells = plan.cells();
    let memory = shared_memory(Barrier::layout(cells).unwrap().size());
    // SAFETY: zeroed, aligned to a page, never unmapped, and nobody knows it yet.
    unsafe {
        plan.place(memory);
        Barrier::at(memory, cells)
    }
}

/// The words, as the layout test says they are: phase and, eight words on, the arrival of the first party.
fn words_of(barrier: &Barrier) -> &[AtomicU64; 16] {
    // SAFETY: the head line and the first cell's are atomics.
    unsafe { &*std::ptr::from_ref(barrier).cast() }
}

fn reserve<const N: usize>() -> [SlotId; N] {
    std::array::from_fn(|_| table().reserve().unwrap())
}

#[test]
fn rounds_have_one_leader_and_nobody_runs_ahead() {
    let _watchdog = Watchdog::new("rounds_have_one_leader_and_nobody_runs_ahead");
    const ROUNDS: u32 = 2_000;
    let ids: [SlotId; 2] = reserve();
    let barrier = barrier(&ids);
    let [leaders, arrived]: &[AtomicU32; 2] = words();
    let run = move |party: &Party| {
        for round in 0..ROUNDS {
            raise(arrived);
            if barrier.wait(party).unwrap() {
                raise(leaders);
            }
            assert!(arrived.load(Ordering::SeqCst) >= 3 * (round + 1));
        }
    };
    let children = ids.map(|id| fork_as(id, Life::Watched, run));
    run(&me());
    Child::join_all(children);
    assert_eq!(leaders.load(Ordering::SeqCst), ROUNDS);
}

/// Row A9: dead before arriving.
#[test]
fn a_death_before_arriving_breaks_it_for_all_now_and_later() {
    let _watchdog = Watchdog::new("a_death_before_arriving_breaks_it_for_all_now_and_later");
    for life in [Life::Watched, Life::Unwatched] {
        let ids: [SlotId; 2] = reserve();
        let barrier = barrier(&ids);
        let mut dying = fork_as(ids[0], life, |_| await_the_end());
        let expected = (ids[0], dying.pid);
        let survivor = fork_as(ids[1], Life::Watched, move |party| {
            let Err(BarrierError::Broken { slot, pid, .. }) = barrier.wait(party) else {
                panic!("it passed short")
            };
            assert_eq!((slot, pid), expected);
        });
        // Before it has entered, only its confirmed exit could tell.
        until(|| table().state(dying.id.index).0 == SlotState::Live);
        until(|| survivor.state() == 'S');
        dying.kill();
        if life == Life::Unwatched {
            dying.mark_dead(DeathCause::killed_by(libc::SIGKILL));
        }
        survivor.join();
        dying.mark_dead(DeathCause::killed_by(libc::SIGKILL));
        let broken = barrier.wait(&me()).unwrap_err();
        let BarrierError::Broken { slot, cause, .. } = broken else { panic!("{broken}") };
        assert_eq!((slot, cause), (ids[0], DeathCause::killed_by(libc::SIGKILL)));
        assert!(broken.to_string().contains("SIGKILL"), "{broken}");
    }
}

/// Row A9: dead while waiting, which lets glibc's barrier pass one short.
#[test]
fn a_death_while_waiting_breaks_it() {
    let _watchdog = Watchdog::new("a_death_while_waiting_breaks_it");
    let [id, absent] = reserve();
    let barrier = barrier(&[id, absent]);
    let mut dying = fork_as(id, Life::Watched, move |party| {
        let _ = barrier.wait(party);
    });
    until(|| dying.state() == 'S' && barrier.missing() == [me().slot(), absent]);
    dying.kill();
    assert!(matches!(barrier.wait(&me()), Err(BarrierError::Broken { slot, .. }) if slot == id));
    declare_dead(absent, DeathCause::UNKNOWN);
}

/// Whoever arrived last and died before it could say so: the others say it for him.
#[test]
fn a_death_after_all_have_come_does_not_hold_the_others() {
    let _watchdog = Watchdog::new("a_death_after_all_have_come_does_not_hold_the_others");
    let [id] = reserve();
    let barrier = barrier(&[id]);
    let child = fork_as(id, Life::Watched, move |party| {
        assert_eq!(barrier.wait(party), Ok(true));
    });
    until(|| child.state() == 'S' && barrier.missing() == [me().slot()]);
    // What step B2 does and no more.
    arrive_and_stop(barrier);
    child.join();
    assert!(barrier.missing().contains(&me().slot()), "the round is over, the next has begun");
}

/// Writes this process's arrival for the first round, as the layout test says it is written.
fn arrive_and_stop(barrier: &Barrier) {
    let cell = &words_of(barrier)[8];
    let old = cell.load(Ordering::SeqCst);
    cell.store(old & u64::from(u32::MAX) | 1 << 32, Ordering::SeqCst);
}

#[test]
fn a_timeout_closes_it_for_all_and_names_who_is_missing() {
    let _watchdog = Watchdog::new("a_timeout_closes_it_for_all_and_names_who_is_missing");
    let ids: [SlotId; 2] = reserve();
    let barrier = barrier(&ids);
    let waiting = fork_as(ids[0], Life::Watched, move |party| {
        assert_eq!(barrier.wait(party), Err(BarrierError::TimedOut));
    });
    until(|| waiting.state() == 'S' && !barrier.missing().contains(&ids[0]));
    let late = barrier.wait_timeout(&me(), Duration::from_millis(10));
    assert_eq!(late, Err(BarrierError::TimedOut));
    assert_eq!(barrier.missing(), [ids[1]]);
    waiting.join();
    declare_dead(ids[1], DeathCause::UNKNOWN);
}

#[test]
fn an_abort_sends_all_home_and_a_reset_opens_it_for_others() {
    let _watchdog = Watchdog::new("an_abort_sends_all_home_and_a_reset_opens_it_for_others");
    let ids: [SlotId; 3] = reserve();
    let barrier = barrier(&ids[..1]);
    let [go] = words();
    let waiting = fork_as(ids[0], Life::Watched, move |party| {
        assert_eq!(barrier.wait(party), Err(BarrierError::Aborted));
        assert_eq!(barrier.wait(party), Err(BarrierError::Aborted));
        raise(go);
    });
    until(|| waiting.state() == 'S');
    barrier.abort();
    until(|| raised(go));
    waiting.join();
    barrier.reset(&[me().slot(), ids[1]]);
    let other = fork_as(ids[1], Life::Watched, move |party| {
        for _ in 0..3 {
            barrier.wait(party).unwrap();
        }
    });
    for _ in 0..3 {
        barrier.wait(&me()).unwrap();
    }
    other.join();
    let stranger = fork_as(ids[2], Life::Watched, move |party| {
        assert_eq!(barrier.wait(party), Err(BarrierError::NotAParty { slot: party.slot() }));
    });
    stranger.join();
}

#[test]
fn a_reset_sends_home_who_still_waits() {
    let _watchdog = Watchdog::new("a_reset_sends_home_who_still_waits");
    let [id] = reserve();
    let barrier = barrier(&[id]);
    let waiting = fork_as(id, Life::Watched, move |party| {
        // Once from the old round, and as often as it comes back before the new one is open.
        let mut sent_home = 0;
        while barrier.wait(party) == Err(BarrierError::Aborted) {
            sent_home += 1;
        }
        assert!(sent_home > 0);
    });
    until(|| waiting.state() == 'S' && !barrier.missing().contains(&id));
    barrier.reset(&[me().slot(), id]);
    barrier.wait(&me()).unwrap();
    waiting.join();
}

/// Parties killed at random during rounds: the survivors always return, and a round either has all or an error.
#[test]
fn random_kills_never_let_it_pass_short() {
    let _watchdog = Watchdog::new("random_kills_never_let_it_pass_short");
    for kill in 0..60_u32 {
        let ids: [SlotId; 2] = reserve();
        let barrier = barrier(&ids);
        let rounds: &[AtomicU32; 3] = words();
        let run = |mine: usize| {
            move |party: &Party| loop {
                let round = rounds[mine].fetch_add(1, Ordering::SeqCst) + 1;
                match barrier.wait(party) {
                    Ok(_) => assert!(rounds.iter().all(|other| other.load(Ordering::SeqCst) >= round)),
                    Err(BarrierError::Broken { slot, .. }) => break assert_eq!(slot, ids[1]),
                    Err(other) => panic!("{other}"),
                }
            }
        };
        let survivor = fork_as(ids[0], Life::Watched, run(1));
        let mut dying = fork_as(ids[1], Life::Watched, run(2));
        run_until_killed(&mut dying, rounds, kill, || run(0)(&me()));
        survivor.join();
    }
}

/// Runs `body` while another thread kills `dying` after some rounds; in the first, perhaps before it has entered.
fn run_until_killed(dying: &mut Child, rounds: &[AtomicU32; 3], kill: u32, body: impl FnOnce()) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until(|| rounds[0].load(Ordering::SeqCst) > kill);
            dying.bury();
        });
        body();
    });
}

/// A round in one of the forms that wait.
fn round(
    barrier: &Barrier,
    party: &Party,
    form: u32,
    actions: &'static AtomicU32,
) -> Result<bool, BarrierError> {
    let patience = Duration::from_secs(30);
    match form % 6 {
        0 => barrier.wait(party),
        1 => barrier.wait_timeout(party, patience),
        2 => barrier.wait_deadline(party, Instant::now() + patience),
        3 => barrier.wait_with(party, || raise(actions)),
        4 => barrier.wait_with_timeout(party, patience, || raise(actions)),
        _ => barrier.wait_with_deadline(party, Instant::now() + patience, || raise(actions)),
    }
}

/// All call forms, with and without an action, beside each other: each round has one leader.
#[test]
fn every_form_of_the_call_passes_and_one_leads() {
    let _watchdog = Watchdog::new("every_form_of_the_call_passes_and_one_leads");
    let ids: [SlotId; 2] = reserve();
    let barrier = placed(Barrier::of(&with_me(&ids)).timeout(Duration::from_secs(30)));
    let [leaders, actions]: &[AtomicU32; 2] = words();
    let children = ids.map(|id| {
        fork_as(id, Life::Watched, move |party| {
            for form in 0..60_u32 {
                if round(barrier, party, form, actions).unwrap() {
                    raise(leaders);
                }
            }
        })
    });
    for form in 0..60 {
        if round(barrier, &me(), form, actions).unwrap() {
            raise(leaders);
        }
    }
    Child::join_all(children);
    assert_eq!((leaders.load(Ordering::SeqCst), actions.load(Ordering::SeqCst)), (60, 30));
}

#[test]
fn a_try_passes_only_when_all_others_have_come_and_changes_nothing_before() {
    let _watchdog = Watchdog::new("a_try_passes_only_when_all_others_have_come_and_changes_nothing_before");
    let ids: [SlotId; 1] = reserve();
    let barrier = barrier(&ids);
    for _ in 0..3 {
        assert_eq!(barrier.try_wait(&me()), Err(BarrierError::TimedOut));
    }
    assert_eq!(barrier.missing().len(), 2);
    let other = fork_as(ids[0], Life::Watched, move |party| assert_eq!(barrier.wait(party), Ok(false)));
    until(|| !barrier.missing().contains(&ids[0]));
    assert_eq!(barrier.try_wait(&me()), Ok(true));
    other.join();
    assert!(matches!(barrier.try_wait(&me()), Err(BarrierError::Broken { slot, .. }) if slot == ids[0]));
}

#[test]
fn the_action_is_over_before_anybody_passes() {
    let _watchdog = Watchdog::new("the_action_is_over_before_anybody_passes");
    let ids: [SlotId; 2] = reserve();
    let barrier = barrier(&ids);
    let [begun, ended]: &[AtomicU32; 2] = words();
    let run = move |party: &Party| {
        for round in 1..=300 {
            let led = barrier.wait_with(party, || {
                raise(begun);
                std::thread::yield_now();
                raise(ended);
            });
            led.unwrap();
            let counts = (begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst));
            assert_eq!(counts, (round, round));
            barrier.wait(party).unwrap();
        }
    };
    let children = ids.map(|id| fork_as(id, Life::Watched, run));
    run(&me());
    Child::join_all(children);
}

#[test]
fn a_leader_that_dies_in_its_action_breaks_it_also_if_it_shrinks() {
    let _watchdog = Watchdog::new("a_leader_that_dies_in_its_action_breaks_it_also_if_it_shrinks");
    for shrinks in [false, true] {
        let ids: [SlotId; 1] = reserve();
        let plan = Barrier::of(&with_me(&ids));
        let barrier = placed(if shrinks { plan.shrink() } else { plan });
        let [acting, waited]: &[AtomicU32; 2] = words();
        let mut leader = fork_as(ids[0], Life::Watched, move |party| {
            until(|| raised(waited) && barrier.missing() == [party.slot()]);
            let _ = barrier.wait_with(party, || {
                raise(acting);
                await_the_end();
            });
        });
        let killer = std::thread::spawn(move || {
            until(|| raised(acting));
            leader.kill();
            leader
        });
        raise(waited);
        let broken = barrier.wait_with(&me(), || panic!("not the last to come"));
        assert!(matches!(broken, Err(BarrierError::Broken { slot, .. }) if slot == ids[0]), "{broken:?}");
        assert!(matches!(barrier.wait(&me()), Err(BarrierError::Broken { .. })));
        drop(killer.join().unwrap());
    }
}

#[test]
fn a_panic_in_the_action_aborts_it() {
    let _watchdog = Watchdog::new("a_panic_in_the_action_aborts_it");
    let barrier = barrier(&[]);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        barrier.wait_with(&me(), || panic!("as a test"))
    }));
    assert!(caught.is_err());
    assert_eq!(barrier.wait(&me()), Err(BarrierError::Aborted));
    barrier.reset(&[me().slot()]);
    assert_eq!(barrier.wait(&me()), Ok(true));
}

#[test]
fn the_dead_leave_a_barrier_that_shrinks() {
    let _watchdog = Watchdog::new("the_dead_leave_a_barrier_that_shrinks");
    let ids: [SlotId; 3] = reserve();
    let barrier = placed(Barrier::of(&with_me(&ids)).shrink());
    let [passed] = words();
    let run = move |party: &Party| {
        barrier.wait(party).unwrap();
        raise(passed);
        barrier.wait(party).unwrap();
    };
    let survivor = fork_as(ids[0], Life::Watched, run);
    let mut asleep = fork_as(ids[1], Life::Watched, run);
    let mut away = fork_as(ids[2], Life::Unwatched, |_| await_the_end());
    until(|| asleep.state() == 'S' && barrier.missing() == [me().slot(), ids[2]]);
    asleep.kill();
    away.bury();
    barrier.wait(&me()).unwrap();
    until(|| raised(passed));
    assert_eq!(barrier.parties(), 2);
    barrier.wait(&me()).unwrap();
    survivor.join();
    // Alone in the end.
    assert_eq!((barrier.wait(&me()), barrier.parties()), (Ok(true), 1));
}

#[test]
fn its_own_timeout_is_the_one_of_the_plan() {
    let _watchdog = Watchdog::new("its_own_timeout_is_the_one_of_the_plan");
    let [absent] = reserve();
    let barrier = placed(Barrier::of(&with_me(&[absent])).timeout(Duration::from_millis(30)));
    let begun = Instant::now();
    assert_eq!(barrier.wait_with(&me(), || panic!("nobody leads")), Err(BarrierError::TimedOut));
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!((barrier.wait(&me()), barrier.missing()), (Err(BarrierError::TimedOut), vec![absent]));
    declare_dead(absent, DeathCause::UNKNOWN);
}

/// Row I4: epoch 0 is nowhere, also when the epochs wrap.
#[test]
fn rounds_go_on_across_the_wrap() {
    let _watchdog = Watchdog::new("rounds_go_on_across_the_wrap");
    for before in [0, 1, 2] {
        let ids: [SlotId; 1] = reserve();
        let barrier = barrier(&ids);
        let last = u64::from(u32::MAX) - before;
        words_of(barrier)[0].store(last << 32, Ordering::SeqCst);
        let run = move |party: &Party| {
            for _ in 0..6 {
                barrier.wait(party).unwrap();
            }
        };
        let other = fork_as(ids[0], Life::Watched, run);
        run(&me());
        other.join();
        assert!(words_of(barrier)[0].load(Ordering::SeqCst) >> 32 < 10);
        // Opened again on the other side, nobody has arrived yet.
        words_of(barrier)[0].store(last << 32, Ordering::SeqCst);
        barrier.reset(&[me().slot(), me().slot()]);
        assert_eq!(barrier.missing().len(), 2);
    }
}

#[test]
fn seats_are_taken_by_whoever_comes_and_freed_by_a_reset() {
    let _watchdog = Watchdog::new("seats_are_taken_by_whoever_comes_and_freed_by_a_reset");
    let me = me();
    let barrier = placed(Barrier::seats(3));
    let rounds = |party: &Party| (0..100).filter(|_| barrier.wait(party).unwrap()).count();
    let led = words::<3>();
    for round in 0..2 {
        let children: Vec<_> = (0..2)
            .map(|child| {
                fork(Life::Unwatched, move |party| led[child].store(rounds(party) as u32, Ordering::SeqCst))
            })
            .collect();
        let own = rounds(&me) as u32;
        Child::join_all(children);
        assert_eq!(
            own + led[0].load(Ordering::SeqCst) + led[1].load(Ordering::SeqCst),
            100,
            "one leads each"
        );
        assert_eq!(barrier.parties(), 3);
        // The seats are those of the dead now.
        assert!(matches!(barrier.wait(&me), Err(BarrierError::Broken { .. })), "round {round}");
        barrier.reset_seats();
    }
    assert_eq!(barrier.try_wait(&me), Err(BarrierError::TimedOut), "nobody else is there");
    let child = fork(Life::Unwatched, |party| assert_eq!(barrier.wait(party), Err(BarrierError::Aborted)));
    until(|| child.state() == 'S');
    barrier.abort();
    child.join();
}

#[test]
fn who_comes_when_all_seats_are_taken_is_no_party() {
    let _watchdog = Watchdog::new("who_comes_when_all_seats_are_taken_is_no_party");
    let me = me();
    let barrier = placed(Barrier::seats(1));
    assert_eq!(barrier.try_wait(&me), Ok(true));
    assert_eq!(barrier.wait(&me), Ok(true));
    let slot = me.slot();
    let child = fork(Life::Unwatched, move |party| {
        assert_ne!(party.slot(), slot);
        assert_eq!(barrier.wait(party), Err(BarrierError::NotAParty { slot: party.slot() }));
    });
    child.join();
}
