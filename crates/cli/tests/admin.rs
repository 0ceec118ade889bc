//! `swath ls` and `swath clean`.

mod stage;

use serde_json::Value;
use stage::Dir;

#[test]
fn a_list_of_sessions_is_json_if_wanted() {
    let dir = Dir::new();
    dir.run("ls").answer();
    let list: Value = serde_json::from_str(&dir.run("ls --format json").answer()).expect("JSON");
    assert!(list.is_array());
}

#[test]
fn a_dry_run_removes_nothing() {
    let dir = Dir::new();
    let ran = dir.run("clean --dry-run");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!ran.out.contains("removed"), "{}", ran.out);
}
