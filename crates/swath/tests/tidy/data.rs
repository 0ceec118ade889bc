//! The directory `data`: small, and every file explained.

use crate::check::Check;
use crate::tree;

const BYTES_MAX: u64 = 10 << 20;

#[test]
fn data_is_small() {
    let mut check = Check::new("data has at most 10 MiB");
    let files: Vec<_> = tree::files().into_iter().filter(|file| file.starts_with("data/")).collect();
    let length = |file: &String| tree::root().join(file).metadata().map_or(0, |m| m.len());
    let bytes: u64 = files.iter().map(length).sum();
    check.that(!files.is_empty() && bytes > 0, || "there is no data".to_owned());
    check.that(bytes <= BYTES_MAX, || format!("{bytes} bytes"));
    check.end();
}

/// A file is named as it is (`weather.csv`), or as one of a kind (`malformed/NAME.csv`).
#[test]
fn data_is_explained() {
    let mut check = Check::new("data/README.md names every file");
    let readme = tree::text("data/README.md");
    let mut named = 0;
    for file in tree::files().iter().filter_map(|file| file.strip_prefix("data/")) {
        if file == "README.md" {
            continue;
        }
        let (directory, name) = file.rsplit_once('/').unwrap_or(("", file));
        let end = name.split_once('.').map_or("", |(_, end)| end);
        let kind = format!("`{directory}/NAME.{end}`");
        check.that(readme.contains(&format!("`{file}`")) || readme.contains(&kind), || file.to_owned());
        named += 1;
    }
    assert!(named > 0, "data has no files");
    check.end();
}
