//! The guide: its programs print what it says they print, and it shows what stands in them.
//!
//! Every program `examples/guide/NAME.rs` is the example `guide_NAME`, and what it prints is `examples/guide/expected/NAME.txt`. A
//! watchdog ends what hangs.

#[path = "care/program.rs"]
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use program::watched;

const HANGS_AFTER: Duration = Duration::from_secs(120);

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/guide")
}

fn text(path: impl AsRef<Path>) -> String {
    let path = guide().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the files there that end so.
fn names(directory: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(guide().join(directory)).expect("a directory");
    let names = entries.map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(end)?.to_owned())).collect();
    names.sort();
    assert!(!names.is_empty(), "{directory} has nothing that ends in {end}");
    names
}

/// Built beside the tests: `target/…/deps/guide-…` and `target/…/examples/guide_NAME`.
fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("our own path");
    let examples = own.parent().and_then(Path::parent).expect("…/deps/").join("examples");
    let path = examples.join(format!("guide_{name}"));
    assert!(path.is_file(), "{} is not built: cargo build --examples", path.display());
    path
}

/// Runs a program; what it printed, and where it failed, why.
fn run(name: &str) -> Result<String, String> {
    let mut command = Command::new(program(name));
    command.env_remove("SWATH_WORKERS").env_remove("RUST_BACKTRACE");
    let (status, out, err) = watched(command, HANGS_AFTER);
    match status {
        Some(status) if status.success() => Ok(out),
        Some(status) => Err(format!("{name}: {status}\n{out}{err}")),
        None => Err(format!("{name} hung\n{out}{err}")),
    }
}

#[test]
fn programs_print_what_the_guide_says() {
    let mut wrong = Vec::new();
    for name in names(".", ".rs") {
        let expected = text(format!("expected/{name}.txt"));
        match run(&name) {
            Ok(printed) if printed == expected => {}
            Ok(printed) => wrong.push(format!("{name} printed\n{printed}and not\n{expected}")),
            Err(why) => wrong.push(why),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_program_is_an_example_and_has_an_output_and_a_place_in_the_guide() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("it");
    let readme = text("README.md");
    let programs = names(".", ".rs");
    assert_eq!(programs, names("expected", ".txt"));
    for name in programs {
        assert!(manifest.contains(&format!("name = \"guide_{name}\"\n")), "guide_{name} is no example");
        assert!(readme.contains(&format!("[{name}.rs]({name}.rs)")), "README.md has no link to {name}.rs");
        let run = text(format!("{name}.rs")).replace('\n', " ");
        assert!(run.contains(&format!("--example guide_{name} ")), "{name}.rs does not say how to run it");
    }
}

/// Lines without their indentation, which an excerpt need not keep.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Whether `part` stands in `whole` as it is; a line `…` leaves lines out.
fn stands_in(part: &[&str], whole: &[&str]) -> bool {
    let mut rest = whole;
    part.split(|line| *line == "…").filter(|run| !run.is_empty()).all(|run| {
        let place = rest.windows(run.len()).position(|window| window == run);
        place.inspect(|place| rest = &rest[place + run.len()..]).is_some()
    })
}

/// A block of the guide belongs to the program that was linked last before it.
#[test]
fn excerpts_stand_in_the_programs_and_outputs_in_what_they_print() {
    let readme = text("README.md");
    let (mut name, mut excerpts, mut outputs) = (String::new(), 0, 0);
    let mut parts = readme.split("```");
    while let (Some(prose), Some(block)) = (parts.next(), parts.next()) {
        if let Some((before, _)) = prose.rsplit_once(".rs](") {
            name = before.rsplit_once('[').expect("a link").1.to_owned();
        }
        let (language, body) = block.split_once('\n').expect("a block has lines");
        let source = match language {
            "rust" => format!("{name}.rs"),
            "text" => format!("expected/{name}.txt"),
            _ => continue,
        };
        *if language == "rust" { &mut excerpts } else { &mut outputs } += 1;
        assert!(stands_in(&lines(body), &lines(&text(&source))), "README.md: not in {source}:\n{body}");
    }
    assert!(excerpts >= 15 && outputs >= 15, "{excerpts} excerpts, {outputs} outputs: are they read?");
}

#[test]
fn excerpts_are_compared_line_by_line() {
    let whole = ["a", "b", "c", "d"];
    assert!(stands_in(&["b", "c"], &whole) && stands_in(&["a", "…", "d"], &whole));
    assert!(
        !stands_in(&["a", "c"], &whole) && !stands_in(&["c", "…", "b"], &whole) && !stands_in(&["e"], &whole)
    );
}
