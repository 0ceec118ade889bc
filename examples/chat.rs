//! Two programs, started separately, that talk over a named pipe. Either may be killed; the other is told, and goes on
//! when somebody takes the dead one's place.
//!
//! ```text
//! cargo run --release --example chat -- lobby          in one terminal
//! cargo run --release --example chat -- lobby          in another
//! ```
//!
//! The first to come makes the pipe and has end A, the second one finds it and has end B. What is typed here is printed there.
//! `kill -9` one of them: the other says who is gone, and waits. Start it again: it takes the free end. (Whoever made the pipe
//! takes its name along when it ends; the next one makes a new pipe.)

use std::io::BufRead;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use swath::prelude::*;
use swath::shared::{Shared, SharedPipeEnd};
use swath::sync::{Pipe, PipeError, PipeSide};

/// How long to look at the pipe before looking at the keyboard.
const LOOK: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    swath::init();
    let name = std::env::args().nth(1).unwrap_or_else(|| "chat".to_owned());
    let pipe = Shared::<Pipe>::attach_or_create(&format!("swath-{name}"), Pipe::with_capacity(64))?;
    let (side, mut end) = match pipe.end(PipeSide::A) {
        Ok(end) => ("A", end),
        Err(held) if matches!(held.why(), Some(PipeError::Held { .. })) => ("B", pipe.end(PipeSide::B)?),
        Err(error) => return Err(error.into()),
    };
    println!("end {side} of {:?}, process {}", pipe.name().unwrap_or_default(), std::process::id());
    let lines = keyboard();
    let mut alone = false;
    loop {
        if end.poll(LOOK) {
            match end.recv::<String>() {
                Ok(line) => {
                    println!("> {line}");
                    alone = false;
                }
                Err(error) => alone = is_gone(error, alone)?,
            }
        }
        match lines.recv_timeout(if alone { LOOK } else { Duration::ZERO }) {
            Ok(line) => alone = say(&mut end, &line, alone)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Sends a line; whether nobody is there to receive it.
fn say(end: &mut SharedPipeEnd<'_>, line: &str, alone: bool) -> Result<bool> {
    match end.send_timeout(line, Duration::from_secs(1)) {
        Ok(()) => Ok(false),
        Err(error) => is_gone(error, alone),
    }
}

/// Says once that the other one is gone; any other error ends the program.
fn is_gone(error: swath::shared::MessageError<PipeError>, said: bool) -> Result<bool> {
    let swath::shared::MessageError::Refused(refused) = error else { return Err(error.into()) };
    match refused.why() {
        Some(PipeError::PeerDied { .. }) if said => Ok(true),
        Some(PipeError::PeerDied { who }) => {
            println!("* {who} is gone");
            Ok(true)
        }
        _ => Err(refused.into()),
    }
}

/// The lines of standard input, by a thread of their own.
fn keyboard() -> Receiver<String> {
    let (lines, keyboard) = channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    keyboard
}
