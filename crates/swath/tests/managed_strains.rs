//! Managers under strain: crowds, calls that come too late, ends with somebody at work, types that lie.

mod stage;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stage::{PROMISE, eventually};
use swath::managed::{List, ManagedError, Proxy};
use swath::process::Limits;
use swath::shared::Shared;
use swath::sync::Event;
use swath::{Error, ErrorKind, Manager, Process};
use swath_platform::{process, signal};

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        calls_that_are_given_up_take_no_room,
        a_burst_leaves_room_for_others,
        what_nobody_knows_of_is_not_kept,
        a_call_whose_time_is_over_is_not_made,
        a_call_whose_client_has_gone_is_not_made,
        an_end_lets_calls_end_and_drops_all,
        an_end_has_its_limit,
        an_end_needs_no_room,
        an_end_is_the_same_for_everybody,
        a_message_too_large_is_one_clients_problem,
        a_touched_executable_is_the_same,
        a_type_that_decodes_less_than_it_encodes_is_an_error,
    ];
    stage::main(tests, &[])
}

/// What is behind an error.
fn why(error: Error) -> ManagedError {
    ManagedError::of(&error).unwrap_or_else(|| panic!("another error: {error}")).clone()
}

fn event() -> Shared<Event> {
    Shared::new(Event::new()).expect("an event")
}

/// Says that it is at work, and is until it is let go.
fn hold(_: &mut Guarded, (entered, leave): (Shared<Event>, Shared<Event>)) -> u32 {
    entered.set().expect("an event");
    leave.wait().expect("an event");
    7
}

/// An object whose destructor says so, after some time.
struct Guarded {
    dropped: Shared<Event>,
    takes: Duration,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        std::thread::sleep(self.takes);
        self.dropped.set().expect("an event");
    }
}

fn guarded(manager: &Manager, dropped: &Shared<Event>, takes: Duration) -> Proxy<Guarded> {
    let make = |(dropped, takes)| Guarded { dropped, takes };
    manager.host(make, (dropped.clone(), takes)).expect("an object")
}

fn is_set(event: &Shared<Event>) -> bool {
    event.is_set().expect("an event")
}

// ---- room ---------------------------------------------------------------------------------------------------------------

fn calls_that_are_given_up_take_no_room() {
    let manager = Manager::builder().clients_max(20).start().unwrap();
    let (dropped, entered, leave) = (event(), event(), event());
    let object = guarded(&manager, &dropped, Duration::ZERO);
    let (its, events) = (object.clone(), (entered.clone(), leave.clone()));
    let holder = std::thread::spawn(move || its.apply(hold, events));
    entered.wait().unwrap();
    let (mut tries, late) = (0, object.within(Duration::from_millis(2)));
    let mut waiting = Vec::new();
    while tries < 100 {
        match why(late.apply(|_, ()| (), ()).expect_err("occupied")) {
            ManagedError::TimedOut { .. } => tries += 1,
            // They have not noticed yet: as soon as they have, there is room.
            ManagedError::Full { .. } => waiting.push(Instant::now()),
            other => panic!("{other}"),
        }
    }
    assert!(eventually(PROMISE, || manager.stats().is_ok_and(|stats| stats.clients <= 2)));
    leave.set().unwrap();
    assert_eq!(holder.join().unwrap().unwrap(), 7);
}

fn a_burst_leaves_room_for_others() {
    const AT_ONCE: usize = 8;
    let manager = Manager::builder().clients_max(AT_ONCE).start().unwrap();
    let list = manager.list::<u32>().unwrap();
    let meeting = std::sync::Barrier::new(AT_ONCE);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                meeting.wait();
                list.apply(|_, ()| std::thread::sleep(Duration::from_millis(20)), ()).expect("room for all");
            });
        }
    });
    assert!(eventually(PROMISE, || manager.stats().unwrap().clients <= AT_ONCE / 2));
    let pushed = Process::spawn(|list: List<u32>| list.push(1).is_err(), list.clone()).unwrap();
    assert!(pushed.join().unwrap().success());
    assert_eq!(list.to_vec().unwrap(), [1]);
}

fn what_nobody_knows_of_is_not_kept() {
    let manager = Manager::new().unwrap();
    let dropped = event();
    let slow = |dropped: Shared<Event>| {
        std::thread::sleep(Duration::from_millis(40));
        Guarded { dropped, takes: Duration::ZERO }
    };
    let soon = manager.within(Duration::from_millis(10));
    assert_eq!(soon.host(slow, dropped.clone()).expect_err("too slow").kind(), ErrorKind::TimedOut);
    assert!(eventually(PROMISE, || is_set(&dropped)), "nobody has its number");
    assert!(eventually(PROMISE, || manager.stats().unwrap().objects == 0));
}

fn a_message_too_large_is_one_clients_problem() {
    let manager = Manager::builder().limits(Limits::new().memory(400 << 20)).start().unwrap();
    let list = manager.list::<Vec<u8>>().unwrap();
    let error = list.push(vec![7; 500 << 20]).expect_err("more than it may use");
    assert!(matches!(why(error), ManagedError::Full { what } if what.contains("memory")));
    assert!(list.is_empty().unwrap(), "it lives");
    assert_eq!(list.push(vec![7; 1 << 20]).unwrap(), 0);
}

// ---- time ---------------------------------------------------------------------------------------------------------------

fn a_call_whose_time_is_over_is_not_made() {
    let manager = Manager::new().unwrap();
    let list = manager.list::<u32>().unwrap();
    let before = Instant::now();
    for late in [list.until(before), list.within(Duration::ZERO)] {
        let error = why(late.push(1).expect_err("too late"));
        assert!(matches!(error, ManagedError::TimedOut { sent: false, .. }), "{error}");
    }
    assert!(list.is_empty().unwrap());
}

fn a_call_whose_client_has_gone_is_not_made() {
    let manager = Manager::new().unwrap();
    let list = manager.list::<u32>().unwrap();
    let pidfd = process::pidfd_open(manager.pid()).unwrap();
    process::pidfd_signal(&pidfd, signal::STOP).unwrap();
    assert!(eventually(PROMISE, || process::state_char(manager.pid()) == Some('T')));
    let error = why(list.within(Duration::from_millis(20)).push(1).expect_err("it is stopped"));
    assert!(matches!(error, ManagedError::TimedOut { sent: true, .. }), "{error}");
    process::pidfd_signal(&pidfd, signal::CONT).unwrap();
    // One call after the other: when this is answered, so would that be.
    assert!(list.is_empty().unwrap());
    assert!(eventually(PROMISE, || manager.stats().unwrap().clients == 1) && list.is_empty().unwrap());
}

// ---- the end ------------------------------------------------------------------------------------------------------------

fn an_end_lets_calls_end_and_drops_all() {
    let manager = Manager::new().unwrap();
    let server = manager.process().clone();
    let (dropped, entered) = (event(), event());
    // Longer than calls have: destructors have more.
    let object = guarded(&manager, &dropped, Duration::from_millis(700));
    let work = |_: &mut Guarded, entered: Shared<Event>| {
        entered.set().expect("an event");
        std::thread::sleep(Duration::from_millis(100));
        7_u32
    };
    let (its, event) = (object.clone(), entered.clone());
    let caller = std::thread::spawn(move || its.apply(work, event));
    entered.wait().unwrap();
    manager.shutdown();
    assert_eq!(caller.join().unwrap().expect("its answer"), 7);
    assert!(is_set(&dropped));
    assert!(server.join().unwrap().success(), "it has ended by itself");
    assert_eq!(object.apply(|_, ()| (), ()).expect_err("gone").kind(), ErrorKind::ManagerGone);
}

fn an_end_has_its_limit() {
    let manager = Manager::new().unwrap();
    let server = manager.process().clone();
    let (idle, busy, entered) = (event(), event(), event());
    let _idle = guarded(&manager, &idle, Duration::ZERO);
    let object = guarded(&manager, &busy, Duration::ZERO);
    let (its, events) = (object, (entered.clone(), event()));
    let caller = std::thread::spawn(move || its.apply(hold, events));
    entered.wait().unwrap();
    manager.shutdown();
    assert_eq!(caller.join().unwrap().expect_err("cut off").kind(), ErrorKind::ManagerGone);
    assert_eq!(server.join().unwrap().signal(), Some(signal::KILL));
    assert!(is_set(&idle) && !is_set(&busy), "one was dropped, at the other somebody was at work");
}

fn an_end_needs_no_room() {
    let manager = Manager::builder().clients_max(1).start().unwrap();
    let server = manager.process().clone();
    let (dropped, entered) = (event(), event());
    let object = guarded(&manager, &dropped, Duration::ZERO);
    let stay = |(object, entered): (Proxy<Guarded>, Shared<Event>)| {
        // The connection of the creator's first calls is given up: whoever comes takes the place.
        while object.apply(|_, ()| (), ()).is_err() {}
        entered.set().expect("an event");
        std::thread::sleep(Duration::from_secs(1000));
    };
    let stranger = Process::builder().daemon(true).spawn(stay, (object.clone(), entered.clone())).unwrap();
    let nap = |_: &mut Guarded, ()| std::thread::sleep(Duration::from_millis(20));
    let late = object.within(Duration::from_millis(5));
    while !is_set(&entered) {
        let _ = late.apply(nap, ());
    }
    assert!(matches!(why(object.apply(|_, ()| (), ()).expect_err("full")), ManagedError::Full { .. }));
    manager.shutdown();
    assert!(is_set(&dropped) && server.join().unwrap().success());
    stranger.kill().unwrap();
    stranger.join().unwrap();
}

fn an_end_is_the_same_for_everybody() {
    let manager = Manager::new().unwrap();
    let reference = manager.reference();
    let list = manager.list_of(vec![1_u32]).unwrap();
    let dropped = event();
    let _slow = guarded(&manager, &dropped, Duration::from_millis(300));
    let ending = std::thread::spawn(move || manager.shutdown());
    let mut answers = 0;
    let error = loop {
        match list.len() {
            Ok(len) => assert_eq!(len, 1),
            Err(error) => break error,
        }
        answers += 1;
    };
    assert_eq!(error.kind(), ErrorKind::ManagerGone, "after {answers} answers: {error}");
    let made = reference.list_of(vec![1_u32]).expect_err("it ends");
    assert_eq!(made.kind(), ErrorKind::ManagerGone, "{made}");
    ending.join().unwrap();
    assert!(is_set(&dropped));
}

// ---- what it believes -----------------------------------------------------------------------------------------------------

fn a_touched_executable_is_the_same() {
    let manager = Manager::new().unwrap();
    let list = manager.list::<u32>().unwrap();
    let exe = std::fs::File::open("/proc/self/exe").unwrap();
    exe.set_modified(std::time::SystemTime::now()).unwrap();
    let pushed = Process::spawn(|list: List<u32>| list.push(1).is_err(), list.clone()).unwrap();
    assert!(pushed.join().unwrap().success());
    assert_eq!(list.len().unwrap(), 1);
}

/// Writes more than it reads: what comes behind it is read from another place than it was written to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Liar(u64);

impl Serialize for Liar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0, trap as *const () as u64, 0_u8).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Liar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Liar, D::Error> {
        u64::deserialize(deserializer).map(Liar)
    }
}

fn trap() {
    std::process::exit(99);
}

fn a_type_that_decodes_less_than_it_encodes_is_an_error() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<Liar, u64>().unwrap();
    let other = manager.list::<u32>().unwrap();
    let update =
        dict.update_or_insert(Liar(1), 0_u64, |value, bytes: Vec<u8>| *value += bytes.len() as u64, vec![]);
    assert_eq!(update.expect_err("its bytes do not fit").kind(), ErrorKind::Codec);
    let update = dict.update(Liar(1), |value, bytes: Vec<u8>| *value += bytes.len() as u64, vec![]);
    assert_eq!(update.expect_err("its bytes do not fit").kind(), ErrorKind::Codec);
    assert_eq!((other.push(1).unwrap(), dict.len().unwrap()), (0, 0), "it lives");
}
