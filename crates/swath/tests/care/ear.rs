//! A subscriber that remembers what it hears.

#![allow(dead_code, reason = "each test hears what it is about")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swath::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

/// What it has heard: the fields of each event, and `level`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard(BTreeMap<&'static str, String>);

impl Heard {
    pub(crate) fn get(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, field: &str) -> u64 {
        self.get(field).parse().unwrap_or_else(|_| panic!("{field} of {self:?}"))
    }

    /// How many records it says were dropped.
    pub(crate) fn dropped(&self) -> Option<u64> {
        (self.get("target") == "swath::log").then(|| {
            assert!(self.get("message").ends_with(" dropped") && self.get("level") == "WARN", "{self:?}");
            self.get("fields").strip_prefix("dropped=").expect("a count").parse().expect("a number")
        })
    }
}

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

#[derive(Default)]
pub(crate) struct Ears {
    pub(crate) heard: Mutex<Vec<Heard>>,
    /// So slow it is.
    pub(crate) pause_ms: AtomicU64,
    pub(crate) panics: AtomicBool,
    /// What it wants to hear, by target.
    pub(crate) target: Mutex<Option<String>>,
}

#[derive(Clone, Default)]
pub(crate) struct Ear(pub(crate) Arc<Ears>);

impl Ear {
    /// Calls `start`: what it starts is listened to.
    pub(crate) fn listen<T>(&self, start: impl FnOnce() -> T) -> T {
        dispatcher::with_default(&Dispatch::new(self.clone()), start)
    }

    /// Builds a pool that it listens to.
    pub(crate) fn pool(&self, builder: swath::PoolBuilder) -> Pool {
        self.listen(|| builder.build().expect("a pool"))
    }

    /// What came from other processes.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        let heard = self.0.heard.lock().expect("no panic");
        heard.iter().filter(|event| !event.get("pid").is_empty()).cloned().collect()
    }

    /// The messages that came from other processes.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.heard().iter().map(|event| event.get("message").to_owned()).collect()
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let wanted = self.0.target.lock().expect("no panic");
        wanted.as_ref().is_none_or(|target| metadata.target().starts_with(target))
    }

    fn event(&self, event: &Event<'_>) {
        std::thread::sleep(Duration::from_millis(self.0.pause_ms.load(Ordering::Relaxed)));
        let mut heard = Heard::default();
        event.record(&mut heard);
        heard.0.insert("level", event.metadata().level().to_string());
        self.0.heard.lock().expect("no panic").push(heard);
        if self.0.panics.load(Ordering::Relaxed) {
            // Without the hook: a backtrace may take longer than a pool that ends waits for a subscriber.
            std::panic::resume_unwind(Box::new("a subscriber that panics"));
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
