//! What a programmer may get wrong, and what then says so: the compiler, or `build()`. Never a worker that runs wild.
//!
//! This program does not call `swath::init()`, which is the first of the mistakes.

use std::process::ExitCode;

use swath::prelude::*;

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--list") {
        println!("misuse: test");
        return ExitCode::SUCCESS;
    }
    a_program_without_init_gets_an_error_from_build();
    a_program_without_init_starts_no_process();
    a_program_without_init_has_arrays_and_inline_pools();
    what_must_not_compile_does_not();
    println!("test result: ok. 0 failed");
    ExitCode::SUCCESS
}

fn a_program_without_init_gets_an_error_from_build() {
    let error = Pool::builder().workers(2).build().err().expect("no workers without init");
    assert_eq!(error.kind(), ErrorKind::NotInitialised);
    let text = error.to_string();
    assert!(text.contains("swath::init()") && text.contains("worker_entry!"), "{text}");
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()));
    assert!(children.unwrap_or_default().is_empty(), "nothing was started");
}

/// It would run this very `main` again, and so on.
fn a_program_without_init_starts_no_process() {
    let errors = [
        Process::spawn(|_: ()| (), ()).map(drop).expect_err("no processes without init"),
        swath::isolated(|n: u8| n, 1).map(drop).expect_err("no calls without init"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotInitialised);
        assert!(error.to_string().contains("swath::init()"), "{error}");
    }
    assert!(swath::active_children().is_empty());
}

fn a_program_without_init_has_arrays_and_inline_pools() {
    let a = SharedArray::from_shape_fn(1000, |i| i as u64).expect("arrays need no init");
    let pool = Pool::builder().inline().build().expect("no processes, no init");
    let sum = pool.phase(&a).map(|_, a| a.sum()).reduce(0, |a, b| a + b).expect("a phase");
    assert_eq!(sum, 999 * 500);
    let path = a.path();
    assert!(path.exists());
    drop(a);
    assert!(!path.exists(), "and they go without a guardian");
}

/// Each file is a program with one mistake; beside it lies what the compiler says.
fn what_must_not_compile_does_not() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
