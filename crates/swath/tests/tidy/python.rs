//! "Coming from Python" has every name of Python's, and the compiler has seen every path that it offers instead.

use std::collections::BTreeSet;

use crate::check::Check;
use crate::{rust, tree};

const NAMES: &str = "data/python-names.txt";
const TABLE: &str = "examples/guide/coming-from-python.md";
/// How a right column begins that offers nothing.
const WITHOUT: [&str; 2] = ["not offered: ", "not yet: "];

/// One row: Python's names in full, and what is said about them.
#[derive(Debug, PartialEq)]
struct Row {
    names: Vec<String>,
    answer: String,
}

fn names() -> BTreeSet<String> {
    let text = tree::text(NAMES);
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// What stands between back quotes.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of all tables. A heading names the modules that the names below it continue.
fn rows(text: &str) -> Vec<Row> {
    let (mut modules, mut rows) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            modules = spans(heading).map(str::to_owned).collect();
        }
        let Some((left, answer)) = line.strip_prefix("| `").and_then(|line| line.split_once(" | ")) else {
            continue;
        };
        let left = format!("`{left}");
        let in_full = |name: &str| modules.iter().map(|module| format!("{module}{name}")).collect::<Vec<_>>();
        rows.push(Row {
            names: spans(&left).flat_map(in_full).collect(),
            answer: answer.trim_end_matches([' ', '|']).to_owned(),
        });
    }
    rows
}

/// The code of the last block of Rust.
fn program(text: &str) -> String {
    let block = text.rsplit("\n```rust").next().unwrap_or_default();
    rust::code_only(block.split_once("\n```").map_or(block, |(code, _)| code))
}

/// Whether `code` says `path`, not as a part of longer words.
fn says(code: &str, path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = code[at + path.len()..].chars().next().unwrap_or(' ');
        !word(before) && !word(after)
    })
}

#[test]
fn every_name_of_python_has_an_answer() {
    let mut check = Check::new("Python's names and the table's are the same");
    let (names, rows) = (names(), rows(&tree::text(TABLE)));
    let mut answered = BTreeSet::new();
    for name in rows.iter().flat_map(|row| &row.names) {
        check.that(names.contains(name), || format!("{TABLE}: {name} is not in {NAMES}"));
        check.that(answered.insert(name.clone()), || format!("{TABLE}: {name} stands there twice"));
    }
    for name in names.difference(&answered) {
        check.that(false, || format!("{TABLE}: {name} is missing"));
    }
    check.end();
}

#[test]
fn every_path_that_is_offered_compiles() {
    let mut check = Check::new("paths in the table are in the program below it");
    let text = tree::text(TABLE);
    let code = program(&text);
    for row in rows(&text) {
        if let Some(reason) = WITHOUT.iter().find_map(|start| row.answer.strip_prefix(start)) {
            check.that(!reason.is_empty(), || format!("{:?}: no reason", row.names));
            continue;
        }
        let paths: Vec<&str> = spans(&row.answer).collect();
        check.that(!paths.is_empty(), || format!("{:?}: nothing is offered, and not said", row.names));
        for path in paths {
            check.that(says(&code, path), || format!("{:?}: `{path}` is not in the program", row.names));
        }
    }
    check.end();
}

#[test]
fn what_is_offered_is_counted() {
    let rows = rows(&tree::text(TABLE));
    let of = |start: &str| -> usize {
        rows.iter().filter(|row| row.answer.starts_with(start)).map(|row| row.names.len()).sum()
    };
    let without = WITHOUT.map(of);
    println!("{} names: {} not offered, {} not yet", of(""), without[0], without[1]);
    assert!(of("") > without.iter().sum(), "most names have something here");
}

#[test]
fn rows_and_programs_are_read() {
    let text = "## `a` and `b.C`\n| Python | here |\n|---|---|\n| `.x`, `.y` | `P::x` does it |\n";
    let names = ["a.x", "b.C.x", "a.y", "b.C.y"].map(str::to_owned).to_vec();
    assert_eq!(rows(text), [Row { names, answer: "`P::x` does it".to_owned() }]);
    assert_eq!(program("x\n```rust,no_run\nP::x(); // P::y\n```\n").trim(), ",no_run\nP::x();");
    assert!(says("P::x()", "P::x") && !says("P::xy()", "P::x") && !says("AP::x()", "P::x"));
}
