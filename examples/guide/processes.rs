//! Processes of one's own: started, joined, given arguments, and one that crashes.
//!
//! ```text
//! cargo run --release --example guide_processes
//! ```

use serde::{Deserialize, Serialize};
use swath::prelude::*;

/// What five processes do at the same time. The value becomes the exit code.
fn square(number: u32) -> u32 {
    number * number
}

/// Arguments with names, and with defaults.
#[derive(Serialize, Deserialize)]
struct Greeting {
    name: String,
    times: usize,
}

impl Default for Greeting {
    fn default() -> Greeting {
        Greeting { name: "world".to_owned(), times: 1 }
    }
}

fn greet(greeting: Greeting) {
    for _ in 0..greeting.times {
        println!("hello, {}", greeting.name);
    }
}

fn crash(_: ()) {
    std::process::abort();
}

fn main() -> Result<()> {
    swath::init();

    let workers = (0..5).map(|number| Process::spawn(square, number)).collect::<Result<Vec<_>>>()?;
    for (number, worker) in workers.iter().enumerate() {
        println!("worker {number}: {}", worker.join()?);
    }

    Process::spawn(greet, Greeting::default())?.join()?;
    Process::spawn(greet, Greeting { times: 2, name: "Ada".to_owned() })?.join()?;

    let process = Process::builder().name("fragile").spawn(crash, ())?;
    let status = process.join()?;
    println!("{} ended by {status}; we go on", process.name());
    println!("children that are left: {}", swath::active_children().len());
    Ok(())
}
