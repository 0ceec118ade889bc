//! A record becomes an event of the reader's own subscriber.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::field::display;
use tracing_core::callsite::DefaultCallsite;
use tracing_core::field::{FieldSet, Value};
use tracing_core::{
    Dispatch, Event, Field, Kind, Level, LevelFilter, Metadata, callsite::Callsite, dispatcher,
    identify_callsite,
};

use super::journal::Speaker;
use super::record::Record;

const NAME: &str = "event of a process";
/// Of workers' events, and of those of processes of one's own.
const TARGETS: [&str; 2] = ["swath::worker", "swath::process"];
const FIELDS: [&str; 12] = [
    "message", "worker", "process", "pid", "task", "chunk", "target", "file", "line", "spans", "fields",
    "time_ns",
];

/// Whether an event is one that [`emit`] has made: said by a process that this one has started.
pub(super) fn is_emitted(metadata: &Metadata<'_>) -> bool {
    metadata.name() == NAME && TARGETS.contains(&metadata.target())
}

macro_rules! callsite {
    ($target:expr, $level:expr) => {{
        static METADATA: Metadata<'static> = Metadata::new(
            NAME,
            $target,
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

macro_rules! callsite_of {
    ($target:expr, $level:expr) => {
        match $level {
            Level::ERROR => callsite!($target, Level::ERROR),
            Level::WARN => callsite!($target, Level::WARN),
            Level::INFO => callsite!($target, Level::INFO),
            Level::DEBUG => callsite!($target, Level::DEBUG),
            Level::TRACE => callsite!($target, Level::TRACE),
        }
    };
}

fn callsite_of(speaker: &Speaker, level: Level) -> &'static DefaultCallsite {
    match speaker {
        Speaker::Worker(_) => callsite_of!(TARGETS[0], level),
        Speaker::Process(_) => callsite_of!(TARGETS[1], level),
    }
}

/// Runs `body` with `subscriber`, the one that was in force where the pool was built or the process started, as the default of this
/// thread; without one, with the program's.
pub(super) fn with(subscriber: Option<&Dispatch>, body: impl FnOnce()) {
    match subscriber {
        Some(subscriber) => dispatcher::with_default(subscriber, body),
        None => body(),
    }
}

/// Shows the record to the default subscriber, unless that does not want it.
pub(super) fn emit(speaker: &Speaker, record: &Record<'_>) {
    // A subscriber that panics has said so by its hook; the other processes' records and output are to go on.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        dispatcher::get_default(|subscriber| show(subscriber, speaker, record));
    }));
}

fn show(subscriber: &Dispatch, speaker: &Speaker, record: &Record<'_>) {
    if record.level > LevelFilter::current() {
        return;
    }
    let callsite = callsite_of(speaker, record.level);
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
    let (worker, process) = match speaker {
        Speaker::Worker(index) => (Some(*index as u64), None),
        Speaker::Process(name) => (None, Some(name.as_str())),
    };
    let values: [Option<&dyn Value>; FIELDS.len()] = [
        Some(&message),
        worker.as_ref().map(|worker| worker as &dyn Value),
        process.as_ref().map(|process| process as &dyn Value),
        Some(&record.pid),
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
