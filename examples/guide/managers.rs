//! A manager: a dictionary of lists, a counter and a type of one's own, shared by processes; and the manager's death.
//!
//! ```text
//! cargo run --release --example guide_managers
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use swath::Managed;
use swath::managed::{Counter, Dict, List};
use swath::prelude::*;

/// What each of four processes does.
fn work((me, steps, rows): (u32, Counter<String>, Dict<u32, List<u32>>)) -> Result<()> {
    for step in 0..1000 {
        // Python's `d["steps"] += 1` reads, adds and writes: two of three get lost.
        steps.add("steps", 1)?;
        if step % 500 == 0 {
            let row = rows.get(me % 2)?.expect("the two rows are there");
            row.push(me)?;
        }
    }
    Ok(())
}

/// A type of one's own: it is made in the manager, and stays there.
struct Account {
    balance: i64,
}

#[derive(Serialize, Deserialize)]
enum Ask {
    Deposit(i64),
    Withdraw(i64),
}

impl Managed for Account {
    type Call = Ask;
    type Answer = std::result::Result<i64, String>;

    fn call(&mut self, call: Ask) -> std::result::Result<i64, String> {
        match call {
            Ask::Deposit(amount) => self.balance += amount,
            Ask::Withdraw(amount) if amount <= self.balance => self.balance -= amount,
            Ask::Withdraw(amount) => return Err(format!("{amount} is more than {}", self.balance)),
        }
        Ok(self.balance)
    }
}

fn main() -> Result<()> {
    swath::init();
    let manager = Manager::builder().timeout(Duration::from_secs(10)).start()?;

    let steps = manager.counter()?;
    let rows = manager.dict()?;
    rows.insert(0, manager.list()?)?;
    rows.insert(1, manager.list()?)?;
    let started = (0..4).map(|me| Process::spawn(work, (me, steps.clone(), rows.clone())));
    for process in started.collect::<Result<Vec<_>>>()? {
        process.join()?;
    }
    println!("steps: {}", steps.get("steps")?);
    for (key, row) in rows.items()? {
        row.sort()?;
        println!("row {key}: {:?}", row.to_vec()?);
    }

    // One message, one turn: both or none, and nobody sees a half.
    let stock = manager.dict_of(vec![("nails".to_owned(), 100), ("screws".to_owned(), 5)])?;
    let mut batch = stock.batch();
    let nails = batch.add("nails", -5);
    let screws = batch.add("screws", 5);
    let mut answers = batch.run()?;
    println!("nails: {}, screws: {}", answers.take(nails)?, answers.take(screws)?);

    // Any function, at work where the object is.
    let most = stock.apply(|stock, least: i32| stock.values().filter(|n| **n >= least).count(), 50)?;
    println!("things of which there are fifty: {most}");

    let account = manager.host(|balance| Account { balance }, 100)?;
    println!("account: {:?}", account.call(Ask::Deposit(20))?);
    println!("account: {:?}", account.call(Ask::Withdraw(1000))?);

    manager.process().kill()?;
    let error = account.call(Ask::Deposit(1)).expect_err("it was killed");
    println!("{:?}: {}", error.kind(), error.to_string().replace(&manager.pid().to_string(), "N"));
    Ok(())
}
