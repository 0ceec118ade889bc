//! What workers say by `tracing` arrives at the parent's own subscriber; one that crashes has last words; and a file for each.
//!
//! ```text
//! cargo run --release --example guide_logging
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::sync::{Arc, Mutex};

use swath::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

/// The listener: it keeps what workers say. A program of yours would use one of the crate tracing-subscriber.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

/// The fields of an event, as texts.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let get = |name| fields.0.get(name).map_or("", |text| text.trim_matches('"'));
        if event.metadata().target() == "swath::worker" {
            let level = event.metadata().level();
            let line = format!("task {} {level:>5} {} {}", get("task"), get("message"), get("fields"));
            self.0.lock().expect("no panic").push(line.trim_end().to_owned());
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn check(pressure: u32) -> u32 {
    tracing::info!(pressure, "begins");
    if pressure > 3 {
        tracing::warn!("too much");
    }
    pressure
}

fn burst(pressure: u32) -> u32 {
    tracing::error!(pressure, "bursts");
    std::process::abort()
}

fn main() -> Result<()> {
    swath::init();
    let directory = tempfile::tempdir().map_err(|error| Error::other(error.to_string()))?;
    let listener = Listener::default();
    let pool = dispatcher::with_default(&Dispatch::new(listener.clone()), || {
        Pool::builder().workers(2).log_to_files(directory.path()).build()
    })?;

    for pressure in 2..6 {
        pool.apply(check, pressure)?;
    }
    let error = pool.apply(burst, 9).expect_err("it aborts");
    println!("the last words of the one that died: {:?}", error.causes()[0].last_words.last());

    // When the pool has ended, everything has arrived. Each worker's lines are in order.
    drop(pool);
    let mut heard = std::mem::take(&mut *listener.0.lock().expect("no panic"));
    heard.sort_by_key(|line| line.split(' ').nth(1).and_then(|task| task.parse::<u64>().ok()));
    println!("{}", heard.join("\n"));

    let files = fs::read_dir(&directory).map_err(|error| Error::other(error.to_string()))?;
    let lines =
        files.flatten().map(|file| fs::read_to_string(file.path()).map_or(0, |text| text.lines().count()));
    println!("lines in the workers' files: {}", lines.sum::<usize>());
    Ok(())
}
