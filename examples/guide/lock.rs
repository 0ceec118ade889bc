//! Ten processes print under one lock; then one of them is killed while it has it.
//!
//! ```text
//! cargo run --release --example guide_lock
//! ```

use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::{Event, Locked, Mutex};

/// What the lock guards is in it: how many have printed, and how many were at it.
type Lock = Shared<Mutex<[u32; 2]>>;

fn print(lock: Lock) -> Result<()> {
    let mut turn = lock.lock_or_repair(|turn| turn[0] = turn[1])?;
    turn[0] += 1;
    println!("{:>2}. one line …", turn[0]);
    println!("    … and its second half");
    turn[1] += 1;
    Ok(())
}

/// Takes the lock, begins its turn, and is killed in it.
fn be_killed((lock, holding): (Lock, Shared<Event>)) -> Result<()> {
    let mut turn = lock.lock_or_repair(|_| ())?;
    turn[0] += 1;
    holding.set()?;
    loop {
        std::thread::park();
    }
}

fn main() -> Result<()> {
    swath::init();
    let lock: Lock = Shared::new(Mutex::new([0, 0]))?;

    let printers = (0..10).map(|_| Process::spawn(print, lock.clone())).collect::<Result<Vec<_>>>()?;
    for printer in &printers {
        printer.join()?;
    }

    let holding = Shared::new(Event::new())?;
    let victim = Process::spawn(be_killed, (lock.clone(), holding.clone()))?;
    holding.wait()?;
    victim.kill()?;
    match lock.lock()? {
        Locked::Acquired(_) => println!("nobody noticed"),
        Locked::Recovered(mut turn) => {
            println!("its holder died and left {:?}: a turn begun and not ended", *turn);
            turn[0] = turn[1];
            println!("repaired: {:?}", *turn.repaired());
        }
    }
    Ok(())
}
