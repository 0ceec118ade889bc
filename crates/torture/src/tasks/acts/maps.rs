//! Maps and streams, against a serial loop.

use std::sync::atomic::Ordering;

use swath::{Error, ErrorKind, Pool, What};

use crate::chaos::dice::Dice;
use crate::tasks::judge::Facts;
use crate::tasks::player::{ALWAYS, Player};
use crate::tasks::watch;

/// The function of maps: values of all lengths.
fn letters(n: u64) -> Vec<u8> {
    // One in many is a moment's work, and one does not fit into a cell's line.
    if n.is_multiple_of(37) {
        std::thread::sleep(std::time::Duration::from_micros(n % 400));
    }
    let length = match n % 101 {
        0 => 3000,
        rest => rest as usize / 3,
    };
    vec![n as u8; length]
}

fn items(dice: &mut Dice) -> std::ops::Range<u64> {
    let first = dice.below(1000) as u64;
    first..first + dice.below(1200) as u64
}

fn serial(items: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    items
        .map(|n| {
            let length = if n % 101 == 0 { 3000 } else { (n % 101) as usize / 3 };
            vec![n as u8; length]
        })
        .collect()
}

/// Whether an item, or a chunk, may have ended so: killed from outside.
fn excused(error: &Error, facts: &Facts) -> bool {
    if error.kind() == ErrorKind::Broken {
        return facts.may_break.load(Ordering::SeqCst);
    }
    let failed = error.failures().iter().flat_map(|failure| &failure.causes);
    let mut causes = error.causes().iter().chain(failed).peekable();
    let killed = |what: &What| matches!(what, What::Killed { signal: libc::SIGKILL, .. });
    error.kind() == ErrorKind::Died
        && causes.peek().is_some()
        && causes.all(|cause| killed(&cause.what) && facts.was_killed(cause.pid))
}

impl Player {
    fn all(
        &mut self,
        what: &str,
        found: Result<Vec<Vec<u8>>, Error>,
        expected: &[Vec<u8>],
        excuse: Option<&Facts>,
    ) {
        watch::progress();
        match found {
            Ok(values) if values == expected => self.counts.end("value"),
            Ok(values) => self.fouls.push(format!("{what}: {} values, not as a serial loop's", values.len())),
            Err(error) if excuse.is_some_and(|facts| excused(&error, facts)) => self.counts.end("died"),
            Err(error) => self.fouls.push(format!("{what}: {error}")),
        }
    }

    fn every(&mut self, what: &str, found: Vec<Result<Vec<u8>, Error>>, expected: &[Vec<u8>], facts: &Facts) {
        watch::progress();
        if found.len() != expected.len() {
            return self.fouls.push(format!("{what}: {} of {} items", found.len(), expected.len()));
        }
        for (n, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            match found {
                Ok(value) if value == *expected => {}
                Ok(_) => {
                    return self.fouls.push(format!("{what}: item {n} of {} is another", expected.len()));
                }
                Err(error) if excused(&error, facts) => {}
                Err(error) => return self.fouls.push(format!("{what}: item {n}: {error}")),
            }
        }
        self.counts.end("value");
    }
}

pub(super) fn retried(player: &mut Player, pool: &Pool, _: &Facts) {
    let (items, chunk) = (items(&mut player.dice), player.dice.below(60));
    let mut call = pool.map_with(letters, items.clone()).retries(ALWAYS);
    // Without one, it is measured.
    if chunk > 0 {
        call = call.chunk(chunk);
    }
    let found = call.collect();
    player.all("a map", found, &serial(items), None);
}

pub(super) fn fragile(player: &mut Player, pool: &Pool, facts: &Facts) {
    let (items, chunk) = (items(&mut player.dice), 1 + player.dice.below(60));
    let found = pool.map_chunked(letters, items.clone(), chunk);
    player.all("a map that is not retried", found, &serial(items), Some(facts));
}

pub(super) fn each(player: &mut Player, pool: &Pool, facts: &Facts) {
    let (items, chunk) = (items(&mut player.dice), 1 + player.dice.below(60));
    match pool.map_with(letters, items.clone()).chunk(chunk).each() {
        Ok(found) => player.every("a map of each", found, &serial(items), facts),
        Err(error) => player.fouls.push(format!("a map of each: {error}")),
    }
}

pub(super) fn stream(player: &mut Player, pool: &Pool, facts: &Facts) {
    let items = items(&mut player.dice);
    let mut stream = pool.stream(letters, items.clone()).retries(ALWAYS);
    if player.dice.below(2) == 0 {
        stream = stream.buffer(1 + player.dice.below(100));
    }
    let found: Result<Vec<Vec<u8>>, Error> = stream.ordered().inspect(|_| watch::progress()).collect();
    let broken = player.breaking.then_some(facts);
    player.all("a stream", found, &serial(items), broken);
}

pub(super) fn unordered(player: &mut Player, pool: &Pool, facts: &Facts) {
    let items = items(&mut player.dice);
    let stream = pool.stream(letters, items.clone()).retries(ALWAYS).unordered();
    let found: Result<Vec<Vec<u8>>, Error> = stream.inspect(|_| watch::progress()).collect();
    let found = found.map(|mut values| {
        values.sort_unstable();
        values
    });
    let mut expected = serial(items);
    expected.sort_unstable();
    let broken = player.breaking.then_some(facts);
    player.all("a stream as it comes", found, &expected, broken);
}

pub(super) fn fragile_stream(player: &mut Player, pool: &Pool, facts: &Facts) {
    let items = items(&mut player.dice);
    let found = pool.imap(letters, items.clone()).inspect(|_| watch::progress()).collect();
    player.every("a stream that is not retried", found, &serial(items), facts);
}
