//! A program that is built with `panic = "abort"`: whatever panics in its workers, what it said is in the error.
//!
//! `cargo run -p swath --example panics_abort --profile abort`, and it checks its answers itself. An example, because cargo builds tests
//! so that they unwind, whatever the profile says.

use swath::prelude::*;
use swath::{LevelFilter, Process, StartMethod, What};

fn main() {
    swath::init();
    if cfg!(not(panic = "abort")) {
        eprintln!("build it so that panics abort: --profile abort");
        std::process::exit(2);
    }
    a_task();
    a_map();
    a_phase();
    a_thread_of_a_task();
    an_initializer();
    a_preload_hook();
    an_isolated_call();
    a_process();
    println!("whatever panicked has said why");
}

/// Without a subscriber, and at no level at all: what a panic says is left all the same.
fn pool() -> swath::PoolBuilder {
    Pool::builder().workers(1).log_level(LevelFilter::OFF)
}

/// Its process died of the abort, and its one last word is what the panic in this file said.
fn expect(error: &swath::Error, said: &str) {
    let text = error.to_string();
    assert!(text.contains("its process was killed by SIGABRT; its last words: ERROR panic"), "{text}");
    assert!(text.contains("panicked at crates/swath/tests/abort/program.rs:"), "{text}");
    assert!(text.contains(said), "{said} is not in: {text}");
}

fn expect_causes(error: &swath::Error, attempts: usize, said: &str) {
    expect(error, said);
    let failed = error.failures().first().map_or(error.causes(), |failure| &failure.causes);
    assert_eq!(failed.len(), attempts, "{error}");
    for cause in failed {
        assert!(matches!(cause.what, What::Killed { signal: 6, .. }), "{cause}");
        assert!(cause.last_words.len() == 1 && cause.last_words[0].ends_with(said), "{cause}");
    }
}

fn a_task() {
    let pool = pool().build().expect("a pool");
    let task = |n: u32| assert_eq!(n, 8, "it was {n}");
    let error = pool.apply(task, 7).expect_err("it panics");
    expect_causes(&error, 1, ": assertion `left == right` failed: it was 7\\n  left: 7\\n right: 8");
    assert!(error.to_string().contains("ERROR panic (task "), "{error}");
    pool.apply(task, 8).expect("and the pool goes on");
    // What a record cannot hold is cut.
    let long = pool.apply(|_: ()| -> () { panic!("{}", "long ".repeat(2_000)) }, ());
    expect(&long.expect_err("it panics"), ": long long ");
}

fn a_map() {
    let pool = pool().build().expect("a pool");
    let call = |n: u32| if n == 3 { panic!("three") } else { n };
    let error = pool.map(call, 0..8).expect_err("one panics");
    expect(&error, ": three");
}

fn a_phase() {
    let pool = pool().build().expect("a pool");
    let x = SharedArray::<u32, _>::zeros(4).expect("room");
    let phase = pool.phase(&x).chunk(Chunk::Rows(1)).retries(1);
    let error = phase.for_each(|ctx, _| assert!(ctx.chunk() != 2, "chunk two")).expect_err("one panics");
    // It has died, so it is tried again.
    expect_causes(&error, 2, ": chunk two");
    assert!(error.to_string().contains("ERROR panic (chunk 2)"), "{error}");
}

fn a_thread_of_a_task() {
    let pool = pool().build().expect("a pool");
    let task = |_: ()| drop(std::thread::spawn(|| panic!("aside")).join());
    expect_causes(&pool.apply(task, ()).expect_err("it panics"), 1, ": aside");
}

fn an_initializer() {
    let load = |_: ()| -> () { panic!("no model") };
    let built = pool().initializer(load, ()).build();
    expect(&built.err().expect("no pool"), ": no model");
}

fn a_preload_hook() {
    let load = |_: ()| -> () { panic!("no data") };
    let built = pool().start_method(StartMethod::Forkserver).preload(load, ()).build();
    expect(&built.err().expect("no pool"), ": no data");
}

fn an_isolated_call() {
    let call = |n: u32| -> u32 { panic!("{n} is too much") };
    let error = swath::isolated_with().log_level(LevelFilter::OFF).call(call, 9).expect_err("it panics");
    assert_eq!(error.kind(), ErrorKind::Died, "{error}");
    expect(&error, ": 9 is too much");
}

fn a_process() {
    let process = Process::spawn(|_: ()| -> () { panic!("at all") }, ()).expect("started");
    assert_eq!(process.join().expect("ours").signal(), Some(6));
    let failure = process.failure().expect("it failed");
    assert!(failure.last_words.len() == 1 && failure.last_words[0].ends_with(": at all"), "{failure}");
}
