//! Words that have no place in the repository: notes to oneself, and places that exist on one machine only.

use crate::check::Check;
use crate::tree;

/// Written in two halves, so that this file does not say them.
const FORBIDDEN: [(&str, &str, &str); 14] = [
    ("TO", "DO", "do it, or say in the documents what is not there"),
    ("FIX", "ME", "fix it, or say in the documents what is wrong"),
    ("XX", "X", "say what is meant"),
    ("HA", "CK", "say why it has to be so"),
    ("/wo", "rk/", "a path of one machine"),
    ("/ro", "ot/", "a path of one machine"),
    ("/ho", "me/", "a path of one machine"),
    ("/Us", "ers/", "a path of one machine"),
    ("issu", "e #", "say the reason itself"),
    ("issu", "es/", "say the reason itself"),
    ("pull re", "quest", "say the reason itself"),
    ("AI-gen", "erated", "whoever commits it is its author"),
    ("sub", "agent", "who wrote it is of no interest here"),
    ("index", "-url", "registries are a matter of the machine, not of the repository"),
];

/// The one registry that the lock file may name.
const REGISTRY: &str = "\"registry+https://github.com/rust-lang/crates.io-index\"";

#[test]
fn nobody_says_what_should_not_be_said() {
    let mut check = Check::new("forbidden words");
    for file in tree::files() {
        let Some(text) = tree::text_if_any(&file) else { continue };
        for (head, tail, why) in FORBIDDEN {
            let word = format!("{head}{tail}");
            let line = text.lines().position(|line| says(line, &word));
            check.that(line.is_none(), || format!("{file}:{}: {word:?}: {why}", line.unwrap_or(0) + 1));
        }
    }
    check.end();
}

/// Words of letters count only as whole words; paths and phrases anywhere but in an address.
fn says(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().unwrap_or(' ');
        let after = line[at + word.len()..].chars().next().unwrap_or(' ');
        let whole = !before.is_alphanumeric() && !after.is_alphanumeric();
        if word.starts_with('/') {
            !before.is_alphanumeric()
        } else {
            whole || !word.ends_with(char::is_alphabetic)
        }
    })
}

#[test]
fn crates_come_from_the_public_registry() {
    let mut check = Check::new("Cargo.lock names the public registry alone");
    for line in tree::text("Cargo.lock").lines().filter(|line| line.starts_with("source = ")) {
        check.that(line.ends_with(REGISTRY), || line.to_owned());
    }
    check.end();
}

#[test]
fn words_are_found() {
    assert!(says("a [ab] b", "ab") && !says("cab", "ab") && !says("abc", "ab"));
    assert!(says("see /x/y", "/x/") && !says("a.org/x/y", "/x/"));
    assert!(says("in y/1", "y/"));
}
