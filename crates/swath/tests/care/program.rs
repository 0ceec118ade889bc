//! Runs programs that may hang, and hears what they say.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use swath_platform::{process, signal};

/// Runs `command` in a process group of its own, all of which is killed when it takes longer than `limit`. Its status, `None` if it
/// hung; its output; its errors.
pub(crate) fn watched(mut command: Command, limit: Duration) -> (Option<ExitStatus>, String, String) {
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a program starts");
    let (out, err) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
    let began = Instant::now();
    let status = loop {
        match child.try_wait().expect("our child") {
            Some(status) => break Some(status),
            None if began.elapsed() < limit => thread::sleep(Duration::from_millis(5)),
            None => break None,
        }
    };
    if status.is_none() {
        let _ = process::kill_group(child.id(), signal::KILL);
        let _ = child.wait();
    }
    (status, out.join().unwrap(), err.join().unwrap())
}

fn read(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
