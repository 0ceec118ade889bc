//! What does a call of a managed object cost? Against `d["x"] = 1` on a dictionary of Python's `multiprocessing.Manager`.
//!
//! `cargo bench -p swath-benches --bench managers`

use std::time::Duration;

use swath::managed::Dict;
use swath::prelude::*;
use swath_benches::{machine, multiprocessing_rival, timing};

const CALLS: u32 = 10_000;
const ROUNDS: usize = 5;
const BATCH: u32 = 100;

fn main() -> Result<()> {
    swath::init();
    println!("{}\n{CALLS} calls, the middle of {ROUNDS} rounds\n", machine::line());
    let manager = swath::Manager::new()?;
    let dict = manager.dict::<String, u32>()?;
    for clients in [1, 2, 4] {
        let pool = Pool::builder().workers(clients).build()?;
        let times = (0..=ROUNDS).map(|_| at_once(&pool, &dict));
        let times = timing::Times::new(times.collect::<Result<Vec<_>>>()?.split_off(1));
        let ours = times.median();
        print!("{clients} at once   swath {:7.2} µs per call", ours * 1e6);
        match multiprocessing_rival::managed_set(clients, CALLS) {
            Ok(theirs) => {
                println!("   multiprocessing {:7.2} µs   {:.1} × faster", theirs * 1e6, theirs / ours)
            }
            Err(why) => println!("   multiprocessing skipped: {why}"),
        }
    }
    let times = (0..=ROUNDS).map(|_| batches(&dict)).collect::<Result<Vec<_>>>()?;
    let times = timing::Times::new(times[1..].to_vec());
    println!("batches of {BATCH}   {:.2} µs per call", times.median() * 1e6);
    assert_eq!(dict.get("x")?, Some(1));
    Ok(())
}

fn set((dict, calls): (Dict<String, u32>, u32)) -> Result<()> {
    (0..calls).try_for_each(|_| dict.insert("x", 1).map(drop))
}

/// Seconds per call, all workers calling.
fn at_once(pool: &Pool, dict: &Dict<String, u32>) -> Result<f64> {
    let calls = CALLS / pool.workers() as u32;
    let took = timing::time(|| -> Result<()> {
        let all = (0..pool.workers()).map(|_| pool.try_submit(set, (dict.clone(), calls)));
        all.collect::<Result<Vec<_>>>()?.iter().try_for_each(|task| task.result())
    });
    Ok(took.as_secs_f64() / f64::from(CALLS))
}

fn batches(dict: &Dict<String, u32>) -> Result<f64> {
    let took: Duration = timing::time(|| {
        for _ in 0..CALLS / BATCH {
            let mut batch = dict.batch();
            for _ in 0..BATCH {
                batch.insert("x", 1);
            }
            batch.run().expect("the manager lives");
        }
    });
    Ok(took.as_secs_f64() / f64::from(CALLS))
}
