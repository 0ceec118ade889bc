//! Every interleaving of the record's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::Record;

/// Two words, so that a copy can be torn.
type Pair = [u64; 2];

fn count(record: &Record<Pair>, party: &swath_sync::Party) {
    let whole = record.update(party, |pair| {
        let whole = pair[0] == pair[1];
        *pair = pair.map(|half| half + 1);
        whole
    });
    assert_eq!(whole, Ok(true));
}

fn look(record: &Record<Pair>) -> u64 {
    let [one, other] = record.get();
    assert_eq!(one, other);
    one
}

#[test]
fn a_reader_beside_changes_finds_whole_values_in_order() {
    explore(3, || {
        let world = World::new(2);
        let record = Arc::new(Record::new([0, 0]));
        let writer = {
            let record = record.clone();
            thread::spawn(move || (0..2).for_each(|_| count(&record, &world.party(1))))
        };
        let first = look(&record);
        assert!((first..=2).contains(&look(&record)));
        writer.join().unwrap();
        assert_eq!(look(&record), 2);
    });
}

#[test]
fn two_who_change_it_lose_nothing() {
    explore(3, || {
        let world = World::new(2);
        let record = Arc::new(Record::new([0, 0]));
        let other = {
            let record = record.clone();
            thread::spawn(move || count(&record, &world.party(1)))
        };
        count(&record, &world.party(0));
        other.join().unwrap();
        assert_eq!(look(&record), 2);
    });
}

#[test]
fn a_death_at_any_step_leaves_the_old_value_or_the_new_one() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let record = Arc::new(Record::new([0, 0]));
        let dying = {
            let record = record.clone();
            thread::spawn(move || mortal.live(world, 1, || count(&record, &world.party(1))))
        };
        assert!(look(&record) <= 1);
        count(&record, &world.party(0));
        let lived = dying.join().unwrap();
        let found = look(&record);
        assert!(found == 2 || found == 1 && !lived);
    });
}
