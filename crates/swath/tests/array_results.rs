//! Arrays in results when only a part of them can travel, or when they come back to where they were; handles in copies of a process, and
//! owners who ask all the time whether they may write: what fails is what has to, and nothing stays behind.

mod stage;

use std::process::ExitCode;
use std::sync::Mutex;

use serde::{Deserialize, Serialize, Serializer, ser};
use stage::{PROMISE, eventually, open_files};
use swath::prelude::*;
use swath::{Process, Shared, StartMethod, isolated};
use swath_platform::memory;

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        half_a_reply_leaves_nothing,
        one_items_array_is_that_items_failure,
        the_last_handle_comes_back_from_an_isolated_call,
        a_handle_comes_back_wherever_the_task_runs,
        an_inline_map_that_fails_keeps_nothing,
        an_iterator_lends_nothing,
        more_arrays_than_descriptors_raise_the_limit,
        what_workers_hold_does_not_make_a_task_impossible,
        a_handle_is_good_in_copies_of_its_process,
        what_a_preload_hook_is_given_is_lent,
        who_asks_in_vain_is_in_nobodys_way,
        a_file_that_somebody_reads_is_not_written_by_who_opens_it_again,
        a_file_that_is_open_twice_is_found_by_either,
        a_reference_that_was_kept_leads_nowhere_while_its_array_may_change,
    ];
    stage::main(tests, &[])
}

type Handle = ArrayHandle<f64, Ix1>;
type Array = SharedArray<f64, Ix1>;

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().expect("a pool")
}

fn ramp(n: usize) -> Array {
    SharedArray::from_shape_fn(n, |i| i as f64).expect("an array")
}

/// Kept by a worker: an array of which there is one is not its task's to give away.
static KEPT: Mutex<Vec<Handle>> = Mutex::new(Vec::new());

fn one_and_one_that_stays(n: usize) -> (Array, Array) {
    let stays = ramp(n);
    KEPT.lock().expect("whole").push(stays.handle());
    (ramp(n), stays)
}

fn half_a_reply_leaves_nothing() {
    let pool = pool(1);
    pool.apply(|n| drop(one_and_one_that_stays(n)), 8).expect("warm");
    let before = open_files();
    for _ in 0..20 {
        let error = pool.apply(|n| ramp(n).handle(), 8).map(drop);
        error.expect("a handle of an array that is dropped is the array");
        let error = pool.apply(one_and_one_that_stays, 1 << 17).map(drop).expect_err("one cannot go");
        assert!(error.to_string().contains("a handle to it is"), "{error}");
        let items = pool.imap_unordered(one_and_one_that_stays, [1 << 17]);
        assert!(items.into_iter().all(|item| item.is_err()));
    }
    assert!(eventually(PROMISE, || open_files() <= before), "{} were open, {} are", before, open_files());
}

fn one_items_array_is_that_items_failure() {
    let named = |n: usize| -> Array {
        let options = SharedArray::options();
        let options = if n == 2 { options.name("swath-test-named-item") } else { options.unnamed() };
        options.create(n).expect("an array")
    };
    for workers in [0, 2] {
        let pool = pool(workers);
        // Where both ends are one process nothing has to go anywhere.
        let expected = [true, workers == 0, true, true];
        let items = pool.map_with(named, 1..5).chunk(4).each().expect("a map");
        let whole: Vec<bool> = items.iter().map(|item| item.is_ok()).collect();
        assert_eq!(whole, expected, "{workers} workers");
        drop(items);
        let items: Vec<bool> = pool.imap(named, 1..5).map(|item| item.is_ok()).collect();
        assert_eq!(items, expected, "{workers} workers");
    }
}

fn the_last_handle_comes_back_from_an_isolated_call() {
    let handle = ramp(100).handle();
    let back = isolated(|handle: Handle| handle, handle).expect("it comes back");
    assert_eq!(back.view().sum(), 4950.0);
}

fn a_handle_comes_back_wherever_the_task_runs() {
    let array = ramp(100);
    for workers in [0, 1] {
        let pool = pool(workers);
        let back = pool.apply(|handle: Handle| handle, array.handle()).expect("it comes back");
        assert!(back.view().as_ptr() == array.view().as_ptr(), "{workers} workers: the same memory");
        let back =
            pool.map(|handle: Handle| (handle.clone(), handle), [array.handle()]).expect("it comes back");
        assert_eq!(back[0].1.view().sum(), 4950.0);
    }
}

fn an_inline_map_that_fails_keeps_nothing() {
    let pool = pool(0);
    // With a name: the guardian has been started then, and no descriptor is on its way to it.
    let _named = ramp(1);
    // And what a pool has from its first map on.
    drop(pool.map_chunked(|n: usize| ramp(n + 1), 0..4, 1).expect("arrays"));
    let before = open_files();
    let third_fails = |n: usize| {
        assert!(n < 3, "told to");
        ramp(n + 1)
    };
    pool.map_chunked(third_fails, 0..4, 1).map(drop).expect_err("the third fails");
    assert_eq!(open_files(), before);
}

fn an_iterator_lends_nothing() {
    let pool = pool(1);
    let array = ramp(4);
    let queue = Shared::new(swath::sync::MessageQueue::with_capacity(1 << 12)).expect("a queue");
    let items = (0..3_u64).inspect(|_| {
        let error = queue.put(&array.handle()).expect_err("nobody would keep it");
        assert!(error.to_string().contains("elsewhere nobody would keep its memory"), "{error}");
    });
    assert_eq!(pool.map(|n: u64| n, items).expect("values"), [0, 1, 2]);
}

fn more_arrays_than_descriptors_raise_the_limit() {
    // The soft limit alone.
    let (pid, limit) = (std::process::id().to_string(), "--nofile=60:");
    let lowered = std::process::Command::new("prlimit").args(["--pid", &pid, limit]).status();
    assert!(lowered.expect("prlimit of util-linux").success());
    let pool = pool(1);
    let many =
        pool.apply(|n: usize| (0..n).map(|i| ramp(i + 1)).collect::<Vec<_>>(), 100).expect("all arrive");
    assert!(many.iter().enumerate().all(|(i, array)| array.len() == i + 1));
}

fn what_workers_hold_does_not_make_a_task_impossible() {
    let pool = pool(1);
    static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let hold = |bytes: usize| *HELD.lock().expect("whole") = vec![1; bytes];
    let Some(room) = memory::memory_headroom() else { return };
    // More than is left when the first is done, less than there is before.
    let part = (room.available / 16).min(512 << 20);
    let reserve = room.limit / swath::limits::MEMORY_RESERVE_PARTS;
    let Some(needs) = room.available.checked_sub(reserve + part / 2) else { return };
    let first = pool.submit_with(hold, part as usize).memory(needs).submit().expect("possible");
    first.result().expect("done");
    let again = pool.submit_with(|n: u64| n, 7).memory(needs).submit().expect("as possible as before");
    assert_eq!(again.result().expect("a value"), 7);
}

// ---- copies ---------------------------------------------------------------------------------------------------------------

fn keep(handle: Handle) {
    KEPT.lock().expect("whole").push(handle);
}

fn kept_sum(_: ()) -> f64 {
    KEPT.lock().expect("whole")[0].view().sum()
}

/// Copies have the handle's table; what is behind it must be there too, and nothing else in its place.
fn a_handle_is_good_in_copies_of_its_process() {
    let array = ramp(100_000);
    let sum = array.view().sum();
    let copies = |workers| Pool::builder().workers(workers).start_method(StartMethod::Forkserver);
    let pool = copies(2).preload(keep, array.handle()).build().expect("a pool");
    for _ in 0..10 {
        assert_eq!(pool.apply(kept_sum, ()).expect("a value"), sum);
        let other = pool.apply(|handle: Handle| handle.view().sum(), array.handle()).expect("a value");
        assert_eq!(other, sum);
    }
    let fork = |handle: Handle| {
        let expected = handle.view().sum();
        let copy = Process::fork(move || handle.view().sum() != expected).expect("one thread");
        assert!(copy.join().expect("it ends").success());
    };
    let forker = Process::spawn(fork, array.handle()).expect("started");
    assert!(forker.join().expect("it ends").success());
}

fn what_a_preload_hook_is_given_is_lent() {
    for method in [StartMethod::Spawn, StartMethod::Forkserver] {
        let mut array = ramp(10);
        let builder = Pool::builder().workers(1).start_method(method).preload(keep, array.handle());
        assert!(array.try_view_mut().is_err(), "{method:?}: the hook is still to come");
        let sum = array.view().sum();
        drop(array);
        let pool = builder.build().expect("its memory is kept");
        assert_eq!(pool.apply(kept_sum, ()).expect("a value"), sum);
    }
}

// ---- owners ---------------------------------------------------------------------------------------------------------------

fn who_asks_in_vain_is_in_nobodys_way() {
    let pool = pool(1);
    let mut array = ramp(16);
    let handle = array.handle();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(array.try_view_mut().is_err(), "there is a handle");
            }
        });
        for _ in 0..300 {
            let back = pool.apply(|handle: Handle| handle, handle.clone()).expect("it comes back");
            assert_eq!(back.view().len(), 16);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop(handle);
    assert!(eventually(PROMISE, || array.try_view_mut().is_ok()));
}

fn a_file_that_somebody_reads_is_not_written_by_who_opens_it_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.npy");
    let array = SharedArray::<f64, Ix1>::options().file(&path).create(8).expect("a file");
    array.finish().expect("on disk");
    let pool = pool(1);
    let read = SharedArray::<f64, Ix1>::open_npy(&path).expect("it is there");
    pool.apply(keep, read.handle()).expect("kept");
    drop(read);
    let mut again = SharedArray::<f64, Ix1>::open_npy_mut(&path).expect("it is there");
    let error = again.try_view_mut().map(drop).expect_err("the worker shows it");
    assert!(error.to_string().contains("another process has kept a handle"), "{error}");
    pool.apply(|_: ()| KEPT.lock().expect("whole").clear(), ()).expect("let go");
    assert!(eventually(PROMISE, || again.try_view_mut().is_ok()));
}

fn a_file_that_is_open_twice_is_found_by_either() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.npy");
    SharedArray::<f64, Ix1>::options().file(&path).create(8).expect("a file").finish().expect("on disk");
    let open = || SharedArray::<f64, Ix1>::open_npy(&path).expect("it is there");
    let (pool, one, two) = (pool(1), open(), open());
    let echo = |handle: Handle| handle;
    let task = pool.submit(echo, one.handle()).expect("taken");
    pool.apply(echo, two.handle()).expect("it comes back");
    drop(two);
    assert_eq!(task.result().expect("it comes back").view().len(), 8);
    assert_eq!(pool.apply(echo, one.handle()).expect("it comes back").view().len(), 8);
}

/// The last reference that was noted: text, which outlives whatever lends the array.
static NOTE: Mutex<String> = Mutex::new(String::new());

/// Its reference is noted when it travels.
#[derive(Deserialize)]
struct Noted(Handle);

impl Serialize for Noted {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        *NOTE.lock().expect("whole") = serde_json::to_string(&self.0).map_err(ser::Error::custom)?;
        serializer.serialize_newtype_struct("Noted", &self.0)
    }
}

fn decoded(text: String) -> std::result::Result<f64, String> {
    let handle: Handle = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let sum = handle.view().sum();
    KEPT.lock().expect("whole").push(handle);
    Ok(sum)
}

fn let_go(_: ()) {
    KEPT.lock().expect("whole").clear()
}

fn a_reference_that_was_kept_leads_nowhere_while_its_array_may_change() {
    let pool = pool(1);
    let mut array = ramp(4);
    assert_eq!(pool.apply(|noted: Noted| noted.0.view().sum(), Noted(array.handle())).expect("a value"), 6.0);
    let text = NOTE.lock().expect("whole").clone();
    // Nobody has changed it since: what the text says is there, and who reads it keeps writers out.
    assert_eq!(pool.apply(decoded, text.clone()).expect("a task"), Ok(6.0));
    assert!(array.try_view_mut().is_err());
    pool.apply(let_go, ()).expect("done");
    assert!(eventually(PROMISE, || array.try_view_mut().is_ok()));
    // From the first change on, neither there nor here, whether somebody writes at this moment or not.
    let mut view = array.view_mut();
    for here_or_there in [decoded(text.clone()), pool.apply(decoded, text.clone()).expect("a task")] {
        let why = here_or_there.expect_err("its owner may be changing it");
        assert!(why.contains("not lent"), "{why}");
    }
    view[0] = 1.0;
    decoded(text.clone()).expect_err("nobody has lent it again");
    // Lent again, it is itself.
    let handle = array.handle();
    assert_eq!(pool.apply(|handle: Handle| handle.view().sum(), handle).expect("a value"), 7.0);
    assert_eq!(pool.apply(decoded, text.clone()).expect("a task"), Ok(7.0));
}
