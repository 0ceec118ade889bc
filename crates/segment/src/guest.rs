//! A place in the session of another program: what a process needs before it may use that program's objects.
//!
//! A guest has a slot of the session's table like a worker, but nobody started it and nobody watches it: it holds the lock
//! of its slot's number on the control segment while it lives, and who waits for it asks the kernel. Steps Q1–Q5 of
//! `README.md`. Also here: how a member looks at the locks of others.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use swath_platform::{file, process};
use swath_sync::slots::{SlotId, SlotTable, Witness};
use swath_sync::{NoParty, Party, Peers};

use crate::control::{self, Control};
use crate::error::{Error, Result};
use crate::layout::{HeaderImage, LAYOUT_HASH, LAYOUT_VERSION};
use crate::name::SessionId;
use crate::snapshot::{LockFile, read_header};

/// Attempts to get a slot: a peer that looks before our lock is taken gives the slot up.
const ATTEMPTS: usize = 16;

/// This process's place in one other session, shared by all that it uses from there; given back on drop.
#[derive(Debug)]
pub(crate) struct Guest {
    id: SessionId,
    control: &'static Control,
    slot: SlotId,
    pid: u32,
    /// Another open file description than anybody else's; its lock says that we live.
    lock: Arc<OwnedFd>,
}

static GUESTS: Mutex<Vec<Weak<Guest>>> = Mutex::new(Vec::new());

impl Guest {
    /// The place in that session, taken now if there is none yet.
    ///
    /// # Errors
    ///
    /// The session has ended, is of another build or full.
    pub(crate) fn of(id: &SessionId, uid: u32) -> Result<Arc<Guest>> {
        let mut guests = GUESTS.lock().unwrap_or_else(PoisonError::into_inner);
        guests.retain(|guest| guest.strong_count() > 0);
        let here = |guest: &Arc<Guest>| guest.id == *id && guest.pid == process::getpid();
        if let Some(guest) = guests.iter().filter_map(Weak::upgrade).find(here) {
            return Ok(guest);
        }
        let guest = Arc::new(Guest::join(id, uid)?);
        guests.push(Arc::downgrade(&guest));
        Ok(guest)
    }

    /// Q1–Q4.
    fn join(id: &SessionId, uid: u32) -> Result<Guest> {
        let name = id.lock_name(uid);
        let ended = || Error::NotFound { name: name.clone() };
        let LockFile { fd, .. } = LockFile::open(&name, file::Access::ReadWrite).ok_or_else(ended)?;
        let header = read_header(&fd).ok_or_else(ended)?;
        if !header.same_layout() {
            let expected = format!("{LAYOUT_VERSION}/{LAYOUT_HASH:016x}");
            return Err(Error::OtherLayout { found: header.layout(), expected });
        }
        let whole = file::stat(&fd).is_ok_and(|stat| stat.size == size_of::<Control>() as u64);
        let alive = file::ofd_is_locked(&fd).map_err(|e| Error::system("look at the lock of", &name, e))?;
        if !whole || !alive {
            return Err(ended());
        }
        let control = control::map_elsewhere(&fd)?;
        let lock = Arc::new(fd);
        watch_peers(control.slots(), &header, lock.clone(), None);
        match take_slot(control, &header, &lock, &name) {
            Ok(slot) => {
                watch_peers(control.slots(), &header, lock.clone(), Some(slot.index));
                Ok(Guest { id: id.clone(), control, slot, pid: process::getpid(), lock })
            }
            Err(error) => {
                Peers::forget(control.slots());
                control::unmap_elsewhere(control);
                Err(error)
            }
        }
    }

    /// The calling thread as a party of that session.
    ///
    /// # Safety
    ///
    /// 1. What is used with this party is used with parties of that session only, and while this value lives.
    pub(crate) unsafe fn party(&self) -> std::result::Result<Party, NoParty> {
        // SAFETY: 1. `join` reserved it for this process; 2. the caller's 1.
        unsafe { Party::of(self.control.slots(), self.slot, self.pid) }
    }
}

impl Drop for Guest {
    /// Q5. A forked child has a copy of the value, not the place.
    fn drop(&mut self) {
        if self.pid == process::getpid() {
            // The lock first: who gets the slot next must find it free.
            let _ = file::ofd_unlock_byte(&*self.lock, u32::from(self.slot.index));
            // SAFETY: 1. it is ours (the pid is); 2. by the contract of `party`, as this value ends here.
            unsafe { self.control.slots().leave(self.slot) };
            Peers::forget(self.control.slots());
            control::unmap_elsewhere(self.control);
        }
    }
}

/// Q3, Q4.
fn take_slot(control: &'static Control, header: &HeaderImage, lock: &OwnedFd, name: &str) -> Result<SlotId> {
    let slots = control.slots();
    let same = header.pid_namespace == process::pid_namespace();
    let witness = if same { Witness::Pidfd } else { Witness::Lock };
    let ticks = process::start_ticks(process::getpid()).unwrap_or(0);
    slots.ask_about_all();
    // Those that were refused stay reserved meanwhile, so that the next attempt gets another one.
    let mut refused = Vec::new();
    let mut taken = None;
    let mut failed = None;
    while taken.is_none() && failed.is_none() && refused.len() < ATTEMPTS {
        // SAFETY: they are ours.
        let Some(slot) = (unsafe { slots.reserve_for_myself(witness, ticks) }) else { break };
        match file::ofd_try_lock_byte(lock, u32::from(slot.index)) {
            Ok(true) => {
                // It maps nothing that the session's owner could want back.
                control.acknowledge(slot, u64::MAX);
                if slots.enter(slot) {
                    taken = Some(slot);
                } else {
                    let _ = file::ofd_unlock_byte(lock, u32::from(slot.index));
                    refused.push(slot);
                }
            }
            // A former tenant's lock, kept by a process that it forked.
            Ok(false) => refused.push(slot),
            Err(error) => {
                refused.push(slot);
                failed = Some(Error::system("lock a slot of", name, error));
            }
        }
    }
    // SAFETY: 1. we reserved them; 2. no party was made of them.
    refused.into_iter().for_each(|slot| unsafe { slots.leave(slot) });
    let full = || {
        let why = "all places in its session are taken".to_owned();
        Error::NotOurs { object: name.to_owned(), why }
    };
    taken.ok_or_else(|| failed.unwrap_or_else(full))
}

/// How this process learns of deaths among the parties that nobody watches: their locks on the control segment, that of
/// slot 0, the coordinator's, being the session's.
///
/// The kernel does not tell of locks that are held through the very description that asks: of `own` we know.
pub(crate) fn watch_peers(
    slots: &'static SlotTable,
    header: &HeaderImage,
    lock: Arc<OwnedFd>,
    own: Option<u16>,
) {
    let same_pids = header.pid_namespace == process::pid_namespace();
    let lock_is_free = Arc::new(move |index: u16| {
        if own == Some(index) {
            return Some(false);
        }
        let held = match index {
            0 => file::ofd_is_locked(&*lock),
            index => file::ofd_byte_is_locked(&*lock, u32::from(index)),
        };
        held.ok().map(|held| !held)
    });
    // SAFETY: 1. the header has the namespace of the one who notes pids; guests of other namespaces note no pid to be believed
    // (`take_slot`). 2. A guest locks its slot's byte before it enters, and unlocks it when it uses nothing any more, or ends;
    // the session's own lock is held until the coordinator ends.
    unsafe { Peers { same_pids, lock_is_free }.register(slots) };
}
