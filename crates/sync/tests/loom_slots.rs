//! Every interleaving of those who declare parties of one slot dead and free it.

#![cfg(loom)]

mod model;

use loom::thread;
use model::{World, explore};
use swath_sync::{DeathCause, Liveness, SlotId, SlotState};

#[test]
fn who_is_late_with_a_death_changes_nothing_for_the_next_tenant() {
    explore(4, || {
        let world = World::new(1);
        let late = thread::spawn(move || world.declare_dead(0, DeathCause::exit(1)));
        world.declare_dead(0, DeathCause::exit(1));
        world.table.release(world.id(0));
        let next = SlotId { index: 0, generation: 2 };
        assert_eq!(world.table.reserve(), Some(next));
        // SAFETY: nobody has it.
        unsafe { world.table.mark_dead(next, DeathCause::exit(2)) };
        late.join().unwrap();
        assert_eq!(world.table.liveness(next), Liveness::Dead(DeathCause::exit(2)));
    });
}

#[test]
fn of_two_who_free_a_slot_one_does_and_the_next_tenant_keeps_what_it_notes() {
    explore(4, || {
        let world = World::new(1);
        world.declare_dead(0, DeathCause::exit(1));
        let other = thread::spawn(move || world.table.release(world.id(0)));
        world.table.release(world.id(0));
        let next = SlotId { index: 0, generation: 2 };
        let taken = world.table.reserve().filter(|id| *id == next).is_some();
        if taken {
            // SAFETY: nobody believes it.
            unsafe { world.table.started(next, 7, 8, swath_sync::Witness::Service) };
        }
        other.join().unwrap();
        if taken {
            assert_eq!((world.table.pid(0), world.table.start_ticks(0)), (7, 8));
            assert_eq!(world.table.state(0), (SlotState::Starting, 2));
        } else {
            assert_eq!(world.table.state(0), (SlotState::Free, 1));
        }
    });
}
