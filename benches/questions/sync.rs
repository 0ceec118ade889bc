//! What does it cost that locks, barriers and queues survive a death? Against primitives that do not.
//!
//! `cargo bench -p swath-benches --bench sync`

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use swath::sync::{Mutex, Party};
use swath_benches::partner::{Placement, Table, shared_memory};
use swath_benches::{machine, pthread_rival, raw_sync_rival, timing};

const TIMES: u32 = 200_000;
const ROUNDS: usize = 15;
/// How long two processes fight for a lock.
const FIGHT: Duration = Duration::from_millis(100);

fn main() {
    println!("{}\nmedians of {ROUNDS} interleaved pairs\n", machine::line());
    let mut table = Table::enter();
    free_lock(&table.party());
    contended_lock(&mut table);
}

/// A mutex in memory that a partner shares.
fn mutex() -> &'static Mutex<u64> {
    // SAFETY: zeroed, page-aligned, never unmapped, used by parties of one table.
    unsafe { Mutex::at(shared_memory(4096)) }
}

#[inline]
fn add_one(mutex: &Mutex<u64>, party: &Party) {
    let guard = mutex.lock(party).ok().and_then(|locked| locked.acquired());
    *guard.expect("nobody dies") += 1;
}

fn value(mutex: &Mutex<u64>, party: &Party) -> u64 {
    mutex.lock(party).ok().and_then(|locked| locked.acquired()).map_or(0, |guard| *guard)
}

fn free_lock(party: &Party) {
    println!("lock, add one, unlock, nobody else there");
    let (ours, theirs) = (mutex(), pthread_rival::Counter::new());
    let (a, b) = timing::pairs(
        ROUNDS,
        || timing::each(TIMES, || add_one(ours, party)),
        || timing::each(TIMES, || theirs.add_one()),
    );
    assert_eq!(value(ours, party), theirs.value(), "equal work");
    latency("pthread", &a, &b, "≤ 1.2");
    let (ours, mut theirs) = (mutex(), raw_sync_rival::Counter::new());
    let (a, b) = timing::pairs(
        ROUNDS,
        || timing::each(TIMES, || add_one(ours, party)),
        || timing::each(TIMES, || theirs.add_one()),
    );
    assert_eq!(value(ours, party), theirs.value(), "equal work");
    latency("raw_sync", &a, &b, "≤ 1.2");
}

fn latency(rival: &str, ours: &timing::Times, theirs: &timing::Times, goal: &str) {
    let (a, b) = (ours.median() * 1e9, theirs.median() * 1e9);
    println!("  swath {a:9.1} ns   {rival} {b:9.1} ns   {:.2} × {rival}   (goal {goal})", a / b);
}

/// Two processes, the same lock, as often as they can.
fn contended_lock(table: &mut Table) {
    println!("lock, add one, unlock, two processes at once");
    for (placement, name) in Placement::ALL {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let lock = mutex();
            ours.push(fight(table, placement, |party| add_one(lock, party)));
            let counter = pthread_rival::Counter::new();
            theirs.push(fight(table, placement, |_| counter.add_one()));
        }
        let rate = |fights: &[Fight]| {
            timing::Times::new(fights.iter().map(|fight| fight.per_second / 1e6).collect()).median()
        };
        let luck = |fights: &[Fight]| {
            timing::Times::new(fights.iter().map(|fight| fight.luckier).collect()).median()
        };
        let (a, b) = (rate(&ours), rate(&theirs));
        println!(
            "  {name:18}  swath {a:6.2} M/s   pthread {b:6.2} M/s   {:.2} × pthread (goal ≥ 1)   luckier {:.1} × (goal ≤ 4; pthread {:.1})",
            a / b,
            luck(&ours),
            luck(&theirs)
        );
    }
}

struct Fight {
    per_second: f64,
    /// How much more the luckier one got.
    luckier: f64,
}

fn fight(table: &mut Table, placement: Placement, deed: impl Fn(&Party)) -> Fight {
    // SAFETY: zeroed, aligned, never unmapped.
    let (counts, over) =
        unsafe { (&*shared_memory(4096).cast::<[AtomicU64; 2]>(), &*shared_memory(4096).cast::<AtomicBool>()) };
    let began = Instant::now();
    let work = |party: &Party, count: &AtomicU64| {
        let mut done = 0;
        while !over.load(Ordering::Relaxed) {
            for _ in 0..64 {
                deed(party);
            }
            done += 64;
            if began.elapsed() > FIGHT {
                over.store(true, Ordering::Relaxed);
            }
        }
        count.store(done, Ordering::SeqCst);
    };
    table.with_partner(placement, |party| work(party, &counts[0]), |party| work(party, &counts[1]));
    let (a, b) = (counts[0].load(Ordering::SeqCst) as f64, counts[1].load(Ordering::SeqCst) as f64);
    Fight { per_second: (a + b) / began.elapsed().as_secs_f64(), luckier: a.max(b) / a.min(b).max(1.0) }
}
