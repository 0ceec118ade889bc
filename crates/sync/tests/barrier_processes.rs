//! The barrier between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use support::*;
use swath_sync::{Barrier, BarrierError, DeathCause, SlotId, SlotState};

/// A barrier of this process and `others`.
fn barrier(others: &[SlotId]) -> Barrier<'static> {
    let parties: Vec<_> = std::iter::once(me().slot()).chain(others.iter().copied()).collect();
    let memory = shared_memory(Barrier::size(parties.len()));
    // SAFETY: zeroed, aligned to a page, never unmapped, and nobody knows it yet.
    unsafe { Barrier::init(memory, &parties) }
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
    let run = move |party: &swath_sync::Party| {
        for round in 0..ROUNDS {
            raise(arrived);
            if barrier.wait(party, None).unwrap() {
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
            let Err(BarrierError::Broken { slot, pid, .. }) = barrier.wait(party, None) else {
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
        let broken = barrier.wait(&me(), None).unwrap_err();
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
        let _ = barrier.wait(party, None);
    });
    until(|| dying.state() == 'S' && barrier.missing() == [me().slot(), absent]);
    dying.kill();
    assert!(matches!(barrier.wait(&me(), None), Err(BarrierError::Broken { slot, .. }) if slot == id));
    table().mark_dead(absent, DeathCause::UNKNOWN);
}

/// Whoever arrived last and died before it could say so: the others say it for him.
#[test]
fn a_death_after_all_have_come_does_not_hold_the_others() {
    let _watchdog = Watchdog::new("a_death_after_all_have_come_does_not_hold_the_others");
    let [id] = reserve();
    let barrier = barrier(&[id]);
    let child = fork_as(id, Life::Watched, move |party| {
        assert_eq!(barrier.wait(party, None), Ok(true));
    });
    until(|| child.state() == 'S' && barrier.missing() == [me().slot()]);
    // What step B2 does and no more.
    arrive_and_stop(&barrier);
    child.join();
    assert!(barrier.missing().contains(&me().slot()), "the round is over, the next has begun");
}

/// Writes this process's arrival for the first round, as the layout test says it is written.
fn arrive_and_stop(barrier: &Barrier<'static>) {
    use std::sync::atomic::AtomicU64;
    // SAFETY: the handle's first field is the address of the head line, the first party's cell follows it.
    let cell = unsafe {
        let head = std::ptr::from_ref(barrier).cast::<*const u8>().read();
        &*head.add(64).cast::<AtomicU64>()
    };
    let old = cell.load(Ordering::SeqCst);
    cell.store(old & u64::from(u32::MAX) | 1 << 32, Ordering::SeqCst);
}

#[test]
fn a_timeout_closes_it_for_all_and_names_who_is_missing() {
    let _watchdog = Watchdog::new("a_timeout_closes_it_for_all_and_names_who_is_missing");
    let ids: [SlotId; 2] = reserve();
    let barrier = barrier(&ids);
    let waiting = fork_as(ids[0], Life::Watched, move |party| {
        assert_eq!(barrier.wait(party, None), Err(BarrierError::TimedOut));
    });
    until(|| waiting.state() == 'S' && !barrier.missing().contains(&ids[0]));
    let late = barrier.wait(&me(), Some(Duration::from_millis(10)));
    assert_eq!(late, Err(BarrierError::TimedOut));
    assert_eq!(barrier.missing(), [ids[1]]);
    waiting.join();
    table().mark_dead(ids[1], DeathCause::UNKNOWN);
}

#[test]
fn an_abort_sends_all_home_and_a_reset_opens_it_for_others() {
    let _watchdog = Watchdog::new("an_abort_sends_all_home_and_a_reset_opens_it_for_others");
    let ids: [SlotId; 3] = reserve();
    let barrier = barrier(&ids[..1]);
    let [go] = words();
    let waiting = fork_as(ids[0], Life::Watched, move |party| {
        assert_eq!(barrier.wait(party, None), Err(BarrierError::Aborted));
        assert_eq!(barrier.wait(party, None), Err(BarrierError::Aborted));
        raise(go);
    });
    until(|| waiting.state() == 'S');
    barrier.abort();
    until(|| raised(go));
    waiting.join();
    barrier.reset(&[me().slot(), ids[1]]);
    let other = fork_as(ids[1], Life::Watched, move |party| {
        for _ in 0..3 {
            barrier.wait(party, None).unwrap();
        }
    });
    for _ in 0..3 {
        barrier.wait(&me(), None).unwrap();
    }
    other.join();
    let stranger = fork_as(ids[2], Life::Watched, move |party| {
        assert_eq!(barrier.wait(party, None), Err(BarrierError::NotAParty { slot: party.slot() }));
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
        while barrier.wait(party, None) == Err(BarrierError::Aborted) {
            sent_home += 1;
        }
        assert!(sent_home > 0);
    });
    until(|| waiting.state() == 'S' && !barrier.missing().contains(&id));
    barrier.reset(&[me().slot(), id]);
    barrier.wait(&me(), None).unwrap();
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
            move |party: &swath_sync::Party| loop {
                let round = rounds[mine].fetch_add(1, Ordering::SeqCst) + 1;
                match barrier.wait(party, None) {
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
            dying.kill();
            dying.mark_dead(DeathCause::killed_by(libc::SIGKILL));
        });
        body();
    });
}
