//! The six crates that had to be used are used, each in its place.
//!
//! What is checked, exactly: the package depends on the crate (for its own build, not for its tests); each named file says, in
//! code, each of the named words; and where a place is the only one, no other file of the layers says the crate's name.

use crate::check::Check;
use crate::{manifest, rust, tree};

struct Place {
    used: &'static str,
    by: &'static str,
    /// A file, or a directory one of whose files is meant.
    within: &'static str,
    saying: &'static [&'static str],
    /// No other file below `crates/*/src` names it.
    alone: bool,
}

const PLACES: [Place; 9] = [
    // Makes the named segments and attaches to them for writing.
    Place {
        used: "shared_memory",
        by: "swath-segment",
        within: "crates/segment/src/backing.rs",
        saying: &["shared_memory", "ShmemConf", "create", "open"],
        alone: true,
    },
    // Maps unnamed segments, files on disk, and named segments that are only read.
    Place {
        used: "memmap2",
        by: "swath-segment",
        within: "crates/segment/src/backing.rs",
        saying: &["memmap2", "MmapRaw", "MmapOptions"],
        alone: true,
    },
    // The bound of every element, …
    Place {
        used: "bytemuck",
        by: "swath-array",
        within: "crates/array/src/element.rs",
        saying: &["bytemuck", "Element", "Pod"],
        alone: false,
    },
    // … and of what coordinator and workers tell each other.
    Place {
        used: "bytemuck",
        by: "swath",
        within: "crates/swath/src/descriptor.rs",
        saying: &["bytemuck", "Pod"],
        alone: false,
    },
    // The views that are lent, …
    Place {
        used: "ndarray",
        by: "swath-array",
        within: "crates/array/src/rows.rs",
        saying: &["ndarray", "ArrayView", "ArrayViewMut"],
        alone: false,
    },
    // … and that kernels receive.
    Place {
        used: "ndarray",
        by: "swath",
        within: "crates/swath/src/operand.rs",
        saying: &["ndarray", "ArrayView", "ArrayViewMut"],
        alone: false,
    },
    // Threads instead of processes: the rival in the benches.
    Place {
        used: "rayon",
        by: "swath-benches",
        within: "benches/",
        saying: &["rayon", "ThreadPoolBuilder"],
        alone: false,
    },
    // Our lock implements its traits, …
    Place {
        used: "raw_sync",
        by: "swath-sync",
        within: "crates/sync/src/raw_sync/mutex.rs",
        saying: &["raw_sync", "LockInit", "LockImpl"],
        alone: false,
    },
    // … and its own is a rival in the benches.
    Place {
        used: "raw_sync",
        by: "swath-benches",
        within: "benches/",
        saying: &["raw_sync", "Mutex"],
        alone: false,
    },
];

#[test]
fn each_is_used_in_its_place() {
    let mut check = Check::new("the six crates are used, each in its place");
    let packages = manifest::packages();
    let sources: Vec<(String, String)> = tree::files_ending(".rs")
        .into_iter()
        .map(|file| {
            let code = rust::code_only(&tree::text(&file));
            (file, code)
        })
        .collect();
    for place in &PLACES {
        let Place { used, by, within, saying, alone } = place;
        let package = packages.iter().find(|p| p.name == *by);
        check.that(package.is_some_and(|p| p.depends_on(used)), || format!("{by} does not depend on {used}"));
        let says_all = |code: &str| saying.iter().all(|word| rust::says(code, word));
        let here = sources.iter().any(|(file, code)| file.starts_with(within) && says_all(code));
        check.that(here, || format!("{within} does not say {}", saying.join(", ")));
        if *alone {
            for (file, code) in sources.iter().filter(|(file, _)| is_layer(file) && file != within) {
                check.that(!rust::says(code, used), || {
                    format!("{file} uses {used}, which belongs in {within}")
                });
            }
        }
    }
    check.end();
}

fn is_layer(file: &str) -> bool {
    file.starts_with("crates/") && file.contains("/src/")
}
