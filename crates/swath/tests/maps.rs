//! Maps and streams give what a serial loop gives, in order, within their window, and say which item failed.

#[path = "care/killer.rs"]
mod killer;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use swath::prelude::*;
use swath::{Task, Until, What, as_completed};

use killer::kill_those_who_work;

swath::worker_entry!();

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().expect("a pool")
}

fn square(n: u64) -> u64 {
    n * n
}

fn squares(range: std::ops::Range<u64>) -> Vec<u64> {
    range.map(square).collect()
}

#[test]
fn c19_a_map_is_a_serial_loop() {
    for workers in [0, 1, 2] {
        let pool = pool(workers);
        for n in [0, 1, 7, 40, 1000] {
            let expected = squares(0..n);
            assert_eq!(pool.map(square, 0..n).expect("values"), expected, "{n} items");
            for chunk in [1, 6, 40, 50] {
                assert_eq!(pool.map_chunked(square, 0..n, chunk).expect("values"), expected);
            }
            let stream: Result<Vec<u64>> = pool.imap(square, 0..n).collect();
            assert_eq!(stream.expect("values"), expected);
            let mut stream: Vec<u64> =
                pool.imap_unordered(square, 0..n).collect::<Result<_>>().expect("values");
            stream.sort_unstable();
            assert_eq!(stream, expected);
            let batch = pool.map_async(square, 0..n).expect("taken");
            assert_eq!(batch.result_timeout(Duration::MAX).expect("values"), Some(expected.clone()));
            assert!(batch.wait_timeout(Duration::ZERO));
            assert_eq!(batch.result().expect("values"), expected);
        }
        assert_eq!(pool.map_chunked(square, 0..9, 0).expect_err("no chunks").kind(), ErrorKind::Shape);
        let empty = |name: String| name;
        assert!(pool.map(empty, Vec::new()).expect("nothing").is_empty());
        let sum = |a: u64, b: u64| a + b;
        assert_eq!(pool.starmap(sum, (0..50).map(|n| (n, 1))).expect("values"), (1..51).collect::<Vec<_>>());
        let names: Vec<String> = (0..300).map(|n| "x".repeat(n)).collect();
        assert_eq!(pool.map(empty, names.clone()).expect("values of any length"), names);
    }
}

#[test]
fn the_chunk_is_measured_and_reported() {
    let pool = pool(2);
    let (values, report) = pool.map_with(square, 0..100_000).collect_report().expect("values");
    assert_eq!(values, squares(0..100_000));
    assert!(report.rows_per_chunk > 1, "tiny items go together: {}", report.rows_per_chunk);
    let slow = |n: u64| {
        let end = Instant::now() + Duration::from_micros(500);
        while Instant::now() < end {}
        n
    };
    let (_, report) = pool.map_with(slow, 0..200).collect_report().expect("values");
    assert_eq!(report.rows_per_chunk, 1, "long ones alone");
    let (values, report) = pool.map_with(square, 0..50_000).chunk(1).collect_report().expect("values");
    assert_eq!(values, squares(0..50_000));
    assert_eq!((report.chunks, report.rows_per_chunk), (50_000, 1), "a claim per item");
    // A worker says that it is done with a chunk after the chunk is done.
    let said: u64 = report.committed_by_worker.iter().sum();
    assert!((49_998..=50_000).contains(&said), "{said}");
}

/// The fifth one does not travel.
#[derive(Clone, Copy, serde::Deserialize)]
struct Numbered(u64);

impl serde::Serialize for Numbered {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            5 => Err(serde::ser::Error::custom("it will not travel")),
            n => to.serialize_newtype_struct("Numbered", &n),
        }
    }
}

#[test]
fn an_item_that_cannot_be_submitted_keeps_its_place() {
    let pool = pool(2);
    let value = |n: Numbered| {
        std::thread::sleep(Duration::from_millis(2));
        n.0
    };
    let places = |found: Vec<Result<u64>>| -> Vec<Option<u64>> {
        found
            .into_iter()
            .map(|end| end.map_err(|e| assert_eq!(e.kind(), ErrorKind::Codec, "{e}")).ok())
            .collect()
    };
    let expected: Vec<Option<u64>> = (0..12).map(|n| (n != 5).then_some(n)).collect();
    let stream = || pool.stream(value, (0..12).map(Numbered)).chunk(1).buffer(8);
    assert_eq!(places(stream().ordered().collect()), expected);
    let mut unordered = places(stream().unordered().collect());
    unordered.sort_unstable();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(unordered, expected);
}

#[test]
fn a_failing_item_is_named() {
    for workers in [0, 2] {
        let pool = pool(workers);
        let odd = |n: u64| if n % 2 == 1 { Err(format!("{n} is odd")) } else { Ok(n) };
        assert_eq!(pool.try_map(odd, (0..50).map(|n| n * 2)).expect("all even").len(), 50);
        let error = pool.try_map(odd, [2, 4, 5, 6]).expect_err("one is odd");
        assert!(error.kind() == ErrorKind::Failed && error.to_string().contains("5 is odd"), "{error}");
        for chunk in [1, 3] {
            let each = pool.try_map_with(odd, 0..20).chunk(chunk).each().expect("ends");
            for (n, end) in (0..20).zip(each) {
                match end {
                    Ok(value) => assert!(value == n && n % 2 == 0),
                    Err(error) => {
                        let text = error.to_string();
                        assert!(
                            text.contains(&format!("item {n} failed")) && text.contains("is odd"),
                            "{text}"
                        );
                        assert!(matches!(&error.causes()[0].what, What::Failed { .. }));
                    }
                }
            }
        }
        let panics = |n: u64| if n == 13 { panic!("unlucky") } else { n };
        let each = pool.map_with(panics, 0..30).each().expect("ends");
        let failed: Vec<usize> = (0..30).filter(|n| each[*n].is_err()).collect();
        assert_eq!(failed, [13], "nobody else");
        let ends: Vec<Result<u64>> = pool.imap(panics, 0..30).collect();
        assert_eq!(ends.len(), 30);
        assert!(ends.iter().enumerate().all(|(n, end)| end.is_err() == (n == 13)));
    }
}

#[test]
fn a_death_costs_one_item() {
    let pool = pool(2);
    let dies = |n: u64| if n == 17 { std::process::abort() } else { n };
    let each = pool.map_with(dies, 0..100).chunk(1).each().expect("ends");
    for (n, end) in (0..100u64).zip(each) {
        match end {
            Ok(value) => assert!(value == n && n != 17),
            Err(error) => {
                assert_eq!((n, error.kind()), (17, ErrorKind::Died));
                let aborted = What::Killed { signal: libc::SIGABRT, likely_out_of_memory: false };
                assert_eq!(error.causes()[0].what, aborted);
            }
        }
    }
    assert_eq!(pool.map(dies, 0..100).expect_err("died").kind(), ErrorKind::Died);
    let ends: Vec<Result<u64>> = pool.stream(dies, 0..40).chunk(1).ordered().collect();
    assert!(ends.iter().enumerate().all(|(n, end)| end.is_err() == (n == 17)));
}

/// Asked to stop, it comes to its end before that costs its worker: so it does not cost the worker later, or another chunk.
#[test]
fn a_time_out_is_about_its_chunk_alone() {
    let pool = pool(1);
    let nap = |ms: u64| {
        std::thread::sleep(Duration::from_millis(ms));
        ms
    };
    for _ in 0..15 {
        let values = pool.map_with(nap, [60]).timeout(Duration::from_millis(10)).collect();
        assert_eq!(values.expect("it ends within the grace"), [60]);
    }
    assert_eq!(pool.stats().died, 0);
}

#[test]
fn maps_survive_kills() {
    let pool = pool(2);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killed = scope.spawn(|| kill_those_who_work(&pool, &over));
        let slow_square = |n: u64| {
            let end = Instant::now() + Duration::from_micros(100);
            while Instant::now() < end {}
            n * n
        };
        for _ in 0..3 {
            let values = pool.map_with(slow_square, 0..2000).retries(1000).collect();
            assert_eq!(values.expect("values"), squares(0..2000));
            let values: Result<Vec<u64>> =
                pool.stream(slow_square, 0..2000).retries(1000).ordered().collect();
            assert_eq!(values.expect("values"), squares(0..2000));
        }
        over.store(true, Ordering::Relaxed);
        assert!(killed.join().expect("no panic") > 20, "it must have killed");
    });
}

#[test]
fn c22_streams_pull_within_their_window() {
    for workers in [0, 2] {
        let pool = pool(workers);
        let pulled = Cell::new(0u64);
        let endless = || {
            std::iter::from_fn(|| {
                pulled.set(pulled.get() + 1);
                Some(pulled.get() - 1)
            })
        };
        for buffer in [1, 4, 10] {
            pulled.set(0);
            let mut stream = pool.stream(square, endless()).buffer(buffer).ordered();
            assert_eq!(pulled.get(), 0, "lazy");
            for n in 0..200 {
                assert_eq!(stream.next().expect("endless").expect("a value"), n * n);
                let ahead = pulled.get() - (n + 1);
                assert!(ahead <= (buffer + workers) as u64, "{ahead} ahead with a buffer of {buffer}");
            }
        }
        pulled.set(0);
        let mut stream = pool.imap_unordered(square, endless());
        assert!((0..1000).all(|_| stream.next().expect("endless").is_ok()));
        drop(stream);
        let before = pulled.get();
        assert_eq!(pool.apply(square, 3).expect("a value"), 9);
        assert_eq!(pulled.get(), before, "nobody pulls for a stream that is gone");
    }
}

#[test]
fn a_long_stream_holds_nothing() {
    let pool = pool(2);
    let rss = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("proc");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
    };
    let mut stream = pool.imap(|n: u64| (n, [n as u8; 30].to_vec()), 0..300_000);
    let mut before = 0;
    for n in 0..300_000 {
        let (value, bytes) = stream.next().expect("not at its end").expect("a value");
        assert!(value == n && bytes.len() == 30);
        if n == 50_000 {
            before = rss();
        }
    }
    assert!(stream.next().is_none() && stream.next().is_none());
    let after = rss();
    assert!(after < before + (16 << 20), "{before} bytes at first, {after} in the end");
}

#[test]
fn waiting_for_some_of_many() {
    let pool = pool(2);
    let dir = tempfile::tempdir().expect("a directory");
    let gate = |path: String| {
        while !std::path::Path::new(&path).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        1u64
    };
    let go = dir.path().join("go").to_str().expect("UTF-8").to_owned();
    let slow = pool.submit(gate, go.clone()).expect("taken");
    let fails = pool.try_submit(|()| Err::<u64, _>("no"), ()).expect("taken");
    let tasks = [slow, fails];
    let first = swath::wait(&tasks, Until::FirstCompleted, None);
    assert_eq!((first.done, first.not_done), (vec![1], vec![0]));
    assert_eq!(swath::wait(&tasks, Until::FirstError, None).done, [1]);
    assert_eq!(swath::wait(&tasks, Until::AllCompleted, Some(Duration::from_millis(20))).not_done, [0]);
    std::fs::write(&go, "").expect("a place");
    assert_eq!(swath::wait(&tasks, Until::AllCompleted, None).done, [0, 1]);
    // As they come, from two pools, one of them inline.
    let other = Pool::builder().inline().build().expect("a pool");
    let mut tasks: Vec<Task<u64>> = (0..20).map(|n| pool.submit(square, n).expect("taken")).collect();
    tasks.extend((20..25).map(|n| other.submit(square, n).expect("taken")));
    let mut values: Vec<u64> = as_completed(tasks).map(|task| task.result().expect("a value")).collect();
    values.sort_unstable();
    assert_eq!(values, squares(0..25));
    // Not for ever.
    std::fs::remove_file(&go).expect("it was there");
    let mut some =
        as_completed([pool.submit(gate, go.clone()).expect("taken")]).timeout(Duration::from_millis(20));
    assert!(some.next().is_none());
    let rest = some.into_rest();
    assert_eq!(rest.len(), 1);
    assert!(rest[0].cancel());
}

#[test]
fn functions_of_more_arguments_have_maps_too() {
    let pool = pool(2);
    let (a, b) = (1..4_u32, |n: u32| f64::from(n));
    let three = pool.starmap3(
        |a: u32, b: f64, c: String| format!("{a} {b} {c}"),
        a.clone().map(|n| (n, b(n), n.to_string())),
    );
    assert_eq!(three.expect("values"), ["1 1 1", "2 2 2", "3 3 3"]);
    let four = pool.starmap4(|a: u32, b: u32, c: u32, d: u32| [a, b, c, d], a.clone().map(|n| (n, 2, 3, 4)));
    assert_eq!(four.expect("values"), [[1, 2, 3, 4], [2, 2, 3, 4], [3, 2, 3, 4]]);
    let five = |a: u32, b: u32, c: u32, d: u32, e: u32| a + b + c + d + e;
    assert_eq!(
        pool.starmap5(five, a.clone().map(|n| (n, 10, 100, 1000, 10_000))).expect("values"),
        [11_111, 11_112, 11_113]
    );
    let six = |a: u8, b: bool, c: char, d: i64, e: Option<u8>, f: ()| (a, b, c, d, e, f);
    let items = [(1, true, 'x', -1, None, ()), (2, false, 'y', 9, Some(3), ())];
    assert_eq!(pool.starmap6(six, items).expect("values"), items);
}

#[test]
fn errors_of_files_are_errors_of_tasks() {
    fn length(path: String) -> Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }
    let pool = pool(1);
    let error =
        pool.try_submit(length, "/nowhere".to_owned()).and_then(|task| task.result()).expect_err("nowhere");
    assert!(error.kind() == ErrorKind::Failed && error.to_string().contains("No such file"), "{error}");
}
