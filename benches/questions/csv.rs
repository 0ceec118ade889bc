//! How fast is `swath csv`? As a whole process, against the whole processes of polars, DuckDB and pandas, in turn.
//!
//! `cargo bench -p swath-benches --bench csv`; `-- ROWS` sets the number of rows (30 million), `-- pairs=N` the pairs (7).
//! Rivals are looked for in `python3`, or in the Python that `SWATH_BENCH_PYTHON` names; what is missing is said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use swath_benches::{csv_rivals, machine, timing};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rows: u64 = args.iter().find_map(|a| a.parse().ok()).unwrap_or(30_000_000);
    let pairs: usize = args.iter().find_map(|a| a.strip_prefix("pairs=")?.parse().ok()).unwrap_or(7);
    println!(
        "{}\n{rows} rows, whole processes, medians of {pairs} interleaved pairs, file in the page cache\n",
        machine::line()
    );
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let file = scratch.path().join("stations.csv");
    let (swath, generate) = (
        build("swath", &["-p", "swath-cli"]),
        build("examples/generate", &["-p", "swath", "--example", "generate"]),
    );
    must(Command::new(generate).args(["csv", "--rows", &rows.to_string()]).arg(&file));
    let ours_out = scratch.path().join("ours.csv");
    println!("file: {:.0} MB", std::fs::metadata(&file).expect("made").len() as f64 / 1e6);
    let mut found = false;
    for rival in &csv_rivals::ALL {
        let Some(version) = rival.version() else {
            println!("{:8} not installed in {}", rival.name, csv_rivals::python().display());
            continue;
        };
        found = true;
        let theirs_out = scratch.path().join("theirs.csv");
        let (ours, theirs) = timing::pairs(
            pairs,
            || run(&mut our_command(&swath, &file, &ours_out)),
            || run(&mut rival.command(&file, &theirs_out)),
        );
        let work = compare(&ours_out, &theirs_out);
        println!(
            "{:8} {version:10} swath {:.3} s (min {:.3})   {} {:.3} s (min {:.3})   {:.2} × {}   (goal ≤ 0.6 × polars)   {work}",
            rival.name,
            ours.median(),
            ours.at(0.0),
            rival.name,
            theirs.median(),
            theirs.at(0.0),
            ours.median() / theirs.median(),
            rival.name,
        );
    }
    if !found {
        let times =
            (0..=pairs).map(|_| run(&mut our_command(&swath, &file, &ours_out)).as_secs_f64()).skip(1);
        println!("swath {:.3} s, no rival to compare with", timing::Times::new(times.collect()).median());
    }
}

fn our_command(swath: &Path, file: &Path, out: &Path) -> Command {
    let mut command = Command::new(swath);
    command.args([
        "csv",
        "--quiet",
        "--group-by",
        "station",
        "--agg",
        "count,mean:value,min:value,max:value",
        "-o",
    ]);
    command.arg(out).arg(file);
    command
}

/// Builds a release executable of this workspace and says where it is.
fn build(name: &str, what: &[&str]) -> PathBuf {
    must(Command::new(env!("CARGO")).args(["build", "--release", "--quiet"]).args(what));
    let own = std::env::current_exe().expect("our own path");
    let release =
        own.ancestors().find(|a| a.ends_with("release")).expect("benches run from target/release/deps");
    release.join(name)
}

fn must(command: &mut Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn run(command: &mut Command) -> Duration {
    timing::time(|| must(command.stdout(Stdio::null())))
}

/// Proof of equal work: the same groups, counts and extremes; means within a few units of the last place, since ours are
/// rounded from the exact sum and the rivals' from sums in some order.
fn compare(ours: &Path, theirs: &Path) -> String {
    let (a, b) = (read(ours), read(theirs));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "the same groups");
    let mut worst = 0f64;
    for (station, x) in &a {
        let y = &b[station];
        assert_eq!((x[0], x[2], x[3]), (y[0], y[2], y[3]), "count, min, max of {station}");
        worst = worst.max(((x[1] - y[1]) / x[1]).abs());
    }
    assert!(worst < 1e-9, "means differ by {worst:e}");
    format!("{} groups agree, means within {worst:.0e}", a.len())
}

fn read(path: &Path) -> BTreeMap<String, [f64; 4]> {
    let text = std::fs::read_to_string(path).expect("a result");
    let row = |line: &str| {
        let mut fields = line.split(',');
        let station = fields.next().expect("a station").to_owned();
        let numbers: Vec<f64> = fields.map(|f| f.parse().expect("a number")).collect();
        (station, numbers.try_into().expect("four figures"))
    };
    text.lines().skip(1).map(row).collect()
}
