//! Makes input files of any size, the same bytes every time.
//!
//! ```text
//! cargo run --release --example generate -- csv --rows 30000000 [--keys 413] FILE
//! ```
//!
//! The file has the columns `station` and `value`: a made-up place name and a temperature with one decimal. Names have
//! 2 to 17 letters, values are −40.0 to 49.9; a row takes 16.5 bytes on average. `-` writes to standard output.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

const USAGE: &str = "usage: generate csv --rows N [--keys K] FILE     (FILE may be -)";
/// The number of stations of the "one billion row challenge".
const KEYS: u64 = 413;
/// Rows that are put together before they are written.
const BATCH: usize = 1 << 20;

struct Wanted {
    rows: u64,
    keys: u64,
    file: String,
}

/// A fixed sequence of well-mixed numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(wanted) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match generate(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {}: {error}", wanted.file);
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<Wanted> {
    let (kind, mut rest) = arguments.split_first()?;
    let (mut rows, mut keys, mut file) = (None, KEYS, None);
    while let Some((argument, next)) = rest.split_first() {
        rest = next;
        match argument.as_str() {
            "--rows" | "--keys" => {
                let (value, next) = rest.split_first()?;
                rest = next;
                let value: u64 = value.replace('_', "").parse().ok()?;
                if argument == "--rows" { rows = Some(value) } else { keys = value }
            }
            name if file.is_none() && (name == "-" || !name.starts_with('-')) => file = Some(name.to_owned()),
            _ => return None,
        }
    }
    (kind == "csv" && keys > 0).then_some(Wanted { rows: rows?, keys, file: file? })
}

fn generate(wanted: &Wanted) -> io::Result<()> {
    match wanted.file.as_str() {
        "-" => csv(wanted, io::stdout().lock()),
        path => csv(wanted, File::create(path)?),
    }
}

fn csv(wanted: &Wanted, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BATCH, out);
    let stations: Vec<String> = (0..wanted.keys).map(station).collect();
    let values: Vec<String> = (-400..500).map(tenths).collect();
    let mut numbers = Numbers(1);
    out.write_all(b"station,value\n")?;
    for _ in 0..wanted.rows {
        let station = &stations[numbers.below(wanted.keys) as usize];
        let value = &values[numbers.below(values.len() as u64) as usize];
        out.write_all(station.as_bytes())?;
        out.write_all(value.as_bytes())?;
    }
    out.flush()
}

/// `,12.3` and a line feed.
fn tenths(value: i32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!(",{sign}{}.{}\n", value.abs() / 10, value.abs() % 10)
}

/// A name that begins with the number, spelled in syllables, and goes on for as long as chance wants.
///
/// What follows the number begins with a letter that no syllable begins with, so no two names are alike.
fn station(number: u64) -> String {
    const SYLLABLES: [&str; 16] = [
        "ba", "cor", "du", "fen", "gra", "hol", "ki", "lum", "mar", "ne", "os", "pri", "ra", "sto", "tu",
        "ves",
    ];
    let mut numbers = Numbers(number);
    let syllable = |which: u64| SYLLABLES[which as usize];
    let mut name = String::from(syllable(number % 16));
    let mut rest = number / 16;
    while rest > 0 {
        name.push_str(syllable(rest % 16));
        rest /= 16;
    }
    let more = numbers.below(9) as usize;
    if more > 1 {
        name.push('y');
        let length = name.len() + more - 1;
        while name.len() < length {
            name.push_str(syllable(numbers.below(16)));
        }
        name.truncate(length);
    }
    name[..1].to_uppercase() + &name[1..]
}
