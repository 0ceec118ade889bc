//! Four ways to wait for ever, and what becomes of them here: locks in opposite orders, a lock taken twice, a full queue, a holder
//! that hangs.
//!
//! ```text
//! cargo run --release --example guide_deadlock
//! ```

use std::time::Duration;

use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::{Barrier, Event, LockError, MessageQueue, Mutex, Value};

type Account = Shared<Mutex<i64>>;

/// A peer that takes the locks in the order in which they are given, and counts how often it is told of a deadlock.
fn transfer(
    (first, second, both, told): (Account, Account, Shared<Barrier>, Shared<Value<u64>>),
) -> Result<()> {
    let mut from = first.lock_or_repair(|_| ())?;
    both.wait()?;
    let attempt = second.lock_or_repair(|_| ());
    match attempt {
        Ok(mut to) => (*from, *to) = (*from - 1, *to + 1),
        Err(refused) if matches!(refused.why(), Some(LockError::Deadlock { .. })) => drop(told.fetch_add(1)),
        Err(refused) => return Err(refused.into()),
    }
    Ok(())
}

/// The cure: whatever is wanted, the locks are taken in one order.
fn ordered((a, b): (Account, Account)) -> Result<()> {
    for _ in 0..1000 {
        let (mut a, mut b) = (a.lock_or_repair(|_| ())?, b.lock_or_repair(|_| ())?);
        (*a, *b) = (*a - 1, *b + 1);
    }
    Ok(())
}

fn hold((lock, holding): (Account, Shared<Event>)) -> Result<()> {
    let _guard = lock.lock_or_repair(|_| ())?;
    holding.set()?;
    loop {
        std::thread::park();
    }
}

fn main() -> Result<()> {
    swath::init();
    let (a, b): (Account, Account) = (Shared::new(Mutex::new(0))?, Shared::new(Mutex::new(0))?);

    // Each has one lock when it asks for the other's: whoever is told gives up, and lets the other one through.
    let (both, told) = (Shared::new(Barrier::seats(2))?, Shared::new(Value::new(0_u64))?);
    let one = Process::spawn(transfer, (a.clone(), b.clone(), both.clone(), told.clone()))?;
    let two = Process::spawn(transfer, (b.clone(), a.clone(), both.clone(), told.clone()))?;
    println!("opposite orders: {} and {}", one.join()?, two.join()?);
    println!("                 somebody was told of a deadlock: {}", told.load() > 0);

    let one = Process::spawn(ordered, (a.clone(), b.clone()))?;
    let two = Process::spawn(ordered, (a.clone(), b.clone()))?;
    println!("one order:       {} and {}", one.join()?, two.join()?);

    let guard = a.lock_or_repair(|_| ())?;
    let again = a.lock().map(drop).expect_err("it is ours");
    println!("taken twice:     {}", matches!(again.why(), Some(LockError::Relock { .. })));
    drop(guard);

    let queue = Shared::new(MessageQueue::with_capacity(2))?;
    let refused = (0..3).map(|n| queue.put_timeout(&n, Duration::from_millis(20))).find_map(Result::err);
    println!("a full queue:    {}", refused.map_or("has room".to_owned(), |error| error.to_string()));

    // A holder that hangs is not dead, and nobody takes its lock from it; who waits with a limit is told who it is, and may end it.
    let holding = Shared::new(Event::new())?;
    let hung = Process::spawn(hold, (a.clone(), holding.clone()))?;
    holding.wait()?;
    let late = a.lock_timeout(Duration::from_millis(100)).map(drop).expect_err("it is held");
    println!("a hung holder:   {}", matches!(late.why(), Some(LockError::TimedOut { .. })));
    eprintln!("                 {late}");
    hung.kill()?;
    println!("                 ended; the lock is had again: {}", a.lock_or_repair(|_| ()).is_ok());
    Ok(())
}
