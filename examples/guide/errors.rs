//! What goes wrong in a worker comes to the parent as data: an error with its sources, a panic with its place, a death with its
//! signal.
//!
//! ```text
//! cargo run --release --example guide_errors
//! ```

use swath::prelude::*;
use swath::{Task, What};

fn parse(text: String) -> Result<i64, std::num::ParseIntError> {
    text.trim().parse()
}

fn third(numbers: Vec<i64>) -> i64 {
    numbers[2]
}

fn crash(_: ()) -> i64 {
    std::process::abort()
}

/// The parent's side: what the task was, and how it ended.
fn report(what: &str, task: &Task<i64>) {
    let Err(error) = task.result().inspect(|value| println!("{what}: {value}")) else { return };
    println!("{what}: {:?}", error.kind());
    for cause in error.causes() {
        match &cause.what {
            What::Panicked { message, location, .. } => println!("  panicked at {location}:\n  {message}"),
            other => println!("  {other}"),
        }
    }
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(2).build()?;

    report("parse 17", &pool.try_submit(parse, "17".to_owned())?);
    report("parse seventeen", &pool.try_submit(parse, "seventeen".to_owned())?);
    report("the third of two", &pool.submit(third, vec![1, 2])?);
    report("a crash", &pool.submit(crash, ())?);
    report("the pool goes on", &pool.submit(third, vec![1, 2, 3])?);
    Ok(())
}
