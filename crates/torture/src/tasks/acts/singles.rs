//! Tasks, one by one.

use std::collections::HashMap;
use std::time::Duration;

use swath::{Pool, Until};

use crate::chaos::dice::Dice;
use crate::tasks::deed::Deed;
use crate::tasks::judge::{Facts, Order, Record, Wishes};
use crate::tasks::player::{ALWAYS, Player};
use crate::tasks::watch;

/// Lengths around those at which arguments and results change their way.
fn length(dice: &mut Dice) -> usize {
    match dice.below(40) {
        0 => (1 << 20) + dice.below(1 << 19),
        1..4 => (64 << 10) - 100 + dice.below(2000),
        4..20 => dice.below(97),
        _ => 80 + dice.below(2000),
    }
}

/// Harms nobody, and ends.
fn innocent(dice: &mut Dice) -> Deed {
    match dice.below(10) {
        0..4 => Deed::Square(dice.roll()),
        4..6 => {
            let seed = dice.roll() | 1;
            Deed::Reverse((0..length(dice) as u64).map(|n| (n.wrapping_mul(seed) >> 7) as u8).collect())
        }
        6..8 => Deed::Make(length(dice), dice.roll() as u8),
        _ => Deed::Nap(Duration::from_micros(dice.below(3000) as u64), dice.roll()),
    }
}

fn culprit(dice: &mut Dice) -> Deed {
    [Deed::Abort, Deed::Exit, Deed::Segfault, Deed::Panic][dice.below(4)].clone()
}

fn any(dice: &mut Dice) -> (Deed, Wishes) {
    let guilty = dice.below(12) == 0;
    let retries = if guilty { dice.below(3) as u32 } else { [0, 0, 1, 3, ALWAYS][dice.below(5)] };
    let deed = if guilty { culprit(dice) } else { innocent(dice) };
    (deed, Wishes { retries, ..Wishes::default() })
}

/// Submits so many of any kind; some tell of their end.
fn some(player: &mut Player, pool: &Pool, facts: &Facts, most: usize) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..1 + player.dice.below(most) {
        let (deed, wishes) = any(&mut player.dice);
        let Some(mut record) = player.submit(pool, facts, deed, wishes) else { break };
        for _ in 0..player.dice.below(8).saturating_sub(5) {
            player.register(&mut record);
        }
        records.push(record);
    }
    records
}

fn split(records: Vec<Record>) -> (Vec<Order>, Vec<swath::Task<super::super::deed::Reply>>) {
    records.into_iter().map(|record| (record.order, record.task)).unzip()
}

pub(super) fn few(player: &mut Player, pool: &Pool, facts: &Facts) {
    let records = some(player, pool, facts, 30);
    player.finish_all(records, facts);
}

pub(super) fn as_completed(player: &mut Player, pool: &Pool, facts: &Facts) {
    let (orders, tasks) = split(some(player, pool, facts, 30));
    let ids = tasks.iter().map(swath::Task::id);
    let mut orders: HashMap<u64, Order> = ids.zip(orders).collect();
    watch::doing(format!("{} tasks as they are completed", orders.len()));
    for task in swath::as_completed(tasks) {
        match orders.remove(&task.id()) {
            Some(order) => player.judge(Record { order, task }, facts),
            None => player.fouls.push(format!("task {} came twice", task.id())),
        }
    }
    if !orders.is_empty() {
        player.fouls.push(format!("{} tasks did not come", orders.len()));
    }
}

pub(super) fn wait_for_some(player: &mut Player, pool: &Pool, facts: &Facts) {
    let (orders, tasks) = split(some(player, pool, facts, 30));
    let until = [Until::FirstCompleted, Until::FirstError, Until::AllCompleted][player.dice.below(3)];
    let patience = (player.dice.below(3) == 0).then(|| player.micros(3000));
    watch::doing(format!("a wait for {until:?} of {} tasks", tasks.len()));
    let waited = swath::wait(&tasks, until, patience);
    let enough = match until {
        _ if tasks.is_empty() || patience.is_some() => true,
        Until::FirstCompleted => !waited.done.is_empty(),
        Until::FirstError => {
            waited.not_done.is_empty() || waited.done.iter().any(|n| !tasks[*n].successful())
        }
        Until::AllCompleted => waited.not_done.is_empty(),
    };
    let over = waited.done.iter().all(|n| tasks[*n].done());
    if !enough || !over || waited.done.len() + waited.not_done.len() != tasks.len() {
        player.fouls.push(format!("a wait for {until:?} of {} gave {waited:?}", tasks.len()));
    }
    let records = orders.into_iter().zip(tasks).map(|(order, task)| Record { order, task }).collect();
    player.finish_all(records, facts);
}

/// Pending, running, finished, or between two of them.
pub(super) fn cancel(player: &mut Player, pool: &Pool, facts: &Facts) {
    let mut records = Vec::new();
    for _ in 0..1 + player.dice.below(6) {
        let deed = match player.dice.below(12) {
            0..2 => Deed::Sleep,
            2 => Deed::Listen,
            3..7 => Deed::Nap(player.micros(2000), 7),
            _ => innocent(&mut player.dice),
        };
        let wishes = Wishes { retries: [0, 2, ALWAYS][player.dice.below(3)], ..Wishes::default() };
        let Some(mut record) = player.submit(pool, facts, deed, wishes) else { break };
        if player.dice.below(4) == 0 {
            player.register(&mut record);
        }
        records.push(record);
    }
    player.dice.shuffle(&mut records);
    for record in &mut records {
        let pause = player.micros(1500);
        std::thread::sleep(pause);
        watch::doing(format!("cancels {}", record.describe()));
        // What never ends by itself has to be, or the player would wait for ever.
        if record.order.deed.is_endless() || player.dice.below(4) > 0 {
            record.cancel();
        }
        if player.dice.below(6) == 0 && !record.order.cancels.is_empty() {
            record.cancel();
        }
    }
    player.finish_all(records, facts);
}

/// Just then: too late, or in time, or while its worker takes the next one.
pub(super) fn cancel_at_the_end(player: &mut Player, pool: &Pool, facts: &Facts) {
    for _ in 0..100 {
        let wishes = Wishes { retries: ALWAYS, ..Wishes::default() };
        let number = player.dice.roll();
        let Some(mut record) = player.submit(pool, facts, Deed::Square(number), wishes.clone()) else {
            return;
        };
        let Some(next) = player.submit(pool, facts, Deed::Square(number ^ 1), wishes) else { return };
        watch::doing(format!("until it runs, or is over: {}", record.describe()));
        while !record.task.running() && !record.task.done() {
            std::hint::spin_loop();
        }
        record.cancel();
        player.finish(next, facts);
        player.finish(record, facts);
    }
}

pub(super) fn drop_handles(player: &mut Player, pool: &Pool, facts: &Facts) {
    for _ in 0..1 + player.dice.below(4) {
        let wishes = Wishes { retries: player.dice.below(2) as u32, ..Wishes::default() };
        let Some(record) = player.submit(pool, facts, Deed::Sleep, wishes) else { break };
        let task = record.task.cancel_on_drop();
        let pause = player.micros(3000);
        std::thread::sleep(pause);
        watch::doing("drops a handle that cancels");
        drop(task);
    }
}

pub(super) fn too_long(player: &mut Player, pool: &Pool, facts: &Facts) {
    let mut records = Vec::new();
    for _ in 0..1 + player.dice.below(3) {
        let deed = [Deed::Sleep, Deed::Sleep, Deed::Listen, Deed::Stubborn][player.dice.below(4)].clone();
        let timeout = Some(Duration::from_millis(20) + player.micros(60_000));
        let wishes = Wishes { retries: player.dice.below(3) as u32, timeout, ..Wishes::default() };
        records.extend(player.submit(pool, facts, deed, wishes));
    }
    player.finish_all(records, facts);
}

/// One after the other, so that a worker is busy for longer than any of them may take.
pub(super) fn in_time(player: &mut Player, pool: &Pool, facts: &Facts) {
    let wishes = Wishes { timeout: Some(Duration::from_millis(400)), ..Wishes::default() };
    let nap = || Deed::Nap(Duration::from_millis(3), 5);
    let submit = |_| player.submit(pool, facts, nap(), wishes.clone());
    let records = (0..250).map_while(submit).collect();
    player.finish_all(records, facts);
}

/// More than its lane holds.
pub(super) fn certain_worker(player: &mut Player, pool: &Pool, facts: &Facts) {
    let mut records = Vec::new();
    for _ in 0..20 + player.dice.below(200) {
        let worker = Some(player.dice.below(pool.workers()));
        let wishes = Wishes { retries: ALWAYS, worker, ..Wishes::default() };
        let deed = Deed::Where(player.micros(600));
        records.extend(player.submit(pool, facts, deed, wishes));
    }
    player.finish_all(records, facts);
}

pub(super) fn more_than_the_table(player: &mut Player, pool: &Pool, facts: &Facts) {
    let wishes = Wishes { retries: ALWAYS, ..Wishes::default() };
    let count = swath::limits::TASKS_IN_TABLE as u64 + 500;
    let submit = |n| player.submit(pool, facts, Deed::Square(n), wishes.clone());
    let records = (0..count).map_while(submit).collect();
    player.finish_all(records, facts);
}

/// The pool ends with them.
pub(super) fn leave(player: &mut Player, pool: &Pool, facts: &Facts) {
    if player.left.len() < 200 {
        let records = some(player, pool, facts, 20);
        player.left.extend(records);
    }
}

/// One dies, and all that is not over goes down with it: also what runs elsewhere and would never end.
pub(super) fn break_pool(player: &mut Player, pool: &Pool, facts: &Facts) {
    let doom = Deed::AbortAfter(player.micros(20_000));
    let wishes = Wishes { breaks: true, ..Wishes::default() };
    let Some(doomed) = player.submit(pool, facts, doom, wishes) else { return };
    watch::doing(format!("until it runs, or is over: {}", doomed.describe()));
    while !doomed.task.running() && !doomed.task.done() {
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut records = some(player, pool, facts, 4);
    // The pool may be broken and repaired by now; then nothing would end an endless one.
    let endless = player.submit(pool, facts, Deed::Sleep, Wishes::default());
    if !doomed.task.done() {
        player.finish(doomed, facts);
    }
    if let Some(mut endless) = endless {
        watch::doing(format!("a moment for the end of {}", endless.describe()));
        if !endless.task.wait_timeout(Duration::from_millis(200)) {
            endless.cancel();
        }
        records.push(endless);
    }
    player.finish_all(records, facts);
}
