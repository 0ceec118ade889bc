//! The layers: a crate may name the crates below it and no others.

use crate::check::Check;
use crate::manifest;

/// From the bottom to the top.
const LAYERS: [&str; 7] =
    ["swath-platform", "swath-sync", "swath-segment", "swath-array", "swath", "swath-jobs", "swath-cli"];

/// Packages that no user's build reaches: they may use all layers, and no layer may use them.
const OUTSIDE: [&str; 2] = ["swath-torture", "swath-benches"];

fn height(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == name)
}

#[test]
fn arrows_between_crates_point_down() {
    let mut check = Check::new("arrows between crates point down");
    for package in manifest::packages() {
        let own = height(&package.name);
        check.that(own.is_some() || OUTSIDE.contains(&&*package.name), || {
            format!("{} has no place in the layers: give it one here and in the documents", package.name)
        });
        for dependency in package.dependencies.iter().filter(|d| d.name.starts_with("swath")) {
            let below = height(&dependency.name).is_some_and(|to| own.is_none_or(|from| to < from));
            check.that(below, || format!("{} → {} points up", package.name, dependency.name));
        }
    }
    check.end();
}

#[test]
fn every_layer_is_there() {
    let mut check = Check::new("every layer is there");
    let packages = manifest::packages();
    for name in LAYERS.iter().chain(&OUTSIDE) {
        check.that(packages.iter().any(|p| p.name == *name), || format!("{name} is missing"));
    }
    check.end();
}
