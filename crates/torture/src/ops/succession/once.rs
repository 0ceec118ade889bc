//! Work that is done once, or again by who is told that it may be half done.

use swath_sync::{Called, Once, Party};

use super::super::props;
use super::{AT, Ends, Heir, Heirloom};
use crate::scenario::{Finding, Verdict, expect};
use crate::stage::Stage;

/// Count: how often the work came to its end.
const RUN: usize = 0;

pub(super) struct Work;

fn once(stage: &Stage) -> &'static Once {
    props::object(stage, AT, 1)
}

impl Heirloom for Work {
    fn leave(&self, stage: &Stage, me: &Party) {
        let _ = once(stage).call_once(me, |_| std::process::exit(0));
    }

    fn inherit(&self, stage: &Stage, me: &Party, _heir: Heir) -> Finding {
        match once(stage).call_once(me, |_| props::add(stage, RUN)) {
            Ok(Called::RanAgain { .. }) => Ok(Verdict::Recovered),
            Ok(_) => Ok(Verdict::Clean),
            Err(error) => Err(error.to_string()),
        }
    }

    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding {
        let done = *ends.deeds().start() > 0;
        expect(!done || once(stage).is_done(), || "done, and not known to be".to_owned())?;
        let first = self.inherit(stage, me, Heir::Victim)?;
        expect(self.inherit(stage, me, Heir::Victim)? == Verdict::Clean, || "run again".to_owned())?;
        // Who comes after it was done does nothing.
        let told = first == Verdict::Recovered;
        let at_all = props::read(stage, RUN);
        expect(at_all > 0 && once(stage).is_done(), || "done, but not run".to_owned())?;
        expect(!(done && told), || "run again after it was done".to_owned())?;
        expect(*ends.deeds().end() > 0 || told && at_all == 1, || {
            format!("told: {told}, run {at_all} times, and nobody came before")
        })?;
        Ok(first)
    }
}
