//! How long files and functions are: reported, never failed.

use crate::check::Check;
use crate::{rust, tree};

/// A function longer than this does not fit a screen.
const SCREEN_LINES: usize = 60;

/// The functions of `code`, as (name, first line, number of lines).
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let mut words =
            line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        let Some(name) = words.by_ref().find(|word| *word == "fn").and_then(|_| words.next()) else {
            continue;
        };
        let mut depth = 0usize;
        for (length, text) in lines[start..].iter().enumerate() {
            let opens = text.matches('{').count();
            depth = (depth + opens).saturating_sub(text.matches('}').count());
            let declared_only = depth == 0 && opens == 0 && text.trim_end().ends_with(';');
            if declared_only {
                break;
            }
            if depth == 0 && text.contains('}') {
                found.push((name.to_owned(), start + 1, length + 1));
                break;
            }
        }
    }
    found
}

#[test]
fn lengths_are_reported() {
    let mut files: Vec<(usize, String)> = Vec::new();
    let mut all = Vec::new();
    let mut long = Vec::new();
    for file in tree::files_ending(".rs") {
        let text = tree::text(&file);
        files.push((text.lines().count(), file.clone()));
        for (name, line, length) in functions(&rust::code_only(&text)) {
            all.push(length);
            if length > SCREEN_LINES {
                long.push((length, format!("{file}:{line} {name}")));
            }
        }
    }
    let mut check = Check::new("lengths are reported");
    check.that(!files.is_empty() && !all.is_empty(), || "no files or no functions were found".to_owned());
    files.sort_unstable_by(|a, b| b.cmp(a));
    all.sort_unstable();
    long.sort_unstable_by(|a, b| b.cmp(a));
    println!("{} files, the median one has {} lines; the longest:", files.len(), files[files.len() / 2].0);
    files.iter().take(10).for_each(|(lines, file)| println!("{lines:>6} {file}"));
    println!(
        "{} functions, the median one has {} lines; over {SCREEN_LINES}:",
        all.len(),
        all[all.len() / 2]
    );
    long.iter().for_each(|(lines, what)| println!("{lines:>6} {what}"));
    check.end();
}

#[test]
fn functions_are_measured() {
    let code = "trait T { fn a(&self); }\nimpl T for X {\n    fn a(&self) {\n        if x { y() }\n    }\n}\nfn b() {}\n";
    let found = functions(code);
    assert!(found.contains(&("a".to_owned(), 3, 3)), "{found:?}");
    assert!(found.contains(&("b".to_owned(), 7, 1)), "{found:?}");
}
