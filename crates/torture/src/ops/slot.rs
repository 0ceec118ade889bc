//! `slot-enter` of `swath_sync::SlotTable`: STARTING → LIVE with the life word, while the spawner waits for it.

use std::time::Duration;

use swath_sync::{Liveness, Party, SlotId, SlotState};

use super::props::{self, VICTIM};
use crate::party;
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// The victim enters its slot.
struct Enter {
    arm: bool,
    /// Somebody waits on the slot's state word, as a spawner does.
    spawner: bool,
}

impl Scenario for Enter {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
    }

    fn companions(&self) -> &[Entrance] {
        let all = &[Entrance::AfterVictim];
        &all[..usize::from(self.spawner)]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        stage.arrive(n + 1);
        let table = props::table(stage);
        loop {
            match table.liveness(VICTIM) {
                Liveness::Starting => {}
                Liveness::Alive => return Ok(Verdict::Clean),
                Liveness::ThreadDead | Liveness::Dead(_) | Liveness::Gone => return Ok(Verdict::Recovered),
            }
            table.await_entry(VICTIM, Duration::from_millis(50));
        }
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let table = props::table(stage);
        Box::new(move || {
            std::hint::black_box(party::enter(table, VICTIM, self.arm));
            party::install(table, VICTIM);
            let _ = std::hint::black_box(Party::current());
        })
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        let table = props::table(stage);
        let (state, _) = table.state(VICTIM.index);
        let alive_to_peers = matches!(table.liveness(VICTIM), Liveness::Alive);
        // LIVE comes after the life word: a dead party that was armed is never taken for alive.
        expect(!(self.arm && alive_to_peers), || format!("dead, but said to be alive in state {state:?}"))?;
        expect(moment != Moment::After || state == SlotState::Live, || format!("entered, but {state:?}"))?;
        props::confirm_death(stage, VICTIM);
        let dead = table.liveness(VICTIM);
        expect(matches!(dead, Liveness::Dead(_)), || format!("after the confirmation: {dead:?}"))?;
        props::release(stage, VICTIM)?;
        let next = table.reserve();
        let expected = SlotId { index: VICTIM.index, generation: VICTIM.generation + 1 };
        expect(next == Some(expected), || format!("the next tenant is {next:?}"))?;
        expect(table.liveness(VICTIM) == Liveness::Gone, || "the dead one is not gone".to_owned())?;
        expect(table.liveness(expected) == Liveness::Starting, || "the newcomer is not starting".to_owned())?;
        expect(party::enter(table, expected, true), || "the newcomer cannot enter".to_owned())?;
        expect(table.liveness(expected) == Liveness::Alive, || "the newcomer does not live".to_owned())?;
        Ok(if state == SlotState::Live { Verdict::Recovered } else { Verdict::Clean })
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("slot-enter", "armed", Enter { arm: true, spawner: false }),
        case("slot-enter", "unarmed", Enter { arm: false, spawner: false }),
        case("slot-enter", "spawner-waits", Enter { arm: true, spawner: true }),
    ]
}
