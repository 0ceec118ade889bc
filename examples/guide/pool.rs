//! A pool of five workers, and a map.
//!
//! ```text
//! cargo run --release --example guide_pool
//! ```

use swath::prelude::*;

fn square(number: u64) -> u64 {
    number * number
}

fn power(base: u64, exponent: u32) -> u64 {
    base.pow(exponent)
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(5).build()?;

    println!("map:     {:?}", pool.map(square, 1..=5)?);
    println!("starmap: {:?}", pool.starmap(power, [(2, 10), (3, 4), (10, 3)])?);
    println!("apply:   {}", pool.apply(square, 12)?);

    // One that fails does not take the others along.
    let each = pool.map_with(|n: u64| 60 / n, 0..=3).chunk(1).each()?;
    for (n, quotient) in each.iter().enumerate() {
        println!("60 / {n}:  {}", quotient.as_ref().map_or("failed".to_owned(), u64::to_string));
    }
    Ok(())
}
