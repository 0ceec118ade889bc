//! The examples, run as their users run them: what they print, how they end, what they leave behind.
//!
//! Each runs with workers and inline, in a `/dev/shm` of its own of 64 MiB where the machine permits that. A watchdog ends
//! what hangs.

#[path = "care/program.rs"]
mod program;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use program::watched;

const HANGS_AFTER: Duration = Duration::from_secs(180);
/// What every example must do with.
const ROOM_MIB: u32 = 64;
/// Within this time the guardian removes what its coordinator has not.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Marks, in the output, the exit code and what is left after it.
const AFTER: &str = "== afterwards";

/// Built beside the tests: `target/…/deps/examples-…` and `target/…/examples/NAME`.
fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("our own path");
    let path = own.parent().and_then(Path::parent).expect("…/deps/").join("examples").join(name);
    assert!(path.is_file(), "{} is not built: cargo build --examples", path.display());
    path
}

/// How a run ended.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    /// What follows `label` on its line.
    fn value(&self, label: &str) -> &str {
        let line = self.out.lines().find_map(|line| line.trim_start().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no line `{label}` in:\n{}{}", self.out, self.err)).trim()
    }

    fn succeeded(self) -> Run {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }
}

/// Runs `command`, which must not hang.
fn run_to_end(command: Command) -> Run {
    let (status, out, err) = watched(command, HANGS_AFTER);
    assert!(status.is_some(), "it hung:\n{out}{err}");
    Run { code: status.and_then(|s| s.code()), out, err }
}

/// Whether a process may have a `/dev/shm` of its own here.
fn has_private_room() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm";
        let tried = Command::new("unshare").args(["-m", "sh", "-c", mount]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}

/// A shell that mounts a tmpfs of `mib`, runs its arguments there, and tells the exit code and then what is left.
fn in_room_of(mib: u32) -> Command {
    let seconds = GONE_WITHIN.as_secs();
    let script = format!(
        "mount -t tmpfs -o size={mib}m tmpfs /dev/shm || exit 99\n\
         \"$@\"; code=$?\n\
         [ -z \"$(ls -A /dev/shm)\" ] || sleep {seconds}\n\
         echo '{AFTER}'; ls -A /dev/shm; exit $code"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]);
    command
}

/// Runs an example with `workers`, in a room of its own if there can be one.
fn run(workers: u32, name: &str, arguments: &[&str]) -> Run {
    let mut command = match has_private_room() {
        true => in_room_of(ROOM_MIB),
        false => Command::new("env"),
    };
    command.arg(example(name)).args(arguments).env("SWATH_WORKERS", workers.to_string());
    if let Some(python) = python() {
        command.env("PYTHON", python);
    }
    nothing_left(run_to_end(command))
}

/// Splits off what the shell tells afterwards.
fn nothing_left(mut run: Run) -> Run {
    if let Some((said, left)) = run.out.split_once(AFTER) {
        assert_eq!(left.trim(), "", "left in /dev/shm after\n{said}{}", run.err);
        run.out = said.to_owned();
    }
    run
}

/// Says that a test did less than it could.
fn skipped(what: &str, why: &str) {
    eprintln!("skipped: {what}: {why}");
}

/// A Python with numpy: `PYTHON`, the system's, or one made once in the build's temporary directory.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let imports = |python: &Path, module: &str| {
        let tried = Command::new(python).args(["-c", &format!("import {module}")]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let find = || {
        let system = PathBuf::from(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
        if imports(&system, "numpy") {
            return Some(system);
        }
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("numpy");
        let made = venv.join("bin/python");
        if !imports(&made, "numpy, joblib") {
            Command::new(&system).args(["-m", "venv"]).arg(&venv).output().ok()?;
            let pip = ["-m", "pip", "install", "--quiet", "--timeout", "10", "--retries", "1"];
            Command::new(&made).args(pip).args(["numpy", "joblib"]).output().ok()?;
        }
        imports(&made, "numpy").then_some(made)
    };
    PYTHON.get_or_init(find).as_deref()
}

/// Decodes it as a viewer would; its size.
fn png_size(path: &Path) -> (u32, u32) {
    let mut signature = [0; 8];
    File::open(path).expect("a picture").read_exact(&mut signature).expect("8 bytes");
    assert_eq!(&signature, b"\x89PNG\r\n\x1a\n");
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).expect("a picture")))
        .read_info()
        .expect("a header");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    reader.next_frame(&mut pixels).expect("pixels");
    let colours = pixels.chunks(3).collect::<std::collections::HashSet<_>>();
    assert!(colours.len() > 50, "a picture of something has more than {} colours", colours.len());
    (reader.info().width, reader.info().height)
}

#[test]
fn quickstart() {
    for workers in [0, 1, 3] {
        let run = run(workers, "quickstart", &[]).succeeded();
        assert_eq!(run.value("sum of (2 √i)² for i below a million:"), "1999998000000");
        assert_eq!(run.value("workers:"), workers.to_string());
    }
}

#[test]
fn quickstart_says_what_is_missing_when_dev_shm_is_full() {
    if !has_private_room() {
        return skipped("quickstart_says_what_is_missing_when_dev_shm_is_full", "no private /dev/shm here");
    }
    for workers in ["0", "2"] {
        let mut command = in_room_of(1);
        command.arg(example("quickstart")).env("SWATH_WORKERS", workers);
        let run = nothing_left(run_to_end(command));
        assert_eq!(run.code, Some(1), "{}{}", run.out, run.err);
        assert!(!run.err.contains("panicked"), "{}", run.err);
        for part in ["8004096 bytes", "bytes free", "/dev/shm", "unnamed", "file-backed", "--shm-size"] {
            assert!(run.err.contains(part), "no `{part}` in: {}", run.err);
        }
    }
}

#[test]
fn pi_has_the_same_digits_for_any_number_of_workers() {
    let estimates: Vec<String> = [0, 1, 2, 5]
        .map(|workers| {
            let run = run(workers, "pi", &["2"]).succeeded();
            assert_eq!(run.value("points"), "2000000");
            assert!(run.value("workers").starts_with(&workers.to_string()));
            run.value("estimate").to_owned()
        })
        .into();
    assert!(estimates.windows(2).all(|w| w[0] == w[1]), "{estimates:?}");
    let estimate: f64 = estimates[0].parse().expect("a number");
    assert!((estimate - std::f64::consts::PI).abs() < 5.0 * 0.00117, "{estimate}: five standard deviations");
}

#[test]
fn histogram_counts_the_same_with_and_without_a_lock() {
    let pictures = [0, 1, 3].map(|workers| {
        let run = run(workers, "histogram", &[]).succeeded();
        assert_eq!(run.value("the same:"), "true");
        let bins: Vec<&str> = run.out.lines().take(12).collect();
        assert!(bins.iter().all(|line| line.contains('#') || line.contains("-3.0") || line.contains("2.5")));
        bins.join("\n")
    });
    assert!(pictures.windows(2).all(|w| w[0] == w[1]), "{pictures:?}");
}

#[test]
fn who_holds_it_says_who() {
    let run = run(2, "who_holds_it", &[]).succeeded();
    for part in [
        "died holding it; the value is [70, 0]",
        "it makes the value whole, [70, 30]",
        "the one after that: Some([70, 30])",
        "has held it for at least 20",
        "taken over and repaired",
        "deadlock: slot",
    ] {
        assert!(run.out.contains(part), "no `{part}` in:\n{}", run.out);
    }
}

/// One side of the chat, with what it prints.
struct Talker {
    child: std::process::Child,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Talker {
    fn start(name: &str) -> Talker {
        let mut command = Command::new(example("chat"));
        command.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("an example starts");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines();
        Talker { child, said }
    }

    fn say(&mut self, line: &str) {
        use std::io::Write;
        writeln!(self.child.stdin.as_mut().expect("piped"), "{line}").expect("it reads");
    }

    fn said(&mut self) -> String {
        self.said.next().expect("it goes on").expect("text")
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn chat_tells_who_is_gone_and_lets_another_take_the_place() {
    let name = format!("chat-test-{}", std::process::id());
    let mut one = Talker::start(&name);
    assert!(one.said().starts_with("end A of"), "the first has end A");
    for greeting in ["hello", "hello again"] {
        let mut two = Talker::start(&name);
        assert!(two.said().starts_with("end B of"), "the second has end B");
        two.say(greeting);
        assert_eq!(one.said(), format!("> {greeting}"));
        one.say("welcome");
        assert_eq!(two.said(), "> welcome");
        let pid = two.child.id().to_string();
        drop(two);
        let gone = one.said();
        assert!(gone.starts_with("* slot") && gone.ends_with("is gone"), "{gone}");
        assert!(gone.contains(&pid) || gone.contains("gone)"), "{gone}");
    }
    drop(one.child.stdin.take());
    assert!(one.child.wait().expect("our child").success());
}

#[test]
fn mandelbrot_is_the_same_picture_whoever_paints_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let pictures = [0, 3].map(|workers| {
        let path = directory.path().join(format!("{workers}.png"));
        let run = run(workers, "mandelbrot", &[path.to_str().expect("UTF-8")]).succeeded();
        assert_eq!(run.value("wrote"), path.to_str().expect("UTF-8"));
        let chunks = |worker: u32| -> u32 {
            let line = run.value(&format!("worker {worker}:"));
            line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
        };
        assert_eq!((0..workers.max(1)).map(chunks).sum::<u32>(), 150, "{}", run.out);
        assert_eq!(png_size(&path), (900, 600));
        std::fs::read(path).expect("a picture")
    });
    assert!(pictures[0] == pictures[1]);
}

#[test]
fn heat_spreads_as_in_one_thread() {
    let directory = tempfile::tempdir().expect("a directory");
    for workers in [0, 2, 3] {
        let path = directory.path().join(format!("{workers}.png"));
        let run = run(workers, "heat", &[path.to_str().expect("UTF-8"), "100"]).succeeded();
        let digest = |who: &str| run.value(who).rsplit(' ').next().map(str::to_owned);
        assert_eq!(digest("team"), digest("serial"), "{}", run.out);
        assert!(run.out.contains(&format!("a team of {}", workers.max(1))), "{}", run.out);
        assert_eq!(png_size(&path), (640, 320));
    }
}

#[test]
fn numpy_sees_a_live_array_and_its_change() {
    for workers in [0, 2] {
        let run = run(workers, "numpy_view", &[]).succeeded();
        if run.err.contains("SKIPPED") {
            assert!(python().is_none(), "{}", run.err);
            return skipped("numpy_sees_a_live_array_and_its_change", "no python3 with numpy");
        }
        assert!(run.value("numpy now sees").starts_with("sum 660.0, last row [90.0, 100.0, 110.0]"));
        assert!(run.out.contains("opened float64 (4, 3), sum 66.0"), "{}", run.out);
        assert!(run.out.contains("still there"), "{}", run.out);
    }
}

#[test]
fn numpy_view_without_numpy_says_so_and_succeeds() {
    let mut command = Command::new(example("numpy_view"));
    command.env("PYTHON", "/nonexistent/python3");
    let run = run_to_end(command).succeeded();
    assert!(run.err.contains("SKIPPED: /nonexistent/python3 has no numpy"), "{}", run.err);
}

#[test]
fn survive_kill_keeps_every_bit() {
    for workers in [0, 1, 3] {
        let run = run(workers, "survive_kill", &["--kills", "60"]).succeeded();
        assert!(run.out.contains("equal, bit for bit"), "{}", run.out);
        let number = |label| run.value(label).parse::<u64>().expect("a number");
        assert_eq!(number("kills sent"), if workers == 0 { 0 } else { 60 });
        assert!(workers == 0 || number("kills that hit a claimed chunk") > 0, "{}", run.out);
    }
}

#[test]
fn the_mistake_of_giving_an_update_as_out_shows_in_a_debug_build() {
    if !cfg!(debug_assertions) {
        return skipped("the_mistake_of_giving_an_update_as_out_shows_in_a_debug_build", "a release build");
    }
    for workers in [0, 2] {
        let run = run(workers, "survive_kill", &["--out", "--kills", "0"]);
        assert_eq!(run.code, Some(1), "{}{}", run.out, run.err);
        assert!(run.out.contains("1048576 elements are wrong, 1048576 of them NaN"), "{}", run.out);
    }
}

#[test]
fn python_pools_meet_the_same_kill() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skipped("python_pools_meet_the_same_kill", "no python3");
    }
    let run = run(2, "survive_kill", &["--kills", "20", "--against-python"]).succeeded();
    for rival in ["multiprocessing.Pool", "ProcessPoolExecutor", "joblib/loky"] {
        let fate = run.value(rival);
        if fate.starts_with("skipped") {
            skipped("python_pools_meet_the_same_kill", &format!("{rival}: {fate}"));
            continue;
        }
        let known = ["finished right", "finished wrong", "error: ", "hung: "];
        assert!(known.iter().any(|start| fate.starts_with(start)), "{rival}: {fate}\n{}", run.err);
    }
}

#[test]
fn wrong_arguments_are_told() {
    let mut command = Command::new(example("survive_kill"));
    command.args(["--kills", "many"]);
    let run = run_to_end(command);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("usage: survive_kill"), "{}", run.err);
}
