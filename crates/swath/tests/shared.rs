//! `Shared<T>`: one object, many programs. Workers get it in their arguments, strangers by its name; whoever dies holding it,
//! the others are told.

mod stage;

use std::process::{Command, ExitCode};
use std::time::Duration;

use stage::{Actor, PROMISE, eventually, signal_pid};
use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::{
    Barrier, BoundedSemaphore, Condvar, Event, JoinableQueue, ListValue, LockError, Locked, LockedArray,
    MessageQueue, Mutex, Once, Pipe, PipeError, PipeSide, Queue, Record, RecursiveMutex, RwLock, Semaphore,
    ShareableList, SpscRing, Value,
};
use swath_platform::{process, signal};

type Counter = Shared<Mutex<u64>>;

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        workers_share_a_mutex_in_their_arguments,
        a_worker_that_dies_holding_a_mutex_is_recovered_from,
        unrelated_programs_count_together,
        a_guest_killed_holding_is_noticed_by_owner_and_guests,
        the_owner_killed_holding_is_noticed_by_guests_which_live_on,
        a_guest_killed_while_the_owner_is_stopped_is_noticed_by_another,
        a_guest_with_other_pids_is_known_by_its_lock,
        what_is_not_there_or_something_else_is_an_error,
        attach_or_create_makes_one_object,
        every_kind_of_object_can_be_shared,
        messages_of_any_size_reach_other_programs_and_leave_nothing,
        a_killed_end_of_a_pipe_is_told_and_replaced,
        workers_feed_a_queue_and_the_coordinator_drains_it,
        what_a_killed_guest_had_in_hand_is_waited_for,
        a_forked_child_is_refused,
        many_guests_come_and_go,
    ];
    stage::main(tests, stage::cast![add, echo, hold, hold_elsewhere, hold_twice, sized, take, wait_for])
}

fn name_of(test: &str) -> String {
    format!("swath-{test}-{}", process::getpid())
}

/// Adds one under the lock, as often as said.
fn count(counter: &Counter, times: u64) {
    for _ in 0..times {
        *counter.lock_or_repair(|_| ()).expect("the lock") += 1;
    }
}

// Roles.

/// `add NAME TIMES`: in three threads.
fn add(args: &[String]) {
    let counter = Counter::attach(&args[0]).expect("the counter");
    let times: u64 = args[1].parse().expect("a number");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| count(&counter, times));
        }
    });
    println!("added");
}

/// `hold NAME own|attach`: takes the lock, says so, and keeps it until it is killed.
fn hold(args: &[String]) {
    let counter = match args[1].as_str() {
        "own" => Counter::named(&args[0], Mutex::new(7)).expect("a fresh name"),
        _ => Counter::attach(&args[0]).expect("the counter"),
    };
    let mut guard = counter.lock().expect("the lock").acquired().expect("whole");
    *guard += 1;
    println!("holding");
    loop {
        std::thread::park();
    }
}

/// `hold_twice NAME`: takes the lock, and has another thread try it.
fn hold_twice(args: &[String]) {
    let counter = Counter::attach(&args[0]).expect("the counter");
    let guard = counter.lock().expect("the lock");
    std::thread::scope(|scope| {
        let other = scope.spawn(|| counter.lock_timeout(Duration::from_millis(120)).is_err());
        println!("kept {}", other.join().expect("no panic"));
    });
    drop(guard);
}

/// `hold_elsewhere NAME hold|hold_twice`: as that role, by a child in a pid namespace of its own.
fn hold_elsewhere(args: &[String]) {
    // SAFETY: what is unshared concerns children only.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        return println!("refused");
    }
    let child = Command::new(std::env::current_exe().expect("our path"))
        .args(["role", &args[1], &args[0], "attach"])
        .spawn();
    child.expect("a child").wait().expect("our child");
}

/// `wait_for NAME`: says who died holding the lock.
fn wait_for(args: &[String]) {
    let counter = Counter::attach(&args[0]).expect("the counter");
    println!("waiting");
    match counter.lock().expect("the lock") {
        Locked::Acquired(_) => println!("dead nobody"),
        Locked::Recovered(guard) => {
            println!("dead {}", guard.dead().pid);
            drop(guard.repaired());
        }
    }
    println!("again {}", counter.lock().expect("a whole lock").acquired().is_some());
}

fn holder(name: &str, how: &str) -> Actor {
    let mut holder = Actor::play("hold", &[name, how]);
    assert_eq!(holder.told("holding"), "");
    holder
}

/// `echo NAME`: end B of a pipe; sends back whatever comes.
fn echo(args: &[String]) {
    let pipe = Shared::<Pipe>::attach(&args[0]).expect("the pipe");
    let mut end = pipe.end(PipeSide::B).expect("a free end");
    println!("there");
    while let Ok(message) = end.recv_bytes() {
        end.send_bytes(&message).expect("the other end");
    }
}

/// `take NAME`: gets an item, and never says that it is done.
fn take(args: &[String]) {
    let queue = Shared::<JoinableQueue<u64>>::attach(&args[0]).expect("the queue");
    let delivery = queue.get().expect("an item");
    println!("took {}", *delivery);
    loop {
        std::thread::park();
    }
}

/// `sized NAME`: gets messages, and says how long each is.
fn sized(args: &[String]) {
    let queue = Shared::<MessageQueue>::attach(&args[0]).expect("the queue");
    while let Ok(message) = queue.get_bytes() {
        assert!(message.iter().enumerate().all(|(i, byte)| *byte == pattern(i)), "another message");
        println!("got {}", message.len());
    }
    println!("closed");
}

fn pattern(i: usize) -> u8 {
    (i * 31 % 251) as u8
}

// Tests.

fn every_kind_of_object_can_be_shared() {
    let text = |refused: &dyn std::fmt::Display| refused.to_string();
    let lock = Shared::new(RwLock::new([1_u32, 2])).expect("room");
    assert_eq!(*lock.read().expect("the lock"), [1, 2]);
    lock.write_or_repair(|_| ()).expect("the lock")[1] = 3;
    assert_eq!(lock.read().expect("the lock")[1], 3);
    let recursive = Shared::new(RecursiveMutex::new(0_u8)).expect("room");
    let outer = recursive.lock().expect("the lock");
    drop((recursive.lock().expect("again"), outer));
    assert!(text(&recursive.release().expect_err("nothing is kept")).contains("recursive"));
    let permits = Shared::named(name_of("permits"), Semaphore::new(2)).expect("a fresh name");
    let held = (permits.acquire().expect("one"), permits.acquire().expect("two"));
    assert!(text(&permits.try_acquire().expect_err("all taken")).contains("permits"));
    drop(held);
    assert_eq!(permits.available().expect("a party"), 2);
    let bounded = Shared::new(BoundedSemaphore::new(1)).expect("room");
    assert!(bounded.release().is_err(), "nobody holds one");
    let once = Shared::new(Once::new()).expect("room");
    assert!(once.call_once(|_| ()).is_ok() && once.is_done().expect("a party"));
    let (condvar, mutex) =
        (Shared::new(Condvar::new()).expect("room"), Counter::new(Mutex::new(0)).expect("room"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            *mutex.lock_or_repair(|_| ()).expect("the lock") = 1;
            condvar.notify_all().expect("a party");
        });
        let guard = mutex.lock_or_repair(|_| ()).expect("the lock");
        drop(condvar.wait_while(guard, |value| *value == 0).expect("a notification"));
    });
    let number = Shared::new(Value::new(40_i64)).expect("room");
    assert_eq!((number.fetch_add(2), number.load()), (40, 42));
    let barrier = Shared::new(Barrier::seats(1)).expect("room");
    assert!(barrier.wait().expect("alone") && barrier.try_wait().expect("alone"));
    let list = Shared::new(ShareableList::of([ListValue::from("some"), ListValue::from(2.5)])).expect("room");
    assert!(list.set(0, "far too many").is_err() && list.set(1, false).is_ok());
    assert_eq!(list.to_vec().expect("whole"), [ListValue::from("some"), ListValue::from(false)]);
    let (one, two) =
        (Shared::new(Event::new()).expect("room"), Shared::new(Queue::<u8>::with_capacity(1)).expect("room"));
    two.put(1).expect("room");
    assert_eq!(swath::shared::wait_any(&[&one, &two]), Ok(vec![1]));
    let record = Shared::new(Record::new([0_f64; 3])).expect("room");
    record.update(|record| record[2] = 1.5).expect("the record");
    assert_eq!(record.get().expect("a party"), [0.0, 0.0, 1.5]);
    let array = Shared::new(LockedArray::from_slice(&[1_u16, 2, 3])).expect("room");
    array.set(1, 7).expect("in bounds");
    assert_eq!(array.lock_or_repair(|_| ()).expect("the lock").to_vec(), [1, 7, 3]);
    assert!(array.get(3).is_err());
    let queue = Shared::new(Queue::<u64>::with_capacity(2)).expect("room");
    assert!(queue.try_put(1).is_ok() && queue.try_put(2).is_ok() && queue.try_put(3).is_err());
    assert_eq!((queue.get().expect("one"), queue.len().expect("a party")), (1, 1));
    let jobs = Shared::new(JoinableQueue::<u64>::with_capacity(2)).expect("room");
    jobs.put(5).expect("room");
    assert!(!jobs.join_timeout(Duration::ZERO).expect("a party"));
    jobs.get().expect("one").done();
    jobs.join().expect("a party");
    let ring = Shared::new(SpscRing::<u64>::with_capacity(4)).expect("room");
    ring.producer().expect("free").push(9).expect("room");
    assert_eq!(ring.consumer().expect("free").pop().expect("one"), 9);
}

fn messages_of_any_size_reach_other_programs_and_leave_nothing() {
    let name = name_of("messages");
    let queue = Shared::named(&name, MessageQueue::with_capacity(8)).expect("a fresh name");
    let blocks = || {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(format!("/dev/shm/{name}")).expect("it has a name").blocks()
    };
    let before = blocks();
    let mut reader = Actor::play("sized", &[&name]);
    for len in [0, 1, 96, 97, 5000, 3 << 20, 0, 12] {
        queue.put_bytes(&(0..len).map(pattern).collect::<Vec<u8>>()).expect("room");
        assert_eq!(reader.told("got"), len.to_string());
    }
    queue.close().expect("a party");
    assert_eq!(reader.told("closed"), "");
    assert!(eventually(PROMISE, || blocks() == before), "{} blocks of extents are left", blocks() - before);
    let values = Shared::new(MessageQueue::with_capacity(2)).expect("room");
    values.put(&("text", vec![1.5, 2.5], Some(7_u8))).expect("room");
    let value: (String, Vec<f64>, Option<u8>) = values.get().expect("one");
    assert_eq!(value, ("text".to_owned(), vec![1.5, 2.5], Some(7)));
    values.put("no number").expect("room");
    assert!(
        values
            .get::<(u64, u64, [u8; 32])>()
            .expect_err("another type")
            .to_string()
            .contains("what was received")
    );
    assert!(values.try_get_bytes().expect_err("it is gone").why().is_some());
}

fn a_killed_end_of_a_pipe_is_told_and_replaced() {
    let name = name_of("pipe");
    let pipe = Shared::named(&name, Pipe::with_capacity(4)).expect("a fresh name");
    let mut end = pipe.end(PipeSide::A).expect("free");
    for round in 0..2 {
        let mut other = Actor::play("echo", &[&name]);
        assert_eq!(other.told("there"), "");
        for len in [0, 3, 200_000] {
            let message: Vec<u8> = (0..len).map(pattern).collect();
            end.send_bytes(&message).expect("somebody is there");
            assert_eq!(end.recv_bytes().expect("the same"), message, "round {round}");
        }
        assert!(!end.poll(Duration::ZERO), "nothing else was sent");
        let pid = other.pid();
        other.signal(signal::KILL);
        let why = end.recv_bytes().expect_err("nobody is left");
        let Some(PipeError::PeerDied { who }) = why.why() else { panic!("{why}") };
        assert!(who.pid == pid || who.pid == 0, "{why}");
        assert!(why.to_string().contains(&name), "{why}");
    }
}

fn what_a_killed_guest_had_in_hand_is_waited_for() {
    let name = name_of("hand");
    let queue = Shared::named(&name, JoinableQueue::<u64>::with_capacity(4)).expect("a fresh name");
    let never = Shared::new(Event::new()).expect("room");
    queue.put(7).expect("room");
    let mut guest = Actor::play("take", &[&name]);
    assert_eq!(guest.told("took"), "7");
    assert!(swath::shared::try_wait_any(&[&never, &queue]).is_err(), "it is in somebody's hand");
    guest.signal(signal::KILL);
    assert_eq!(swath::shared::wait_any(&[&never, &queue]), Ok(vec![1]), "it came back");
    let delivery = queue.get().expect("the item");
    assert_eq!(*delivery, 7);
    delivery.done();
    queue.join().expect("a party");
}

fn workers_feed_a_queue_and_the_coordinator_drains_it() {
    let pool = Pool::builder().workers(2).build().expect("a pool");
    let found = Shared::new(Queue::<u64>::with_capacity(16)).expect("room");
    let values = SharedArray::from_shape_fn(1000, |i| i as u64).expect("room");
    let sum: u64 = std::thread::scope(|scope| {
        let drained = scope.spawn(|| std::iter::from_fn(|| found.get().ok()).sum());
        let phase = pool.phase(&values).chunk(Chunk::Rows(10)).args(&found);
        let outcome = phase.for_each(|ctx, values| {
            values
                .iter()
                .filter(|value| *value % 3 == 0)
                .for_each(|value| ctx.args().put(*value).expect("room"));
        });
        outcome.expect("the phase");
        found.close().expect("a party");
        drained.join().expect("no panic")
    });
    assert_eq!(sum, (0..1000).filter(|value| value % 3 == 0).sum());
}

fn workers_share_a_mutex_in_their_arguments() {
    let pool = Pool::builder().workers(2).build().expect("a pool");
    let counter = Counter::new(Mutex::new(0)).expect("room");
    let rows = SharedArray::<u8, _>::zeros(500).expect("room");
    let outcome = pool.phase(&rows).chunk(Chunk::Rows(1)).args(&counter).for_each(|ctx, _| {
        count(ctx.args(), 3);
    });
    outcome.expect("the phase");
    assert_eq!(*counter.lock().expect("the lock").acquired().expect("whole"), 1500);
}

fn a_worker_that_dies_holding_a_mutex_is_recovered_from() {
    let pool = Pool::builder().workers(2).build().expect("a pool");
    let shared =
        (Counter::new(Mutex::new(0)).expect("room"), Shared::<Event>::new(Event::new()).expect("room"));
    let rows = SharedArray::<u8, _>::zeros(2).expect("room");
    let phase = pool.phase(&rows).chunk(Chunk::Rows(1)).args(&shared);
    let dead = phase.map(|ctx, _| {
        let (counter, held) = ctx.args();
        if ctx.chunk() == 0 && ctx.attempt() == 0 {
            let _guard = counter.lock().expect("the lock");
            held.set().expect("a party");
            process::kill_group(process::getpid(), signal::KILL).expect("our own group");
        }
        held.wait().expect("a party");
        match counter.lock().expect("the lock") {
            Locked::Acquired(_) => 0,
            Locked::Recovered(guard) => {
                // Its slot may have a new tenant by now; its generation does not.
                assert_ne!(guard.dead().slot.generation, 0);
                drop(guard.repaired());
                1
            }
        }
    });
    assert_eq!(dead.reduce(0, |a, b| a + b).expect("the phase"), 1, "one of the two was told of the death");
}

fn unrelated_programs_count_together() {
    let name = name_of("count");
    let counter = Counter::named(&name, Mutex::new(0)).expect("a fresh name");
    let mut others: Vec<Actor> = (0..2).map(|_| Actor::play("add", &[&name, "500"])).collect();
    count(&counter, 500);
    for other in &mut others {
        assert_eq!(other.told("added"), "");
    }
    assert_eq!(*counter.lock().expect("the lock").acquired().expect("whole"), 2 * 3 * 500 + 500);
}

fn a_guest_killed_holding_is_noticed_by_owner_and_guests() {
    let name = name_of("guest");
    let counter = Counter::named(&name, Mutex::new(0)).expect("a fresh name");
    let guest = holder(&name, "attach");
    let why = counter.lock_timeout(Duration::from_millis(1)).expect_err("it is held");
    let Some(LockError::TimedOut { holder, .. }) = why.why() else { panic!("{why}") };
    assert_eq!(holder.pid, guest.pid());
    assert!(why.to_string().contains(&name), "{why}");
    let mut waiter = Actor::play("wait_for", &[&name]);
    assert_eq!(waiter.told("waiting"), "");
    let pid = guest.pid();
    guest.signal(signal::KILL);
    // Either of the two takes it over; the other finds it whole.
    let by_us = match counter.lock().expect("the lock") {
        Locked::Acquired(_) => "nobody".to_owned(),
        Locked::Recovered(guard) => {
            let dead = guard.dead().pid.to_string();
            drop(guard.repaired());
            dead
        }
    };
    let told = [by_us, waiter.told("dead")];
    assert!(told.contains(&pid.to_string()) && told.contains(&"nobody".to_owned()), "{told:?}");
    assert_eq!(waiter.told("again"), "true");
}

fn the_owner_killed_holding_is_noticed_by_guests_which_live_on() {
    let name = name_of("owner");
    let owner = holder(&name, "own");
    let mut guests: Vec<Actor> = (0..2).map(|_| Actor::play("wait_for", &[&name])).collect();
    for guest in &mut guests {
        assert_eq!(guest.told("waiting"), "");
    }
    owner.signal(signal::KILL);
    let mut told: Vec<String> = guests.iter_mut().map(|guest| guest.told("dead")).collect();
    told.sort();
    assert_eq!(told, [owner.pid().to_string(), "nobody".to_owned()]);
    for guest in &mut guests {
        assert_eq!(guest.told("again"), "true");
    }
    let gone = || matches!(Counter::attach(&name), Err(error) if error.kind() == ErrorKind::Memory);
    assert!(eventually(PROMISE, gone), "the name went with its owner");
}

fn a_guest_killed_while_the_owner_is_stopped_is_noticed_by_another() {
    let name = name_of("stopped");
    // The owner holds nothing but the session.
    let counter = Counter::named(&name, Mutex::new(0)).expect("a fresh name");
    let guest = holder(&name, "attach");
    let mut waiter = Actor::play("wait_for", &[&name]);
    assert_eq!(waiter.told("waiting"), "");
    guest.signal(signal::STOP);
    let why = counter.lock_timeout(Duration::from_millis(120)).expect_err("a stopped holder keeps its lock");
    assert!(matches!(why.why(), Some(LockError::TimedOut { .. })), "{why}");
    guest.signal(signal::KILL);
    assert_eq!(waiter.told("dead"), guest.pid().to_string());
    assert_eq!(waiter.told("again"), "true");
}

fn a_guest_with_other_pids_is_known_by_its_lock() {
    let name = name_of("elsewhere");
    let counter = Counter::named(&name, Mutex::new(0)).expect("a fresh name");
    let mut guest = Actor::play("hold_elsewhere", &[&name, "hold"]);
    match guest.next_line().as_deref() {
        Some("holding") => {}
        other => return println!("skipped: no pid namespace may be made here ({other:?})"),
    }
    let why = counter.lock_timeout(Duration::from_millis(120)).expect_err("it is held");
    let Some(LockError::TimedOut { holder, .. }) = why.why() else { panic!("{why}") };
    assert_eq!(holder.pid, 1, "its pid is another namespace's, and ours is somebody else");
    for pid in guest.processes().into_iter().filter(|pid| *pid != guest.pid()) {
        signal_pid(pid, signal::KILL);
    }
    let Locked::Recovered(guard) = counter.lock().expect("the lock") else { panic!("nobody was dead") };
    drop(guard.repaired());
    let mut threads = Actor::play("hold_elsewhere", &[&name, "hold_twice"]);
    assert_eq!(threads.told("kept"), "true", "a guest took itself for dead");
}

fn what_is_not_there_or_something_else_is_an_error() {
    let name = name_of("else");
    let message = |outcome: Result<Counter>| outcome.expect_err("no counter").to_string();
    assert!(message(Counter::attach(&name)).contains("no segment named"));
    assert!(message(Counter::attach("no/slash")).contains("cannot name a segment"));
    let event = Shared::<Event>::named(&name, Event::new()).expect("a fresh name");
    let text = message(Counter::attach(&name));
    assert!(text.contains("event") && text.contains("mutex"), "{text}");
    assert!(message(Counter::named(&name, Mutex::new(0))).contains("exists already"));
    drop(event);
    let other = Shared::named(&name, Mutex::new(0_u32)).expect("the name is free again");
    assert!(message(Counter::attach(&name)).contains("4-byte"));
    drop(other);
    let array: SharedArray<u64, _> = SharedArray::options().name(&name).create(10).expect("room");
    assert!(message(Counter::attach(&name)).contains("perhaps an array"));
    drop(array);
}

fn attach_or_create_makes_one_object() {
    let name = name_of("either");
    let all: Vec<Counter> = std::thread::scope(|scope| {
        let attach = || Counter::attach_or_create(&name, Mutex::new(0)).expect("one of them makes it");
        let all: Vec<_> = (0..4).map(|_| scope.spawn(attach)).collect();
        all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    all.iter().for_each(|counter| count(counter, 1));
    assert_eq!(*all[0].lock().expect("the lock").acquired().expect("whole"), 4);
}

fn a_forked_child_is_refused() {
    let counter = Counter::new(Mutex::new(0)).expect("room");
    let guard = counter.lock().expect("the lock").acquired().expect("whole");
    let refused = || match counter.try_lock() {
        Err(why) => why.why().is_none(),
        Ok(_) => false,
    };
    // SAFETY: the child looks at its identity and ends; no other thread of this process holds a lock that it needs.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(!(refused()));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: our own child, a live local.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child took part in its parent's name");
    drop(guard);
    assert!(counter.try_lock().is_ok(), "the parent's lock is as it was");
}

fn many_guests_come_and_go() {
    let name = name_of("many");
    let counter = Counter::named(&name, Mutex::new(0)).expect("a fresh name");
    for round in 0..4 {
        let mut guests: Vec<Actor> = (0..4).map(|_| Actor::play("add", &[&name, "1"])).collect();
        let killed = holder(&name, "attach");
        killed.signal(signal::KILL);
        drop(killed);
        guests.iter_mut().for_each(|guest| drop(guest.told("added")));
        drop(guests);
        let lock = counter.lock().expect("the lock");
        assert!(round < 4 && matches!(lock, Locked::Acquired(_) | Locked::Recovered(_)));
        if let Locked::Recovered(guard) = lock {
            drop(guard.repaired());
        }
    }
}
