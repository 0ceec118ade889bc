//! How long a map takes with one worker and with two, and where the time goes, in the parent and in the workers.
//!
//! ```text
//! cargo run --release --example guide_benchmark
//! ```
//!
//! What is timed goes to standard error.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use swath::prelude::*;
use swath::{set_worker_state, with_worker_state};

const ITEMS: u64 = 2_000;

/// A worker's own account, kept from call to call.
#[derive(Default, Serialize, Deserialize)]
struct Account {
    calls: u64,
    sieving: Duration,
    counting: Duration,
}

fn open_account(_: ()) {
    set_worker_state(Account::default());
}

/// How many primes lie below `limit`.
fn primes(limit: u64) -> usize {
    let began = Instant::now();
    let mut composite = vec![false; limit as usize];
    for factor in 2..limit as usize {
        if !composite[factor] {
            (factor * factor..limit as usize).step_by(factor).for_each(|n| composite[n] = true);
        }
    }
    let sieved = began.elapsed();
    let count = composite.iter().skip(2).filter(|composite| !**composite).count();
    with_worker_state(|account: &mut Account| {
        account.calls += 1;
        account.sieving += sieved;
        account.counting += began.elapsed() - sieved;
    });
    count
}

/// Runs `body` and says on standard error how long it took: the profile of the parent.
fn timed<T>(what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let value = body()?;
    eprintln!("  {what:<12} {:?}", began.elapsed());
    Ok(value)
}

fn main() -> Result<()> {
    swath::init();
    for workers in [1, 2] {
        eprintln!("{workers} workers");
        let finalizer = || with_worker_state(|account: &mut Account| std::mem::take(account));
        let builder = Pool::builder().workers(workers).initializer(open_account, ()).finalizer(finalizer);
        let pool = timed("start", || builder.build())?;
        let (counts, report) = timed("map", || pool.map_with(primes, 0..ITEMS).chunk(20).collect_report())?;
        let accounts = timed("end", || pool.finish::<Account>())?.into_iter().collect::<Result<Vec<_>>>()?;

        println!(
            "{workers} workers: {} chunks, {} primes in all",
            report.chunks,
            counts.iter().sum::<usize>()
        );
        println!(
            "  calls that the workers have accounted for: {}",
            accounts.iter().map(|a| a.calls).sum::<u64>()
        );
        for (worker, Account { calls, sieving, counting }) in accounts.iter().enumerate() {
            eprintln!("  worker {worker}: {calls} calls, sieving {sieving:?}, counting {counting:?}");
        }
    }
    Ok(())
}
