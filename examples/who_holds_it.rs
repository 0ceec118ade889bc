//! What the others see when the owner of a lock is killed, is stopped, or waits for them in turn.
//!
//! ```text
//! cargo run --release --example who_holds_it
//! ```
//!
//! The program starts itself again as its peers: separate programs, which know of each other only the name of a lock. With
//! a pthread mutex, or Python's `multiprocessing.Lock`, each of the three scenes would end with everybody waiting for ever.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::{LockError, Locked, Mutex};

type Account = Shared<Mutex<[i64; 2]>>;

/// A program that does as it is told, and says when it has.
struct Peer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Peer {
    fn start(role: &str, names: &[&str]) -> std::io::Result<Peer> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .args(names)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(child.stdout.take().expect("piped"));
        let mut peer = Peer { child, said };
        peer.line()?;
        Ok(peer)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn signal(&self, name: &str) -> std::io::Result<()> {
        Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().map(|_| ())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() -> Result<()> {
    swath::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["holder", name] => return holder(name),
        ["crosswise", first, second] => return crosswise(first, second),
        _ => {}
    }
    let name = |which: &str| format!("swath-example-{which}-{}", std::process::id());
    let (a, b) =
        (Account::named(name("a"), Mutex::new([100, 0]))?, Account::named(name("b"), Mutex::new([0, 0]))?);
    println!("this is process {}; the locks are {} and {}\n", std::process::id(), name("a"), name("b"));
    killed(&a)?;
    stopped(&a)?;
    deadlocked(&a, &b)
}

/// Moves money, and is killed between taking it from one side and giving it to the other.
fn killed(account: &Account) -> Result<()> {
    let peer = Peer::start("holder", &[account.name().unwrap_or_default()]).map_err(other)?;
    println!("1. process {} holds the lock, has done half of its change, and is killed", peer.child.id());
    peer.signal("KILL").map_err(other)?;
    match account.lock()? {
        Locked::Acquired(guard) => println!("   nobody noticed: {guard:?}"),
        Locked::Recovered(mut guard) => {
            println!(
                "   the next one gets it, with a warning: {} died holding it; the value is {:?}",
                guard.dead(),
                *guard
            );
            guard[1] = 100 - guard[0];
            println!("   it makes the value whole, {:?}, says so, and goes on", *guard.repaired());
        }
    }
    println!("   the one after that: {:?}\n", account.lock()?.acquired().map(|guard| *guard));
    Ok(())
}

/// Is stopped, as by Ctrl-Z or a debugger: slow, not dead.
fn stopped(account: &Account) -> Result<()> {
    let peer = Peer::start("holder", &[account.name().unwrap_or_default()]).map_err(other)?;
    println!("2. process {} holds the lock and is stopped", peer.child.id());
    peer.signal("STOP").map_err(other)?;
    let refused = account.lock_timeout(Duration::from_millis(200)).expect_err("it is held");
    println!("   who waits with a deadline is told whom it waits for:\n   {refused}");
    drop(peer);
    drop(account.lock_or_repair(|value| value[1] = 100 - value[0])?);
    println!("   killed in the end; taken over and repaired\n");
    Ok(())
}

/// Two programs take two locks in opposite orders.
fn deadlocked(a: &Account, b: &Account) -> Result<()> {
    let (first, second) = (b.name().unwrap_or_default(), a.name().unwrap_or_default());
    let guard = a.lock()?;
    let mut peer = Peer::start("crosswise", &[first, second]).map_err(other)?;
    println!(
        "3. we hold the first lock and want the second; process {} the other way round",
        peer.child.id()
    );
    // One of the two is told, or both: whoever gives up lets the other one through.
    match b.lock() {
        Err(refused) => match refused.why() {
            Some(LockError::Deadlock { .. }) => println!("   we are told: {refused}"),
            _ => return Err(refused.into()),
        },
        Ok(_) => println!("   the other one was told, and let us through"),
    }
    drop(guard);
    println!("   the other one says: {}", peer.line().map_err(other)?);
    Ok(())
}

fn other(error: std::io::Error) -> Error {
    Error::other(error.to_string())
}

/// Takes from the first half of the value, and never comes to the second.
fn holder(name: &str) -> Result<()> {
    let account = Account::attach(name)?;
    let mut guard = account.lock()?.acquired().expect("whole");
    guard[0] -= 30;
    println!("holding");
    loop {
        std::thread::park();
    }
}

/// Holds the one and wants the other.
fn crosswise(first: &str, second: &str) -> Result<()> {
    let (first, second) = (Account::attach(first)?, Account::attach(second)?);
    let guard = first.lock()?;
    println!("holding");
    let outcome = second.lock().map(|_| "I got through".to_owned());
    println!("{}", outcome.unwrap_or_else(|refused| format!("I was told: {refused}")));
    drop(guard);
    Ok(())
}
