//! How files begin and what they are called.

use crate::check::Check;
use crate::{manifest, tree};

/// Names that say nothing about what is inside.
const DRAWERS: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "misc", "core", "manager"];

#[test]
fn every_source_file_says_what_it_is() {
    let mut check = Check::new("every .rs file opens with `//!`");
    for file in tree::files_ending(".rs") {
        let text = tree::text(&file);
        let story = text.strip_prefix("//! ").and_then(|rest| rest.lines().next()).unwrap_or("");
        check.that(story.len() > 10, || file);
    }
    check.end();
}

#[test]
fn nothing_is_called_a_drawer() {
    let mut check =
        Check::new("no crate and no module is called util, common, helper, misc, core or manager");
    for package in manifest::packages() {
        let parts = package.name.split(['-', '_']);
        check.that(!parts.clone().any(|part| DRAWERS.contains(&part)), || package.name.clone());
    }
    for file in tree::files_ending(".rs") {
        let parts: Vec<_> = file.trim_end_matches(".rs").split(['/', '_', '-']).collect();
        check.that(!parts.iter().any(|part| DRAWERS.contains(part)), || file.clone());
        // Modules that are written inside a file.
        for line in tree::text(&file).lines() {
            let declared = line.trim().strip_prefix("pub ").unwrap_or(line.trim()).strip_prefix("mod ");
            if let Some(name) = declared {
                let name = name.trim_end_matches([' ', '{', ';']);
                check
                    .that(!name.split('_').any(|part| DRAWERS.contains(&part)), || format!("{file}: {name}"));
            }
        }
    }
    check.end();
}
