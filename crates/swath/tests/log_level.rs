//! Workers write up to the level that the program's subscriber asks for, also when that changes. A process of its own: the
//! level is the process's.

use swath::prelude::*;
use swath::{LevelFilter, PoolBuilder};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

swath::worker_entry!();

/// Hears nothing, up to a level.
struct Deaf(LevelFilter);

impl Subscriber for Deaf {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The level of the worker's own process.
fn level(pool: &Pool) -> String {
    pool.apply(|_: ()| LevelFilter::current().to_string(), ()).expect("a value")
}

fn one_worker() -> PoolBuilder {
    Pool::builder().workers(1)
}

#[test]
fn the_level_follows_the_subscriber() {
    let quiet = one_worker().build().expect("a pool");
    assert_eq!(level(&quiet), "off", "nobody listens");
    let own = |_: ()| tracing::subscriber::set_global_default(Deaf(LevelFilter::ERROR)).is_ok();
    let theirs = one_worker().build().expect("a pool");
    assert!(theirs.apply(own, ()).expect("a value"), "nobody listens, so a kernel may have the place");

    let folder = tempfile::tempdir().expect("a folder");
    let files = one_worker().log_to_files(folder.path()).build().expect("a pool");
    assert_eq!(level(&files), "info", "the files do");
    assert!(!files.apply(own, ()).expect("a value"), "and the place is taken");
    let fixed = one_worker().log_level(swath::Level::WARN).build().expect("a pool");

    dispatcher::set_global_default(Dispatch::new(Deaf(LevelFilter::DEBUG))).expect("the first");
    assert_eq!(
        (level(&quiet), level(&files), level(&fixed)),
        ("debug".into(), "debug".into(), "warn".into())
    );
    assert_eq!(level(&theirs), "error", "what the program has set stays");

    let more = dispatcher::set_default(&Dispatch::new(Deaf(LevelFilter::TRACE)));
    let x = SharedArray::<u8, _>::zeros(1).expect("room");
    let in_a_phase = quiet.phase(&x).map(|_, _| LevelFilter::current().to_string()).collect();
    assert_eq!(in_a_phase.expect("a value"), ["trace"]);
    drop(more);
    tracing_core::callsite::rebuild_interest_cache();
    assert_eq!(level(&quiet), "debug", "and back");
}
