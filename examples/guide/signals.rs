//! A semaphore that lets two in at a time, an event that starts a race, a condition that a consumer waits for.
//!
//! ```text
//! cargo run --release --example guide_signals
//! ```

use std::time::Duration;

use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::{Condvar, Event, Mutex, Semaphore, Value};

/// Counts who is inside, and notes the most there were.
fn enter((rooms, inside, most): (Shared<Semaphore>, Shared<Value<u64>>, Shared<Value<u64>>)) -> Result<()> {
    let _permit = rooms.acquire()?;
    most.fetch_max(inside.fetch_add(1) + 1);
    std::thread::sleep(Duration::from_millis(5));
    inside.fetch_sub(1);
    Ok(())
}

fn run((start, runners): (Shared<Event>, Shared<Value<u64>>)) -> Result<()> {
    start.wait()?;
    runners.fetch_add(1);
    Ok(())
}

/// Adds three parts, one after the other, and tells who waits.
fn deliver((parts, more): (Shared<Mutex<u64>>, Shared<Condvar>)) -> Result<()> {
    for _ in 0..3 {
        *parts.lock_or_repair(|_| ())? += 1;
        more.notify_all()?;
    }
    Ok(())
}

/// Waits until all have ended, and ended well.
fn join(processes: Vec<Process>) -> Result<()> {
    for process in processes {
        if let Some(failure) = {
            process.join()?;
            process.failure()
        } {
            return Err(Error::other(failure.to_string()));
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    swath::init();

    let rooms = Shared::new(Semaphore::new(2))?;
    let (inside, most) = (Shared::new(Value::new(0_u64))?, Shared::new(Value::new(0_u64))?);
    let guest = || Process::spawn(enter, (rooms.clone(), inside.clone(), most.clone()));
    join((0..6).map(|_| guest()).collect::<Result<_>>()?)?;
    println!("semaphore: six came, never more than two inside: {}", most.load() <= 2);
    println!("           permits that are free again: {}", rooms.available()?);

    let start = Shared::new(Event::new())?;
    let runners = Shared::new(Value::new(0_u64))?;
    let race =
        (0..3).map(|_| Process::spawn(run, (start.clone(), runners.clone()))).collect::<Result<_>>()?;
    println!("event:     {} run before the start", runners.load());
    start.set()?;
    join(race)?;
    println!("           {} after it", runners.load());

    let (parts, more) = (Shared::new(Mutex::new(0_u64))?, Shared::new(Condvar::new())?);
    let supplier = Process::spawn(deliver, (parts.clone(), more.clone()))?;
    let guard = parts.lock_or_repair(|_| ())?;
    let guard = more.wait_while(guard, |parts| *parts < 3)?.acquired();
    println!("condition: {:?} parts are there", guard.as_deref());
    drop(guard);
    join(vec![supplier])
}
