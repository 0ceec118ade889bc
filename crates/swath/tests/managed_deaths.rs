//! Managers when something goes wrong: clients, managers and creators that are killed, calls that are wrong, late or half, strangers.

mod stage;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stage::{Actor, PROMISE, eventually};
use swath::managed::{Counter, Dict, List, ManagedError, Proxy};
use swath::shared::Shared;
use swath::sync::Event;
use swath::{Error, ErrorKind, Manager, Pool, Process};
use swath_platform::stream::Stream;
use swath_platform::{exe, process, signal};

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        errors_say_what_is_wrong,
        a_panic_poisons_until_it_is_repaired,
        a_call_has_its_time,
        a_call_of_its_own_object_would_deadlock,
        a_client_killed_in_mid_message_changes_nothing,
        a_client_killed_while_it_waits_changes_nothing,
        clients_killed_at_random_block_nobody,
        a_manager_killed_is_an_error_everywhere,
        a_creator_killed_leaves_nothing,
        strangers_send_garbage,
        too_many_clients_are_told,
        without_descriptors_a_client_is_told,
        managers_leave_nothing,
    ];
    let roles: &[stage::Role] = stage::cast![creator];
    stage::main(tests, roles)
}

fn manager() -> Manager {
    Manager::new().expect("a manager")
}

/// What is behind an error.
fn why(error: Error) -> ManagedError {
    ManagedError::of(&error).unwrap_or_else(|| panic!("another error: {error}")).clone()
}

const LONG: Duration = Duration::from_secs(1000);

// ---- a client that no proxy is ------------------------------------------------------------------------------------------

/// A proxy as it travels.
#[derive(Deserialize)]
struct Travelling {
    address: Address,
    object: u64,
}

#[derive(Deserialize)]
struct Address {
    socket: String,
    secret: [u8; 16],
}

impl Travelling {
    fn of(proxy: &impl Serialize) -> Travelling {
        let json = serde_json::to_value(proxy).expect("a proxy is serde");
        serde_json::from_value(json).expect("with an address")
    }

    fn connect(&self) -> Stream {
        Stream::connect(self.address.socket.as_bytes(), Some(Instant::now() + LONG)).expect("it listens")
    }

    /// Connects and says hello.
    fn enter(&self) -> Stream {
        let stream = self.connect();
        let exe = exe::identity().expect("our executable");
        let numbers = [exe.dev, exe.ino].map(u64::to_le_bytes);
        let hello = [self.address.secret.as_slice(), numbers.as_flattened()].concat();
        stream.send_all(&frame(HELLO, 0, &hello), None).expect("taken");
        let mut head = [0; 24];
        assert_eq!(stream.recv(&mut head, None).expect("an answer"), 24);
        assert_eq!(u64::from_le_bytes(head[8..16].try_into().unwrap()), DONE);
        stream
    }
}

const HELLO: u64 = u64::from_le_bytes(*b"swathmg1");
const CALL: u64 = 2;
const DONE: u64 = 100;

fn frame(verb: u64, object: u64, body: &[u8]) -> Vec<u8> {
    let head = [body.len() as u64, verb, object].map(u64::to_le_bytes);
    [head.as_flattened(), body].concat()
}

// ---- errors -------------------------------------------------------------------------------------------------------------

fn errors_say_what_is_wrong() {
    let manager = manager();
    let list = manager.list_of(vec![1_u32, 2]).unwrap();

    let json = serde_json::to_string(&list).unwrap();
    let wrong: List<String> = serde_json::from_str(&json).expect("the type is not in it");
    let error = why(wrong.pop().expect_err("another type"));
    assert!(
        matches!(&error, ManagedError::WrongType { is, wanted } if is.contains("u32") && wanted.contains("String"))
    );
    assert_eq!(list.to_vec().unwrap(), [1, 2], "nothing was popped");

    let same = list.clone();
    list.delete().unwrap();
    let error = same.len().expect_err("deleted");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Managed, "object 1 was removed"));
    assert!(matches!(why(same.delete().expect_err("twice")), ManagedError::Removed { object: 1 }));

    let never = manager.host(|(): ()| -> u32 { panic!("no {}", "luck") }, ()).expect_err("it panicked");
    let ManagedError::Panicked { what } = why(never) else { panic!("another error") };
    assert!(what.contains("no luck") && what.contains("managed_deaths.rs:"), "{what}");
    assert_eq!(manager.stats().unwrap().objects, 0);

    let name = manager.name().to_owned();
    let list = manager.list::<u32>().unwrap();
    let reference = manager.reference();
    manager.shutdown();
    for error in
        [list.push(1).map(drop).expect_err("ended"), reference.set::<u8>().map(drop).expect_err("ended")]
    {
        assert_eq!(error.kind(), ErrorKind::ManagerGone);
        assert!(error.to_string().starts_with(&name) && error.to_string().contains("exit code 0"), "{error}");
    }
}

fn a_panic_poisons_until_it_is_repaired() {
    let manager = manager();
    let list = manager.list_of(vec![1, 2, 3]).unwrap();
    let half = |list: &mut Vec<i32>, (): ()| {
        list.clear();
        assert!(!list.is_empty(), "half-way");
    };
    let error = why(list.apply(half, ()).expect_err("it panicked"));
    assert!(matches!(&error, ManagedError::Panicked { what } if what.contains("half-way")), "{error}");
    for _ in 0..2 {
        let error = why(list.len().expect_err("poisoned"));
        assert!(matches!(&error, ManagedError::Poisoned { by } if by.contains("half-way")), "{error}");
    }
    list.repair(|list, first| *list = vec![first], 9).unwrap();
    assert_eq!(list.to_vec().unwrap(), [9]);
    let other = manager.list::<u8>().unwrap();
    assert_eq!(other.len().unwrap(), 0, "the others are as they were");
}

fn park(_: &mut u32, entered: Shared<Event>) {
    entered.set().expect("an event");
    std::thread::sleep(LONG);
}

/// An object at which a thread of this process is at work for ever, as far as anybody can tell.
fn occupied(manager: &Manager) -> (Proxy<u32>, std::thread::JoinHandle<Error>) {
    let object = manager.host(|()| 7_u32, ()).unwrap();
    let entered = Shared::new(Event::new()).unwrap();
    let (its, event) = (object.clone(), entered.clone());
    let thread = std::thread::spawn(move || its.apply(park, event).expect_err("it never ends by itself"));
    entered.wait().expect("it enters");
    (object, thread)
}

/// A proxy that has no limit of its own, but its manager's.
fn travelled_default(manager: &Manager) -> List<u8> {
    let list = manager.within(LONG).list::<u8>().unwrap();
    let mut json = serde_json::to_value(&list).unwrap();
    json["limit"] = serde_json::Value::Null;
    serde_json::from_value(json).unwrap()
}

fn a_call_has_its_time() {
    let manager = Manager::builder().name("slow").timeout(Duration::from_millis(30)).start().unwrap();
    let patient = manager.within(LONG);
    let object = patient.host(|()| 7_u32, ()).unwrap();
    let entered = Shared::new(Event::new()).unwrap();
    let (its, event) = (object.clone(), entered.clone());
    let thread = std::thread::spawn(move || its.apply(park, event).expect_err("it never ends by itself"));
    entered.wait().expect("it enters");
    // Its proxy carries its limit; the manager's is for those that have none.
    let travelled: Proxy<u32> = serde_json::from_str(&serde_json::to_string(&object).unwrap()).unwrap();
    let soon = Duration::from_millis(20);
    let late = travelled.within(soon).apply(|value, ()| *value, ()).expect_err("occupied");
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    assert!(matches!(why(late), ManagedError::TimedOut { limit, .. } if limit == soon));
    let deadline = Instant::now() + soon;
    let late = travelled.until(deadline).apply(|value, ()| *value, ()).expect_err("occupied");
    assert!(matches!(why(late), ManagedError::TimedOut { .. }) && Instant::now() >= deadline);
    // What was late is not taken for the answer to something else.
    let list = patient.list_of(vec![1, 2, 3]).unwrap();
    let nap = |list: &mut Vec<i32>, milliseconds: u64| {
        std::thread::sleep(Duration::from_millis(milliseconds));
        list.len()
    };
    assert!(list.within(soon).apply(nap, 100).is_err());
    let list = list.within(LONG);
    assert_eq!((list.len().unwrap(), list.get(0).unwrap()), (3, Some(1)));
    assert!(
        matches!(why(travelled_default(&manager).apply(|_, ()| std::thread::sleep(LONG), ()).expect_err("late")),
        ManagedError::TimedOut { limit, .. } if limit == Duration::from_millis(30))
    );
    // A manager that is stopped does not answer.
    let pidfd = process::pidfd_open(manager.pid()).unwrap();
    process::pidfd_signal(&pidfd, signal::STOP).unwrap();
    assert!(matches!(why(list.within(soon).len().expect_err("stopped")), ManagedError::TimedOut { .. }));
    let fresh = manager.reference().within(soon);
    assert!(matches!(why(fresh.list::<u8>().expect_err("stopped")), ManagedError::TimedOut { .. }));
    process::pidfd_signal(&pidfd, signal::CONT).unwrap();
    assert_eq!(list.len().unwrap(), 3);
    drop(manager);
    assert_eq!(thread.join().expect("no panic").kind(), ErrorKind::ManagerGone);
}

fn a_call_of_its_own_object_would_deadlock() {
    let manager = manager();
    let list = manager.list_of(vec![1]).unwrap();
    let myself = |list: &mut Vec<i32>, me: List<i32>| {
        list.push(2);
        me.len().map_err(|error| error.kind() == ErrorKind::WouldDeadlock)
    };
    assert_eq!(list.apply(myself, list.clone()).unwrap(), Err(true));
    let other = manager.list_of(vec![1, 2, 3]).unwrap();
    let another = |_: &mut Vec<i32>, other: List<i32>| other.len().map_err(|error| error.to_string());
    assert_eq!(list.apply(another, other).unwrap(), Ok(3));
}

// ---- deaths -------------------------------------------------------------------------------------------------------------

/// Sends a message of which the last byte is missing, says so, and waits for its death.
fn send_all_but_one_byte((dict, sent): (Dict<String, i64>, Shared<Event>)) {
    let travelling = Travelling::of(&dict);
    let stream = travelling.enter();
    // More than a socket takes at once: the manager has read most of it.
    let whole = frame(CALL, travelling.object, &vec![0; 4 << 20]);
    stream.send_all(&whole[..whole.len() - 1], None).expect("taken");
    sent.set().expect("an event");
    loop {
        std::thread::park();
    }
}

fn a_client_killed_in_mid_message_changes_nothing() {
    let manager = manager();
    let dict = manager.dict_of(vec![("a".to_owned(), 1)]).unwrap();
    let clients = manager.stats().unwrap().clients;
    let mut calls = manager.stats().unwrap().calls;
    for _ in 0..3 {
        let sent = Shared::new(Event::new()).unwrap();
        let client = Process::spawn(send_all_but_one_byte, (dict.clone(), sent.clone())).unwrap();
        sent.wait().expect("it gets so far");
        assert_eq!(manager.stats().unwrap().clients, clients + 1, "it is in the middle");
        assert_eq!(dict.get("a").unwrap(), Some(1), "and blocks nobody");
        client.kill().unwrap();
        assert_eq!(client.join().unwrap().signal(), Some(signal::KILL));
        assert!(eventually(PROMISE, || manager.stats().unwrap().clients == clients), "its thread has ended");
        let now = manager.stats().unwrap().calls;
        assert!(now > calls);
        calls = now;
    }
    assert_eq!(dict.items().unwrap(), [("a".to_owned(), 1)]);
}

fn a_client_killed_while_it_waits_changes_nothing() {
    let manager = manager();
    let object = manager.host(|()| 7_u32, ()).unwrap();
    let (entered, leave) = (Shared::new(Event::new()).unwrap(), Shared::new(Event::new()).unwrap());
    let hold = |_: &mut u32, (entered, leave): (Shared<Event>, Shared<Event>)| {
        entered.set().expect("an event");
        leave.wait().expect("an event");
    };
    let (its, events) = (object.clone(), (entered.clone(), leave.clone()));
    let holder = std::thread::spawn(move || its.apply(hold, events));
    entered.wait().unwrap();
    let before = manager.stats().unwrap().clients;
    let add = |(object, about_to): (Proxy<u32>, Shared<Event>)| {
        about_to.set().expect("an event");
        let _ = object.apply(|value, ()| *value += 1, ());
    };
    let about_to = Shared::new(Event::new()).unwrap();
    let client = Process::spawn(add, (object.clone(), about_to.clone())).unwrap();
    about_to.wait().unwrap();
    assert!(eventually(PROMISE, || manager.stats().unwrap().clients == before + 1), "it is connected");
    // It is asleep in its call: nothing else there waits.
    assert!(eventually(PROMISE, || process::state_char(client.id()) == Some('S')));
    client.kill().unwrap();
    assert_eq!(client.join().unwrap().signal(), Some(signal::KILL));
    leave.set().unwrap();
    holder.join().unwrap().expect("it ends by itself");
    assert!(eventually(PROMISE, || manager.stats().unwrap().clients == before));
    assert_eq!(object.apply(|value, ()| *value, ()).unwrap(), 7, "nobody wanted it any more");
}

/// Each addition is first announced in one place, then done in another: by one batch.
fn add_for_ever((counter, running): (Counter<String>, Shared<Event>)) -> swath::Result<()> {
    let me = process::getpid().to_string();
    loop {
        let mut batch = counter.batch();
        batch.add("sum", 1);
        batch.add(&me, 1);
        batch.run()?;
        running.set().expect("an event");
    }
}

fn clients_killed_at_random_block_nobody() {
    let manager = manager();
    let counter = manager.counter::<String>().unwrap();
    for round in 0..20 {
        let running = Shared::new(Event::new()).unwrap();
        let clients: Vec<_> = (0..2)
            .map(|_| Process::spawn(add_for_ever, (counter.clone(), running.clone())).unwrap())
            .collect();
        running.wait().expect("they run");
        std::thread::sleep(Duration::from_micros(round * 300));
        for client in clients {
            client.kill().unwrap();
            assert_eq!(client.join().unwrap().signal(), Some(signal::KILL));
        }
        let items = counter.items().expect("nobody is in the way");
        let sum = items.iter().find(|(key, _)| key == "sum").expect("they ran").1;
        let each: i64 = items.iter().filter(|(key, _)| key != "sum").map(|(_, count)| count).sum();
        assert_eq!(sum, each, "half a batch took effect");
    }
    assert!(eventually(PROMISE, || manager.stats().unwrap().clients == 1));
}

fn wait_in_call((object, inside): (Proxy<u32>, Shared<Event>)) -> bool {
    inside.set().expect("an event");
    let error = object.apply(|value, ()| *value, ()).expect_err("killed");
    error.kind() == ErrorKind::ManagerGone
}

fn a_manager_killed_is_an_error_everywhere() {
    let manager = Manager::builder().name("mortal").start().unwrap();
    let list = manager.list::<u8>().unwrap();
    let (object, waiting) = occupied(&manager);
    let inside = Shared::new(Event::new()).unwrap();
    let process = Process::spawn(wait_in_call, (object.clone(), inside.clone())).unwrap();
    inside.wait().unwrap();
    let pool = Pool::builder().workers(2).build().unwrap();
    let tasks: Vec<_> =
        (0..2).map(|_| pool.submit(wait_in_call, (object.clone(), inside.clone())).unwrap()).collect();
    assert!(eventually(PROMISE, || manager.stats().unwrap().clients == 5), "all are in their calls");
    let pidfd = process::pidfd_open(manager.pid()).unwrap();
    process::pidfd_signal(&pidfd, signal::KILL).unwrap();

    // True is exit code 1.
    assert_eq!(process.join().unwrap().code(), Some(1), "in a process");
    tasks.into_iter().for_each(|task| assert!(task.result().unwrap(), "in a task"));
    for error in [
        waiting.join().expect("no panic"),
        list.len().expect_err("killed"),
        object.delete().expect_err("killed"),
    ] {
        assert_eq!(error.kind(), ErrorKind::ManagerGone);
        let ManagedError::Gone { manager: name, pid, cause } = why(error) else { panic!("another error") };
        assert_eq!((name.as_str(), pid), ("mortal", manager.pid()));
        assert_eq!(cause.as_deref(), Some("its process was killed by SIGKILL"));
    }
    // Who did not start it knows that it is gone, and not why.
    let look = |list: List<u8>| {
        let text = list.len().expect_err("killed").to_string();
        assert!(
            text.starts_with("mortal (pid ") && text.ends_with("is gone, and its objects with it"),
            "{text}"
        );
    };
    assert!(Process::spawn(look, list).unwrap().join().unwrap().success());
}

/// A manager, a client at work, and a worker with a manager of its own.
fn creator(_: &[String]) {
    let manager = manager();
    let counter = manager.counter::<String>().unwrap();
    let running = Shared::new(Event::new()).unwrap();
    let _client = Process::spawn(add_for_ever, (counter.clone(), running.clone())).unwrap();
    let deeper = |running: Shared<Event>| {
        let manager = Manager::new().expect("a manager in a process");
        add_for_ever((manager.counter().unwrap(), running)).expect("it lives");
    };
    let deep = Shared::new(Event::new()).unwrap();
    let _deeper = Process::spawn(deeper, deep.clone()).unwrap();
    running.wait().unwrap();
    deep.wait().unwrap();
    println!("up");
    loop {
        counter.total().expect("it lives");
    }
}

fn a_creator_killed_leaves_nothing() {
    for _ in 0..3 {
        let mut actor = Actor::play("creator", &[]);
        actor.told("up");
        assert_eq!(actor.processes_called("swath-manager").len(), 2);
        actor.kill();
        actor.assert_gone();
    }
}

fn managers_leave_nothing() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let add = |counter: Counter<u8>| counter.add(1, 1).map_err(|error| error.to_string());
    let open = |_: ()| std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count());
    let mut opened = Vec::new();
    for _ in 0..20 {
        let manager = manager();
        let counter = manager.counter().unwrap();
        assert_eq!(pool.apply(add, counter.clone()).unwrap(), Ok(1));
        opened.push(pool.apply(open, ()).unwrap());
        assert!(
            swath::active_children().iter().any(|child| child.id() == manager.pid() && child.is_daemon())
        );
        let pid = manager.pid();
        drop(manager);
        assert_eq!(process::state_char(pid), None, "reaped");
    }
    assert!(opened[19] <= opened[1] + 1, "a worker keeps nothing of managers that are gone: {opened:?}");
}

// ---- strangers ----------------------------------------------------------------------------------------------------------

fn strangers_send_garbage() {
    let manager = manager();
    let list = manager.list_of(vec![1_u64, 2, 3]).unwrap();
    let travelling = Travelling::of(&list);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % end
    };
    let hello = |secret: [u8; 16]| [secret.as_slice(), &[0; 16]].concat();
    let before: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0],
        vec![255; 24],
        frame(HELLO, 0, &[]),
        frame(HELLO, 0, &hello([0; 16])),
        frame(CALL, travelling.object, &[1, 2, 3]),
        [u64::MAX, HELLO, 0].map(u64::to_le_bytes).as_flattened().to_vec(),
    ];
    for bytes in before {
        let stream = travelling.connect();
        let _ = stream.send_all(&bytes, None);
        let mut answer = [0; 1];
        // It hangs up, unless it still waits for the rest.
        if bytes.len() >= 24 {
            assert_eq!(stream.recv(&mut answer, None).unwrap_or(0), 0, "{bytes:?}");
        }
    }
    // The right secret, another executable.
    let stream = travelling.connect();
    stream.send_all(&frame(HELLO, 0, &hello(travelling.address.secret)), None).unwrap();
    let mut answer = vec![0; 500];
    let received = stream.recv(&mut answer, None).unwrap();
    assert!(String::from_utf8_lossy(&answer[..received]).contains("another executable"));
    // One that may call, and is out of its mind. Functions that are in the executable are not for it to choose: it has none.
    for round in 0..400 {
        let stream = travelling.enter();
        let len = dice(200) as usize;
        let mut body: Vec<u8> = (0..len).map(|_| dice(256) as u8).collect();
        if round % 2 == 0 && len >= 24 {
            body[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            body[16..24].copy_from_slice(&dice(300).to_le_bytes());
        } else if len >= 8 {
            body[7] |= 0x80;
        }
        let object = [travelling.object, dice(5), u64::MAX][dice(3) as usize];
        let mut bytes = frame(2 + dice(4), object, &body);
        match dice(4) {
            0 => bytes.truncate(dice(bytes.len() as u64 + 1) as usize),
            1 => bytes[..8].copy_from_slice(
                &[dice(1 << 20), u64::MAX, 1 << 40, 3 << 30][dice(4) as usize].to_le_bytes(),
            ),
            _ => {}
        }
        let _ = stream.send_all(&bytes, None);
        if dice(2) == 0 {
            let _ = stream.recv(&mut [0; 64], Some(Instant::now() + Duration::from_millis(2)));
        }
    }
    assert!(eventually(PROMISE, || manager.stats().unwrap().clients == 1), "all their threads have ended");
    let status = std::fs::read_to_string(format!("/proc/{}/status", manager.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 200 << 10, "{kib} KiB for what was only announced");
    // A `REMOVE` of the number may have hit it; what is there is as it was.
    match list.to_vec() {
        Ok(values) => assert_eq!(values, [1, 2, 3]),
        Err(error) => assert!(matches!(why(error), ManagedError::Removed { .. })),
    }
    assert_eq!(manager.list_of(vec![5]).unwrap().pop().unwrap(), Some(5));
}

fn too_many_clients_are_told() {
    let manager = Manager::builder().clients_max(3).start().unwrap();
    let list = manager.list::<u8>().unwrap();
    let travelling = Travelling::of(&list);
    let others = [travelling.enter(), travelling.enter()];
    let push = |list: List<u8>| {
        let error = list.push(1).expect_err("it is the fourth");
        assert!(matches!(ManagedError::of(&error), Some(ManagedError::Full { .. })), "{error}");
        assert!(error.to_string().contains("it has 3"), "{error}");
    };
    assert!(Process::spawn(push, list.clone()).unwrap().join().unwrap().success());
    drop(others);
    assert!(eventually(PROMISE, || manager.stats().unwrap().clients == 1));
    let pushed =
        Process::spawn(|list: List<u8>| list.push(1).is_err(), list.clone()).unwrap().join().unwrap();
    assert!(pushed.success() && list.len().unwrap() == 1);
}

fn without_descriptors_a_client_is_told() {
    let limits = swath::process::Limits::new().open_files(20);
    let manager = Manager::builder().limits(limits).start().unwrap();
    let list = manager.list::<u8>().unwrap();
    let travelling = Travelling::of(&list);
    let open = manager.stats().unwrap().clients;
    assert_eq!(open, 1);
    let mut others = Vec::new();
    let told = loop {
        let stream = travelling.connect();
        let mut first = [0; 200];
        // Who is refused is told without having said anything.
        match stream.recv(&mut first, Some(Instant::now() + Duration::from_millis(50))) {
            Ok(received) => break String::from_utf8_lossy(&first[..received]).into_owned(),
            Err(_) => others.push(stream),
        }
        assert!(others.len() < 20, "it has no more descriptors");
    };
    assert!(told.contains("os error 24"), "{told:?}");
    assert_eq!(list.push(1).unwrap(), 0, "who is in is served");
    drop(others);
    assert!(eventually(PROMISE, || manager.stats().unwrap().clients == 1));
    assert!(Process::spawn(|list: List<u8>| list.push(1).is_err(), list).unwrap().join().unwrap().success());
}
