//! A second process on the same memory: forked, pinned where the question says, and awaited.

use std::mem::ManuallyDrop;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use swath_platform::file;
use swath_platform::memory::AlignedMap;
use swath_sync::{DeathCause, Party, SlotId, SlotTable};

/// Where the two processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Both on the first processor: every hand-over is a switch.
    OneCpu,
    /// Each on a processor of its own: every hand-over of a sleeper is an interrupt.
    TwoCpus,
    /// As the kernel likes.
    Free,
}

impl Placement {
    /// All of them, with their names.
    pub const ALL: [(Placement, &'static str); 3] = [
        (Placement::OneCpu, "pinned on one cpu"),
        (Placement::TwoCpus, "pinned on two cpus"),
        (Placement::Free, "free"),
    ];

    fn cpu(self, second: bool) -> Option<usize> {
        match self {
            Placement::OneCpu => Some(0),
            Placement::TwoCpus => Some(usize::from(second)),
            Placement::Free => None,
        }
    }
}

/// The processors that this process may use.
#[derive(Clone, Copy)]
pub struct Processors(libc::cpu_set_t);

impl Processors {
    /// As the calling thread finds them.
    pub fn allowed() -> Processors {
        Processors(allowed())
    }

    /// Puts the calling thread and the one thread of process `pid` where `placement` says.
    pub fn place(&self, placement: Placement, pid: u32) {
        pin(0, &self.0, placement.cpu(false));
        pin(pid, &self.0, placement.cpu(true));
    }
}

/// Pins the thread (0: the calling one) to the `n`th of the processors that this process may use; to all of them without.
fn pin(thread: u32, allowed: &libc::cpu_set_t, n: Option<usize>) {
    let mut set = *allowed;
    if let Some(n) = n {
        // SAFETY: plain data; the macros look at bits inside it.
        unsafe {
            let mut cpus = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, allowed));
            let cpu = cpus.nth(n).expect("so many processors");
            libc::CPU_ZERO(&mut set);
            libc::CPU_SET(cpu, &mut set);
        }
    }
    // SAFETY: a live local of the size given.
    let done = unsafe { libc::sched_setaffinity(thread as i32, size_of::<libc::cpu_set_t>(), &set) };
    assert_eq!(done, 0, "sched_setaffinity");
}

fn allowed() -> libc::cpu_set_t {
    // SAFETY: plain data, for which zero is valid; filled by the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set), 0);
        set
    }
}

/// Zeroed memory that a forked partner shares; never unmapped.
pub fn shared_memory(bytes: usize) -> *mut u8 {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE);
    // SAFETY: a fresh mapping.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED, "mmap");
    memory.cast()
}

/// Zeroed memory that another process finds by the path returned; never unmapped.
pub fn shared_file(bytes: usize) -> std::io::Result<(String, *mut u8)> {
    let file = file::memfd("bench")?;
    file::set_len(&file, bytes as u64)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.into_raw_fd());
    let memory = open_shared_file(&path, bytes)?;
    Ok((path, memory))
}

/// The same memory, in the other process.
pub fn open_shared_file(path: &str, bytes: usize) -> std::io::Result<*mut u8> {
    let file = std::fs::File::options().read(true).write(true).open(path)?;
    Ok(ManuallyDrop::new(AlignedMap::new(&file, bytes, true)?).as_ptr())
}

/// This process as a party, with room for one more.
pub struct Table {
    table: &'static SlotTable,
    /// This process.
    pub me: SlotId,
    /// The partner, whichever process plays it.
    pub partner: SlotId,
}

impl Table {
    /// Enters a new table.
    pub fn enter() -> Table {
        // SAFETY: zeroed, page-aligned, large enough, never unmapped.
        let table = unsafe { SlotTable::from_ptr(shared_memory(size_of::<SlotTable>())) };
        let me = table.reserve().expect("a free slot");
        assert!(table.enter(me));
        // SAFETY: 1. reserved above; 2. and 3. there is no other table.
        unsafe { Party::install(table, me) };
        let partner = table.reserve().expect("a free slot");
        Table { table, me, partner }
    }

    /// The calling thread.
    pub fn party(&self) -> Party {
        Party::current().expect("entered")
    }

    /// Runs `here` in this process and `there` in a forked one, beginning together, each where `placement` says. `there` must not
    /// allocate. Returns what `here` returned.
    pub fn with_partner<R>(
        &mut self,
        placement: Placement,
        here: impl FnOnce(&Party) -> R,
        there: impl FnOnce(&Party),
    ) -> R {
        // SAFETY: zeroed, aligned, never unmapped.
        let ready = unsafe { &*shared_memory(4096).cast::<AtomicU32>() };
        let both = |ready: &AtomicU32| {
            ready.fetch_add(1, Ordering::SeqCst);
            while ready.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
        };
        let before = allowed();
        let mine = self.party();
        // SAFETY: this process has one thread; the child does what `there` does, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            pin(0, &before, placement.cpu(true));
            // SAFETY: reserved for it, no other table; this process has one thread, and what it was before it uses no more.
            unsafe {
                Party::install(self.table, self.partner);
                assert!(self.table.enter_watched(self.partner));
            }
            let party = Party::current().expect("entered");
            both(ready);
            there(&party);
            // SAFETY: ends the child without anybody's destructors.
            unsafe { libc::_exit(0) };
        }
        pin(0, &before, placement.cpu(false));
        both(ready);
        let result = here(&mine);
        let mut status = 0;
        // SAFETY: our own child, a live local.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the partner failed");
        pin(0, &before, None);
        // SAFETY: it was reaped.
        unsafe { self.table.mark_dead(self.partner, DeathCause::exit(0)) };
        self.table.release(self.partner);
        self.partner = self.table.reserve().expect("its slot");
        result
    }
}
