//! How far the work is, on standard error.

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Lines for people.
const PLAIN_EVERY: Duration = Duration::from_secs(60);
/// Lines for programs.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// A bar on a terminal, else as plain.
    Auto,
    /// One line a minute.
    Plain,
    /// One JSON object a second.
    Json,
    /// Nothing.
    None,
}

/// Shows the progress of one phase after the other.
pub(crate) struct Progress {
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { every: Duration, last: Instant, json: bool },
    Nothing,
}

impl Progress {
    pub(crate) fn new(mode: Mode) -> Progress {
        let lines = |every, json| Shown::Lines { every, last: Instant::now(), json };
        let shown = match mode {
            Mode::Auto if io::stderr().is_terminal() => Shown::Bar(bar()),
            Mode::Auto | Mode::Plain => lines(PLAIN_EVERY, false),
            Mode::Json => lines(JSON_EVERY, true),
            Mode::None => Shown::Nothing,
        };
        Progress { shown }
    }

    /// The engine's account of a phase, whenever it gives one.
    pub(crate) fn show(&mut self, phase: &'static str, now: swath::Progress) {
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_length(now.chunks as u64);
                bar.set_position(now.done as u64);
                bar.set_message(phase);
            }
            Shown::Lines { every, last, json } if last.elapsed() >= *every => {
                *last = Instant::now();
                eprintln!("{}", if *json { as_json(phase, now) } else { as_text(phase, now) });
            }
            Shown::Lines { .. } | Shown::Nothing => {}
        }
    }

    /// Clears away the bar, so that what is said next stands on its own line.
    pub(crate) fn end(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let template = "{msg:>8} {wide_bar} {percent:>3} %  {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10)).with_style(style)
}

fn as_text(phase: &str, now: swath::Progress) -> String {
    let retried = if now.retried > 0 { format!(", {} tried again", now.retried) } else { String::new() };
    let seconds = now.elapsed.as_secs();
    format!("swath: {phase}: {} of {} chunks after {seconds} s{retried}", now.done, now.chunks)
}

fn as_json(phase: &str, now: swath::Progress) -> String {
    json!({
        "phase": phase,
        "done": now.done,
        "chunks": now.chunks,
        "workers": now.workers,
        "retried": now.retried,
        "seconds": now.elapsed.as_secs_f64(),
    })
    .to_string()
}
