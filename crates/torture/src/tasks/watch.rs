//! Nobody waits for ever: when nothing has gone on for long, the run says who waits for what, and ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use swath_platform::process;

/// Longer without progress is hung: every wait of the library ends by itself long before.
const PATIENCE: Duration = Duration::from_secs(30);
/// Exit code of a coordinator that hung.
const EXIT_HUNG: i32 = 3;

static PROGRESS: AtomicU64 = AtomicU64::new(0);
static DOING: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Something went on.
pub(crate) fn progress() {
    PROGRESS.fetch_add(1, Ordering::Relaxed);
}

/// The calling thread says what it is about to wait for.
pub(crate) fn doing(what: impl Into<String>) {
    let me: ThreadId = std::thread::current().id();
    let name = std::thread::current().name().unwrap_or("").to_owned();
    DOING.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{name} {me:?}"), what.into());
    progress();
}

/// The calling thread waits for nothing any more.
pub(crate) fn done() {
    let me: ThreadId = std::thread::current().id();
    let name = std::thread::current().name().unwrap_or("").to_owned();
    DOING.lock().unwrap_or_else(PoisonError::into_inner).remove(&format!("{name} {me:?}"));
    progress();
}

/// Looks from now on.
pub(crate) fn begin() {
    std::thread::spawn(|| {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = PROGRESS.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                dump();
                std::process::exit(EXIT_HUNG);
            }
        }
    });
}

/// Who waits for what, and where each thread and each process of ours is.
fn dump() {
    println!("HUNG   nothing went on for {PATIENCE:?}; waiting:");
    for (who, what) in DOING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("  {who}: {what}");
    }
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let me = process::getpid();
    for pid in process::all_pids().unwrap_or_default() {
        let ours = pid == me || process::stat(pid).is_ok_and(|stat| stat.parent == me);
        let threads = if ours { std::fs::read_dir(format!("/proc/{pid}/task")).ok() } else { None };
        for thread in threads.into_iter().flatten().flatten() {
            let path = thread.path().display().to_string();
            let state = read(format!("{path}/stat")).rsplit_once(") ").map(|(_, rest)| rest.chars().next());
            println!(
                "  {pid} {} {:?} {}",
                read(format!("{path}/comm")),
                state.flatten().unwrap_or('?'),
                read(format!("{path}/wchan"))
            );
        }
    }
}
