//! What a package's `Cargo.toml` says, as far as the rules ask.

use crate::check::Check;
use crate::tree;

/// One line below a table of dependencies.
#[derive(Debug, PartialEq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Needed by tests only.
    pub(crate) dev: bool,
    /// The whole line.
    pub(crate) line: String,
}

pub(crate) struct Package {
    pub(crate) name: String,
    /// Its directory, relative to the root.
    pub(crate) directory: String,
    pub(crate) dependencies: Vec<Dependency>,
}

impl Package {
    fn parse(directory: &str, text: &str) -> Package {
        let mut package =
            Package { name: String::new(), directory: directory.to_owned(), dependencies: Vec::new() };
        let mut table = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(header) = line.strip_prefix('[') {
                table = header.trim_end_matches(']').to_owned();
            } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                let key = key.trim();
                if table == "package" && key == "name" {
                    package.name = value.trim().trim_matches('"').to_owned();
                }
                // `[dependencies]`, `[build-dependencies]`, `[target.'cfg(loom)'.dev-dependencies]` …
                if table.ends_with("dependencies") {
                    let name = key.split('.').next().unwrap_or(key).to_owned();
                    let dev = table.ends_with("dev-dependencies");
                    package.dependencies.push(Dependency { name, dev, line: line.to_owned() });
                }
            }
        }
        package
    }

    /// Whether a build of the package itself needs `name`.
    pub(crate) fn depends_on(&self, name: &str) -> bool {
        self.dependencies.iter().any(|d| d.name == name && !d.dev)
    }
}

/// All packages of the workspace.
pub(crate) fn packages() -> Vec<Package> {
    tree::files_ending("/Cargo.toml")
        .iter()
        .map(|file| Package::parse(file.trim_end_matches("/Cargo.toml"), &tree::text(file)))
        .collect()
}

#[test]
fn versions_stand_in_one_table() {
    let mut check = Check::new("versions of dependencies stand in the workspace's table alone");
    for package in packages() {
        for dependency in &package.dependencies {
            let line = &dependency.line;
            let elsewhere = line.contains("version") || line.contains("path =") || line.contains("git =");
            check.that(line.contains("workspace = true") && !elsewhere, || {
                format!("{}: {line}", package.name)
            });
        }
    }
    check.end();
}

#[test]
fn every_package_has_the_licence_of_the_workspace() {
    let mut check = Check::new("packages take licence, version and lints from the workspace");
    for package in packages() {
        let text = tree::text(&format!("{}/Cargo.toml", package.directory));
        for line in ["license.workspace = true", "version.workspace = true", "[lints]\nworkspace = true"] {
            check.that(text.contains(line), || format!("{} lacks `{line}`", package.name));
        }
    }
    let (workspace, licence) = (tree::text("Cargo.toml"), tree::text("LICENSE"));
    check.that(workspace.contains("license = \"MIT OR Apache-2.0\""), || "Cargo.toml: licence".to_owned());
    for part in ["SPDX-License-Identifier: MIT OR Apache-2.0", "MIT License", "Apache License"] {
        check.that(licence.contains(part), || format!("LICENSE lacks {part:?}"));
    }
    check.end();
}

#[test]
fn a_manifest_is_read() {
    let text = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\n# b = 1\n[dev-dependencies]\nc = { workspace = true }\n\
                [target.'cfg(loom)'.dependencies]\nd.workspace = true\n[[bin]]\nname = \"y\"\n";
    let package = Package::parse("p", text);
    assert_eq!(package.name, "x");
    let found: Vec<_> = package.dependencies.iter().map(|d| (d.name.as_str(), d.dev)).collect();
    assert_eq!(found, [("a", false), ("c", true), ("d", false)]);
    assert!(package.depends_on("a") && !package.depends_on("c"));
}
