//! The files of the repository: everything below its root but build output and git's own.

use std::fs;
use std::path::{Path, PathBuf};

/// The directory of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace exists")
}

/// All files, relative to the root, sorted, with `/` between their parts.
pub(crate) fn files() -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("directories can be read") {
            let entry = entry.expect("so can their entries");
            let path = entry.path();
            let relative =
                path.strip_prefix(&root).expect("it is below the root").to_string_lossy().into_owned();
            match entry.file_type().expect("it has a type") {
                kind if kind.is_dir() && !is_foreign(&relative) => open.push(path),
                kind if kind.is_dir() => {}
                // In a linked work tree, `.git` is a file.
                _ if relative == ".git" => {}
                _ => found.push(relative),
            }
        }
    }
    found.sort();
    found
}

/// What `.gitignore` leaves out, and git's own directory.
fn is_foreign(directory: &str) -> bool {
    directory == ".git" || directory.starts_with("target")
}

/// Files whose name ends so.
pub(crate) fn files_ending(end: &str) -> Vec<String> {
    files().into_iter().filter(|file| file.ends_with(end)).collect()
}

/// The text of a file.
pub(crate) fn text(file: &str) -> String {
    let bytes = fs::read(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    String::from_utf8(bytes).unwrap_or_else(|_| panic!("{file} is not UTF-8"))
}

/// Its text, or nothing for pictures and the like.
pub(crate) fn text_if_any(file: &str) -> Option<String> {
    String::from_utf8(fs::read(root().join(file)).ok()?).ok()
}

#[test]
fn the_root_has_what_it_should_have() {
    let mut check = crate::check::Check::new("the root has what belongs there and nothing else");
    let expected =
        ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "benches", "crates", "data", "examples"];
    let files = files();
    for name in expected {
        let inside = format!("{name}/");
        check
            .that(files.iter().any(|f| f == name || f.starts_with(&inside)), || format!("{name} is missing"));
    }
    for file in &files {
        let top = file.split('/').next().unwrap_or(file);
        check
            .that(top.starts_with('.') || expected.contains(&top), || format!("{top} does not belong there"));
    }
    check.end();
}
