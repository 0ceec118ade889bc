//! How processes begin.

use std::fmt;

use swath_platform::sibling;

use crate::error::{ErrorKind, Result};

/// How a process begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartMethod {
    /// As this executable, started again: nothing is shared by accident, no lock can be held by a thread that is not there. The
    /// function captures nothing, its arguments are encoded. For pools and for processes.
    #[default]
    Spawn,
    /// For pools: as a copy of a template, a process with one thread that was spawned once and has run
    /// [`preload`](crate::PoolBuilder::preload). What the hook has loaded is in every worker's memory, and takes room once, until
    /// somebody writes to it. Workers are the coordinator's children as spawned ones are, with exact exit status. What a library has told
    /// `pthread_atfork` to call is not called.
    Forkserver,
    /// For processes: as a copy of this process at this moment, with all that it has in memory. Only for programs that have one thread
    /// at that moment: [`Process::fork`](crate::Process::fork).
    Fork,
}

/// All start methods that this machine has, the default one first: [`Spawn`](StartMethod::Spawn) for pools and processes,
/// [`Forkserver`](StartMethod::Forkserver) for pools, where the kernel tells what it needs to know
/// (`CONFIG_CHECKPOINT_RESTORE`, which distributions set), [`Fork`](StartMethod::Fork) for processes.
pub fn start_methods() -> &'static [StartMethod] {
    match sibling::check() {
        Ok(()) => &[StartMethod::Spawn, StartMethod::Forkserver, StartMethod::Fork],
        Err(_) => &[StartMethod::Spawn, StartMethod::Fork],
    }
}

/// Its name, as `SWATH_START_METHOD` has it.
impl fmt::Display for StartMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StartMethod::Spawn => "spawn",
            StartMethod::Forkserver => "forkserver",
            StartMethod::Fork => "fork",
        })
    }
}

/// How a pool's workers begin: `SWATH_START_METHOD` if set, else what the program asked for, else [`StartMethod::Spawn`].
pub(crate) fn for_pool(asked: Option<StartMethod>) -> Result<StartMethod> {
    let over = std::env::var_os("SWATH_START_METHOD").filter(|text| !text.is_empty());
    let over = over.map(|text| text.to_string_lossy().into_owned());
    choose(over.as_deref(), asked, sibling::check)
}

fn choose(
    over: Option<&str>,
    asked: Option<StartMethod>,
    check: impl FnOnce() -> std::io::Result<()>,
) -> Result<StartMethod> {
    let method = match over.map(str::trim) {
        None => asked.unwrap_or_default(),
        Some("spawn") => StartMethod::Spawn,
        Some("forkserver") => StartMethod::Forkserver,
        Some(text) => {
            return Err(ErrorKind::Usage.with(format!(
                "SWATH_START_METHOD is `{text}`; for pools it must be `spawn` or `forkserver`"
            )));
        }
    };
    match method {
        StartMethod::Spawn => {}
        StartMethod::Forkserver => check().map_err(|e| {
            ErrorKind::Usage
                .with(format!("StartMethod::Forkserver cannot be had here: {e}; use StartMethod::Spawn"))
                .caused_by(e)
        })?,
        StartMethod::Fork => {
            return Err(ErrorKind::Usage.with(
                "StartMethod::Fork is for processes: a pool has threads, and a fork copies one of them; pools have \
                 StartMethod::Spawn and StartMethod::Forkserver",
            ));
        }
    }
    Ok(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_beats_the_program_and_only_pools_methods_are_taken() {
        let decide = |over, asked| choose(over, asked, || Ok(()));
        let is = |over, asked, method| assert_eq!(decide(over, asked).expect("taken"), method);
        is(None, None, StartMethod::Spawn);
        is(None, Some(StartMethod::Forkserver), StartMethod::Forkserver);
        is(Some("spawn"), Some(StartMethod::Forkserver), StartMethod::Spawn);
        is(Some(" forkserver "), None, StartMethod::Forkserver);
        let refused = |over, asked| decide(over, asked).expect_err("refused").to_string();
        for text in ["fork", "Spawn", "thread"] {
            let error = refused(Some(text), None);
            assert!(error.contains(text) && error.contains("`spawn` or `forkserver`"), "{error}");
        }
        assert!(refused(None, Some(StartMethod::Fork)).contains("is for processes"));
        let none = || Err(std::io::Error::other("no such kernel"));
        let error = choose(None, Some(StartMethod::Forkserver), none).expect_err("refused").to_string();
        assert!(error.contains("no such kernel") && error.contains("use StartMethod::Spawn"), "{error}");
    }
}
