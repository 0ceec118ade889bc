//! A pipe with two ends: question and answer, and what happens when the other end is killed.
//!
//! ```text
//! cargo run --release --example guide_pipe
//! ```

use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::{Pipe, PipeError, PipeSide};

/// Answers until it is told to stop.
fn answer(pipe: Shared<Pipe>) -> Result<()> {
    let mut end = pipe.end(PipeSide::B)?;
    loop {
        match end.recv::<Option<String>>()? {
            Some(question) => end.send(&question.to_uppercase())?,
            None => return Ok(()),
        }
    }
}

fn main() -> Result<()> {
    swath::init();
    let pipe = Shared::new(Pipe::with_capacity(4))?;
    let mut end = pipe.end(PipeSide::A)?;

    let child = Process::spawn(answer, pipe.clone())?;
    for question in ["who are you?", "what is a process?"] {
        end.send(&Some(question))?;
        println!("{question} -> {}", end.recv::<String>()?);
    }
    end.send(&None::<String>)?;
    println!("the child: {}", child.join()?);

    let child = Process::spawn(answer, pipe.clone())?;
    end.send(&Some("still there?"))?;
    println!("still there? -> {}", end.recv::<String>()?);
    child.kill()?;
    child.join()?;
    match end.recv_bytes() {
        Err(refused) if matches!(refused.why(), Some(PipeError::PeerDied { .. })) => {
            println!("the next child was killed, and we are told instead of waiting for ever");
        }
        other => println!("unexpected: {other:?}"),
    }
    Ok(())
}
