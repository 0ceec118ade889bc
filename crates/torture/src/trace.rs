//! The trace of a run that was stepped to its end, and how to bring another run to a point of it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::battery::Form;
use crate::stage::Stage;
use crate::tracer::{Stop, Tracee};

/// An operation of more instructions than this does not end.
const STEPS_MAX: usize = 4_000_000;
/// So far the state is compared after each step. What is longer makes segments, and has its words there.
const WATCHED_STEPS_MAX: usize = 4_000;
/// How often the victim may need a cue before it is called hung.
const CUES_MAX: usize = 20;
/// What a breakpoint hit costs, in steps.
const HIT_COST: usize = 2;

/// Where to strike.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Point {
    /// How many changes of the shared state the forerunner had made when it was killed; 0 too if there is none.
    pub(crate) after: usize,
    /// Instructions executed since the opening breakpoint.
    pub(crate) step: usize,
    /// Asleep in the system call that is the next instruction.
    pub(crate) asleep: bool,
}

impl Point {
    /// That step, awake.
    pub(crate) fn at(step: usize) -> Point {
        Point { after: 0, step, asleep: false }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.after > 0 {
            write!(f, "{}:", self.after)?;
        }
        write!(f, "{}{}", self.step, if self.asleep { "~" } else { "" })
    }
}

impl std::str::FromStr for Point {
    type Err = String;
    fn from_str(text: &str) -> Result<Point, String> {
        let (after, rest) = text.split_once(':').unwrap_or(("0", text));
        let (step, asleep) = rest.strip_suffix('~').map_or((rest, false), |step| (step, true));
        match (after.parse(), step.parse()) {
            (Ok(after), Ok(step)) => Ok(Point { after, step, asleep }),
            _ => Err(format!("`{text}` is not a step: `117`, `117~`, or after a forerunner `3:117`")),
        }
    }
}

/// A run from the opening to the closing breakpoint.
#[derive(Default)]
pub(crate) struct Trace {
    /// The program counter before every step, and behind the last.
    pub(crate) pcs: Vec<u64>,
    /// Steps in which it fell asleep.
    asleep: Vec<usize>,
    /// Steps that are system calls.
    calls: Vec<usize>,
    /// So many steps had been made when the shared state was another one than a step before; of the first
    /// [`WATCHED_STEPS_MAX`].
    pub(crate) changes: Vec<usize>,
    /// For every step: is its program counter met there for the first time, and met in the other reference run too?
    landmark: Vec<bool>,
}

/// How to reach a step: instructions to run to, one after the other, each at its n-th meeting since the one before; and
/// single steps from the step that is reached so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    legs: Vec<(u64, usize)>,
    reached: usize,
}

impl Plan {
    /// Whether it goes by single steps alone.
    pub(crate) fn is_plain(&self) -> bool {
        self.legs.is_empty()
    }
}

impl Trace {
    /// Steps through undisturbed, companions get their cues when it sleeps. How it ended says the second.
    pub(crate) fn record(stage: &Stage, tracee: &mut Tracee<'_>) -> (Trace, Stop) {
        let mut trace = Trace { pcs: vec![tracee.pc()], ..Trace::default() };
        let mut state = stage.digest();
        loop {
            let step = trace.pcs.len() - 1;
            if tracee.at_system_call() {
                trace.calls.push(step);
            }
            let mut stop = tracee.step();
            if stop == Stop::Asleep {
                trace.asleep.push(step);
                stop = wake(stage, tracee, stop);
            }
            if stop != Stop::Here {
                return (trace, stop);
            }
            trace.pcs.push(tracee.pc());
            if step < WATCHED_STEPS_MAX {
                let before = std::mem::replace(&mut state, stage.digest());
                if state != before {
                    trace.changes.push(step + 1);
                }
            }
            if trace.pcs.len() > STEPS_MAX {
                return (trace, Stop::Stuck);
            }
        }
    }

    /// Its number of steps.
    pub(crate) fn steps(&self) -> usize {
        self.pcs.len() - 1
    }

    /// Where the form strikes, and one in how many that is. A sample begins at the `first` step, counted round.
    pub(crate) fn points(&self, form: Form, short_points: usize, first: usize) -> (Vec<Point>, usize) {
        let last = self.steps();
        let at = Point::at;
        let asleep = self.asleep.iter().map(|step| Point { asleep: true, ..at(*step) });
        let stride = match form {
            Form::Only(point) => return (vec![point], 1),
            Form::Asleep => return (asleep.collect(), 1),
            Form::Full | Form::UntilCaught => 1,
            Form::Short => last.div_ceil(short_points).max(1),
        };
        // Those around system calls and behind changes first: if the short form has to cut, it cuts evenly spread ones.
        let around = self.calls.iter().flat_map(|step| [at(*step), at(*step + 1)]);
        let behind = self.changes.iter().copied().map(at);
        let mut points: Vec<Point> =
            [at(0), at(last)].into_iter().chain(around).chain(behind).chain(asleep).collect();
        points.extend((first % stride..=last).step_by(stride).map(at));
        let mut seen = BTreeSet::new();
        points.retain(|point| point.step <= last && seen.insert(*point));
        (points, stride)
    }

    /// What both runs met is a landmark, where this one met it first.
    pub(crate) fn with_landmarks_of(mut self, other: &Trace) -> Trace {
        let elsewhere: HashSet<u64> = other.pcs.iter().copied().collect();
        let mut met = HashSet::new();
        self.landmark = self.pcs.iter().map(|pc| met.insert(*pc) && elsewhere.contains(pc)).collect();
        self
    }

    /// First to the last landmark on the way, which is found again even if the way there is longer or shorter this time.
    /// From there, in a loop, to the n-th meeting with another one, and the rest by single steps; whatever is cheapest.
    /// Landmarks of the last `back` steps are passed over.
    pub(crate) fn plan(&self, step: usize, back: usize) -> Plan {
        let last = step.saturating_sub(back);
        let Some(anchor) = (2..=last).rev().find(|at| self.landmark[*at]) else { return Plan::default() };
        let mut legs = vec![(self.pcs[anchor], 1)];
        let mut met: HashMap<u64, usize> = HashMap::new();
        let mut best = (step - anchor, None, anchor);
        for (at, pc) in self.pcs.iter().enumerate().take(step + 1).skip(anchor + 1) {
            let hits = met.entry(*pc).or_default();
            *hits += 1;
            let cost = *hits * HIT_COST + (step - at);
            if cost < best.0 {
                best = (cost, Some((*pc, *hits)), at);
            }
        }
        legs.extend(best.1);
        Plan { legs, reached: best.2 }
    }
}

/// Steps to `point`; [`Stop::Here`] or [`Stop::Asleep`] when it stands (sleeps) there.
pub(crate) fn approach(stage: &Stage, tracee: &mut Tracee<'_>, point: Point, plan: &Plan) -> Stop {
    for (pc, hits) in &plan.legs {
        let stop = run_to(stage, tracee, *pc, *hits);
        tracee.clear_breakpoint();
        if stop != Stop::Here {
            return stop;
        }
    }
    for _ in plan.reached..point.step {
        let stop = tracee.step();
        let stop = wake(stage, tracee, stop);
        if stop != Stop::Here {
            return stop;
        }
    }
    if point.asleep { tracee.step() } else { Stop::Here }
}

/// Runs until the `hits`-th meeting with `pc`, counted from step 1.
fn run_to(stage: &Stage, tracee: &mut Tracee<'_>, pc: u64, hits: usize) -> Stop {
    let mut met = 0;
    // By single steps off every meeting that is under the feet: the breakpoint would count it once more.
    loop {
        let stop = tracee.step();
        let stop = wake(stage, tracee, stop);
        if stop != Stop::Here {
            return stop;
        }
        if tracee.pc() != pc {
            break;
        }
        met += 1;
        if met == hits {
            return Stop::Here;
        }
    }
    // After a stop by the breakpoint the kernel lets the tracee pass it once.
    while met < hits {
        let stop = tracee.run_to(pc);
        let stop = wake(stage, tracee, stop);
        if stop != Stop::Here {
            return stop;
        }
        if tracee.pc() != pc {
            return Stop::Stuck;
        }
        met += 1;
    }
    Stop::Here
}

/// While the victim sleeps: cue the companions, wait on.
pub(crate) fn wake(stage: &Stage, tracee: &mut Tracee<'_>, mut stop: Stop) -> Stop {
    for _ in 0..CUES_MAX {
        if stop != Stop::Asleep {
            return stop;
        }
        stage.give_cue();
        stop = tracee.keep_waiting();
    }
    if stop == Stop::Asleep { Stop::Stuck } else { stop }
}
