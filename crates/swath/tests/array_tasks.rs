//! Arrays across tasks and processes: handles in arguments, arrays in results; the same memory at both ends, and nobody's when all
//! is over, however it ends.

mod stage;

use std::process::ExitCode;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use ndarray::{Ix3, IxDyn};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stage::{Actor, PROMISE, eventually, marked, signal_pid};
use swath::prelude::*;
use swath::{Task, isolated, try_isolated};
use swath_platform::{process, signal};

/// Nothing here takes so long; what does, hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        a_handle_shows_the_same_memory_for_reading_only,
        handles_go_wherever_arguments_go,
        what_a_task_carries_lives_until_it_is_over,
        nobody_writes_what_a_task_carries,
        a_worker_that_keeps_a_handle_keeps_writers_out,
        a_thousand_handles_leave_no_mapping,
        a_retry_carries_its_handles_again,
        references_that_lie_are_errors,
        a_result_is_the_very_memory_that_the_task_made,
        results_come_from_wherever_values_come,
        a_result_outlives_its_maker,
        results_that_nobody_takes_go,
        what_a_dead_worker_had_made_goes,
        a_killed_coordinator_leaves_no_array,
        what_cannot_travel_says_why,
        levels_of_nesting_lend_and_give,
        inline_pools_do_the_same,
        a_flood_of_arrays_arrives,
        kills_at_random_lose_no_array_and_leave_none,
    ];
    stage::main(tests, stage::cast![coordinator])
}

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().expect("a pool")
}

fn finish<R: serde::de::DeserializeOwned>(task: &Task<R>) -> Result<R> {
    task.result_timeout(PATIENCE).transpose().expect("a task that hangs")
}

fn ramp(n: usize) -> SharedArray<f64, Ix1> {
    SharedArray::from_shape_fn(n, |i| i as f64).expect("an array")
}

/// Inode of an array's memory.
fn inode<T: swath::Element>(array: &SharedArray<T, Ix1>) -> u64 {
    array.array_ref().segment.ino
}

/// Lines of this process's maps about the file of that inode.
fn maps_of(pid: u32, inode: u64) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let is = |line: &&str| line.split_whitespace().nth(4) == Some(&inode.to_string());
    maps.lines().filter(is).map(str::to_owned).collect()
}

/// Whether any process that this test has started, or the test itself, has memory of ours with that inode, mapped or open.
fn is_held(inode: u64) -> bool {
    use std::os::unix::fs::MetadataExt;
    let mark = std::env::var("SWATH_STAGE_TEST").expect("set by the stage");
    marked("SWATH_STAGE_TEST", &mark).into_iter().any(|pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let open = files.filter_map(|entry| {
            let name = std::fs::read_link(entry.path()).ok()?;
            let memory = name.to_string_lossy().contains("memfd:") || name.starts_with("/dev/shm");
            std::fs::metadata(entry.path()).ok().filter(|_| memory).map(|meta| meta.ino())
        });
        !maps_of(pid, inode).is_empty() || open.into_iter().any(|ino| ino == inode)
    })
}

fn kill(pid: u32) {
    let pidfd = process::pidfd_open(pid).expect("a worker");
    process::pidfd_signal(&pidfd, signal::KILL).expect("signalled");
    assert!(process::wait_exit(&pidfd, PATIENCE), "the crash must happen");
}

// ---- functions of tasks ----------------------------------------------------------------------------------------------

type Handle = ArrayHandle<f64, Ix1>;
type Array = SharedArray<f64, Ix1>;

#[derive(Serialize, Deserialize)]
struct Parcel {
    factor: f64,
    first: Option<Handle>,
    rest: Vec<Handle>,
}

fn sum(handle: Handle) -> f64 {
    handle.view().sum()
}

fn sum_times(handle: Handle, factor: f64) -> f64 {
    handle.view().sum() * factor
}

fn sum_of_all(parcel: Parcel) -> f64 {
    let rest: f64 = parcel.rest.iter().map(|handle| handle.view().sum()).sum();
    parcel.factor * (rest + parcel.first.map_or(0.0, |handle| handle.view().sum()))
}

/// What this process has mapped of it: inode, how.
fn look(handle: Handle) -> (u64, Vec<String>) {
    let inode = handle.array_ref().segment.ino;
    (inode, maps_of(process::getpid(), inode))
}

/// An array, and the inode that it has where it is made.
fn make(n: usize) -> (u64, Array) {
    let array = ramp(n);
    (inode(&array), array)
}

fn double(handle: Handle) -> Array {
    SharedArray::from_array(&(&handle.view() * 2.0)).expect("an array")
}

static KEPT: Mutex<Vec<Handle>> = Mutex::new(Vec::new());

fn keep(handle: Handle) {
    KEPT.lock().expect("whole").push(handle);
}

fn forget(_: ()) {
    KEPT.lock().expect("whole").clear();
}

/// Says on a file that it has begun, and waits for another one.
fn wait_for((begun, go, handle): (String, String, Handle)) -> f64 {
    std::fs::write(begun, b"").expect("a place");
    assert!(eventually(PATIENCE, || std::fs::exists(&go).expect("a place")), "nobody says go");
    handle.view().sum()
}

struct Signs {
    _directory: tempfile::TempDir,
    begun: String,
    go: String,
}

impl Signs {
    fn new() -> Signs {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name| directory.path().join(name).to_str().expect("UTF-8").to_owned();
        Signs { begun: path("begun"), go: path("go"), _directory: directory }
    }

    fn args(&self, handle: Handle) -> (String, String, Handle) {
        (self.begun.clone(), self.go.clone(), handle)
    }

    fn await_begin(&self) {
        assert!(eventually(PATIENCE, || std::fs::exists(&self.begun).expect("a place")), "never begins");
    }

    fn go(&self) {
        std::fs::write(&self.go, b"").expect("a place");
    }
}

// ---- handles ---------------------------------------------------------------------------------------------------------

fn a_handle_shows_the_same_memory_for_reading_only() {
    let pool = pool(1);
    for options in [SharedArray::<f64, Ix1>::options(), SharedArray::options().unnamed()] {
        let array = options.from_shape_fn(100_000, |i| i as f64).expect("an array");
        let (seen, maps) = pool.apply(look, array.handle()).expect("a value");
        assert_eq!(seen, inode(&array), "not a copy");
        assert!(maps.len() == 1 && maps[0].contains("r--s"), "mapped once, for reading: {maps:?}");
        assert_eq!(pool.apply(sum, array.handle()).expect("a value"), array.view().sum());
        // A write there is the writer's death.
        let crash = |handle: Handle| -> f64 {
            // SAFETY: none; it is the crash that is asked for.
            unsafe { handle.base_ptr().cast_mut().add(4096).write_volatile(1) };
            0.0
        };
        let error = pool.apply(crash, array.handle()).expect_err("dead");
        assert_eq!(error.kind(), ErrorKind::Died, "{error}");
        assert_eq!(array.view()[1], 1.0);
    }
}

fn handles_go_wherever_arguments_go() {
    let array = ramp(1000);
    let (total, handle) = (array.view().sum(), array.handle());
    fn of_shared(_: ()) -> f64 {
        swath::worker_shared::<Handle>().view().sum()
    }
    fn keep_sum(handle: Handle) {
        swath::set_worker_state(handle.view().sum());
    }
    fn kept_sum(_: ()) -> f64 {
        swath::with_worker_state(|sum: &mut f64| *sum)
    }
    let exit = |handle: Handle| (handle.view().len() % 256) as i32;
    let pool = Pool::builder()
        .workers(2)
        .shared(&handle)
        .initializer(keep_sum, handle.clone())
        .build()
        .expect("a pool");
    assert_eq!(pool.apply(sum, handle.clone()).expect("a value"), total);
    let parcel = || Parcel { factor: 2.0, first: Some(handle.clone()), rest: vec![handle.clone(); 3] };
    assert_eq!(pool.apply(sum_of_all, parcel()).expect("a value"), 8.0 * total);
    assert_eq!(pool.apply(of_shared, ()).expect("a value"), total);
    assert_eq!(pool.apply(kept_sum, ()).expect("a value"), total);
    let many = || (0..200).map(|_| handle.clone());
    assert_eq!(pool.map(sum, many()).expect("values"), vec![total; 200]);
    let pairs = many().zip((0..200).map(f64::from));
    let scaled: Vec<f64> = (0..200).map(|n| f64::from(n) * total).collect();
    assert_eq!(pool.starmap(sum_times, pairs).expect("values"), scaled);
    assert_eq!(pool.imap(sum, many()).collect::<Result<Vec<_>>>().expect("values"), vec![total; 200]);
    assert_eq!(pool.map_async(sum, many()).and_then(|b| b.result()).expect("values"), vec![total; 200]);
    let mut sums = SharedArray::<f64, Ix1>::zeros(10).expect("an array");
    pool.phase(&mut sums)
        .args(&handle)
        .for_each(|ctx, mut rows| rows += ctx.args().view().sum())
        .expect("done");
    assert!(sums.view().iter().all(|s| *s == total));
    assert_eq!(isolated(sum, handle.clone()).expect("a value"), total);
    let status = Process::spawn(exit, handle.clone()).and_then(|p| p.join()).expect("its end");
    assert_eq!(status.code(), Some(1000 % 256));
    // A handle that comes back is the one that went.
    let back: Handle = pool.apply(|handle: Handle| handle, handle.clone()).expect("a handle");
    assert_eq!(back.base_ptr(), handle.base_ptr(), "mapped once here, too");
    // Its owner may let go while the answer is on its way.
    let task = pool.submit(|handle: Handle| handle, handle.clone()).expect("submitted");
    task.wait();
    drop((back, handle, array, pool));
    assert_eq!(finish(&task).expect("a handle").view().sum(), total);
}

fn what_a_task_carries_lives_until_it_is_over() {
    let pool = pool(1);
    let array = ramp(10_000);
    let (signs, ino, total) = (Signs::new(), inode(&array), array.view().sum());
    let first = pool.submit(wait_for, signs.args(array.handle())).expect("submitted");
    signs.await_begin();
    // One that runs, and one that waits: nobody else has the array from here on.
    let second = pool.submit(sum, array.handle()).expect("submitted");
    drop(array);
    assert!(is_held(ino));
    signs.go();
    assert_eq!((finish(&first).expect("a value"), finish(&second).expect("a value")), (total, total));
    assert!(eventually(PROMISE, || !is_held(ino)), "kept for nobody");
}

fn nobody_writes_what_a_task_carries() {
    let pool = pool(1);
    let mut array = ramp(1000);
    let total = array.view().sum();
    let is_locked = |array: &mut Array| matches!(array.try_view_mut().map(drop), Err(error) if error.to_string().contains("handle"));
    // Until its value is there,
    let signs = Signs::new();
    let task = pool.submit(wait_for, signs.args(array.handle())).expect("submitted");
    signs.await_begin();
    assert!(is_locked(&mut array));
    let error = pool.phase(&mut array).for_each(|_, mut rows| rows += 1.0).expect_err("refused");
    assert!(error.to_string().contains("handle"), "{error}");
    signs.go();
    assert_eq!(finish(&task).expect("a value"), total);
    array.try_view_mut().expect("nobody has it any more");
    // or its worker is dead,
    let signs = Signs::new();
    let task = pool.submit(wait_for, signs.args(array.handle())).expect("submitted");
    signs.await_begin();
    assert!(is_locked(&mut array));
    kill(pool.pids()[0]);
    assert_eq!(finish(&task).expect_err("dead").kind(), ErrorKind::Died);
    array.try_view_mut().expect("nobody has it any more");
    // or it was cancelled, in a worker's hands or before.
    let signs = Signs::new();
    let task = pool.submit(wait_for, signs.args(array.handle())).expect("submitted");
    let behind = pool.submit(sum, array.handle()).expect("submitted");
    signs.await_begin();
    assert!(behind.cancel() && is_locked(&mut array) && task.cancel());
    assert_eq!(finish(&task).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    array.try_view_mut().expect("nobody has it any more");
    assert_eq!(pool.map(sum, (0..50).map(|_| array.handle())).expect("values"), vec![total; 50]);
    array.try_view_mut().expect("nobody has it any more");
}

fn a_worker_that_keeps_a_handle_keeps_writers_out() {
    let pool = pool(1);
    let mut array = ramp(1000);
    pool.apply(keep, array.handle()).expect("done");
    let error = array.try_view_mut().expect_err("it is read there");
    assert!(error.to_string().contains("another process has kept a handle"), "{error}");
    assert!(pool.phase(&mut array).for_each(|_, mut rows| rows += 1.0).is_err());
    pool.apply(forget, ()).expect("done");
    array.try_view_mut().expect("nobody has it any more")[0] = 7.0;
    // Nor does it matter that the array is dropped: what is mapped stays, for the one who has it.
    pool.apply(keep, array.handle()).expect("done");
    let ino = inode(&array);
    drop(array);
    let first = |_: ()| KEPT.lock().expect("whole")[0].view()[0];
    assert_eq!(pool.apply(first, ()).expect("a value"), 7.0);
    assert!(is_held(ino));
    drop(pool);
    assert!(!is_held(ino));
}

fn a_thousand_handles_leave_no_mapping() {
    let pool = pool(1);
    let count = |_: ()| {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
        (maps.lines().count(), stage::open_files())
    };
    pool.apply(sum, ramp(10).handle()).expect("warm");
    let before = pool.apply(count, ()).expect("counts");
    let make = |n: usize| {
        SharedArray::<f64, Ix1>::options().unnamed().from_shape_fn(8, move |_| n as f64).expect("an array")
    };
    let values =
        pool.imap(sum, (0..1000).map(|n| make(n).handle())).collect::<Result<Vec<_>>>().expect("values");
    assert_eq!(values, (0..1000).map(|n| n as f64 * 8.0).collect::<Vec<_>>());
    let all: Vec<_> = (0..1000).map(make).collect();
    let rest = all.iter().map(SharedArray::handle).collect();
    let value = pool.apply(sum_of_all, Parcel { factor: 1.0, first: None, rest }).expect("a value");
    assert_eq!(value, 8.0 * 999.0 * 500.0);
    let after = pool.apply(count, ()).expect("counts");
    assert!(after.0 <= before.0 + 3 && after.1 == before.1, "{before:?} {after:?}");
}

fn a_retry_carries_its_handles_again() {
    let pool = pool(1);
    let array = ramp(1000);
    let total = array.view().sum();
    let twice_dead = |handle: Handle| {
        if swath::current_task().expect("a task").attempt() < 2 {
            signal_pid(process::getpid(), signal::KILL);
            std::thread::park();
        }
        handle.view().sum()
    };
    let task = pool.submit_with(twice_dead, array.handle()).retries(2).submit().expect("submitted");
    drop(array);
    assert_eq!(finish(&task).expect("a value"), total);
}

/// As a handle travels, for tests that change it on the way.
#[derive(Clone, Serialize)]
struct Allegation {
    holder: u32,
    fd: i32,
    file: (u64, u64),
    id: u64,
    len: u64,
    name: Option<String>,
    offset: u64,
    dtype: u32,
    fortran: bool,
    shape: Vec<u64>,
}

/// What arrives as a handle.
struct Lie(Allegation);

impl Serialize for Lie {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lie {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Lie, D::Error> {
        let handle = Handle::deserialize(deserializer)?;
        // What was believed is looked at to the last element.
        std::hint::black_box(handle.view().sum());
        Ok(Lie(truth(&handle.array_ref(), process::getpid())))
    }
}

fn truth(array: &swath::array::ArrayRef, holder: u32) -> Allegation {
    Allegation {
        holder,
        fd: array.segment.fd,
        file: (array.segment.dev, array.segment.ino),
        id: array.segment.id,
        len: array.segment.len,
        name: array.segment.name().map(str::to_owned),
        offset: array.data_offset,
        dtype: array.dtype,
        fortran: !array.is_c_order(),
        shape: array.shape[..array.ndim as usize].to_vec(),
    }
}

fn references_that_lie_are_errors() {
    let pool = pool(1);
    let array = ramp(1000);
    let truth = truth(&array.array_ref(), process::getpid());
    let believe = |_: Lie| 1_u8;
    let error = pool.apply(believe, Lie(truth.clone())).expect_err("nobody has lent it");
    assert!(error.to_string().contains("not lent"), "{error}");
    pool.apply(sum, array.handle()).expect("a value");
    assert_eq!(pool.apply(believe, Lie(truth.clone())).expect("it is the truth"), 1);
    let change = |change: fn(&mut Allegation)| {
        let mut lie = truth.clone();
        change(&mut lie);
        lie
    };
    let lies = [
        change(|a| a.file.1 += 1),
        change(|a| a.file.0 += 1),
        change(|a| a.fd = 1),
        change(|a| a.fd = -1),
        change(|a| a.fd = 1_000_000),
        change(|a| a.holder = 1 << 30),
        change(|a| a.len += 4096),
        change(|a| a.len = u64::MAX),
        change(|a| a.len = 0),
        change(|a| a.offset += 1),
        change(|a| a.offset = u64::MAX - 7),
        change(|a| a.dtype = 10),
        change(|a| a.dtype = 99),
        change(|a| a.shape = vec![1001]),
        change(|a| a.shape = vec![u64::MAX]),
        change(|a| a.shape = vec![u64::MAX / 8 + 2]),
        change(|a| a.shape = vec![10, 100]),
        change(|a| a.shape = vec![1; 7]),
        change(|a| a.shape = Vec::new()),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let error = pool.apply(believe, Lie(lie)).expect_err("believed");
        assert_eq!(error.kind(), ErrorKind::Codec, "{n}: {error}");
        assert!(error.to_string().contains("arguments cannot be decoded"), "{n}: {error}");
    }
    // Another type than the one that was sent.
    let other = pool.apply(believe, Lie(change(|a| a.shape = vec![2, 2]))).expect_err("believed");
    assert!(other.to_string().contains("has the shape"), "{other}");
    assert_eq!(pool.pids().len(), 1);
    assert_eq!(pool.stats().died, 0, "none of them was the worker's death");
}

// ---- results ---------------------------------------------------------------------------------------------------------

fn a_result_is_the_very_memory_that_the_task_made() {
    let pool = pool(2);
    let (ino, mut array) = pool.apply(make, 100_000).expect("an array");
    assert_eq!(inode(&array), ino, "not a copy");
    assert_eq!((array.name(), array.shape(), array.order()), (None, &[100_000][..], swath::array::Order::C));
    assert_eq!(array.view(), ramp(100_000).view());
    // It is an array like others: written here, written by a phase, lent to the next task, …
    array.view_mut()[0] = 1.0;
    pool.phase(&mut array).for_each(|_, mut rows| rows += 1.0).expect("done");
    let total = array.view().sum();
    let doubled = pool.apply(double, array.handle()).expect("an array");
    assert_eq!(doubled.view().sum(), 2.0 * total);
    drop((array, doubled));
    // … and the memory is nobody's once it is dropped: its maker has let go long ago.
    let (ino, array) = pool.apply(make, 100_000).expect("an array");
    assert!(is_held(ino) && pool.pids().iter().all(|pid| maps_of(*pid, ino).is_empty()), "it has one owner");
    drop(array);
    assert!(!is_held(ino));
    // Other types, orders, axes.
    let other = |_: ()| {
        let options = SharedArray::<u8, Ix3>::options().order(swath::array::Order::Fortran);
        options.from_shape_fn((2, 3, 4), |(i, j, k)| (i * 100 + j * 10 + k) as u8).expect("an array")
    };
    let cube = pool.apply(other, ()).expect("an array");
    assert_eq!((cube.order(), cube.view()[(1, 2, 3)]), (swath::array::Order::Fortran, 123));
    let empty = pool.apply(|_: ()| SharedArray::<u8, IxDyn>::zeros(IxDyn(&[0, 5])).expect("one"), ());
    assert_eq!(empty.expect("an array").shape(), [0, 5]);
}

/// A value with arrays in it.
#[derive(Serialize, Deserialize)]
struct Found {
    label: String,
    table: Option<Array>,
    parts: Vec<(u32, SharedArray<i32, Ix2>)>,
}

fn find(n: u32) -> Found {
    let part = |k: u32| (k, SharedArray::from_shape_fn((3, 2), |_| k as i32).expect("an array"));
    Found {
        label: n.to_string(),
        table: n.is_multiple_of(2).then(|| ramp(n as usize)),
        parts: (0..n).map(part).collect(),
    }
}

fn check(n: u32, found: &Found) {
    assert_eq!((found.label.as_str(), found.parts.len()), (n.to_string().as_str(), n as usize));
    assert_eq!(found.table.as_ref().map(SharedArray::len), n.is_multiple_of(2).then_some(n as usize));
    assert!(found.parts.iter().all(|(k, part)| part.view().iter().all(|v| *v == *k as i32)));
}

fn results_come_from_wherever_values_come() {
    let pool = pool(2);
    check(4, &pool.apply(find, 4).expect("a value"));
    let tasks: Vec<_> = (0..5).map(|n| pool.submit(find, n).expect("submitted")).collect();
    tasks.iter().zip(0..).for_each(|(task, n)| check(n, &finish(task).expect("a value")));
    // It changes hands once.
    let error = tasks[4].result().map(drop).expect_err("taken");
    assert!(error.to_string().contains("taken with this result before"), "{error}");
    let all = |values: Vec<Found>| values.iter().zip(0..).for_each(|(found, n)| check(n, found));
    all(pool.map(find, 0..40).expect("values"));
    all(pool.map_chunked(find, 0..20, 7).expect("values"));
    all(pool.imap(find, 0..20).collect::<Result<_>>().expect("values"));
    all(pool.map_async(find, 0..10).and_then(|batch| batch.result()).expect("values"));
    let pairs = pool.starmap(|a: u32, b: u32| find(a + b), (0..10).map(|n| (n / 2, n - n / 2)));
    all(pairs.expect("values"));
    let odd = |n: u32| if n.is_multiple_of(2) { Ok(ramp(n as usize)) } else { Err(format!("{n} is odd")) };
    let each = pool.try_map_with(odd, 0..10).chunk(3).each().expect("ends");
    for (n, end) in each.iter().enumerate() {
        assert_eq!(end.as_ref().ok().map(SharedArray::len), n.is_multiple_of(2).then_some(n));
    }
    check(6, &isolated(find, 6).expect("a value"));
    check(2, &try_isolated(|n: u32| -> Result<Found> { Ok(find(n)) }, 2).expect("a value"));
    let (sender, receiver) = mpsc::channel();
    let call = move |found: Found| sender.send(found).expect("wanted");
    let task = pool.apply_async(find, 3, call, |error| panic!("{error}")).expect("submitted");
    check(3, &receiver.recv_timeout(PATIENCE).expect("called"));
    drop(task);
    // A handle to an array that was made there arrives as one.
    let made: Handle = pool.apply(|n: usize| ramp(n).handle(), 10).expect("a handle");
    assert_eq!(made.view().sum(), 45.0);
}

fn a_result_outlives_its_maker() {
    let pool = pool(1);
    let task = pool.submit(make, 1000).expect("submitted");
    // Over, and nobody has looked at it.
    assert!(eventually(PATIENCE, || pool.stats().workers[0].tasks == 1), "never ends");
    kill(pool.pids()[0]);
    let (ino, array) = finish(&task).expect("it was over");
    assert_eq!((inode(&array), array.view().sum()), (ino, ramp(1000).view().sum()));
    // A map's chunk that is done stays done, with its arrays, though its worker dies before the end of the map.
    let signs = Signs::new();
    let item = |(n, begun, mark): (usize, String, String)| {
        if n == 1 && !std::fs::exists(&mark).expect("a place") {
            std::fs::write(&mark, b"").expect("a place");
            std::fs::write(&begun, b"").expect("a place");
            loop {
                std::thread::park();
            }
        }
        ramp(n + 1)
    };
    let (begun, mark) = (signs.begun.clone(), signs.go.clone());
    let items = (0..4).map(|n| (n, begun.clone(), mark.clone()));
    let values = std::thread::scope(|scope| {
        scope.spawn(|| {
            signs.await_begin();
            kill(pool.pids()[0]);
        });
        pool.map_with(item, items).chunk(1).retries(1).collect().expect("values")
    });
    assert_eq!(values.iter().map(SharedArray::len).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// Says in a file which array it has made.
fn make_and_tell((path, n): (String, usize)) -> Array {
    let (ino, array) = make(n);
    std::fs::write(format!("{path}.half"), ino.to_string()).expect("a place");
    std::fs::rename(format!("{path}.half"), path).expect("a place");
    array
}

fn told(path: &str) -> u64 {
    assert!(eventually(PATIENCE, || std::fs::exists(path).expect("a place")), "never made");
    std::fs::read_to_string(path).expect("told").parse().expect("a number")
}

fn results_that_nobody_takes_go() {
    let pool = pool(1);
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    let gone = |ino: u64, how: &str| assert!(eventually(PROMISE, || !is_held(ino)), "held after {how}");
    // Its handle is dropped when it is over,
    let task = pool.submit(make_and_tell, (path("1"), 1000)).expect("submitted");
    task.wait();
    assert!(is_held(told(&path("1"))), "it waits to be taken");
    drop(task);
    gone(told(&path("1")), "its task was dropped");
    // or before;
    drop(pool.submit(make_and_tell, (path("2"), 1000)).expect("submitted"));
    let ino = told(&path("2"));
    pool.join();
    gone(ino, "its task was dropped unseen");
    // it is cancelled after it has made the array;
    let linger = |(path, n): (String, usize)| {
        let array = make_and_tell((path, n));
        while !swath::current_task().expect("a task").cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        array
    };
    let task = pool.submit(linger, (path("3"), 1000)).expect("submitted");
    let ino = told(&path("3"));
    assert!(task.cancel());
    assert_eq!(finish(&task).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    gone(ino, "it was cancelled");
    // its decoder fails, or panics;
    let task = pool.submit(make_and_tell, (path("4"), 1000)).expect("submitted");
    assert!(finish(&task).is_ok());
    drop(task);
    gone(told(&path("4")), "it was taken");
    // the pool ends first.
    let task = pool.submit(make_and_tell, (path("5"), 1000)).expect("submitted");
    let ino = told(&path("5"));
    drop(pool);
    drop(task);
    gone(ino, "its pool was dropped");
}

fn what_a_dead_worker_had_made_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    let die = |(path, n): (String, usize)| {
        let array = make_and_tell((path, n));
        signal_pid(process::getpid(), signal::KILL);
        std::thread::park();
        array
    };
    let pool = pool(1);
    assert_eq!(pool.apply(die, (path("task"), 1000)).expect_err("dead").kind(), ErrorKind::Died);
    assert_eq!(pool.map(die, [(path("map"), 1000)]).expect_err("dead").kind(), ErrorKind::Died);
    assert_eq!(isolated(die, (path("call"), 1000)).expect_err("dead").kind(), ErrorKind::Died);
    // A map that fails as a whole: what its other items had made already.
    let fail = |(path, n): (String, usize)| match n {
        0 => panic!("told to"),
        n => make_and_tell((path, n)),
    };
    let items = [(path("first"), 1), (path("second"), 0)];
    assert!(pool.map_with(fail, items).chunk(1).collect().is_err());
    for name in ["task", "map", "call", "first"] {
        let ino = told(&path(name));
        assert!(eventually(PROMISE, || !is_held(ino)), "{name}: held after its maker's death");
    }
}

/// Lends, has made, keeps, and is killed in the middle.
fn coordinator(args: &[String]) {
    let pool = pool(2);
    let array = ramp(10_000);
    let hold = |handle: Handle| -> f64 {
        let _made = ramp(100);
        loop {
            std::hint::black_box(handle.view().sum());
        }
    };
    let _task = pool.submit(hold, array.handle());
    let _process =
        Process::spawn(|handle: Handle| -> i32 { (handle.view().sum() as i32).min(0) }, array.handle());
    println!("up");
    let mut kept = Vec::new();
    loop {
        let task = pool.submit(make, 1000).expect("submitted");
        if args[0] == "take" {
            kept.extend(task.result());
            kept.truncate(20);
        }
    }
}

fn a_killed_coordinator_leaves_no_array() {
    for (n, how) in ["take", "leave"].into_iter().cycle().take(6).enumerate() {
        let mut actor = Actor::play("coordinator", &[how]);
        actor.told("up");
        std::thread::sleep(Duration::from_millis(10 * n as u64));
        actor.kill();
        actor.assert_gone();
    }
}

fn what_cannot_travel_says_why() {
    let pool = pool(1);
    let says = |error: Error, text: &str| {
        assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    says(pool.apply(|array: Array| array.len(), ramp(4)).expect_err("an array"), "give its handle");
    let named = |_: ()| -> Array { SharedArray::options().name("swath-test-given").create(4).expect("one") };
    says(pool.apply(named, ()).map(drop).expect_err("named"), "its name belongs to the process that made it");
    let kept = |_: ()| {
        let array = ramp(4);
        KEPT.lock().expect("whole").push(array.handle());
        array
    };
    says(pool.apply(kept, ()).map(drop).expect_err("kept"), "a handle to it is alive");
    says(isolated(named, ()).map(drop).expect_err("named"), "its name belongs");
    says(pool.map(kept, [()]).map(drop).expect_err("kept"), "a handle to it is alive");
    let values = pool.phase(&ramp(4)).map(|_, rows| SharedArray::from_array(&rows).expect("one")).collect();
    let error = values.map(drop).expect_err("values of phases are values");
    assert!(error.to_string().contains("travels only in the result of a task"), "{error}");
    let queue = swath::Shared::new(swath::sync::MessageQueue::with_capacity(1 << 12)).expect("a queue");
    let error = queue.put(&ramp(4).handle()).expect_err("nobody would keep it");
    assert!(error.to_string().contains("elsewhere nobody would keep its memory"), "{error}");
    let array = ramp(4);
    assert!(serde_json::to_string(&array.handle()).is_err(), "nobody would keep it");
    assert!(serde_json::to_string(&array).is_err());
    // The worker is as before.
    assert_eq!(pool.apply(|_: ()| KEPT.lock().expect("whole").len(), ()).expect("a value"), 2);
    assert_eq!(pool.stats().died, 0);
}

/// Has tasks of a pool of its own add to what it was lent, and gives back what they give.
fn level((depth, handle): (u32, Handle)) -> Result<(Array, Vec<f64>)> {
    let pool = Pool::builder().workers(1).build()?;
    if depth == 0 {
        let sums = pool.map(sum, vec![handle.clone(); 3])?;
        return Ok((pool.apply(double, handle)?, sums));
    }
    let (mut array, sums) = pool.try_submit(level, (depth - 1, handle))?.result()?;
    array.view_mut()[0] += 1.0;
    pool.phase(&mut array).for_each(|_, mut rows| rows += 1.0)?;
    Ok((array, sums))
}

fn levels_of_nesting_lend_and_give() {
    let pool = pool(1);
    let array = ramp(100);
    let total = array.view().sum();
    let (given, sums) =
        pool.try_submit(level, (1, array.handle())).and_then(|task| finish(&task)).expect("an array");
    assert_eq!(given.view().sum(), 2.0 * total + 1.0 + 100.0);
    assert_eq!(sums, [total; 3]);
    let (given, _) = try_isolated(level, (1, array.handle())).expect("an array");
    assert_eq!(given.view().sum(), 2.0 * total + 1.0 + 100.0);
}

fn inline_pools_do_the_same() {
    let pool = pool(0);
    let mut array = ramp(100);
    let total = array.view().sum();
    assert_eq!(pool.apply(sum, array.handle()).expect("a value"), total);
    assert_eq!(pool.map(sum, vec![array.handle(); 3]).expect("values"), [total; 3]);
    array.try_view_mut().expect("nobody has it any more");
    check(4, &pool.apply(find, 4).expect("a value"));
    pool.map(find, 0..10).expect("values").iter().zip(0..).for_each(|(found, n)| check(n, found));
    pool.imap(find, 0..10).zip(0..).for_each(|(found, n)| check(n, &found.expect("a value")));
    let (ino, given) = pool.apply(make, 10).expect("an array");
    assert_eq!(inode(&given), ino);
    drop(given);
    assert!(!is_held(ino));
}

fn a_flood_of_arrays_arrives() {
    let pool = pool(2);
    let many = |n: usize| (0..n).map(|i| (i, ramp(i % 7 + 1))).collect::<Vec<_>>();
    let all = pool.apply(many, 600).expect("arrays");
    assert!(all.iter().all(|(i, array)| array.len() == i % 7 + 1));
    let lists = pool.map(many, vec![20; 40]).expect("lists");
    assert_eq!(lists.iter().map(Vec::len).sum::<usize>(), 800);
}

/// What a handle shows, changed, as an array of the task's own; now and then it takes its time.
fn shifted((handle, n): (Handle, u64)) -> (u64, Array) {
    if n.is_multiple_of(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let array = SharedArray::from_array(&(&handle.view() + n as f64)).expect("an array");
    (n, array)
}

fn kills_at_random_lose_no_array_and_leave_none() {
    const KILLS: usize = 40;
    let pool = pool(2);
    let base = ramp(500);
    let total = base.view().sum();
    let is_right = |(n, array): &(u64, Array)| array.view().sum() == total + 500.0 * *n as f64;
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut killed = 0;
            while killed < KILLS {
                for pid in pool.pids() {
                    signal_pid(pid, signal::KILL);
                    killed += 1;
                }
                std::thread::sleep(Duration::from_millis(5 + killed as u64 % 7));
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        // As many attempts as there can be kills.
        let retries = 2 * KILLS as u32;
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            let submit = |n| {
                let task = pool.submit_with(shifted, (base.handle(), n)).retries(retries).submit();
                task.expect("submitted")
            };
            let tasks: Vec<_> = (0..20).map(submit).collect();
            // Some are never asked for, some are cancelled wherever they are.
            for (n, task) in tasks.into_iter().enumerate() {
                match n % 4 {
                    0 => drop(task),
                    1 => drop(task.cancel()),
                    _ => assert!(is_right(&finish(&task).expect("a value"))),
                }
            }
            let items = (0..20).map(|n| (base.handle(), n));
            let values = pool.map_with(shifted, items).chunk(2).retries(retries).collect().expect("values");
            assert!(values.iter().zip(0..).all(|(value, n)| value.0 == n && is_right(value)));
        }
        killer.join().expect("kills");
    });
    assert!(pool.stats().died >= KILLS as u64 / 2, "most of them were workers that lived");
    pool.join();
    let mut base = base;
    base.try_view_mut().expect("nobody has it any more");
}
