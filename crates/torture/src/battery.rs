//! The battery: one case, struck at every kill point.
//!
//! 1. *Reference run* (two, and the shorter one counts): the victim is stepped from the opening to the closing breakpoint; the program counter before every
//!    instruction is the trace, its length the number of steps L. There are L + 1 kill points, 0 (nothing executed) to
//!    L (returned), and one more, written `k~`, for every step k in which the victim fell asleep in the kernel.
//! 2. *Strike at k*: the same again on fresh state, up to step k; there the fault; then the survivors under the watchdog.
//! 3. What is left in the surroundings is compared with what was before.
//!
//! With a forerunner there are as many *ways* as it has deaths, and each is treated so: in both steps it dies before the victim
//! begins.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::forerunner::{Fate, Forerunner};
use crate::scenario::{Case, Entrance, Fault, Moment, Verdict};
use crate::stage::{CHECKER, Stage, VICTIM};
use crate::surroundings::Surroundings;
use crate::trace::{Plan, Trace, approach, wake};
use crate::tracer::{Stop, Text, Tracee};
use crate::victim;
use crate::watchdog::{self, DEADLINE, Ending};

/// What the short form spends on one case at most; then it cuts the sample, and says so.
const SHORT_LIMIT: Duration = Duration::from_secs(12);
/// A case with this many failures is not pursued further: the rest counts as not tried.
const FAILURES_MAX: usize = 5;
/// If the victim does not come by a landmark, the next attempt relies on one that is so many steps earlier.
const DETOURS: [usize; 3] = [0, 100, 1500];

pub(crate) use crate::trace::Point;

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
    /// Of the longest way.
    pub(crate) steps: usize,
    /// Deaths of a forerunner, or 1.
    pub(crate) ways: usize,
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
    /// At most about [`Scenario::short_points`], around every system call, and behind every change of the shared state.
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

/// A run whose victim stands at the opening breakpoint.
struct Run<'r> {
    companions: Vec<(i32, usize)>,
    tracee: Tracee<'r>,
}

/// What has happened when the victim begins, and its trace then.
struct Way<'f> {
    fate: Option<Fate<'f>>,
    trace: Trace,
}

/// Why the victim does not stand at its opening breakpoint.
enum Unready {
    Failed(Outcome),
    /// The forerunner was not met where it should die.
    Astray(Stop),
}

impl From<Outcome> for Unready {
    fn from(outcome: Outcome) -> Unready {
        Unready::Failed(outcome)
    }
}

impl Unready {
    fn outcome(self) -> Outcome {
        match self {
            Unready::Failed(outcome) => outcome,
            Unready::Astray(stop) => {
                Outcome::Hung(format!("the forerunner did not come to its death: {stop:?}"))
            }
        }
    }
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
        let forerunner = case.play.has_forerunner().then(|| self.study(case)).transpose();
        let ways = forerunner.as_ref().map_err(Outcome::clone).and_then(|forerunner| {
            let only = if let Form::Only(point) = form { Some(point.after) } else { None };
            self.ways(case, forerunner.as_ref(), only)
        });
        let ways = match ways {
            Ok(ways) => ways,
            Err(outcome) => {
                tally.points = 1;
                tally.not_tried = 1;
                self.put_down(&mut tally, Point::default(), 0, outcome);
                return tally;
            }
        };
        let points = plan(&mut tally, &ways, form, case.play.short_points());
        let start = Instant::now();
        for (n, (way, point)) in points.iter().enumerate() {
            progress(n, points.len());
            if form == Form::Short && start.elapsed() > SHORT_LIMIT {
                (tally.points, tally.cut) = (n, points.len() - n);
                break;
            }
            match self.strike(case, *point, way) {
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

    /// Two undisturbed runs of the forerunner.
    fn study(&self, case: &Case) -> Result<Forerunner, Outcome> {
        let study = || {
            let mut run =
                begin(&self.stage, case, &self.text, Tracees::Forerunner).map_err(Unready::outcome)?;
            let studied = Forerunner::study(&self.stage, &mut run.tracee);
            let stop = studied.as_ref().err().copied().unwrap_or(Stop::Ended);
            let outcome = self.give_up(run, stop);
            studied.map_err(|_| outcome)
        };
        Ok(study()?.with_landmarks_of(&study()?))
    }

    /// One for each death of the forerunner, if there is one; or the only one asked for.
    fn ways<'f>(
        &self,
        case: &Case,
        forerunner: Option<&'f Forerunner>,
        only: Option<usize>,
    ) -> Result<Vec<Way<'f>>, Outcome> {
        let Some(forerunner) = forerunner else {
            return Ok(vec![Way { fate: None, trace: self.references(case, None)? }]);
        };
        let mut ways: Vec<Way<'f>> = Vec::new();
        for fate in forerunner.fates().filter(|fate| only.is_none_or(|only| only == fate.changes())) {
            let trace = match ways.last() {
                // What a way has in common with the one before is as good a landmark.
                Some(before) => self.reference(case, Some(fate))?.with_landmarks_of(&before.trace),
                None => self.references(case, Some(fate))?,
            };
            ways.push(Way { fate: Some(fate), trace });
        }
        Ok(ways)
    }

    /// Two reference runs: where they differ (an operation that looks at pids, clocks, random numbers) is no landmark.
    fn references(&self, case: &Case, fate: Option<Fate<'_>>) -> Result<Trace, Outcome> {
        let (one, other) = (self.reference(case, fate)?, self.reference(case, fate)?);
        let (shorter, longer) = if one.pcs.len() <= other.pcs.len() { (one, other) } else { (other, one) };
        Ok(shorter.with_landmarks_of(&longer))
    }

    /// The victim steps through undisturbed; companions get their cues when it sleeps.
    fn reference(&self, case: &Case, fate: Option<Fate<'_>>) -> Result<Trace, Outcome> {
        let who = Tracees::Victim { fate, back: None };
        let mut run = begin(&self.stage, case, &self.text, who).map_err(Unready::outcome)?;
        let (trace, ended) = Trace::record(&self.stage, &mut run.tracee);
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
    fn strike(&self, case: &Case, point: Point, way: &Way<'_>) -> Result<(u64, Outcome, Duration), Stop> {
        // An operation may take another way this time (it looks at clocks, pids and random numbers): then an instruction
        // that the plan relies on is met less often, or never. The last attempt goes by single steps alone.
        let mut last = Stop::Stuck;
        let trace = &way.trace;
        for back in DETOURS.map(Some).into_iter().chain([None]) {
            let who = Tracees::Victim { fate: way.fate, back };
            let mut run = match begin(&self.stage, case, &self.text, who) {
                Ok(run) => run,
                Err(Unready::Failed(outcome)) => return Ok((0, outcome, Duration::ZERO)),
                Err(Unready::Astray(stop)) => {
                    last = stop;
                    continue;
                }
            };
            let plan = back.map_or_else(Plan::default, |back| trace.plan(point.step, back));
            let asleep = match approach(&self.stage, &mut run.tracee, point, &plan) {
                Stop::Here => false,
                Stop::Asleep => true,
                // This time it had fewer instructions, and has returned.
                Stop::Ended if plan.is_plain() && !point.asleep => false,
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

/// The points of all ways in turn, so that what is cut for time is cut of each.
fn plan<'w, 'f>(
    tally: &mut Tally,
    ways: &'w [Way<'f>],
    form: Form,
    short_points: usize,
) -> Vec<(&'w Way<'f>, Point)> {
    tally.ways = ways.len();
    let mut points = Vec::new();
    for way in ways {
        tally.steps = tally.steps.max(way.trace.steps());
        tally.counters.extend(&way.trace.pcs);
        let after = way.fate.map_or(0, Fate::changes);
        // Each way has other steps in its sample.
        let (of_way, stride) = way.trace.points(form, short_points.div_ceil(ways.len()), after);
        tally.stride = tally.stride.max(stride);
        points.extend(of_way.into_iter().enumerate().map(|(n, point)| (n, way, Point { after, ..point })));
    }
    points.sort_by_key(|(n, ..)| *n);
    tally.points = points.len();
    points.into_iter().map(|(_, way, point)| (way, point)).collect()
}

/// Who is brought to its opening breakpoint.
#[derive(Copy, Clone)]
enum Tracees<'f> {
    Forerunner,
    /// After the forerunner's death, if there is one; `back` as in [`Fate::befall`].
    Victim {
        fate: Option<Fate<'f>>,
        back: Option<usize>,
    },
}

/// Clears and sets the stage; companions, forerunner and victim come in.
fn begin<'r>(stage: &Stage, case: &Case, text: &'r Text, who: Tracees<'_>) -> Result<Run<'r>, Unready> {
    let wrong = |error: std::io::Error| Outcome::Wrong(format!("the harness itself: {error}"));
    stage.clear().map_err(wrong)?;
    case.play.set(stage);
    let mut companions = Vec::new();
    let ready = (|| {
        enter(stage, case, Entrance::BeforeVictim, &mut companions)?;
        let Tracees::Victim { fate, back } = who else {
            return Ok(adopt(stage, text, || case.play.forerunner(stage))?);
        };
        if let Some(fate) = fate {
            let forerunner = adopt(stage, text, || case.play.forerunner(stage))?;
            fate.befall(stage, forerunner, back).map_err(Unready::Astray)?;
            case.play.bury(stage);
        }
        let tracee = adopt(stage, text, || case.play.victim(stage))?;
        match enter(stage, case, Entrance::AfterVictim, &mut companions) {
            Ok(()) => Ok(tracee),
            Err(outcome) => {
                tracee.kill();
                Err(Unready::Failed(outcome))
            }
        }
    })();
    match ready {
        Ok(tracee) => Ok(Run { companions, tracee }),
        Err(unready) => {
            for (pid, _) in &companions {
                watchdog::kill(*pid);
                watchdog::reap(*pid, true);
            }
            Err(unready)
        }
    }
}

/// Forks somebody who stops before its operation.
fn adopt<'r, 's>(
    stage: &Stage,
    text: &'r Text,
    prepare: impl FnOnce() -> Box<dyn FnOnce() + 's>,
) -> Result<Tracee<'r>, Outcome> {
    let pid = victim::fork_victim(stage, prepare)
        .map_err(|error| Outcome::Wrong(format!("the harness itself: {error}")))?;
    Tracee::adopt(pid, text).map_err(|stop| {
        Outcome::Wrong(format!("the victim did not come to its operation: {stop:?} {}", stage.said(VICTIM)))
    })
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
