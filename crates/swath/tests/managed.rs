//! Managed objects: what each type does, from wherever it is called.

mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use swath::managed::{Counter, Dict, List, ManagedError};
use swath::shared::Shared;
use swath::sync::Event;
use swath::{Error, ErrorKind, Managed, Manager, Pool, Process, SharedArray};
use swath_platform::process;

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        a_list_is_a_vec,
        a_dict_is_a_map,
        a_set_is_a_set,
        a_counter_counts,
        a_namespace_has_values_of_all_types,
        a_custom_type_is_asked,
        a_batch_is_one_turn,
        tasks_phases_and_processes_lose_no_addition,
        what_is_changed_inside_another_object_is_changed,
        threads_share_the_connections,
        a_forked_copy_makes_its_own_connection,
        large_values_pass,
    ];
    stage::main(tests, &[])
}

/// Proxies go wherever they are needed.
const _: fn() = || {
    fn goes_anywhere<T: Send + Sync + Clone + Serialize + for<'de> Deserialize<'de>>() {}
    goes_anywhere::<List<String>>();
    goes_anywhere::<swath::managed::ManagerRef>();
};

fn manager() -> Manager {
    Manager::new().expect("a manager")
}

/// What is behind an error.
fn why(error: Error) -> ManagedError {
    ManagedError::of(&error).unwrap_or_else(|| panic!("another error: {error}")).clone()
}

/// The same numbers for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}

// ---- the types, each against the standard library's ---------------------------------------------------------------------

fn a_list_is_a_vec() {
    let manager = manager();
    let list = manager.list::<u64>().expect("a list");
    let (mut model, mut dice) = (Vec::<u64>::new(), Dice(1));
    for _ in 0..1500 {
        let (index, value) = (dice.below(model.len() as u64 + 2) as usize, dice.below(50));
        let there = index < model.len();
        match dice.below(18) {
            0..3 => {
                model.push(value);
                assert_eq!(list.push(value).unwrap(), model.len() - 1);
            }
            3 => assert_eq!(list.pop().unwrap(), model.pop()),
            4..6 => {
                let fits = index <= model.len();
                assert_eq!(list.insert(index, value).unwrap(), fits);
                if fits {
                    model.insert(index, value);
                }
            }
            6 => assert_eq!(list.remove(index).unwrap(), there.then(|| model.remove(index))),
            7 => assert_eq!(list.get(index).unwrap(), model.get(index).copied()),
            8 => {
                let old = model.get_mut(index).map(|place| std::mem::replace(place, value));
                assert_eq!(list.set(index, value).unwrap(), old);
            }
            9 => {
                model.extend([value; 3]);
                assert_eq!(list.extend(vec![value; 3]).unwrap(), model.len());
            }
            10 => {
                let end = index + value as usize;
                let expected = model.iter().copied().skip(index).take(value as usize).collect::<Vec<_>>();
                assert_eq!(list.slice(index, end).unwrap(), expected);
            }
            11 => {
                list.sort().unwrap();
                model.sort();
            }
            12 => {
                list.reverse().unwrap();
                model.reverse();
            }
            13 => assert_eq!(list.index_of(value).unwrap(), model.iter().position(|v| *v == value)),
            14 => assert_eq!(list.count(value).unwrap(), model.iter().filter(|v| **v == value).count()),
            15 => {
                let swaps = there && !model.is_empty();
                assert_eq!(list.swap(0, index).unwrap(), swaps);
                if swaps {
                    model.swap(0, index);
                }
            }
            16 => {
                let expected = model.get(index).copied().unwrap_or(0) + value % 2;
                let fits = model.get(index) == Some(&expected);
                assert_eq!(list.replace_if(index, expected, value).unwrap(), fits);
                if fits {
                    model[index] = value;
                }
            }
            _ => {
                let new = model.get_mut(index).map(|place| {
                    *place += value;
                    *place
                });
                let add: fn(&mut u64, u64) -> u64 = |place, value| {
                    *place += value;
                    *place
                };
                assert_eq!(list.update(index, add, value).unwrap(), new);
            }
        }
        assert_eq!(list.len().unwrap(), model.len());
    }
    assert_eq!(list.to_vec().unwrap(), model);
    assert_eq!(list.pages(7).collect::<Result<Vec<_>, _>>().unwrap(), model);
    assert!(model.len() > 20 && list.contains(model[3]).unwrap());
    list.truncate(3).unwrap();
    assert_eq!(list.to_vec().unwrap(), model[..3]);
    list.clear().unwrap();
    assert!(list.is_empty().unwrap() && list.slice(5, 1).unwrap().is_empty());
}

fn a_dict_is_a_map() {
    let manager = manager();
    let dict = manager.dict::<String, i64>().expect("a dictionary");
    let (mut model, mut dice) = (BTreeMap::<String, i64>::new(), Dice(2));
    for _ in 0..1500 {
        let (key, value) = (format!("key {}", dice.below(30)), dice.below(10) as i64);
        match dice.below(10) {
            0..3 => assert_eq!(dict.insert(&key, value).unwrap(), model.insert(key, value)),
            3 => assert_eq!(dict.remove(key.as_str()).unwrap(), model.remove(&key)),
            4 => assert_eq!(dict.get(&key).unwrap(), model.get(&key).copied()),
            5 => {
                let expected = *model.entry(key.clone()).or_insert(value);
                assert_eq!(dict.get_or_insert(key, value).unwrap(), expected);
            }
            6 => assert_eq!(dict.contains_key(&key).unwrap(), model.contains_key(&key)),
            7 => {
                *model.entry(key.clone()).or_default() += value;
                assert_eq!(dict.add(&key, value).unwrap(), model[&key]);
            }
            8 => {
                let expected = model.get(&key).copied().filter(|_| dice.below(3) > 0);
                let new = Some(value).filter(|_| dice.below(2) == 0);
                let fits = model.get(&key).copied() == expected;
                assert_eq!(dict.replace_if(&key, expected, new).unwrap(), fits);
                if fits {
                    model.remove(&key);
                    new.map(|new| model.insert(key, new));
                }
            }
            _ => {
                let doubled = model.get_mut(&key).map(|value| {
                    *value *= 2;
                });
                assert_eq!(dict.update(&key, |value, ()| *value *= 2, ()).unwrap(), doubled);
            }
        }
        assert_eq!(dict.len().unwrap(), model.len());
    }
    assert_eq!(dict.items().unwrap(), model.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(dict.keys().unwrap(), model.keys().cloned().collect::<Vec<_>>());
    assert_eq!(dict.values().unwrap(), model.values().copied().collect::<Vec<_>>());
    let (mut all, mut last) = (Vec::new(), None);
    loop {
        let page = dict.items_after(last.clone(), 4).unwrap();
        let Some((key, _)) = page.last() else { break };
        last = Some(key.clone());
        all.extend(page);
    }
    assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(dict.pop_first().unwrap(), model.pop_first());
    dict.clear().unwrap();
    assert!(dict.is_empty().unwrap());
    let sum = dict.update_or_insert("new", 5, |value, more: i64| *value + more, 2).unwrap();
    assert_eq!((sum, dict.get("new").unwrap()), (7, Some(5)));
    let other = manager.dict_of(vec![("b".to_owned(), 2), ("a".to_owned(), 1)]).expect("a dictionary");
    assert_eq!(other.items().unwrap(), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
}

fn a_set_is_a_set() {
    let manager = manager();
    let set = manager.set_of(vec![5, 1, 3]).expect("a set");
    let mut model = BTreeSet::from([1, 3, 5]);
    let mut dice = Dice(3);
    for _ in 0..300 {
        let value = dice.below(20) as i32;
        let others: BTreeSet<i32> = (0..dice.below(4)).map(|_| dice.below(20) as i32).collect();
        match dice.below(9) {
            0..3 => assert_eq!(set.insert(value).unwrap(), model.insert(value)),
            3 => assert_eq!(set.remove(value).unwrap(), model.remove(&value)),
            4 => assert_eq!(set.contains(value).unwrap(), model.contains(&value)),
            5 => {
                let new = others.difference(&model).count();
                assert_eq!(set.union_with(others.iter().copied().collect::<Vec<_>>()).unwrap(), new);
                model.extend(others);
            }
            6 => {
                set.symmetric_difference_with(&others).unwrap();
                model = model.symmetric_difference(&others).copied().collect();
            }
            7 => {
                set.subtract(others.iter().copied().collect::<Vec<_>>()).unwrap();
                model = model.difference(&others).copied().collect();
            }
            _ => {
                assert_eq!(set.is_superset(&others).unwrap(), model.is_superset(&others));
                assert_eq!(set.is_subset(&others).unwrap(), model.is_subset(&others));
                assert_eq!(set.is_disjoint(&others).unwrap(), model.is_disjoint(&others));
            }
        }
        assert_eq!(set.len().unwrap(), model.len());
    }
    assert_eq!(set.to_vec().unwrap(), model.iter().copied().collect::<Vec<_>>());
    assert!(set.is_subset(&model).unwrap() && set.is_superset(&model).unwrap());
    let some: BTreeSet<i32> = model.iter().copied().take(2).collect();
    set.intersect_with(&some).unwrap();
    assert_eq!(set.to_vec().unwrap(), some.iter().copied().collect::<Vec<_>>());
    assert_eq!(set.pop_first().unwrap(), some.first().copied());
    set.clear().unwrap();
    assert!(set.is_empty().unwrap());
}

fn a_counter_counts() {
    let manager = manager();
    let words = manager.counter::<String>().expect("a counter");
    words
        .count("the cat and the dog and the bird".split(' ').map(str::to_owned).collect::<Vec<_>>())
        .unwrap();
    assert_eq!((words.get("the").unwrap(), words.get("fish").unwrap()), (3, 0));
    assert_eq!((words.total().unwrap(), words.len().unwrap()), (8, 5));
    assert_eq!(words.most_common(2).unwrap(), [("the".to_owned(), 3), ("and".to_owned(), 2)]);
    assert_eq!(words.add("cat", -3).unwrap(), -2);
    words.add_all(vec![("dog".to_owned(), i64::MAX), ("dog".to_owned(), 1)]).unwrap();
    assert_eq!(words.remove("dog").unwrap(), i64::MAX, "no overflow");
    let items = ["and", "bird", "cat", "the"].map(str::to_owned).into_iter().zip([2, 1, -2, 3]);
    assert_eq!(words.items().unwrap(), items.collect::<Vec<_>>());
    words.clear().unwrap();
    assert!(words.is_empty().unwrap());
}

fn a_namespace_has_values_of_all_types() {
    let manager = manager();
    let names = manager.namespace().expect("a namespace");
    names.set::<u32>("answer", 42).unwrap();
    names.set::<String>("text", "hello").unwrap();
    names.set::<Vec<f64>>("numbers", vec![1.0, 2.0]).unwrap();
    assert_eq!(names.get::<u32>("answer").unwrap(), Some(42));
    assert_eq!(names.get::<String>("text").unwrap().as_deref(), Some("hello"));
    assert_eq!(names.get::<u8>("nothing").unwrap(), None);
    let error = names.get::<u64>("answer").expect_err("another type");
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.to_string(), "\"answer\" is a u32 in the namespace, not a u64");
    let grown = names.update::<Vec<f64>, f64, usize>(
        "numbers",
        |all, more| {
            all.push(more);
            all.len()
        },
        3.0,
    );
    assert_eq!(grown.unwrap(), Some(3));
    let listed = names.names().unwrap();
    assert_eq!(
        listed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["answer", "numbers", "text"]
    );
    assert!(
        names.contains("text").unwrap() && names.remove("text").unwrap() && !names.remove("text").unwrap()
    );
}

/// A type of one's own: made in the manager, with something that cannot travel.
struct Account {
    balance: i64,
    made_in: u32,
    _not_serde: std::fs::File,
}

#[derive(Serialize, Deserialize)]
enum Ask {
    Deposit(i64),
    Withdraw(i64),
    WhereAreYou,
}

fn open_account(balance: i64) -> Account {
    let _not_serde = std::fs::File::open("/dev/null").expect("it is there");
    Account { balance, made_in: process::getpid(), _not_serde }
}

impl Managed for Account {
    type Call = Ask;
    type Answer = Result<i64, String>;

    fn call(&mut self, call: Ask) -> Result<i64, String> {
        match call {
            Ask::Deposit(amount) => self.balance += amount,
            Ask::Withdraw(amount) if amount <= self.balance => self.balance -= amount,
            Ask::Withdraw(amount) => return Err(format!("{amount} of {}", self.balance)),
            Ask::WhereAreYou => return Ok(self.made_in.into()),
        }
        Ok(self.balance)
    }
}

fn a_custom_type_is_asked() {
    let manager = manager();
    let account = manager.host(open_account, 100).expect("an account");
    assert_eq!(account.call(Ask::Deposit(5)).unwrap(), Ok(105));
    assert_eq!(account.call(Ask::Withdraw(1000)).unwrap(), Err("1000 of 105".to_owned()));
    assert_eq!(account.call(Ask::WhereAreYou).unwrap(), Ok(manager.pid().into()));
    let answers = account.call_all([Ask::Withdraw(5), Ask::Deposit(1)]).unwrap();
    assert_eq!(answers, [Ok(100), Ok(101)]);
    assert_eq!(account.apply(|account, factor: i64| account.balance * factor, 2).unwrap(), 202);
}

// ---- atomic, from everywhere --------------------------------------------------------------------------------------------

fn a_batch_is_one_turn() {
    let manager = manager();
    let dict = manager.dict::<String, i64>().expect("a dictionary");
    dict.extend(vec![("a".to_owned(), 0), ("b".to_owned(), 0)]).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut looks = 0;
                    while !over.load(Ordering::SeqCst) || looks == 0 {
                        let mut batch = dict.batch();
                        let (a, b) = (batch.get("a"), batch.get("b"));
                        assert_eq!(batch.calls(), 2);
                        let mut answers = batch.run().expect("it lives");
                        assert_eq!(
                            answers.take(a).unwrap(),
                            answers.take(b).unwrap(),
                            "half a batch was seen"
                        );
                        looks += 1;
                    }
                    looks
                })
            })
            .collect();
        for _ in 0..500 {
            let mut batch = dict.batch();
            batch.add("a", 1);
            batch.add("b", 1);
            batch.run().expect("it lives");
        }
        over.store(true, Ordering::SeqCst);
        assert!(readers.into_iter().all(|reader| reader.join().expect("no half batch") > 0));
    });
    assert_eq!(dict.values().unwrap(), [500, 500]);

    // A step that cannot be decoded is none of the batch.
    let calls = manager.stats().unwrap().calls;
    let mut batch = dict.batch();
    batch.insert("c", 1);
    batch.apply(|dict, _: Picky| dict.clear(), Picky);
    let error = why(batch.run().expect_err("not to be decoded"));
    assert!(matches!(&error, ManagedError::Codec { what } if what.contains("Picky")), "{error}");
    assert_eq!(dict.keys().unwrap(), ["a", "b"]);
    assert_eq!(manager.stats().unwrap().calls, calls + 3, "a batch is one message");

    let (mut one, mut other) = (dict.batch(), dict.batch());
    let ticket = one.get("a");
    other.get("b");
    let error = other.run().unwrap().take(ticket).expect_err("of another batch");
    assert_eq!(error.kind(), ErrorKind::Usage);
    let empty = dict.batch().run().expect("nothing to do");
    drop((one, empty));
}

/// Encoded, but never decoded.
#[derive(Serialize)]
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Picky, D::Error> {
        Err(serde::de::Error::custom("picky"))
    }
}

const TIMES: i64 = 200;

fn add_often((counter, dict, key): (Counter<u64>, Dict<u64, i64>, u64)) -> swath::Result<()> {
    for _ in 0..TIMES {
        counter.add(key, 1)?;
        dict.update_or_insert(0, 0, |sum, amount: i64| *sum += amount, 1)?;
    }
    Ok(())
}

fn tasks_phases_and_processes_lose_no_addition() {
    let manager = manager();
    let (counter, dict) = (manager.counter().unwrap(), manager.dict().unwrap());
    let pool = Pool::builder().workers(3).build().expect("a pool");
    let tasks: Vec<_> =
        (0..3).map(|key| pool.try_submit(add_often, (counter.clone(), dict.clone(), key)).unwrap()).collect();
    let process = Process::spawn(add_often, (counter.clone(), dict.clone(), 3)).expect("a process");
    let deeper = Process::spawn(
        |args: (Counter<u64>, Dict<u64, i64>, u64)| {
            Process::spawn(add_often, args).unwrap().join().unwrap().number()
        },
        (counter.clone(), dict.clone(), 4),
    );
    tasks.into_iter().for_each(|task| task.result().expect("done"));
    assert!(process.join().unwrap().success() && deeper.unwrap().join().unwrap().success());
    let rows: SharedArray<f64, ndarray::Ix1> = SharedArray::zeros(64).expect("an array");
    pool.phase(&rows)
        .args((counter.clone(), dict.clone()))
        .for_each(|ctx, rows| {
            let (counter, dict) = ctx.args();
            counter.add(5, rows.len() as i64)?;
            dict.add(0, rows.len() as i64).map(drop)
        })
        .expect("a phase");
    let expected: Vec<(u64, i64)> = (0..5).map(|key| (key, TIMES)).chain([(5, 64)]).collect();
    assert_eq!(counter.items().unwrap(), expected);
    assert_eq!(dict.get(0).unwrap(), Some(5 * TIMES + 64));
    // Who made it need not live: a worker makes an object, and hands it back.
    let made = pool
        .submit(|manager: swath::managed::ManagerRef| manager.list_of(vec![1, 2]).ok(), manager.reference());
    let made: List<u32> = made.unwrap().result().unwrap().expect("a list");
    drop(pool);
    assert_eq!(made.to_vec().unwrap(), [1, 2]);
}

fn what_is_changed_inside_another_object_is_changed() {
    let manager = manager();
    let rows = manager.dict::<String, List<u32>>().unwrap();
    rows.insert("one", manager.list_of(vec![1]).unwrap()).unwrap();
    let push = |rows: Dict<String, List<u32>>| {
        let one = rows.get("one").unwrap().expect("there");
        one.push(2).unwrap();
        // A new one, made where only a proxy of another is at hand.
        rows.insert("two", rows.manager().list_of(vec![7]).unwrap()).unwrap();
    };
    assert!(Process::spawn(push, rows.clone()).unwrap().join().unwrap().success());
    let (one, two) = (rows.get("one").unwrap().unwrap(), rows.get("two").unwrap().unwrap());
    assert_eq!((one.to_vec().unwrap(), two.to_vec().unwrap()), (vec![1, 2], vec![7]));
    assert!(one.is_same_as(&rows.get("one").unwrap().unwrap()) && !one.is_same_as(&two));
    // In the manager itself, by the proxy that lies in it.
    let pushed =
        rows.update("one", |list, value: u32| list.push(value).map_err(|e| e.to_string()), 3_u32).unwrap();
    assert_eq!((pushed, one.len().unwrap()), (Some(Ok(2)), 3));
    // And a shared event lies in a dictionary as anywhere.
    let events = manager.dict::<u8, Shared<Event>>().unwrap();
    let event = Shared::new(Event::new()).unwrap();
    events.insert(1, &event).unwrap();
    let set = |events: Dict<u8, Shared<Event>>| events.get(1).unwrap().expect("there").set().unwrap();
    assert!(Process::spawn(set, events).unwrap().join().unwrap().success());
    assert!(event.is_set().unwrap());
}

fn threads_share_the_connections() {
    let manager = manager();
    let list = manager.list::<usize>().unwrap();
    for _ in 0..5 {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let list = &list;
                scope.spawn(move || (0..20).for_each(|_| assert!(list.push(thread).unwrap() < 5 * 8 * 20)));
            }
        });
    }
    assert_eq!(list.len().unwrap(), 5 * 8 * 20);
    let clients = manager.stats().unwrap().clients;
    assert!((1..=8).contains(&clients), "{clients} connections for eight threads at a time");
}

fn a_forked_copy_makes_its_own_connection() {
    // A fork needs a process with one thread, and the manager another one: a worker's process forks.
    let manager = manager();
    let list = manager.list::<u32>().unwrap();
    let fork = |list: List<u32>| {
        list.push(process::getpid()).unwrap();
        let mine = list.clone();
        let copy = Process::fork(move || {
            for _ in 0..50 {
                mine.push(process::getpid()).unwrap();
            }
        });
        let copy = copy.expect("one thread");
        for _ in 0..50 {
            list.push(process::getpid()).unwrap();
        }
        copy.join().unwrap().number()
    };
    let process = Process::spawn(fork, list.clone()).unwrap();
    assert!(process.join().unwrap().success());
    let mut pids = list.to_vec().unwrap();
    assert_eq!(pids.len(), 101);
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), 2);
}

fn large_values_pass() {
    let manager = manager();
    let list = manager.list::<String>().unwrap();
    let value = "0123456789".repeat(10_000_000);
    list.push(&value).unwrap();
    assert!(list.get(0).unwrap().as_ref() == Some(&value), "byte for byte");
    assert_eq!(list.apply(|list, ()| list[0].len(), ()).unwrap(), value.len());
}
