//! What does a free lock cost that survives the death of its holder? Against raw_sync's mutex (a pthread mutex that does
//! not: whoever waits for a dead holder waits for ever).
//!
//! `cargo bench -p swath-benches --bench lock`

use swath::prelude::*;
use swath::sync::{Mutex, Party};
use swath_benches::{machine, raw_sync_rival, timing};

const TIMES: u32 = 200_000;

fn main() -> Result<()> {
    swath::init();
    println!("{}\nlock, add one, unlock; free; medians of interleaved pairs\n", machine::line());
    // An array begins the session, which makes this process a party.
    let _session = SharedArray::<u8, _>::zeros(1)?;
    let party = Party::current().expect("a session makes us a party");
    let ours = Mutex::new(0u64);
    let mut theirs = raw_sync_rival::Counter::new();
    let (a, b) = timing::pairs(
        21,
        || {
            timing::each(TIMES, || {
                let guard = ours.lock(&party).ok().and_then(|locked| locked.acquired());
                *guard.expect("nobody else has it") += 1;
            })
        },
        || timing::each(TIMES, || theirs.add_one()),
    );
    assert_eq!(ours.into_inner(), theirs.value(), "equal work");
    println!(
        "free lock   swath {:5.1} ns   raw_sync {:5.1} ns   {:.2} × raw_sync   (goal ≤ 1.2)",
        a.median() * 1e9,
        b.median() * 1e9,
        a.median() / b.median()
    );
    Ok(())
}
