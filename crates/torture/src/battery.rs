//! The battery: one case, struck at every kill point.
//!
//! 1. *Reference run* (two, and the shorter one counts): the victim is stepped from the opening to the closing breakpoint; the program counter before every
//!    instruction is the trace, its length the number of steps L. There are L + 1 kill points, 0 (nothing executed) to
//!    L (returned), and one more, written `k~`, for every step k in which the victim fell asleep in the kernel.
//! 2. *Strike at k*: the same again on fresh state, up to step k; there the fault; then the survivors under the watchdog.
//! 3. What is left in the surroundings is compared with what was before.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use crate::scenario::{Case, Entrance, Fault, Moment, Verdict};
use crate::stage::{CHECKER, Stage, VICTIM};
use crate::surroundings::Surroundings;
use crate::tracer::{Stop, Text, Tracee};
use crate::victim;
use crate::watchdog::{self, DEADLINE, Ending};

/// An operation of more instructions than this does not end.
const STEPS_MAX: usize = 4_000_000;
/// What the short form spends on one case at most; then it cuts the sample, and says so.
const SHORT_LIMIT: Duration = Duration::from_secs(12);
/// A case with this many failures is not pursued further: the rest counts as not tried.
const FAILURES_MAX: usize = 5;
/// How often the victim may need a cue before it is called hung.
const CUES_MAX: usize = 20;
/// If the victim does not come by a landmark, the next attempt relies on one that is so many steps earlier.
const DETOURS: [usize; 3] = [0, 100, 1500];
/// What a breakpoint hit costs, in steps.
const HIT_COST: usize = 2;

/// Where to strike.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Point {
    /// Instructions executed since the opening breakpoint.
    pub(crate) step: usize,
    /// Asleep in the system call that is the next instruction.
    pub(crate) asleep: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.step, if self.asleep { "~" } else { "" })
    }
}

impl std::str::FromStr for Point {
    type Err = String;
    fn from_str(text: &str) -> Result<Point, String> {
        let (number, asleep) = text.strip_suffix('~').map_or((text, false), |number| (number, true));
        let step =
            number.parse().map_err(|_| format!("`{text}` is not a step: a number, or a number and `~`"))?;
        Ok(Point { step, asleep })
    }
}

/// What came of one strike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Fine(Verdict),
    Hung(String),
    Wrong(String),
}

/// A strike that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) point: Point,
    pub(crate) pc: u64,
    pub(crate) outcome: Outcome,
}

/// The sum over one case.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) steps: usize,
    pub(crate) points: usize,
    /// 1 = every point; n = every n-th, and those around system calls.
    pub(crate) stride: usize,
    pub(crate) not_tried: usize,
    /// Points of the sample that the short form had no time for.
    pub(crate) cut: usize,
    pub(crate) clean: usize,
    pub(crate) recovered: usize,
    pub(crate) hung: usize,
    pub(crate) wrong: usize,
    /// Program counters of the trace, and those at which the fault really came.
    pub(crate) counters: BTreeSet<u64>,
    pub(crate) struck: BTreeSet<u64>,
    pub(crate) slowest: Duration,
    pub(crate) failures: Vec<Failure>,
}

impl Tally {
    pub(crate) fn passed(&self) -> bool {
        self.points > 0 && self.hung + self.wrong + self.not_tried == 0
    }
}

/// How much of a case to do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// Every point.
    Full,
    /// At most about [`Scenario::short_points`], and around every system call.
    ///
    /// [`Scenario::short_points`]: crate::scenario::Scenario::short_points
    Short,
    /// One point.
    Only(Point),
    /// Where it sleeps in the kernel.
    Asleep,
    /// Full, but stop at the first failure.
    UntilCaught,
}

/// Runs cases on one stage.
pub(crate) struct Battery {
    stage: Stage,
    text: Text,
    before: Surroundings,
    /// Waits of survivors end here.
    pub(crate) deadline: Duration,
}

/// The reference run's trace.
struct Trace {
    pcs: Vec<u64>,
    asleep: Vec<usize>,
    calls: Vec<usize>,
    /// For every step: is its program counter met there for the first time, and met in the other reference run too?
    landmark: Vec<bool>,
}

/// How to reach a step: instructions to run to, one after the other, each at its n-th meeting since the one before; and
/// single steps from the step that is reached so.
#[derive(Clone, Debug, Default)]
struct Plan {
    legs: Vec<(u64, usize)>,
    reached: usize,
}

/// A run whose victim stands at the opening breakpoint.
struct Run<'r> {
    companions: Vec<(i32, usize)>,
    tracee: Tracee<'r>,
}

impl Battery {
    /// A battery with a fresh stage. The harness must have one thread and be pinned.
    pub(crate) fn new() -> std::io::Result<Battery> {
        let stage = Stage::build()?;
        Ok(Battery { stage, text: Text::default(), before: Surroundings::take(), deadline: DEADLINE })
    }

    /// The end: nothing may be left of all runs together.
    pub(crate) fn close(&self) -> Result<(), String> {
        self.before.compare(DEADLINE).map_err(|left| format!("the harness did not clean up: {left}"))
    }

    /// Strikes `case` at the points of `form`.
    pub(crate) fn play(&self, case: &Case, form: Form, mut progress: impl FnMut(usize, usize)) -> Tally {
        let mut tally = Tally::default();
        let trace = match self.references(case) {
            Ok(trace) => trace,
            Err(outcome) => {
                tally.points = 1;
                tally.not_tried = 1;
                self.put_down(&mut tally, Point { step: 0, asleep: false }, 0, outcome);
                return tally;
            }
        };
        tally.steps = trace.pcs.len() - 1;
        tally.counters = trace.pcs.iter().copied().collect();
        let (points, stride) = trace.points(form, case.play.short_points());
        (tally.points, tally.stride) = (points.len(), stride);
        let start = Instant::now();
        for (n, point) in points.iter().enumerate() {
            progress(n, points.len());
            if form == Form::Short && start.elapsed() > SHORT_LIMIT {
                (tally.points, tally.cut) = (n, points.len() - n);
                break;
            }
            match self.strike(case, *point, &trace) {
                Ok((pc, outcome, took)) => {
                    tally.slowest = tally.slowest.max(took);
                    tally.struck.insert(pc);
                    self.put_down(&mut tally, *point, pc, outcome);
                }
                // The victim could not be brought there, three times over.
                Err(_) => tally.not_tried += 1,
            }
            let enough = tally.failures.len() >= FAILURES_MAX
                || (form == Form::UntilCaught && !tally.failures.is_empty());
            if enough {
                tally.not_tried += points.len() - n - 1;
                break;
            }
        }
        tally
    }

    fn put_down(&self, tally: &mut Tally, point: Point, pc: u64, outcome: Outcome) {
        match &outcome {
            Outcome::Fine(Verdict::Clean) => tally.clean += 1,
            Outcome::Fine(Verdict::Recovered) => tally.recovered += 1,
            Outcome::Hung(_) => tally.hung += 1,
            Outcome::Wrong(_) => tally.wrong += 1,
        }
        if !matches!(outcome, Outcome::Fine(_)) {
            tally.failures.push(Failure { point, pc, outcome });
        }
    }

    /// Two reference runs: where they differ (an operation that looks at pids, clocks, random numbers) is no landmark.
    fn references(&self, case: &Case) -> Result<Trace, Outcome> {
        let (one, other) = (self.reference(case)?, self.reference(case)?);
        let (mut shorter, longer) =
            if one.pcs.len() <= other.pcs.len() { (one, other) } else { (other, one) };
        shorter.find_landmarks(&longer);
        Ok(shorter)
    }

    /// The victim steps through undisturbed; companions get their cues when it sleeps.
    fn reference(&self, case: &Case) -> Result<Trace, Outcome> {
        let mut run = begin(&self.stage, case, &self.text)?;
        let mut trace =
            Trace { pcs: vec![run.tracee.pc()], asleep: Vec::new(), calls: Vec::new(), landmark: Vec::new() };
        let ended = loop {
            let step = trace.pcs.len() - 1;
            if run.tracee.at_system_call() {
                trace.calls.push(step);
            }
            let mut stop = run.tracee.step();
            if stop == Stop::Asleep {
                trace.asleep.push(step);
                stop = wake(&self.stage, &mut run.tracee, stop);
            }
            match stop {
                Stop::Here => trace.pcs.push(run.tracee.pc()),
                other => break other,
            }
            if trace.pcs.len() > STEPS_MAX {
                break Stop::Stuck;
            }
        };
        let outcome = match ended {
            // Not struck: it is let go to its natural end and the survivors still must finish.
            Stop::Ended => self.finish(case, run, Moment::After, Instant::now()).0,
            other => self.give_up(run, other),
        };
        match outcome {
            Outcome::Fine(_) => Ok(trace),
            bad => Err(bad),
        }
    }

    /// Brings a victim to `point` and strikes. `Err` if it never stood there.
    fn strike(&self, case: &Case, point: Point, trace: &Trace) -> Result<(u64, Outcome, Duration), Stop> {
        // An operation may take another way this time (it looks at clocks, pids and random numbers): then an instruction
        // that the plan relies on is met less often, or never. The last attempt goes by single steps alone.
        let mut last = Stop::Stuck;
        let plans = DETOURS.map(|back| trace.plan(point.step, back));
        for plan in plans.iter().chain([&Plan::default()]) {
            let mut run = match begin(&self.stage, case, &self.text) {
                Ok(run) => run,
                Err(outcome) => return Ok((0, outcome, Duration::ZERO)),
            };
            let asleep = match approach(&self.stage, &mut run.tracee, point, plan) {
                Stop::Here => false,
                Stop::Asleep => true,
                // This time it had fewer instructions, and has returned.
                Stop::Ended if plan.legs.is_empty() && !point.asleep => false,
                missed => {
                    last = missed;
                    let died = matches!(missed, Stop::Died(_));
                    let outcome = self.give_up(run, missed);
                    if died {
                        return Ok((0, outcome, Duration::ZERO));
                    }
                    continue;
                }
            };
            let pc = if asleep { trace.pcs.get(point.step).copied().unwrap_or(0) } else { run.tracee.pc() };
            let moment = match point.step {
                0 if !asleep => Moment::Before,
                _ if !asleep && run.tracee.has_returned() => Moment::After,
                _ => Moment::Within,
            };
            let struck = Instant::now();
            let (outcome, took) = match case.play.fault() {
                Fault::Kill => self.finish(case, run, moment, struck),
                Fault::Pause => self.pause(case, run, asleep, struck),
            };
            return Ok((pc, outcome, took));
        }
        Err(last)
    }

    /// Others act while the victim stands still; then it goes on to its end.
    fn pause(&self, case: &Case, mut run: Run<'_>, asleep: bool, struck: Instant) -> (Outcome, Duration) {
        let stage = &self.stage;
        let between =
            victim::fork_role(stage, CHECKER, || case.play.meanwhile(stage)).map_err(|e| e.to_string());
        let verdict = match between {
            Ok(pid) => judge(stage, &[(pid, CHECKER)], struck + self.deadline),
            Err(text) => Outcome::Wrong(text),
        };
        // Who sleeps has to come out of its system call before it can be told to go on.
        let mut stop = if asleep { wake(stage, &mut run.tracee, Stop::Asleep) } else { Stop::Here };
        if stop == Stop::Here {
            stop = if run.tracee.has_returned() { Stop::Ended } else { run.tracee.run_out() };
            stop = wake(stage, &mut run.tracee, stop);
        }
        if stop != Stop::Ended {
            return (self.give_up(run, stop), struck.elapsed());
        }
        match verdict {
            Outcome::Fine(meanwhile) => {
                let (outcome, _) = self.finish(case, run, Moment::After, Instant::now());
                let outcome = match outcome {
                    Outcome::Fine(after) => Outcome::Fine(after.max(meanwhile)),
                    bad => bad,
                };
                (outcome, struck.elapsed())
            }
            bad => {
                self.give_up(run, stop);
                (bad, struck.elapsed())
            }
        }
    }

    /// Kills the victim for good, lets everyone finish, and compares the surroundings.
    fn finish(&self, case: &Case, run: Run<'_>, moment: Moment, struck: Instant) -> (Outcome, Duration) {
        let stage = &self.stage;
        run.tracee.kill();
        case.play.confirmed(stage);
        stage.give_cue();
        let mut others = run.companions;
        let checker = victim::fork_role(stage, CHECKER, || case.play.aftermath(stage, moment));
        let mut outcome = match checker {
            Ok(pid) => {
                others.push((pid, CHECKER));
                judge(stage, &others, struck + self.deadline)
            }
            Err(error) => Outcome::Wrong(format!("no checker: {error}")),
        };
        let took = struck.elapsed();
        if matches!(outcome, Outcome::Fine(_))
            && let Err(text) = case.play.tally(stage, moment)
        {
            outcome = Outcome::Wrong(text);
        }
        if let Err(text) = self.before.compare(self.deadline) {
            outcome = if matches!(outcome, Outcome::Fine(_)) { Outcome::Wrong(text) } else { outcome };
        }
        (outcome, took)
    }

    /// The victim did not come where it should; clears the stage of everyone.
    fn give_up(&self, run: Run<'_>, stop: Stop) -> Outcome {
        run.tracee.kill();
        for (pid, _) in &run.companions {
            watchdog::kill(*pid);
            watchdog::reap(*pid, true);
        }
        let _ = self.before.compare(Duration::from_millis(500));
        match stop {
            Stop::Died(Ending::Exited(victim::EXIT_WRONG)) => {
                Outcome::Wrong(format!("the victim: {}", self.stage.said(VICTIM)))
            }
            Stop::Died(ending) => Outcome::Wrong(format!("the victim died by itself: {ending:?}")),
            other => Outcome::Hung(format!("the victim never came back ({other:?})")),
        }
    }
}

impl Trace {
    fn points(&self, form: Form, short_points: usize) -> (Vec<Point>, usize) {
        let last = self.pcs.len() - 1;
        let at = |step: usize| Point { step, asleep: false };
        let asleep = self.asleep.iter().map(|step| Point { step: *step, asleep: true });
        let stride = match form {
            Form::Only(point) => return (vec![point], 1),
            Form::Asleep => return (asleep.collect(), 1),
            Form::Full | Form::UntilCaught => 1,
            Form::Short => last.div_ceil(short_points).max(1),
        };
        // Those around system calls first: if the short form has to cut, it cuts evenly spread ones.
        let around = self.calls.iter().flat_map(|step| [at(*step), at(*step + 1)]);
        let mut points: Vec<Point> = [at(0), at(last)].into_iter().chain(around).chain(asleep).collect();
        points.extend((0..=last).step_by(stride).map(at));
        let mut seen = BTreeSet::new();
        points.retain(|point| point.step <= last && seen.insert(*point));
        (points, stride)
    }

    fn find_landmarks(&mut self, other: &Trace) {
        let elsewhere: HashSet<u64> = other.pcs.iter().copied().collect();
        let mut met = HashSet::new();
        self.landmark = self.pcs.iter().map(|pc| met.insert(*pc) && elsewhere.contains(pc)).collect();
    }

    /// First to the last landmark on the way, which is found again even if the way there is longer or shorter this time.
    /// From there, in a loop, to the n-th meeting with another one, and the rest
    /// by single steps; whatever is cheapest. Landmarks of the last `back` steps are passed over.
    fn plan(&self, step: usize, back: usize) -> Plan {
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

/// Clears and sets the stage; companions and victim come in.
fn begin<'r>(stage: &Stage, case: &Case, text: &'r Text) -> Result<Run<'r>, Outcome> {
    let wrong = |error: std::io::Error| Outcome::Wrong(format!("the harness itself: {error}"));
    stage.clear().map_err(wrong)?;
    case.play.set(stage);
    let mut companions = Vec::new();
    let outcome = (|| {
        enter(stage, case, Entrance::BeforeVictim, &mut companions)?;
        let pid = victim::fork_victim(stage, || case.play.victim(stage)).map_err(wrong)?;
        let tracee = Tracee::adopt(pid, text).map_err(|stop| {
            Outcome::Wrong(format!(
                "the victim did not come to its operation: {stop:?} {}",
                stage.said(VICTIM)
            ))
        })?;
        match enter(stage, case, Entrance::AfterVictim, &mut companions) {
            Ok(()) => Ok(tracee),
            Err(outcome) => {
                tracee.kill();
                Err(outcome)
            }
        }
    })();
    match outcome {
        Ok(tracee) => Ok(Run { companions, tracee }),
        Err(outcome) => {
            for (pid, _) in &companions {
                watchdog::kill(*pid);
                watchdog::reap(*pid, true);
            }
            Err(outcome)
        }
    }
}

/// Starts the companions of one entrance and waits until each stands (or sleeps) in its place.
fn enter(
    stage: &Stage,
    case: &Case,
    entrance: Entrance,
    companions: &mut Vec<(i32, usize)>,
) -> Result<(), Outcome> {
    let play = &case.play;
    for (n, _) in play.companions().iter().enumerate().filter(|(_, e)| **e == entrance) {
        let role = n + 1;
        let pid = victim::fork_role(stage, role, || play.companion(n, stage))
            .map_err(|error| Outcome::Wrong(format!("no companion: {error}")))?;
        companions.push((pid, role));
        let in_place = || {
            stage.has_arrived(role)
                && (entrance == Entrance::BeforeVictim || watchdog::state_of(pid) == Some('S'))
        };
        if !Stage::poll(DEADLINE, in_place) {
            return Err(Outcome::Hung(format!("companion {role} never arrived {}", stage.said(role))));
        }
    }
    Ok(())
}

/// Steps to `point`; [`Stop::Here`] or [`Stop::Asleep`] when it stands (sleeps) there.
fn approach(stage: &Stage, tracee: &mut Tracee<'_>, point: Point, plan: &Plan) -> Stop {
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
fn wake(stage: &Stage, tracee: &mut Tracee<'_>, mut stop: Stop) -> Stop {
    for _ in 0..CUES_MAX {
        if stop != Stop::Asleep {
            return stop;
        }
        stage.give_cue();
        stop = tracee.keep_waiting();
    }
    if stop == Stop::Asleep { Stop::Stuck } else { stop }
}

/// Waits for the survivors and reads their findings.
fn judge(stage: &Stage, who: &[(i32, usize)], deadline: Instant) -> Outcome {
    let pids: Vec<i32> = who.iter().map(|(pid, _)| *pid).collect();
    let endings = watchdog::await_all(&pids, deadline);
    let mut verdict = Verdict::Clean;
    let mut hung = Vec::new();
    let mut wrong = Vec::new();
    for ((_, role), ending) in who.iter().zip(endings) {
        let name = if *role == CHECKER { "checker".to_owned() } else { format!("companion {role}") };
        match ending {
            Ending::Exited(victim::EXIT_CLEAN) => {}
            Ending::Exited(victim::EXIT_RECOVERED) => verdict = Verdict::Recovered,
            Ending::Exited(victim::EXIT_WRONG) => wrong.push(format!("{name}: {}", stage.said(*role))),
            Ending::Hung => hung.push(format!("{name} {}", stage.said(*role))),
            other => wrong.push(format!("{name} died: {other:?}")),
        }
    }
    if !wrong.is_empty() {
        return Outcome::Wrong(wrong.join("; "));
    }
    if hung.is_empty() { Outcome::Fine(verdict) } else { Outcome::Hung(hung.join(", ")) }
}
