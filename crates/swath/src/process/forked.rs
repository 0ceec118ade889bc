//! Starting a process as a forked copy of this one: no service thread, no session, no slot.
//!
//! | step | who | what |
//! |---|---|---|
//! | F1 | starter | is the only thread of its process; writes out what its standard output and error have in store |
//! | F2 | starter | forks, opens a pidfd: its child is a zombie at worst until somebody asks for its status |
//! | F3 | child | SIGKILL at its starter's death, then looks whether that is still its parent; a group of its own |
//! | F4 | child | signals, streams, environment, directory, limits |
//! | F5 | child | calls the function; waits for its own children; writes out what is in store; `_exit` |

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

use swath_platform::fork::{self, Side};
use swath_platform::spawn::Child;
use swath_platform::{process, signal};

use super::errand::exit_code;
use super::launch::{Settings, failed};
use super::record::{About, Before, Reaper, Record};
use super::value::ExitValue;
use super::{Input, Output, lineage, roll};
use crate::error::{ErrorKind, Result};
use crate::log;
use crate::worker::EXIT_CANNOT_BEGIN;

pub(crate) fn start<R: ExitValue>(settings: Settings, f: impl FnOnce() -> R) -> Result<Arc<Record>> {
    let depth = lineage::next_depth()?;
    settings.check()?;
    if settings.log != log::Options::default() {
        return Err(ErrorKind::Usage.with(
            "log_level and log_to_files are for spawned processes: a forked copy speaks to its own copy of the subscriber",
        ));
    }
    if [settings.stdout, settings.stderr].contains(&Output::Lines) {
        return Err(
            ErrorKind::Usage.with("lines are passed on by a thread, and a process that forks must have none")
        );
    }
    check_alone()?;
    let (name, starter) = (settings.name(), process::getpid());
    let starter_name = lineage::current_process().name().to_owned();
    let before = Before::now();
    write_out(); // F1
    match fork::fork().map_err(failed("fork"))? {
        Side::Parent(Child { pid, pidfd }) => {
            process::lead_group(pid);
            let Settings { daemon, limits, takes_group_along, .. } = settings;
            let about = About { name, daemon, limits, takes_group_along, said: None };
            let record = Arc::new(Record::new(about, pid, pidfd, Reaper::Whoever, before));
            roll::enter(&record);
            Ok(record)
        }
        Side::Child => {
            lineage::die_with(starter); // F3
            process::lead_group(process::getpid());
            lineage::is(depth, Some(name), Some(starter_name));
            let code = match prepare(&settings) {
                Ok(()) => exit_code(f),
                Err(why) => {
                    let _ = writeln!(std::io::stderr(), "swath process {}: {why}", process::getpid());
                    EXIT_CANNOT_BEGIN
                }
            };
            roll::at_exit(); // F5
            write_out();
            fork::exit_now(code)
        }
    }
}

/// An error that names all threads, if there are several.
fn check_alone() -> Result<()> {
    let threads = fork::threads().map_err(failed("/proc/self/task"))?;
    if threads.len() == 1 {
        return Ok(());
    }
    let of_session = if threads.iter().any(|name| name == "swath-service") {
        "; swath-service is there because this process has, or had, a session: a pool, an array, a Shared, a spawned process"
    } else {
        ""
    };
    Err(ErrorKind::Usage.with(format!(
        "a fork copies the calling thread alone, and this process has {}: {}{of_session}. What the others hold (the \
         allocator's lock, the log's) would stay held in the copy for ever: use StartMethod::Spawn, or fork before the others \
         begin",
        threads.len(),
        threads.join(", ")
    )))
}

/// What is in store would be written by both otherwise.
fn write_out() {
    let _ = (std::io::stdout().flush(), std::io::stderr().flush());
    fork::write_out_streams();
}

/// F4.
fn prepare(settings: &Settings) -> std::io::Result<()> {
    process::set_comm("swath-process");
    [signal::INT, signal::TERM].into_iter().for_each(signal::handle_by_default);
    process::unblock_signals();
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let nulls =
        [settings.stdin == Input::Null, settings.stdout == Output::Null, settings.stderr == Output::Null];
    for (number, _) in (0..).zip(nulls).filter(|(_, wanted)| *wanted) {
        fork::replace_stream(number, null.as_fd())?;
    }
    for (name, value) in &settings.env {
        fork::set_variable(name, value.as_deref())?;
    }
    settings.cwd.iter().try_for_each(std::env::set_current_dir)?;
    settings.limits.apply()
}
