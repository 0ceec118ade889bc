//! A record becomes an event of the coordinator's own subscriber.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::field::display;
use tracing_core::callsite::DefaultCallsite;
use tracing_core::field::{FieldSet, Value};
use tracing_core::{
    Dispatch, Event, Field, Kind, Level, LevelFilter, Metadata, callsite::Callsite, dispatcher,
    identify_callsite,
};

use super::record::Record;

const NAME: &str = "event of a worker";
const TARGET: &str = "swath::worker";
const FIELDS: [&str; 11] =
    ["message", "worker", "pid", "task", "chunk", "target", "file", "line", "spans", "fields", "time_ns"];

macro_rules! callsite {
    ($level:expr) => {{
        static METADATA: Metadata<'static> = Metadata::new(
            NAME,
            TARGET,
            $level,
            None,
            None,
            None,
            FieldSet::new(&FIELDS, identify_callsite!(&CALLSITE)),
            Kind::EVENT,
        );
        static CALLSITE: DefaultCallsite = DefaultCallsite::new(&METADATA);
        &CALLSITE
    }};
}

fn callsite_of(level: Level) -> &'static DefaultCallsite {
    match level {
        Level::ERROR => callsite!(Level::ERROR),
        Level::WARN => callsite!(Level::WARN),
        Level::INFO => callsite!(Level::INFO),
        Level::DEBUG => callsite!(Level::DEBUG),
        Level::TRACE => callsite!(Level::TRACE),
    }
}

/// Runs `body` with `subscriber`, the one that was in force where the pool was built, as the default of this thread; without one,
/// with the program's.
pub(super) fn with(subscriber: Option<&Dispatch>, body: impl FnOnce()) {
    match subscriber {
        Some(subscriber) => dispatcher::with_default(subscriber, body),
        None => body(),
    }
}

/// Shows the record to the default subscriber, unless that does not want it.
pub(super) fn emit(worker: usize, record: &Record<'_>) {
    // A subscriber that panics has said so by its hook; the other workers' records and output are to go on.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        dispatcher::get_default(|subscriber| show(subscriber, worker, record));
    }));
}

fn show(subscriber: &Dispatch, worker: usize, record: &Record<'_>) {
    if record.level > LevelFilter::current() {
        return;
    }
    let callsite = callsite_of(record.level);
    // Known to subscribers that keep books on callsites, from the first event on.
    callsite.interest();
    let line = (record.line != 0).then_some(record.line);
    let own = Metadata::new(
        NAME,
        record.target,
        record.level,
        Some(record.file),
        line,
        Some(record.target),
        FieldSet::new(&FIELDS, identify_callsite!(callsite)),
        Kind::EVENT,
    );
    if !subscriber.enabled(&own) {
        return;
    }
    let metadata = callsite.metadata();
    let keys = metadata.fields().iter().collect::<Vec<Field>>();
    let (message, spans, fields) = (display(record.message), display(record.spans), display(record.fields));
    let (worker, pid) = (worker as u64, record.pid);
    let values: [Option<&dyn Value>; FIELDS.len()] = [
        Some(&message),
        Some(&worker),
        Some(&pid),
        record.task.as_ref().map(|task| task as &dyn Value),
        record.chunk.as_ref().map(|chunk| chunk as &dyn Value),
        Some(&record.target),
        Some(&record.file).filter(|file| !file.is_empty()).map(|file| file as &dyn Value),
        line.as_ref().map(|line| line as &dyn Value),
        (!record.spans.is_empty()).then_some(&spans as &dyn Value),
        (!record.fields.is_empty()).then_some(&fields as &dyn Value),
        Some(&record.time_ns),
    ];
    let pairs: [(&Field, Option<&dyn Value>); FIELDS.len()] = std::array::from_fn(|n| (&keys[n], values[n]));
    subscriber.event(&Event::new(metadata, &metadata.fields().value_set(&pairs)));
}
