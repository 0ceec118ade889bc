//! A table that need not fit in memory: means of two columns per chunk of rows, and over all of them.
//!
//! ```text
//! cargo run --release --example guide_csv [FILE]       default: data/weather.csv
//! ```
//!
//! Lines are read as chunks are taken, so what is in memory is bounded, whatever the file's length. For group-by over whole
//! files there is the command `swath csv`.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader};

use swath::prelude::*;

const WEATHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/weather.csv");
const ROWS: usize = 5_000;
/// Chunks that are read before their means are taken.
const AHEAD: usize = 8;
const COLUMNS: [&str; 2] = ["temp", "wind_speed"];

/// Sum and count of each column; missing values are left out.
type Sums = [(f64, u32); COLUMNS.len()];

/// Which columns, and the lines of a chunk.
fn sums((places, lines): ([usize; COLUMNS.len()], Vec<String>)) -> Result<Sums, String> {
    let mut sums = Sums::default();
    for line in &lines {
        let fields: Vec<&str> = line.split(',').collect();
        for ((sum, count), place) in sums.iter_mut().zip(places) {
            let field = fields.get(place).ok_or_else(|| format!("too few fields: {line}"))?;
            if *field != "NA" {
                *sum += field.parse::<f64>().map_err(|error| format!("{field:?}: {error}"))?;
                *count += 1;
            }
        }
    }
    Ok(sums)
}

fn show(what: &str, sums: &Sums) {
    let means = sums.map(|(sum, count)| format!("{:8.4}", sum / f64::from(count)));
    println!("{what:<10} {}", means.join("  "));
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(4).build()?;
    let path = std::env::args().nth(1).unwrap_or(WEATHER.to_owned());
    let file = File::open(&path).map_err(|error| Error::other(format!("{path}: {error}")))?;

    let mut lines = BufReader::new(file).lines().map_while(std::io::Result::ok);
    let header: Vec<String> = lines.next().unwrap_or_default().split(',').map(str::to_owned).collect();
    let place = |column: &str| header.iter().position(|name| name == column);
    let places = COLUMNS.map(|column| place(column).unwrap_or(usize::MAX));

    let read = Cell::new(0);
    let chunks = std::iter::from_fn(|| {
        let chunk: Vec<String> = lines.by_ref().take(ROWS).collect();
        read.set(read.get() + 1);
        (!chunk.is_empty()).then_some((places, chunk))
    });

    println!("{:<10} {}", "rows", COLUMNS.map(|name| format!("{name:>8}")).join("  "));
    let (mut all, mut ahead) = (Sums::default(), 0);
    for (index, sums) in pool.try_stream(sums, chunks).chunk(1).buffer(AHEAD).ordered().enumerate() {
        let sums = sums?;
        ahead = ahead.max(read.get() - index);
        show(&format!("{}…", index * ROWS), &sums);
        all.iter_mut().zip(sums).for_each(|(all, one)| *all = (all.0 + one.0, all.1 + one.1));
    }
    show("all", &all);
    println!("never more than {AHEAD} chunks in memory: {}", ahead <= AHEAD + 1);
    Ok(())
}
