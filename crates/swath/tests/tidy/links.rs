//! What the documents point to exists: links, paths, and tests named as `path.rs::test`.

use crate::check::Check;
use crate::tree;

/// A directory's or a file's name that does not begin at the root begins beside the document.
fn beside(document: &str, path: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[test]
fn links_in_documents_resolve() {
    let mut check = Check::new("links in *.md resolve");
    for document in tree::files_ending(".md") {
        let text = tree::text(&document);
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() { document.clone() } else { beside(&document, path) };
            check.that(tree::root().join(&file).exists(), || format!("{document}: {target}"));
            if !anchor.is_empty() && file.ends_with(".md") && tree::root().join(&file).is_file() {
                let anchors = anchors(&tree::text(&file));
                check.that(anchors.iter().any(|a| a == anchor), || {
                    format!("{document}: no heading for {target}")
                });
            }
        }
    }
    check.end();
}

/// Where `[text](target)` leads.
fn targets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in outside_blocks(text) {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let (target, tail) = after.split_once(')').unwrap_or((after, ""));
            found.push(target.to_owned());
            rest = tail;
        }
    }
    found
}

/// The lines that are not between ``` fences.
fn outside_blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The names that headings get on the usual forges.
fn anchors(text: &str) -> Vec<String> {
    outside_blocks(text)
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn paths_in_documents_exist() {
    let mut check = Check::new("paths and tests named in *.md exist");
    let files = tree::files();
    for document in files.iter().filter(|file| file.ends_with(".md")) {
        let text = tree::text(document);
        for token in outside_blocks(&text).flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let Some((pattern, test)) = path(token) else { continue };
            let places = [pattern.to_owned(), beside(document, pattern)];
            let meant: Vec<_> =
                files.iter().filter(|file| places.iter().any(|place| matches(place, file))).collect();
            check.that(!meant.is_empty(), || format!("{document}: `{token}`"));
            if let Some(test) = test {
                let declared = format!("fn {test}(");
                let found = meant.iter().any(|file| tree::text(file).contains(&declared));
                check.that(found || meant.is_empty(), || format!("{document}: `{token}`: no such function"));
            }
        }
    }
    check.end();
}

/// A token that means a file of ours, perhaps with a test in it: `src/pool.rs`, `tests/loom_*.rs`, `tests/deaths.rs::name`.
fn path(token: &str) -> Option<(&str, Option<&str>)> {
    let (path, test) = token.split_once("::").map_or((token, None), |(path, test)| (path, Some(test)));
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/*".contains(c));
    let source = [".rs", ".md"].iter().any(|end| path.ends_with(end));
    let rooted =
        ["crates/", "examples/", "benches/", "data/", ".ci/"].iter().any(|top| path.starts_with(top));
    let example = path.chars().any(|c| c.is_ascii_uppercase()) && !path.ends_with("README.md");
    let in_a_directory = path.contains('/') && !path.starts_with('/') && !path.starts_with('*');
    (plain && !example && in_a_directory && (source || rooted)).then_some((path, test))
}

/// Whether `file` is what `pattern` means: itself, a directory above it, or one of several by `*`.
fn matches(pattern: &str, file: &str) -> bool {
    let pattern = pattern.trim_end_matches('/');
    match pattern.split_once('*') {
        Some((head, tail)) => file.strip_prefix(head).is_some_and(|rest| {
            let tail_matches = |rest: &str| matches(tail, rest) || tail.is_empty();
            rest.char_indices().map(|(at, _)| &rest[at..]).any(tail_matches)
        }),
        None => file == pattern || file.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('/')),
    }
}

#[test]
fn tokens_are_told_apart() {
    assert_eq!(path("src/pool.rs"), Some(("src/pool.rs", None)));
    assert_eq!(path("tests/a.rs::b"), Some(("tests/a.rs", Some("b"))));
    assert_eq!(path("crates/swath"), Some(("crates/swath", None)));
    assert_eq!(path("swath::init()"), None);
    assert_eq!(path("/dev/shm/NAME"), None);
    assert!(matches("a/*/c.rs", "a/b/c.rs") && matches("a", "a/b") && !matches("a/b", "a/bc"));
    assert_eq!(beside("crates/x/README.md", "../y.rs"), "crates/y.rs");
    assert_eq!(anchors("# A first `kernel`, then\n"), ["a-first-kernel-then"]);
}
