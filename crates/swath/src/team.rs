//! Teams: all workers run one function together, with rank, size, barriers and a mutex.
//!
//! For stencils and solvers with thousands of short steps, where a phase per step would cost more than the step. There is no
//! retry: the death of a member breaks every barrier, the survivors are ended, and the arrays that the team wrote say that
//! their contents are unknown. Phases are the safe choice; teams the fast one for this shape of work.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array, ArrayView, ArrayViewMut, Dimension};
use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_array::{ArrayRef, Element, SharedArray, Torn, rows_view, rows_view_mut};
use swath_segment::{Segment, SegmentRef};
use swath_sync::{Barrier, InPlace as _, Locked, Mutex, MutexGuard, Party, Plan as _, SlotId};

use crate::crew::Crew;
use crate::descriptor::Mode;
use crate::drive::team_driver;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Geometry;
use crate::kernel::name_of;
use crate::operand::{Bound, Described, described};
use crate::phase::{Encoded, IntoArgs, encode};
use crate::pool::Pool;
use crate::run::{self, Plan, share};
use crate::settings::Settings;

/// A kernel of a team.
pub type TeamKernel<O, A> = for<'c, 'v> fn(&'c Team<A>, <O as TeamOperand>::View<'v>) -> Result<()>;

/// Where the team's barrier lies in its segment; the mutex lies at the beginning.
const BARRIER_AT: usize = 256;

/// One member's view of its team.
pub struct Team<A> {
    rank: usize,
    size: usize,
    args: A,
    /// `None` in an inline pool, whose one member waits for nobody.
    shared: Option<Shared>,
}

struct Shared {
    base: *mut u8,
    party: Party,
    size: usize,
}

impl Shared {
    fn mutex(&self) -> &Mutex<()> {
        // SAFETY: the team's segment is zeroed (an unlocked mutex), page-aligned, and mapped for the whole run.
        unsafe { &*self.base.cast::<Mutex<()>>() }
    }

    fn barrier(&self) -> &Barrier {
        // SAFETY: the coordinator made it at this place, of as many parties as there are members, before it published the
        // team; the segment stays mapped for the whole run.
        unsafe { Barrier::at(self.base.add(BARRIER_AT), self.size) }
    }
}

impl<A> Team<A> {
    pub(crate) fn new(rank: usize, size: usize, args: A, meeting: Option<(*mut u8, Party)>) -> Team<A> {
        Team { rank, size, args, shared: meeting.map(|(base, party)| Shared { base, party, size }) }
    }

    /// Number of this member, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of members.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The team's arguments.
    pub fn args(&self) -> &A {
        &self.args
    }

    /// This member's share of `n` rows: contiguous, even, the same for all arrays of `n` rows.
    pub fn rows(&self, n: usize) -> Range<usize> {
        let (lo, hi) = share(n, self.size, self.rank);
        lo as usize..hi as usize
    }

    /// Waits until all members have come here. True for exactly one of them.
    ///
    /// # Errors
    /// When a member has died: at once, and at every later call. Return it: there is nothing left to do.
    pub fn barrier(&self) -> Result<bool> {
        match &self.shared {
            None => Ok(true),
            Some(shared) => Ok(shared.barrier().wait(&shared.party)?),
        }
    }

    /// One member at a time holds the guard.
    ///
    /// # Errors
    /// When a member died while it held it.
    pub fn lock(&self) -> Result<Option<MutexGuard<'_, ()>>> {
        let Some(shared) = &self.shared else { return Ok(None) };
        match shared.mutex().lock(&shared.party) {
            Ok(Locked::Acquired(guard)) => Ok(Some(guard)),
            Ok(Locked::Recovered(_)) => {
                Err(ErrorKind::Team.with("a member of the team died while it held the lock"))
            }
            Err(error) => Err(ErrorKind::Team.with(error.to_string()).caused_by(error)),
        }
    }
}

/// An array that a team writes: each member its own rows, all rows readable as copies.
pub struct TeamArray<'v, T, D> {
    base: *mut u8,
    array: ArrayRef,
    mine: Range<usize>,
    marker: PhantomData<(&'v mut T, D)>,
}

impl<T: Element, D: Dimension> TeamArray<'_, T, D> {
    /// The rows that belong to this member.
    pub fn rows(&self) -> Range<usize> {
        self.mine.clone()
    }

    /// Number of rows of the whole array.
    pub fn all_rows(&self) -> usize {
        self.array.rows()
    }

    /// This member's rows, to read and write. Nobody else writes them.
    pub fn mine(&mut self) -> ArrayViewMut<'_, T, D> {
        // SAFETY: checked and mapped writable (the driver prepared the operands); the rows are inside; they are this
        // member's alone, and the view borrows this value mutably. Others read them by volatile copies only.
        unsafe { rows_view_mut(self.base, &self.array, self.mine.clone()) }
    }

    /// The same rows, to read.
    pub fn mine_ref(&self) -> ArrayView<'_, T, D> {
        // SAFETY: as in `mine`; a shared borrow of this value is enough, since nobody else writes these rows.
        unsafe { rows_view(self.base, &self.array, self.mine.clone()) }
    }

    /// A copy of any rows, of other members too, such as the borders of a stencil. What a member is writing at this moment
    /// may be half there: put a barrier between writing and reading.
    ///
    /// # Panics
    /// When `rows` reaches beyond the array.
    pub fn copy_rows(&self, rows: Range<usize>) -> Array<T, D> {
        assert!(
            rows.start <= rows.end && rows.end <= self.array.rows(),
            "rows {rows:?} of {}",
            self.array.rows()
        );
        // SAFETY: as above, but only addresses are taken from this view; its elements are read below.
        let place: ArrayView<'_, T, D> = unsafe { rows_view(self.base, &self.array, rows) };
        // SAFETY: each pointer is to an element of the mapped rows. Volatile, because another process may be writing it.
        place.map(|element| unsafe { std::ptr::from_ref(element).read_volatile() })
    }
}

/// What can be passed to [`Pool::team`]: `&a` (all rows, read-only), `&mut a` ([`TeamArray`]), tuples of them.
///
/// # Safety
/// As for [`Operand`](crate::Operand).
pub unsafe trait TeamOperand {
    /// What a member receives.
    type View<'v>;

    /// Arrays in this operand.
    const COUNT: usize;

    /// Appends the arrays.
    fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>);

    /// Checks that what travelled to another process fits the types here.
    fn check(bound: &[Bound]) -> Result<(), swath_array::Error>;

    /// A member's views.
    ///
    /// # Safety
    /// 1. `bound` has at least `COUNT` entries, passed [`TeamOperand::check`], mapped for as long as `'v`.
    /// 2. The caller is the only member with this `rank` of `size`.
    unsafe fn view<'v>(bound: &[Bound], rank: usize, size: usize) -> Self::View<'v>;
}

// SAFETY: one array, described as uncut and read-only; the view is read-only.
unsafe impl<T: Element, D: Dimension> TeamOperand for &SharedArray<T, D> {
    type View<'v> = ArrayView<'v, T, D>;
    const COUNT: usize = 1;

    fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>) {
        into.push(described(self, Mode::Whole));
    }

    fn check(bound: &[Bound]) -> Result<(), swath_array::Error> {
        bound[0].array.check::<T, D>()
    }

    unsafe fn view<'v>(bound: &[Bound], _rank: usize, _size: usize) -> Self::View<'v> {
        // SAFETY: checked and mapped; all rows are inside; a team writes only what was given as `&mut`.
        unsafe { rows_view(bound[0].base, &bound[0].array, 0..bound[0].array.rows()) }
    }
}

// SAFETY: one array, described as updated; only the member's own rows are handed out writable.
unsafe impl<T: Element, D: Dimension> TeamOperand for &mut SharedArray<T, D> {
    type View<'v> = TeamArray<'v, T, D>;
    const COUNT: usize = 1;

    fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>) {
        into.push(described(self, Mode::Update));
    }

    fn check(bound: &[Bound]) -> Result<(), swath_array::Error> {
        bound[0].array.check::<T, D>()
    }

    unsafe fn view<'v>(bound: &[Bound], rank: usize, size: usize) -> Self::View<'v> {
        let (lo, hi) = share(bound[0].array.rows(), size, rank);
        TeamArray {
            base: bound[0].base,
            array: bound[0].array,
            mine: lo as usize..hi as usize,
            marker: PhantomData,
        }
    }
}

macro_rules! tuple_of_team_operands {
    ($($name:ident),+) => {
        // SAFETY: the parts in order, each given the entries that it described.
        unsafe impl<$($name: TeamOperand),+> TeamOperand for ($($name,)+) {
            type View<'v> = ($($name::View<'v>,)+);
            const COUNT: usize = 0 $(+ $name::COUNT)+;

            fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>) {
                #[allow(non_snake_case)]
                let ($($name,)+) = self;
                $($name.describe(into);)+
            }

            #[allow(unused_assignments)]
            fn check(bound: &[Bound]) -> Result<(), swath_array::Error> {
                let mut at = 0;
                $($name::check(&bound[at..])?; at += $name::COUNT;)+
                Ok(())
            }

            #[allow(unused_assignments)]
            unsafe fn view<'v>(bound: &[Bound], rank: usize, size: usize) -> Self::View<'v> {
                let mut at = 0;
                ($({
                    let part = &bound[at..];
                    at += $name::COUNT;
                    // SAFETY: the caller's promises hold for each part.
                    unsafe { $name::view(part, rank, size) }
                },)+)
            }
        }
    };
}

tuple_of_team_operands!(A);
tuple_of_team_operands!(A, B);
tuple_of_team_operands!(A, B, C);
tuple_of_team_operands!(A, B, C, D);

/// A team that is being described.
#[must_use = "call run()"]
pub struct TeamPhase<'p, O, A = ()> {
    pool: &'p Pool,
    operands: O,
    args: Encoded<A>,
    settings: Settings<'p>,
}

impl Pool {
    /// All workers of this pool as a team over `operands`. It has as many members as the pool has workers; an inline pool's
    /// team has one.
    pub fn team<O: TeamOperand>(&self, operands: O) -> TeamPhase<'_, O> {
        TeamPhase { pool: self, operands, args: encode::<(), ()>(&()), settings: Settings::new() }
    }
}

impl<'p, O: TeamOperand, A: Serialize + DeserializeOwned> TeamPhase<'p, O, A> {
    /// What the members need from outside; `team.args()`.
    pub fn args<By, T: IntoArgs<By>>(self, args: T) -> TeamPhase<'p, O, T::Owned> {
        TeamPhase {
            pool: self.pool,
            operands: self.operands,
            args: encode(&args.hold()),
            settings: self.settings,
        }
    }

    /// A name for errors.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// How long the run may take.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.settings.deadline = Some(limit);
        self
    }

    /// Runs `kernel` in all workers at once.
    ///
    /// # Errors
    /// [`ErrorKind::Team`] when a member died, panicked or returned an error; the arrays given as `&mut` are then marked
    /// ([`SharedArray::torn`]): their contents are unknown.
    pub fn run(self, kernel: TeamKernel<O, A>) -> Result<()> {
        let TeamPhase { pool, operands, args, settings } = self;
        let mut described = Vec::with_capacity(O::COUNT);
        operands.describe(&mut described);
        run::check(&described)?;
        let name = settings.name.clone();
        let Encoded { bytes, lent: _until_it_is_over, .. } = args;
        let driver = name_of(team_driver::<O, A> as crate::drive::Driver as *const ())?;
        let (kernel, args) = (name_of(kernel as *const ())?, bytes?);
        let plan = || {
            let size = pool.workers().max(1);
            let meeting = Meeting::new(pool, size)?;
            Ok(Plan {
                geometry: Geometry::ranks(size),
                settings,
                operands: described,
                driver,
                kernel,
                init: 0,
                args,
                values: false,
                measure: false,
                team: Some(meeting),
            })
        };
        let result = pool.run(plan, |_| Ok(()));
        if let Err(error) = &result {
            let mut again = Vec::with_capacity(O::COUNT);
            operands.describe(&mut again);
            for operand in again.iter().filter(|o| o.mode.writes()) {
                let name = if name.is_empty() { "a team" } else { &name };
                (operand.tear)(Torn {
                    rows: 0..operand.array.rows(),
                    why: format!("{name} failed: {error}"),
                });
            }
        }
        result.map(drop)
    }
}

/// Where a team meets: the memory of its mutex and its barrier. Its members stay for as long as there is this.
pub(crate) struct Meeting {
    segment: Segment,
    crew: Option<Arc<Crew>>,
}

impl Meeting {
    fn new(pool: &Pool, size: usize) -> Result<Meeting> {
        let barrier = Barrier::layout(size).map_or(0, |layout| layout.size());
        let segment = Segment::options().unnamed("team").create(BARRIER_AT + barrier)?;
        let meeting = Meeting { segment, crew: pool.crew().cloned() };
        if let Some(crew) = &meeting.crew {
            crew.board.keep(size);
            crew.wait_until_up()?;
            // A pool may have room for more workers than it has.
            let members = &crew.lock().members;
            let parties: Vec<SlotId> = members.iter().take(size).map(|member| member.slot).collect();
            // SAFETY: the segment has room for `size` parties behind `BARRIER_AT`, which is 64-aligned, and nobody knows
            // it yet.
            unsafe { Barrier::of(&parties).place(meeting.base().add(BARRIER_AT)) };
        }
        Ok(meeting)
    }

    /// Its memory.
    pub(crate) fn segment(&self) -> SegmentRef {
        self.segment.reference()
    }

    /// Where this process has mapped it.
    pub(crate) fn base(&self) -> *mut u8 {
        self.segment.as_ptr()
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        if let Some(crew) = &self.crew {
            crew.board.keep(0);
        }
    }
}

impl From<swath_sync::BarrierError> for Error {
    fn from(error: swath_sync::BarrierError) -> Error {
        ErrorKind::Team.with(error.to_string())
    }
}
