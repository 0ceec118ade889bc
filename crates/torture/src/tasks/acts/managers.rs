//! Tasks that call a manager, whose workers are killed, and sometimes the manager too.

use swath::managed::{Counter, ManagedError};
use swath::{Manager, Pool};

use crate::tasks::deed::{Deed, Reply};
use crate::tasks::judge::{Facts, Wishes};
use crate::tasks::player::{ALWAYS, Player};
use crate::tasks::watch;

/// The key under which all tasks count; each counts under its own number too, in the same batch.
pub(crate) const SUM: u64 = 0;
/// Tasks of one manager, at most.
const TASKS_MAX: usize = 20;

/// A manager, tasks that count in it, and a look at what they counted: at least once each that says so, and never by half.
pub(super) fn count(player: &mut Player, pool: &Pool, facts: &Facts) {
    let made = Manager::new().and_then(|manager| Ok((manager.counter()?, manager)));
    let (counter, manager) = match made {
        Ok(made) => made,
        Err(error) => return player.fouls.push(format!("no manager: {error}")),
    };
    let wishes = Wishes { retries: ALWAYS, ..Wishes::default() };
    let numbers = 1..=1 + player.dice.below(TASKS_MAX) as u64;
    let mut records = Vec::new();
    for number in numbers {
        let deed = Deed::Count(counter.clone(), number);
        let Some(record) = player.submit(pool, facts, deed, wishes.clone()) else { break };
        records.push((number, record));
    }
    let mortal = player.dice.below(3) == 0;
    if mortal {
        std::thread::sleep(player.micros(3000));
        if let Err(error) = manager.process().kill() {
            player.fouls.push(format!("the manager cannot be killed: {error}"));
        }
    }
    let mut counted = Vec::new();
    for (number, record) in records {
        watch::doing(record.describe());
        record.task.wait();
        match record.task.result() {
            Ok(Reply::Counted(true)) => counted.push(number),
            Ok(Reply::Counted(false)) if !mortal => {
                player.fouls.push(format!("task {number} found no manager, which lives"));
            }
            _ => {}
        }
        player.judge(record, facts);
    }
    watch::doing("a look at what was counted");
    let looked = if mortal { is_gone(&counter) } else { is_consistent(&counter, &counted) };
    player.fouls.extend(looked.err());
}

/// It was killed, and says so.
fn is_gone(counter: &Counter<u64>) -> Result<(), String> {
    let Err(error) = counter.items() else { return Err("a manager that was killed answers".into()) };
    match ManagedError::of(&error) {
        Some(ManagedError::Gone { cause: Some(cause), .. }) if cause.contains("SIGKILL") => Ok(()),
        _ => Err(format!("a manager that was killed says something else: {error}")),
    }
}

fn is_consistent(counter: &Counter<u64>, counted: &[u64]) -> Result<(), String> {
    let items = counter.items().map_err(|error| format!("the manager lives, and: {error}"))?;
    let of = |number: u64| items.iter().find(|(key, _)| *key == number).map_or(0, |(_, count)| *count);
    let each: i64 = items.iter().filter(|(key, _)| *key != SUM).map(|(_, count)| count).sum();
    if of(SUM) != each {
        return Err(format!("half a batch took effect: {each} counted, {} in sum", of(SUM)));
    }
    match counted.iter().find(|number| of(**number) < 1) {
        Some(number) => Err(format!("task {number} has counted, and it does not show")),
        None => Ok(()),
    }
}
