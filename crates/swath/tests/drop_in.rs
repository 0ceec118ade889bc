//! raw_sync's own example program runs on our locks with its `use` line changed, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const THEIRS: &str = "use raw_sync::{locks::*, Timeout};";
const OURS: &str = "use swath::sync::raw_sync::{locks::*, Timeout};";

/// Where cargo has the sources of raw_sync.
fn raw_sync() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        // What other systems need was perhaps never fetched.
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "raw_sync").expect("a dependency");
    let manifest = package["manifest_path"].as_str().expect("a path");
    Path::new(manifest).parent().expect("a directory").to_path_buf()
}

#[test]
fn raw_syncs_own_example_needs_one_line_changed() {
    let theirs = std::fs::read_to_string(raw_sync().join("examples/locks.rs")).expect("the example");
    assert_eq!(theirs.matches("raw_sync").count(), 1, "it names the crate in one place");
    assert_eq!(theirs.lines().filter(|line| *line == THEIRS).count(), 1);
    let ours = theirs.replace(THEIRS, OURS);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("raw_sync_locks.rs");
    std::fs::write(&program, ours).expect("a file");
    // Builds it, runs it to the end, and wants exit code 0.
    trybuild::TestCases::new().pass(program);
}
