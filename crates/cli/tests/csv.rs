//! `swath csv` as its users meet it: what it prints, where, and with which code it ends.

mod stage;

use serde_json::Value;
use stage::{Dir, data, ran, signal, workers_of};
use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

const QUESTION: &str = "--group-by origin --agg count,mean:temp,min:temp,max:temp,sum:precip,count:wind_gust";

/// Rows of `station,value`, enough of them for several chunks.
fn rows(count: u32) -> String {
    let mut text = "station,value\n".to_owned();
    for row in 0..count {
        let tenths = row.wrapping_mul(2_654_435_761) >> 22;
        let _ = writeln!(text, "station {},{}.{}", row % 97, tenths / 10, tenths % 10);
    }
    text
}

#[test]
fn the_real_file_has_the_known_answer_for_any_number_of_workers() {
    let weather = data().join("weather.csv");
    let expected = fs::read_to_string(data().join("weather.by-origin.csv")).expect("the known answer");
    for workers in [0, 1, 2, 3, 8] {
        let words = format!("csv {QUESTION} --workers {workers} {}", weather.display());
        assert_eq!(Dir::new().run(&words).answer(), expected, "{workers} workers");
    }
}

#[test]
fn malformed_files_are_reported_with_their_place() {
    let mut seen = 0;
    for entry in fs::read_dir(data().join("malformed")).expect("the malformed files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "csv") {
            continue;
        }
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let dir = Dir::new();
        dir.file(&name, fs::read(&path).expect("a malformed file"));
        let complaint =
            dir.run(&format!("csv --workers 2 --group-by station --agg mean:value {name}")).complaint(1);
        let expected = fs::read_to_string(path.with_extension("error")).expect("an expected error");
        assert_eq!(complaint, format!("swath: {expected}"));
        seen += 1;
    }
    assert!(seen >= 8);
}

#[test]
fn input_may_be_a_pipe_or_a_file_on_standard_input() {
    let dir = Dir::new();
    let answer = dir.run_with("csv --workers 1 --group-by k --agg sum:v -", "k,v\na,1\na,2\n").answer();
    assert_eq!(answer, "k,sum:v\na,3\n");
    let complaint = dir.run_with("csv --workers 1 --agg sum:v -", "k,v\na,x\n").complaint(1);
    assert!(complaint.starts_with("swath: standard input, line 2, column \"v\""), "{complaint}");
    let complaint = dir.run("csv --workers 1 -").complaint(1);
    assert!(complaint.contains("standard input: the file is empty"), "{complaint}");
}

#[test]
fn output_goes_to_a_file_whole_or_not_at_all() {
    let dir = Dir::new();
    dir.file("good.csv", "k,v\na,1\n").file("bad.csv", "k,v\na,x\n").file("answer", "old");
    dir.run("csv --workers 1 --agg sum:v -o answer bad.csv").complaint(1);
    assert_eq!(dir.read("answer"), "old");
    assert_eq!(dir.run("csv --workers 1 --agg sum:v -o answer --format json good.csv").answer(), "");
    assert_eq!(dir.read("answer"), "[\n  {\"sum:v\": 1}\n]\n");
    let complaint = dir.run("csv --workers 1 -o missing/answer good.csv").complaint(1);
    assert!(complaint.starts_with("swath: missing/answer: "), "{complaint}");
}

#[test]
fn what_is_left_out_is_listed_and_the_code_says_so() {
    let dir = Dir::new();
    dir.file("f.csv", "k,v\na,1\nb,x\na,2\nc\n");
    let words = "csv --workers 2 --group-by k --agg sum:v --on-error skip";
    let left_out = dir.run(&format!("{words} --rejects bad.csv --report r.json f.csv"));
    assert_eq!((left_out.code, left_out.out.as_str()), (Some(3), "k,sum:v\na,3\n"));
    assert!(
        left_out.err.starts_with("swath: left out 2 malformed records\n  f.csv, line 3, "),
        "{}",
        left_out.err
    );
    assert_eq!(dir.read("bad.csv").lines().count(), 3);
    let report: Value = serde_json::from_str(&dir.read("r.json")).expect("JSON");
    assert_eq!((&report["rejected"], &report["exit"]), (&2.into(), &3.into()));
    assert_eq!(dir.run(&format!("{words} --max-errors 2 --quiet f.csv")).err, "");
    let complaint = dir.run(&format!("{words} --max-errors 1 f.csv")).complaint(1);
    assert!(complaint.contains("2 malformed records, more than the 1 allowed"), "{complaint}");
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let dir = Dir::new();
    dir.file("f.csv", "k,v\na,1\n");
    for words in
        ["", "csv", "csv --agg median:v f.csv", "csv --delimiter ab f.csv", "csv --nonsense f.csv", "csv - -"]
    {
        dir.run(words).complaint(2);
    }
    for words in ["csv missing.csv", "csv --group-by x f.csv", "csv ."] {
        dir.run(words).complaint(1);
    }
    for words in ["--version", "--help", "csv --help", "ls --help", "clean --help"] {
        assert!(!dir.run(words).answer().is_empty(), "{words}");
    }
}

#[test]
fn the_report_accounts_for_every_chunk() {
    let dir = Dir::new();
    dir.file("f.csv", rows(300_000));
    dir.run("csv --workers 2 --report r.json --agg sum:value f.csv").answer();
    let report: Value = serde_json::from_str(&dir.read("r.json")).expect("JSON");
    let committed = report["committed_by_worker"].as_array().expect("a list");
    let sum: u64 = committed.iter().map(|count| count.as_u64().expect("a number")).sum();
    assert_eq!((committed.len(), Some(sum)), (2, report["chunks"].as_u64()));
    assert!(sum > 4, "{report:#}");
}

#[test]
fn progress_may_be_read_by_programs() {
    let dir = Dir::new();
    dir.file("f.csv", "k,v\na,1\n");
    // Too short for a line, but every line there is must be JSON.
    let ran = dir.run("csv --workers 1 --progress json f.csv");
    assert!(ran.err.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{}", ran.err);
}

#[test]
fn workers_that_are_killed_change_nothing() {
    let dir = Dir::new();
    dir.file("f.csv", rows(1_500_000));
    let words =
        "csv --group-by station --agg count,sum:value,mean:value --retries 1000 --report r.json f.csv";
    let expected = dir.run(&format!("{words} --workers 0")).answer();
    let mut lost = 0;
    for _ in 0..10 {
        let child = dir.start(&format!("{words} --workers 2"));
        let (pid, began) = (child.id(), Instant::now());
        // For a while only: with nothing but deaths nobody would ever finish.
        while began.elapsed() < Duration::from_millis(400) {
            workers_of(pid).first().iter().for_each(|worker| signal("KILL", **worker));
            std::thread::sleep(Duration::from_millis(15));
        }
        assert_eq!(ran(child).answer(), expected);
        let report: Value = serde_json::from_str(&dir.read("r.json")).expect("JSON");
        lost += report["workers_lost"].as_u64().expect("a number");
        if lost > 0 {
            break;
        }
    }
    assert!(lost > 0, "no worker was killed in time");
}

#[test]
fn an_interrupt_ends_it_with_its_own_code() {
    let dir = Dir::new();
    dir.file("f.csv", rows(1_500_000));
    for _ in 0..10 {
        let child = dir.start("csv --workers 2 --group-by station --agg sum:value -o answer f.csv");
        while workers_of(child.id()).len() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        signal("INT", child.id());
        match ran(child).code {
            Some(130) => return assert!(!dir.path("answer").exists()),
            // It was faster than the signal.
            code => assert_eq!(code, Some(0)),
        }
    }
    panic!("the signal always came too late");
}
