//! The pitfall of a counter without a lock, and three ways to have one that counts right.
//!
//! ```text
//! cargo run --release --example guide_counter
//! ```

use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::{Barrier, Mutex, Value};

const TIMES: u64 = 10_000;

/// Reads, adds and writes, as Python's `counter.value += 1` does. Here both have read before either writes.
fn careless((counter, both): (Shared<Value<u64>>, Shared<Barrier>)) -> Result<()> {
    let seen = counter.load();
    both.wait()?;
    counter.store(seen + 1);
    Ok(())
}

fn atomic(counter: Shared<Value<u64>>) {
    for _ in 0..TIMES {
        counter.fetch_add(1);
    }
}

fn locked_up(counter: Shared<Mutex<u64>>) -> Result<()> {
    for _ in 0..TIMES {
        *counter.lock_or_repair(|_| ())? += 1;
    }
    Ok(())
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(2).build()?;

    let (counter, both) = (Shared::new(Value::new(0_u64))?, Shared::new(Barrier::seats(2))?);
    let arguments = || (counter.clone(), both.clone());
    let tasks = [pool.try_submit(careless, arguments())?, pool.try_submit(careless, arguments())?];
    tasks.iter().try_for_each(|task| task.result())?;
    println!("one each, load and store: {}", counter.load());

    let counter = Shared::new(Value::new(0_u64))?;
    pool.map(atomic, vec![counter.clone(); 2])?;
    println!("{TIMES} each, fetch_add: {}", counter.load());

    let counter = Shared::new(Mutex::new(0_u64))?;
    pool.try_map(locked_up, vec![counter.clone(); 2])?;
    println!("{TIMES} each, a mutex:   {}", *counter.lock_or_repair(|_| ())?);

    // Best: nothing is shared. Each counts its own, and the sum is the answer.
    println!("{TIMES} each, a sum:     {}", pool.map(|_: u64| TIMES, 0..2)?.iter().sum::<u64>());
    Ok(())
}
