//! Functions of the parent that are called when a task is over: one for values, one for errors.
//!
//! ```text
//! cargo run --release --example guide_callbacks
//! ```

use std::sync::mpsc;

use swath::prelude::*;

fn halve(n: i64) -> i64 {
    assert!(n % 2 == 0, "{n} is odd");
    n / 2
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(3).build()?;

    let (said, heard) = mpsc::channel();
    for n in 1..=6 {
        let (well, badly) = (said.clone(), said.clone());
        pool.apply_async(
            halve,
            n,
            move |half| drop(well.send(format!("{n}: {half}"))),
            move |error| drop(badly.send(format!("{n}: {:?}, and its worker goes on", error.kind()))),
        )?;
    }
    drop(said);

    // They are called in one thread, in the order in which tasks end; here in the order of numbers.
    let mut lines: Vec<String> = heard.iter().collect();
    lines.sort();
    println!("{}", lines.join("\n"));
    Ok(())
}
