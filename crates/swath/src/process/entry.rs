//! The main function of a process that was started for an errand: steps C1 to C6 of the protocol. It never returns to the
//! program's own `main`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use swath_platform::{exe, process};
use swath_segment::Membership;
use swath_sync::Party;

use super::errand::{Ending, Errand, Verdict};
use super::lineage;
use super::parcel;
use crate::freight;
use crate::head_count;
use crate::log;
use crate::memory_file::Place;
use crate::worker::EXIT_CANNOT_BEGIN;

/// Carries the errand out.
pub(crate) fn main(membership: &Membership, depth: u32, args: &[OsString]) -> ! {
    lineage::die_with(membership.coordinator_pid); // C1
    process::set_comm("swath-process");
    // When memory runs out, it is not its starter that should go.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    let ended = begin(membership, depth, args).and_then(|(errand, args, reply)| {
        finish(errand.functions.carry_out(args), reply.as_ref()) // C5, C6
    });
    std::process::exit(ended.unwrap_or_else(|why| {
        eprintln!("swath process {}: {why}", process::getpid());
        EXIT_CANNOT_BEGIN
    }))
}

/// C2 to C4.
fn begin(
    membership: &Membership,
    depth: u32,
    args: &[OsString],
) -> Result<(Errand, Vec<u8>, Option<File>), String> {
    let starter = membership.coordinator_pid;
    let place = place_of(args).ok_or("its command line is not a process's")?;
    let parcel = parcel::read(&place.open(starter)?).map_err(|e| e.to_string())?;
    let [errand, args] = parcel.ok_or("its errand is not complete")?;
    let errand: Errand = postcard::from_bytes(&errand).map_err(|e| format!("its errand: {e}"))?;
    if errand.executable != executable()? {
        return Err("its starter runs another executable than this one".to_owned());
    }
    lineage::is(depth, Some(errand.name.clone()), Some(errand.starter_name.clone()));
    // SAFETY: the starter passes both under these numbers, and nobody has looked at them before; called once.
    let (ring, bell) = unsafe { (log::place::inherited()?, log::place::bell()?) };
    log::berth::begin(ring, bell, None);
    let reply = errand.reply.clone().map(|reply| {
        freight::reply_to(Some(reply.inbox));
        reply.parcel.open(starter)
    });
    let reply = reply.transpose()?;
    enter(membership)?; // C3
    if let Some(cwd) = &errand.cwd {
        let path = OsStr::from_bytes(cwd);
        std::env::set_current_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    head_count::share(errand.processors, 1);
    errand.limits.apply().map_err(|e| format!("limits of {}: {e}", errand.limits))?; // C4
    Ok((errand, args, reply))
}

/// C3: takes its place in the session.
fn enter(membership: &Membership) -> Result<(), String> {
    let (slots, slot) = (membership.control.slots(), membership.slot);
    // The starter writes our pid once it would notice our end.
    while slots.pid(slot.index) != process::getpid() {
        std::thread::yield_now();
    }
    // It maps nothing that the starter could want back.
    membership.control.acknowledge(slot, u64::MAX);
    // SAFETY: 1. the membership was checked: it is for this process; 2. objects ask the session that they are of for a party;
    // 3. there is no earlier one.
    unsafe { Party::install(slots, slot) };
    // Its function may start threads: what it holds is handed on when its exit is confirmed, not when its first thread ends.
    if slots.enter(slot) { Ok(()) } else { Err("its place in the session is taken".to_owned()) }
}

fn place_of(args: &[OsString]) -> Option<Place> {
    let number = |at: usize| args.get(at)?.to_str()?.parse::<u64>().ok();
    Some(Place { fd: i32::try_from(number(0)?).ok()?, dev: number(1)?, ino: number(2)? })
}

/// As it stands in an errand.
pub(crate) fn executable() -> Result<(u64, u64), String> {
    let identity = exe::identity().map_err(|e| format!("/proc/self/exe: {e}"))?;
    Ok((identity.dev, identity.ino))
}

/// C6; the exit code.
fn finish(ending: Ending, reply: Option<&File>) -> Result<i32, String> {
    let (verdict, value) = match ending {
        Ending::Exit(code) => return Ok(code),
        Ending::CannotBegin(why) => return Err(why),
        Ending::Reply(verdict, value) => (verdict, value),
    };
    let reply = reply.ok_or("nobody wants its answer")?;
    let head = postcard::to_stdvec::<Verdict>(&verdict).map_err(|e| e.to_string())?;
    parcel::write(reply, [&head, &value]).map_err(|e| format!("its answer: {e}"))?;
    Ok(0)
}
