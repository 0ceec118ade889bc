//! A record: its lock is handed on in silence, its value is whole at any time.

use swath_sync::{Party, Record};

use super::super::props;
use super::{AT, Ends, Heir, Heirloom};
use crate::scenario::{Finding, Verdict, expect};
use crate::stage::Stage;

pub(super) struct Row;

fn record(stage: &Stage) -> &'static Record<[u64; 8]> {
    props::object(stage, AT, 1)
}

impl Heirloom for Row {
    fn leave(&self, stage: &Stage, me: &Party) {
        let _ = record(stage).update(me, |row| {
            row[0] = 99;
            std::process::exit(0)
        });
    }

    fn inherit(&self, stage: &Stage, me: &Party, _heir: Heir) -> Finding {
        let changed = record(stage).update(me, |row| *row = row.map(|word| word + 1));
        changed.map(|()| Verdict::Clean).map_err(|error| error.to_string())
    }

    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding {
        let whole = |row: [u64; 8], mine: u64| {
            let deeds = ends.deeds();
            let expected = u64::from(*deeds.start()) + mine..=u64::from(*deeds.end()) + mine;
            let fits = row.iter().all(|word| *word == row[0]) && expected.contains(&row[0]);
            expect(fits, || format!("{row:?}, not {expected:?} eight times"))
        };
        whole(record(stage).get(), 0)?; // before anybody could have repaired it
        self.inherit(stage, me, Heir::Victim)?;
        whole(record(stage).get(), 1)?;
        Ok(Verdict::Clean)
    }
}
