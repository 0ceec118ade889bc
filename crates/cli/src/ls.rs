//! `swath ls`: the sessions of this user and their segments, alive and abandoned.

use crate::exit::{Exit, failed};
use crate::output;
use crate::size::Size;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::io::{self, Write};
use swath::admin::{self, SessionInfo};
use swath::segment::admin::{SegmentInfo, SegmentPlace};

/// List sessions and shared-memory segments, alive and abandoned
#[derive(Args)]
#[command(after_help = "Example:\n  swath ls --format json | jq '.[] | select(.alive | not)'")]
pub(crate) struct Flags {
    /// How to write the list
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

pub(crate) fn main(flags: &Flags) -> Exit {
    let sessions = match admin::list() {
        Ok(sessions) => sessions,
        Err(error) => return failed(error),
    };
    let written = output::write(None, |out| match flags.format {
        Format::Table => table(&sessions, out),
        Format::Json => {
            let list: Vec<Value> = sessions.iter().map(session_json).collect();
            writeln!(out, "{:#}", Value::from(list))
        }
    });
    written.map_or_else(failed, |()| Exit::Done)
}

fn table(sessions: &[SessionInfo], out: &mut dyn Write) -> io::Result<()> {
    for session in sessions {
        let state = if session.alive { "alive" } else { "abandoned" };
        write!(out, "session {}  {state}  owner {}", session.id, session.owner_pid)?;
        match &session.other_layout {
            Some(layout) => writeln!(out, "  (of another build: {layout})")?,
            None => writeln!(out)?,
        }
        for segment in &session.segments {
            let shape = segment.shape.as_deref().map(shape).unwrap_or_default();
            let dtype = segment.dtype.as_deref().unwrap_or_default();
            let line = format!(
                "  {:<44} {:>10}  {shape:<16} {dtype:<6} {}",
                segment.name,
                Size(segment.size),
                remarks(segment).join(", ")
            );
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

fn shape(axes: &[u64]) -> String {
    let axes: Vec<String> = axes.iter().map(u64::to_string).collect();
    axes.join(" × ")
}

fn place(segment: &SegmentInfo) -> &'static str {
    match segment.place {
        SegmentPlace::Named => "named",
        SegmentPlace::Unnamed => "unnamed",
        SegmentPlace::File => "file",
    }
}

fn remarks(segment: &SegmentInfo) -> Vec<String> {
    let mut remarks = Vec::new();
    if segment.place != SegmentPlace::Named {
        remarks.push(place(segment).to_owned());
    }
    let flags = [
        (segment.engine, "the engine's"),
        (segment.unfinished, "unfinished"),
        (segment.name_gone, "name gone"),
        (segment.tainted, "tainted"),
    ];
    remarks.extend(flags.iter().filter(|(is_so, _)| *is_so).map(|(_, text)| (*text).to_owned()));
    if let Some(slots) = &segment.retired_pinned_by {
        let slots: Vec<String> = slots.iter().map(u16::to_string).collect();
        remarks.push(format!("retired, pinned by {}", slots.join(" ")));
    }
    remarks
}

fn session_json(session: &SessionInfo) -> Value {
    json!({
        "id": session.id,
        "owner_pid": session.owner_pid,
        "guardian_pid": session.guardian_pid,
        "alive": session.alive,
        "same_pid_namespace": session.same_pid_namespace,
        "created": session.created,
        "other_layout": session.other_layout,
        "segments": session.segments.iter().map(segment_json).collect::<Vec<_>>(),
    })
}

fn segment_json(segment: &SegmentInfo) -> Value {
    json!({
        "name": segment.name,
        "place": place(segment),
        "engine": segment.engine,
        "size": segment.size,
        "shape": segment.shape,
        "dtype": segment.dtype,
        "unfinished": segment.unfinished,
        "name_gone": segment.name_gone,
        "retired_pinned_by": segment.retired_pinned_by,
        "tainted": segment.tainted,
    })
}
