//! A scenario: one operation in one situation, told as the parts of a play.
//!
//! The harness clears the [`Stage`], calls [`Scenario::set`], starts the companions and the victim (each a process of its
//! own), steps the victim into its operation, strikes, and afterwards asks companions and a checker whether the survivors
//! finished and whether the state is right.

use crate::stage::Stage;

/// What a survivor found, if nothing is wrong.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verdict {
    /// As if the victim had died before the operation, or after it.
    Clean,
    /// The death was noticed and repaired on the way.
    Recovered,
}

/// A verdict, or a sentence that says what is wrong.
pub(crate) type Finding = Result<Verdict, String>;

/// What befalls the victim at the chosen point.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// SIGKILL. The survivors run when its exit is confirmed.
    Kill,
    /// It stands still while [`Scenario::meanwhile`] runs, then goes on to the end: slow is not dead.
    Pause,
}

/// When a companion comes in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entrance {
    /// Before the victim prepares; the harness waits until it has arrived.
    BeforeVictim,
    /// When the victim stands before its operation; the harness waits until it has arrived *and* sleeps.
    AfterVictim,
}

/// How far the victim had come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Moment {
    /// Before the operation's first instruction.
    Before,
    /// In it.
    Within,
    /// After its last instruction: its effect must be there.
    After,
}

/// One operation in one situation. Methods run in different processes of one fork family; only the stage is shared.
pub(crate) trait Scenario {
    /// Lays out fresh state. Runs in the harness: nothing here may block or start threads.
    fn set(&self, stage: &Stage);

    /// The companions' entrances, in order.
    fn companions(&self) -> &[Entrance] {
        &[]
    }

    /// Companion `n`'s whole life. [`Stage::arrive`]`(n + 1)` says that it stands in place; [`Stage::await_cue`] waits until
    /// the victim sleeps or is dead.
    fn companion(&self, _n: usize, _stage: &Stage) -> Finding {
        Ok(Verdict::Clean)
    }

    /// Brings the victim to its operation; the returned closure *is* the operation that is stepped through.
    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's>;

    /// Whether somebody goes before the victim and is killed inside its own operation: once for every state of the shared
    /// memory that it passes through. [`Stage::forerun`] says how far it came.
    fn has_forerunner(&self) -> bool {
        false
    }

    /// Brings the forerunner to its operation, as [`Scenario::victim`] the victim.
    fn forerunner<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        self.victim(stage)
    }

    /// The forerunner's death is confirmed, the victim has not come. Runs in the harness: nothing that could block.
    fn bury(&self, _stage: &Stage) {}

    /// How many evenly spread points the short form takes of a longer operation. It always takes those around system
    /// calls and behind changes of the shared state besides.
    fn short_points(&self) -> usize {
        400
    }

    /// What befalls it.
    fn fault(&self) -> Fault {
        Fault::Kill
    }

    /// [`Fault::Pause`] only: what others do while the victim stands still.
    fn meanwhile(&self, _stage: &Stage) -> Finding {
        Ok(Verdict::Clean)
    }

    /// The death is confirmed, nobody has been told, no cue was given. Runs in the harness: nothing that could block.
    fn confirmed(&self, _stage: &Stage) {}

    /// What the service thread and the survivors do after the confirmed death (or, after a pause, after the victim has
    /// ended), and the check of the state.
    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding;

    /// A last look at the state when everyone has ended. Runs in the harness: it reads, and blocks on nothing.
    fn tally(&self, _stage: &Stage, _moment: Moment) -> Result<(), String> {
        Ok(())
    }
}

/// A scenario with its names.
pub(crate) struct Case {
    pub(crate) operation: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) play: Box<dyn Scenario>,
}

/// Shorthand for lists of cases.
pub(crate) fn case(operation: &'static str, scenario: &'static str, play: impl Scenario + 'static) -> Case {
    Case { operation, scenario, play: Box::new(play) }
}

/// `Err(text)` unless `holds`.
pub(crate) fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
