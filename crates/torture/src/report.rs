//! What is printed: a line per case while it goes, a table per operation at the end, every failure with its replay.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::battery::{Failure, Form, Outcome, Tally};
use crate::scenario::Case;

/// A long case says every so often how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Progress of one case.
pub(crate) struct Progress {
    label: String,
    last: Instant,
    start: Instant,
}

impl Progress {
    /// Starts the clock.
    pub(crate) fn start(case: &Case) -> Progress {
        let label = format!("{} / {}", case.operation, case.scenario);
        Progress { label, last: Instant::now(), start: Instant::now() }
    }

    /// `done` of `all` points struck.
    pub(crate) fn at(&mut self, done: usize, all: usize) {
        if self.last.elapsed() >= PROGRESS_EVERY {
            self.last = Instant::now();
            println!("  {:<44} {done} of {all} points", self.label);
            let _ = std::io::stdout().flush();
        }
    }

    /// The case is through.
    pub(crate) fn end(&self, tally: &Tally) {
        let mut spread = String::new();
        if tally.ways > 1 {
            spread = format!(" after {} deaths of a forerunner", tally.ways);
        }
        if tally.stride > 1 {
            spread += &format!(" (1 in {}, around calls, behind changes)", tally.stride);
        }
        if tally.cut > 0 {
            spread += &format!(", {} of the sample cut for time", tally.cut);
        }
        println!(
            "{} {:<44} {:>6} steps, {:>6} points{spread}: {} clean, {} recovered, {} hung, {} wrong, {} not tried \
             ({:.1} s)",
            if tally.passed() { "ok  " } else { "FAIL" },
            self.label,
            tally.steps,
            tally.points,
            tally.clean,
            tally.recovered,
            tally.hung,
            tally.wrong,
            tally.not_tried,
            self.start.elapsed().as_secs_f64(),
        );
        let _ = std::io::stdout().flush();
    }
}

/// One failure, with the command that repeats it.
pub(crate) fn failure(case: &Case, failure: &Failure) {
    let (kind, text) = match &failure.outcome {
        Outcome::Hung(text) => ("HUNG ", text),
        Outcome::Wrong(text) => ("WRONG", text),
        Outcome::Fine(_) => return,
    };
    println!("     {kind} at step {} ({}): {text}", failure.point, place(failure.pc));
    println!(
        "           replay: swath-torture steps --op {} --scenario {} --step {}",
        case.operation, case.scenario, failure.point
    );
}

/// Offset in our executable (what `addr2line -e` wants), or the bare address.
fn place(pc: u64) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let exe = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let mut base = None;
    for line in maps.lines() {
        let Some((start, end)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')) else {
            continue;
        };
        let parse = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let file = line.splitn(6, ' ').last().unwrap_or("").trim();
        if base.is_none_or(|(_, name)| name != file) {
            base = Some((parse(start), file));
        }
        if (parse(start)..parse(end)).contains(&pc) {
            let from = base.map_or(0, |(start, _)| start);
            let name = if exe.to_str() == Some(file) { "executable" } else { file };
            return format!("{name}+{:#x}", pc - from);
        }
    }
    format!("{pc:#x}")
}

/// Sums per operation.
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<&'static str, Row>,
    order: Vec<&'static str>,
}

#[derive(Default)]
struct Row {
    scenarios: usize,
    passed: usize,
    sum: Tally,
    sampled: bool,
}

impl Table {
    /// Adds one case.
    pub(crate) fn add(&mut self, case: &Case, tally: &Tally) {
        if !self.rows.contains_key(case.operation) {
            self.order.push(case.operation);
        }
        let row = self.rows.entry(case.operation).or_default();
        row.scenarios += 1;
        row.passed += usize::from(tally.passed());
        row.sampled |= tally.stride > 1;
        row.sum.cut += tally.cut;
        let sum = &mut row.sum;
        sum.steps += tally.steps;
        sum.points += tally.points;
        sum.not_tried += tally.not_tried;
        sum.clean += tally.clean;
        sum.recovered += tally.recovered;
        sum.hung += tally.hung;
        sum.wrong += tally.wrong;
        sum.counters.extend(&tally.counters);
        sum.struck.extend(&tally.struck);
        sum.slowest = sum.slowest.max(tally.slowest);
    }

    /// Prints all; gives (passed, failed) scenarios.
    pub(crate) fn print(&self, form: Form, took: Duration) -> (usize, usize) {
        println!();
        println!(
            "{:<14} {:>9} {:>8} {:>8} {:>16} {:>9} {:>7} {:>9} {:>6} {:>6} {:>10}",
            "operation",
            "scenarios",
            "steps",
            "struck",
            "counters struck",
            "not tried",
            "clean",
            "recovered",
            "hung",
            "wrong",
            "slowest",
        );
        let mut totals = (0, 0);
        for name in &self.order {
            let Some(row) = self.rows.get(name) else { continue };
            let sum = &row.sum;
            totals.0 += row.passed;
            totals.1 += row.scenarios - row.passed;
            println!(
                "{:<14} {:>9} {:>8} {:>8} {:>16} {:>9} {:>7} {:>9} {:>6} {:>6} {:>7.1} ms{}",
                name,
                row.scenarios,
                sum.steps,
                sum.clean + sum.recovered + sum.hung + sum.wrong,
                format!("{} of {}", sum.counters.intersection(&sum.struck).count(), sum.counters.len()),
                sum.not_tried,
                sum.clean,
                sum.recovered,
                sum.hung,
                sum.wrong,
                sum.slowest.as_secs_f64() * 1e3,
                if row.sampled { "  (sampled)" } else { "" },
            );
        }
        if form == Form::Short {
            let any = self.rows.values().any(|row| row.sampled);
            let cut: usize = self.rows.values().map(|row| row.sum.cut).sum();
            println!(
                "short form: {} {cut} points of the sample were cut for time; `not tried` counts points of the sample; \
                 every instruction: --full",
                if any {
                    "long operations are sampled (marked);"
                } else {
                    "nothing was long enough to be sampled;"
                },
            );
        }
        println!("took {:.1} s", took.as_secs_f64());
        totals
    }
}

/// The closing line, last on stdout.
pub(crate) fn close(passed: usize, failed: usize) {
    if std::io::stdout().is_terminal() {
        println!();
    }
    println!("{passed} passed, {failed} failed");
}
