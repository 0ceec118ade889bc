//! What players do.

mod managers;
mod maps;
mod singles;

pub(crate) use managers::SUM;

use swath::Pool;

use super::judge::Facts;
use super::player::Player;
use crate::chaos::dice::Dice;

/// Something that a player does, beginning and end.
#[derive(Clone, Copy)]
pub(crate) struct Act {
    pub(crate) name: &'static str,
    pub(crate) play: fn(&mut Player, &Pool, &Facts),
    /// How often it is chosen.
    weight: usize,
    /// Only in rounds in which pools may break.
    breaks: bool,
}

const fn act(name: &'static str, weight: usize, play: fn(&mut Player, &Pool, &Facts)) -> Act {
    Act { name, play, weight, breaks: false }
}

const ALL: [Act; 19] = [
    act("a few tasks", 12, singles::few),
    act("tasks as they are completed", 6, singles::as_completed),
    act("a wait for some of many", 6, singles::wait_for_some),
    act("tasks cancelled at some moment", 12, singles::cancel),
    act("tasks cancelled as they end", 4, singles::cancel_at_the_end),
    act("handles dropped that cancel", 2, singles::drop_handles),
    act("tasks that take too long", 4, singles::too_long),
    act("many tasks within their time", 2, singles::in_time),
    act("tasks for certain workers", 3, singles::certain_worker),
    act("more tasks than the table holds", 1, singles::more_than_the_table),
    act("tasks that nobody waits for", 4, singles::leave),
    act("tasks that call a manager", 3, managers::count),
    act("a map, retried", 5, maps::retried),
    act("a map, not retried", 3, maps::fragile),
    act("a map of each", 3, maps::each),
    act("a stream, retried", 4, maps::stream),
    act("a stream as it comes, retried", 4, maps::unordered),
    act("a stream, not retried", 3, maps::fragile_stream),
    Act { name: "a death that is the end of the pool", play: singles::break_pool, weight: 6, breaks: true },
];

/// As the dice fall.
pub(crate) fn choose(dice: &mut Dice, breaking: bool) -> Act {
    let open = || ALL.iter().filter(move |act| breaking || !act.breaks);
    let mut at = dice.below(open().map(|act| act.weight).sum());
    for act in open() {
        match at.checked_sub(act.weight) {
            Some(rest) => at = rest,
            None => return *act,
        }
    }
    ALL[0]
}
