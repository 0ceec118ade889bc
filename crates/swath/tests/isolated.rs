//! Isolated calls: a value, or exactly why there is none, and nothing left of either.

mod stage;

use std::error::Error as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, Serializer};
use stage::{PROMISE, eventually, open_files};
use swath::process::{Exceeded, Failure, Limits};
use swath::shared::Shared;
use swath::sync::Queue;
use swath::{ErrorKind, What, isolated, isolated_with, try_isolated};
use swath_platform::{process, signal};

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        c04_the_cause_of_a_death_is_exact,
        a_call_has_its_value,
        errors_and_panics_come_back_whole,
        what_cannot_be_encoded_is_an_error_of_its_own,
        half_an_answer_is_none,
        a_call_that_takes_too_long_is_ended,
        a_value_in_time_is_a_value,
        what_it_started_ends_with_it,
        limits_are_named_when_they_are_exceeded,
        calls_of_many_threads_leave_nothing,
    ];
    stage::main(tests, &[])
}

fn failure_of(error: &swath::Error) -> &Failure {
    error.source().and_then(|source| source.downcast_ref()).unwrap_or_else(|| panic!("no failure: {error:?}"))
}

fn raise(number: i32) {
    let own = process::pidfd_open(process::getpid()).expect("own pidfd");
    process::pidfd_signal(&own, number).expect("signalled");
    spin();
}

fn spin() {
    while std::hint::black_box(true) {
        std::hint::spin_loop();
    }
}

// ---- C04 -----------------------------------------------------------------------------------------------------------------

fn c04_the_cause_of_a_death_is_exact() {
    let die = |how: String| -> u64 {
        match how.as_str() {
            "abort" => std::process::abort(),
            // SAFETY: none; it is the crash that is asked for.
            "crash" => unsafe { std::ptr::null_mut::<u8>().wrapping_add(8).write_volatile(1) },
            "SIGKILL" => raise(signal::KILL),
            "SIGTERM" => raise(signal::TERM),
            code => std::process::exit(code.parse().expect("a code")),
        }
        unreachable!("it died")
    };
    let cases = [
        ("0", "exited with code 0"),
        ("99", "exited with code 99"),
        ("abort", "SIGABRT"),
        ("crash", "SIGSEGV"),
        ("SIGKILL", "SIGKILL"),
        ("SIGTERM", "SIGTERM"),
    ];
    for (how, expected) in cases {
        let error = isolated(die, how.to_owned()).expect_err("it died");
        assert_eq!(error.kind(), ErrorKind::Died, "{error}");
        assert!(error.to_string().contains(expected), "{how}: {error}");
        let what = &failure_of(&error).what;
        let fits = match how.parse() {
            Ok(code) => *what == What::Exited { code },
            Err(_) => matches!(what, What::Killed { likely_out_of_memory: false, .. }),
        };
        assert!(fits, "{how}: {what:?}");
        assert_eq!(process::state_char(failure_of(&error).pid), None, "gone");
    }
}

// ---- values --------------------------------------------------------------------------------------------------------------

fn a_call_has_its_value() {
    assert_eq!(isolated(|(a, b): (u64, u64)| a * b, (6, 7)).expect("a value"), 42);
    isolated(|_: ()| (), ()).expect("nothing is a value too");
    let big: Vec<u32> = (0..3_000_000).collect();
    let back = isolated(|mut all: Vec<u32>| all.drain(..).rev().collect::<Vec<u32>>(), big.clone());
    assert!(back.expect("a value").iter().rev().eq(&big));
    let named = isolated_with().name("namer").env("SWATH_TEST_WORD", "w").call(
        |_: ()| (swath::current_process().name().to_owned(), std::env::var("SWATH_TEST_WORD").ok()),
        (),
    );
    assert_eq!(named.expect("a value"), ("namer".to_owned(), Some("w".to_owned())));
}

#[derive(Debug)]
struct Layered(&'static str, Option<Box<Layered>>);

impl std::fmt::Display for Layered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Layered {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.1.as_deref().map(|layer| layer as _)
    }
}

fn errors_and_panics_come_back_whole() {
    assert_eq!(try_isolated(|n: u8| Ok::<u8, Layered>(n + 1), 1).expect("a value"), 2);
    let inner =
        |_: ()| -> Result<u8, Layered> { Err(Layered("outer", Some(Box::new(Layered("inner", None))))) };
    let error = try_isolated(inner, ()).expect_err("it fails");
    assert_eq!(error.kind(), ErrorKind::Failed);
    let chain = vec!["inner".to_owned()];
    assert_eq!(failure_of(&error).what, What::Failed { message: "outer".to_owned(), chain });
    let error = isolated(|n: u32| -> u32 { panic!("seven is {n}") }, 7).expect_err("it panics");
    assert_eq!(error.kind(), ErrorKind::Failed);
    let What::Panicked { message, location, .. } = &failure_of(&error).what else { panic!("{error}") };
    assert_eq!(message, "seven is 7");
    assert!(location.contains("isolated.rs:"), "{location}");
}

/// Refuses to be encoded, or to be decoded.
#[derive(Clone, Copy)]
struct Awkward {
    encodes: bool,
}

impl Serialize for Awkward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.encodes {
            true => serializer.serialize_u8(0),
            false => Err(serde::ser::Error::custom("it does not want to")),
        }
    }
}

impl<'de> Deserialize<'de> for Awkward {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Awkward, D::Error> {
        Err(serde::de::Error::custom("it does not want to"))
    }
}

fn what_cannot_be_encoded_is_an_error_of_its_own() {
    let make = |encodes: bool| Awkward { encodes };
    for encodes in [false, true] {
        let error = isolated(make, encodes).err().expect("it cannot travel");
        assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
        assert!(error.to_string().contains("Awkward"), "{error}");
    }
    let take = |_: Awkward| 0;
    let error = isolated(take, Awkward { encodes: false }).expect_err("it cannot travel");
    assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
    let error = isolated(take, Awkward { encodes: true }).expect_err("it cannot arrive");
    assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
    assert!(error.to_string().contains("Awkward"), "{error}");
}

/// A limit on the length of files kills in the middle of the system call that writes the answer.
fn half_an_answer_is_none() {
    let cut = |_: ()| -> Vec<u8> {
        let limit = libc::rlimit { rlim_cur: 100_000, rlim_max: 100_000 };
        // SAFETY: a live local.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        vec![7; 1_000_000]
    };
    let error = isolated(cut, ()).expect_err("it is killed");
    assert!(matches!(failure_of(&error).what, What::Killed { signal: libc::SIGXFSZ, .. }), "{error}");
}

// ---- time ----------------------------------------------------------------------------------------------------------------

fn a_call_that_takes_too_long_is_ended() {
    let limit = Duration::from_millis(150);
    let stay = |deaf: bool| -> u32 {
        if deaf {
            process::ignore_signal(signal::TERM);
        }
        loop {
            std::thread::park();
        }
    };
    for deaf in [false, true] {
        let began = Instant::now();
        let error = isolated_with().timeout(limit).call(stay, deaf).expect_err("it never ends");
        assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
        let Failure { what, pid, .. } = failure_of(&error);
        assert_eq!(*what, What::TimedOut { limit });
        assert_eq!(process::state_char(*pid), None, "confirmed");
        let grace = if deaf { swath::limits::TERM_GRACE } else { Duration::ZERO };
        assert!(began.elapsed() >= limit + grace, "deaf {deaf}: {:?}", began.elapsed());
    }
}

/// The function has returned, and then the end of its process hangs: what it returned was in time.
fn a_value_in_time_is_a_value() {
    extern "C" fn hang() {
        spin();
    }
    let linger = |_: ()| {
        process::at_exit(hang);
        5
    };
    assert_eq!(isolated_with().timeout(Duration::from_millis(500)).call(linger, ()).expect("in time"), 5);
}

fn what_it_started_ends_with_it() {
    let start = |stay: Option<Shared<Queue<u32>>>| -> u32 {
        let id = Command::new("sleep").arg("1000").spawn().expect("a program").id();
        if let Some(told) = stay {
            told.put(id).expect("room");
            spin();
        }
        id
    };
    let is_gone = |id: u32| eventually(PROMISE, || process::state_char(id).is_none_or(|state| state == 'Z'));
    assert!(is_gone(isolated(start, None).expect("a value")));
    let told = Shared::new(Queue::with_capacity(1)).expect("a queue");
    let call = isolated_with().timeout(Duration::from_millis(500)).call(start, Some(told.clone()));
    assert_eq!(call.expect_err("it never ends").kind(), ErrorKind::Deadline);
    assert!(is_gone(told.get().expect("it came that far")));
}

// ---- limits --------------------------------------------------------------------------------------------------------------

fn limits_are_named_when_they_are_exceeded() {
    const MEMORY: u64 = 400 << 20;
    let limited = |limits: Limits| isolated_with().limits(limits);
    let fill = |bytes: usize| -> usize {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for _ in 0..bytes >> 20 {
            all.push(vec![1; 1 << 20]);
        }
        std::hint::black_box(&all).len()
    };
    assert_eq!(limited(Limits::new().memory(MEMORY)).call(fill, 100 << 20).expect("enough"), 100);
    let error = limited(Limits::new().memory(MEMORY)).call(fill, 500 << 20).expect_err("too little");
    let failure = failure_of(&error);
    assert_eq!(failure.exceeded, Some(Exceeded::LikelyMemory(MEMORY)), "{error}");
    assert!(failure.peak_bytes.is_some_and(|bytes| bytes > 300 << 20 && bytes < 500 << 20), "{failure:?}");
    assert!(error.to_string().contains("likely"), "{error}");
    let compute = |deaf: bool| {
        if deaf {
            process::ignore_signal(signal::XCPU);
        }
        spin();
    };
    let error = limited(Limits::new().cpu_seconds(1)).call(compute, false).expect_err("too little");
    assert_eq!(failure_of(&error).exceeded, Some(Exceeded::CpuSeconds(1)), "{error}");
    // The kernel has two counts, one by ticks and one by the clock: they differ a little.
    let cpu = failure_of(&error).cpu;
    assert!(cpu >= Duration::from_millis(500), "{cpu:?}");
    let error = limited(Limits::new().cpu_seconds(1)).call(compute, true).expect_err("too little");
    assert_eq!(failure_of(&error).exceeded, Some(Exceeded::LikelyCpuSeconds(1)), "{error}");
    let open =
        |_: ()| (0..200).map_while(|_| std::fs::File::open("/dev/null").ok()).collect::<Vec<_>>().len();
    let opened = limited(Limits::new().open_files(50)).call(open, ()).expect("a value");
    assert!((30..50).contains(&opened), "{opened}");
    // Without a limit an abort is an abort.
    let error = isolated(|_: ()| -> u8 { std::process::abort() }, ()).expect_err("it died");
    assert_eq!(failure_of(&error).exceeded, None);
}

fn calls_of_many_threads_leave_nothing() {
    // When a call has returned, whatever was under way before is over too.
    isolated(|_: ()| (), ()).expect("nothing");
    let before = open_files();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for n in 0..25 {
                    assert_eq!(isolated(|n: u64| n * n, n * thread).expect("a value"), (n * thread).pow(2));
                }
            });
        }
    });
    assert_eq!(open_files(), before);
}
