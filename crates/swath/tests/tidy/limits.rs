//! The table of limits in the README is what the files `limits.rs` say.

use crate::check::Check;
use crate::tree;

/// Between these two lines stands the table.
const BEGIN: &str =
    "<!-- limits: kept equal to the files limits.rs by a test, which prints the table when it is not -->";
const END: &str = "<!-- end of limits -->";

struct Limit {
    path: String,
    value: String,
    meaning: String,
}

#[test]
fn the_readme_has_every_limit() {
    let mut check = Check::new("README's table of limits equals the files limits.rs");
    let limits: Vec<_> = tree::files_ending("/limits.rs")
        .iter()
        .filter(|file| file.ends_with("/src/limits.rs"))
        .flat_map(|file| limits(file))
        .collect();
    let mut table = String::from("| limit | value | what |\n|---|---|---|\n");
    for Limit { path, value, meaning } in &limits {
        table += &format!("| `{path}` | {value} | {meaning} |\n");
    }
    let readme = tree::text("README.md");
    let written = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or("", |(t, _)| t);
    check.that(!limits.is_empty(), || "there are no limits".to_owned());
    check.that(written.trim() == table.trim(), || format!("it should be:\n\n{BEGIN}\n{table}{END}\n"));
    check.end();
}

/// The constants of one file, in its order.
fn limits(file: &str) -> Vec<Limit> {
    let layer = file.split('/').nth(1).expect("crates/LAYER/src/limits.rs");
    let mut found = Vec::new();
    let mut meaning = String::new();
    for line in tree::text(file).lines() {
        if let Some(doc) = line.strip_prefix("///") {
            meaning += doc;
        } else if let Some((name, rest)) = line.strip_prefix("pub const ").and_then(|l| l.split_once(": ")) {
            let (kind, value) = rest.split_once(" = ").expect("a constant has a value");
            found.push(Limit {
                path: if layer == "swath" { name.to_owned() } else { format!("{layer}: {name}") },
                value: shown(kind, value.trim_end_matches(';'), name.contains("BYTES")),
                meaning: plain(meaning.trim()),
            });
            meaning.clear();
        } else if !line.trim().is_empty() && !line.starts_with("//") {
            meaning.clear();
        }
    }
    found
}

/// Prose without the marks of rustdoc's links.
fn plain(doc: &str) -> String {
    doc.replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}

fn shown(kind: &str, value: &str, bytes: bool) -> String {
    if kind == "Duration" {
        let (unit, number) =
            value.strip_prefix("Duration::from_").and_then(|v| v.split_once('(')).expect("a duration");
        let unit = match unit {
            "secs" => "s",
            "millis" => "ms",
            "micros" => "µs",
            other => panic!("a duration in {other}"),
        };
        return format!("{} {unit}", number.trim_end_matches(')'));
    }
    let number = evaluated(value);
    match number {
        n if bytes && n >= 1 << 20 && n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n if bytes && n >= 1 << 10 && n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
        n => n.to_string(),
    }
}

/// Sums, products, shifts of numbers: what constants are written with.
fn evaluated(text: &str) -> u64 {
    let text = text.trim();
    for (operator, apply) in [
        ("<<", (|a, b| a << b) as fn(u64, u64) -> u64),
        (" - ", |a, b| a - b),
        (" + ", |a, b| a + b),
        ("*", |a, b| a * b),
    ] {
        if let Some((left, right)) = text.rsplit_once(operator) {
            return apply(evaluated(left), evaluated(right));
        }
    }
    match text.trim_end_matches(" as usize").trim_end_matches(" as u64") {
        "u32::MAX" => u64::from(u32::MAX),
        number => number.replace('_', "").parse().unwrap_or_else(|_| panic!("cannot evaluate {number:?}")),
    }
}

#[test]
fn values_are_read() {
    assert_eq!(shown("usize", "u32::MAX as usize - 1", false), "4294967294");
    assert_eq!(shown("usize", "65_536", false), "65536");
    assert_eq!(shown("u64", "128 << 10", true), "128 KiB");
    assert_eq!(shown("usize", "64 * 1024", true), "64 KiB");
    assert_eq!(shown("usize", "48", true), "48");
    assert_eq!(shown("Duration", "Duration::from_millis(500)", false), "500 ms");
    // The engine's own, as the compiler has them.
    assert_eq!(shown("usize", "u32::MAX as usize - 1", false), swath::limits::CHUNKS_MAX.to_string());
}
