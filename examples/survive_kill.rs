//! Workers are killed by SIGKILL all the time, in the middle of an update in place, and the answer keeps every bit.
//!
//! ```text
//! cargo run --release --example survive_kill -- [--kills N] [--workers N] [--out] [--against-python]
//! ```
//!
//! `y += x` is the hard case: a chunk that is half done can neither be left as it is nor simply be run again. Since the
//! kernel is given `&mut y`, each worker copies its chunk aside before it begins; after a death, and only when the dead
//! worker's exit is confirmed, the copy is put back and the chunk is free for the next. No option asks for it.
//!
//! `--out` makes the mistake of giving `out(&mut y)`, the word for "written, never read". Then nothing is copied aside. A
//! debug build fills such rows with NaN before the kernel sees them, so that the mistake shows at the first run, not at the
//! first kill: try it without `--release`.
//!
//! `--against-python` kills one worker of each of Python's pools in the middle of the same work (`survive_kill.py`, beside
//! this file; `PYTHON=…` chooses the interpreter).
//!
//! What to change first: the kernel in `updates`.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use swath::ChunkRng;
use swath::prelude::*;
use swath_platform::{process, signal};

const ELEMENTS: usize = 1 << 20;
const ROUNDS_MIN: usize = 5;
/// A killer that finds nobody to kill for so long gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Python's pools that have said nothing by then are called hung.
const HUNG_AFTER: Duration = Duration::from_secs(10);
const RIVALS: [&str; 3] = ["multiprocessing.Pool", "ProcessPoolExecutor", "joblib/loky"];

struct Wanted {
    kills: u64,
    workers: Option<usize>,
    out: bool,
    against_python: bool,
}

fn wanted() -> Option<Wanted> {
    let mut wanted = Wanted { kills: 200, workers: None, out: false, against_python: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--kills" => wanted.kills = arguments.next()?.parse().ok()?,
            "--workers" => wanted.workers = Some(arguments.next()?.parse().ok()?),
            "--out" => wanted.out = true,
            "--against-python" => wanted.against_python = true,
            _ => return None,
        }
    }
    Some(wanted)
}

fn main() -> ExitCode {
    swath::init();
    let Some(wanted) = wanted() else {
        eprintln!("usage: survive_kill [--kills N] [--workers N] [--out] [--against-python]");
        return ExitCode::from(2);
    };
    let right = match survive(&wanted) {
        Ok(right) => right,
        Err(error) => {
            eprintln!("survive_kill: {error}");
            return ExitCode::FAILURE;
        }
    };
    if wanted.against_python {
        println!("\nthe same update, one worker killed in the middle, in Python's pools:");
        if let Err(error) = against_python() {
            eprintln!("survive_kill: python: {error}");
        }
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Updates for as long as somebody kills; whether the result is the serial one.
fn survive(wanted: &Wanted) -> Result<bool> {
    let pool = match wanted.workers {
        Some(workers) => Pool::builder().workers(workers).build()?,
        None => Pool::builder().build()?,
    };
    let x = SharedArray::from_shape_fn(ELEMENTS, |i| (i as f64).sin())?;
    let mut y = SharedArray::<f64, _>::zeros(ELEMENTS)?;

    let (over, began) = (AtomicBool::new(false), Instant::now());
    let (updates, killed) = thread::scope(|scope| {
        let killer = scope.spawn(|| kill_at_random(&pool, wanted.kills, &over));
        let updates = updates(&pool, &x, &mut y, wanted.out, || killer.is_finished());
        over.store(true, Ordering::Relaxed);
        (updates, killer.join().expect("the killer does not panic"))
    });
    let (rounds, total) = updates?;
    let wall = began.elapsed().as_secs_f64();

    let mut serial = vec![0f64; ELEMENTS];
    for _ in 0..rounds {
        serial.iter_mut().zip(x.view()).for_each(|(y, x)| *y += x);
    }
    let (ours, theirs) = (digest(y.view().iter()), digest(&serial));
    let operand = if wanted.out { "out(&mut y)" } else { "&mut y" };
    println!(
        "y += x over {operand}: {ELEMENTS} elements, {} workers, {rounds} rounds, {wall:.2} s",
        pool.workers()
    );
    println!("kills sent                     {killed}");
    println!("kills that hit a claimed chunk {}", total.killed_in_chunk);
    println!("chunks run again               {} of {}", total.retried, total.chunks);
    let verdict = if ours == theirs { "equal, bit for bit" } else { "DIFFERENT" };
    println!("digest {ours:016x}, serial {theirs:016x}: {verdict}");
    if ours != theirs {
        explain(&y, &serial);
    }
    Ok(ours == theirs)
}

/// Rounds of `y += x` until `enough`; how many, and the phases' accounts in one.
fn updates(
    pool: &Pool,
    x: &SharedArray<f64, ndarray::Ix1>,
    y: &mut SharedArray<f64, ndarray::Ix1>,
    as_out: bool,
    enough: impl Fn() -> bool,
) -> Result<(usize, Report)> {
    let (mut rounds, mut total) = (0, Report::default());
    while rounds < ROUNDS_MIN || !enough() {
        let report = if as_out {
            // The mistake: `+=` reads what it is about to write.
            pool.phase((x, out(&mut *y))).for_each_report(|_, (x, mut y)| y += &x)?
        } else {
            pool.phase((x, &mut *y)).for_each_report(|_, (x, mut y)| y += &x)?
        };
        total.absorb(&report);
        rounds += 1;
    }
    Ok((rounds, total))
}

/// Kills workers of `pool`, chosen at random at random moments, until `kills` are sent or all is `over`; how many.
fn kill_at_random(pool: &Pool, kills: u64, over: &AtomicBool) -> u64 {
    let (mut random, mut sent, mut last) = (ChunkRng::new(42, 0), 0, Instant::now());
    while sent < kills && last.elapsed() < PATIENCE && !over.load(Ordering::Relaxed) && pool.workers() > 0 {
        thread::sleep(Duration::from_micros(random.below(8000)));
        let pids = pool.pids();
        if pids.is_empty() {
            continue;
        }
        let pid = pids[random.below(pids.len() as u64) as usize];
        // Open first, then see that the pid is still a worker's: so that no process that has inherited the number is hit.
        let Ok(worker) = process::pidfd_open(pid) else { continue };
        if pool.pids().contains(&pid) && process::pidfd_signal(&worker, signal::KILL).is_ok() {
            (sent, last) = (sent + 1, Instant::now());
        }
    }
    sent
}

/// FNV-1a over the bits: equal only if every element is.
fn digest<'a>(elements: impl IntoIterator<Item = &'a f64>) -> u64 {
    elements.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, element| {
        (hash ^ element.to_bits()).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn explain(y: &SharedArray<f64, ndarray::Ix1>, serial: &[f64]) {
    let wrong = y.view().iter().zip(serial).filter(|(y, serial)| y.to_bits() != serial.to_bits()).count();
    let nan = y.view().iter().filter(|y| y.is_nan()).count();
    println!("{wrong} elements are wrong, {nan} of them NaN");
    if nan > 0 {
        println!(
            "NaN is what a debug build puts into rows given as out(…): a kernel must not read them; an update is &mut"
        );
    } else {
        println!("chunks that died half done were run again on top of the half: an update is &mut");
    }
}

/// Runs the Python script once for each rival and prints what became of it.
fn against_python() -> std::io::Result<()> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let directory = std::env::temp_dir().join(format!("survive_kill-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let script = directory.join("survive_kill.py");
    std::fs::write(&script, include_str!("survive_kill.py"))?;
    for rival in RIVALS {
        let mut command = Command::new(&python);
        command.arg(&script).arg(rival).current_dir(&directory);
        println!("{rival:22} {}", fate(command)?);
    }
    std::fs::remove_dir_all(&directory)
}

/// What became of it: what it says last, or that it hangs. Its processes are gone afterwards in either case.
fn fate(mut command: Command) -> std::io::Result<String> {
    use std::os::unix::process::CommandExt;
    let mut python = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let began = Instant::now();
    let ended = loop {
        match python.try_wait()? {
            None if began.elapsed() < HUNG_AFTER => thread::sleep(Duration::from_millis(10)),
            ended => break ended,
        }
    };
    process::kill_group(python.id(), signal::KILL).ok();
    let output = python.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(match (ended, said.lines().last()) {
        (None, _) => format!("hung: nothing after {} s", HUNG_AFTER.as_secs()),
        (Some(_), Some(line)) => format!("{line} ({:.1} s)", began.elapsed().as_secs_f64()),
        (Some(status), None) => format!("ended without a word: {status}"),
    })
}
