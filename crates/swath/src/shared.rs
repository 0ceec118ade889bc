//! `Shared<T>`: one lock, event, queue … in a segment of its own, for workers and for unrelated programs.
//!
//! ```no_run
//! use swath::prelude::*;
//! use swath::shared::Shared;
//! use swath::sync::Mutex;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In one program, which owns the name …
//! let counter = Shared::named("counter", Mutex::new(0_u64))?;
//! *counter.lock()?.acquired().expect("nobody died holding it") += 1;
//!
//! // … and in any other of the same user.
//! let same = Shared::<Mutex<u64>>::attach("counter")?;
//! # Ok(())
//! # }
//! ```
//!
//! It is `Clone` (the same object) and serde: put it into the arguments of a phase or a process, and those have it too, at any depth. Whoever
//! uses it is a party of the owner's session: the locks that it holds are recovered when it dies, however it dies.

mod lists;
mod locks;
mod messages;
mod queues;
mod signals;
mod values;
mod waiting;

pub use messages::{MessageError, SharedPipeEnd};
pub use waiting::{Awaited, try_wait_any, wait_any, wait_any_deadline, wait_any_timeout};

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use swath_segment::{OBJECT_OFFSET, Object, ObjectForm, Segment, SegmentOptions, SegmentRef};
use swath_sync::{InPlace, NoParty, Party, Plan};

use crate::error::{Error, ErrorKind, Result};

/// See the module.
pub struct Shared<T: InPlace + ?Sized> {
    object: Arc<Object>,
    cells: usize,
    marker: PhantomData<fn() -> Box<T>>,
}

/// Makes the object in a segment as `options` say.
fn create<P: Plan>(options: SegmentOptions, plan: P) -> Result<Shared<P::Object>> {
    let cells = plan.cells();
    let layout = P::Object::layout(cells)
        .ok_or_else(|| ErrorKind::Usage.with(format!("a {} cannot have {cells} cells", P::Object::KIND)))?;
    check_alignment(layout.align())?;
    // SAFETY: the object's memory is aligned to 4096, zero, has the layout's size, and nobody attaches before this
    // returns.
    let place = |memory: *mut u8| unsafe { plan.place(memory) };
    let object = Object::create(options, form_of::<P::Object>(), cells, layout.size(), place)?;
    Ok(Shared { object: Arc::new(object), cells, marker: PhantomData })
}

/// Objects begin at a page.
fn check_alignment(align: usize) -> Result<()> {
    if align <= OBJECT_OFFSET {
        return Ok(());
    }
    Err(ErrorKind::Usage
        .with(format!("an object cannot be aligned to {align} bytes, but to {OBJECT_OFFSET}")))
}

fn form_of<T: InPlace + ?Sized>() -> ObjectForm {
    ObjectForm { kind: T::KIND, element: T::ELEMENT }
}

impl<T: InPlace + ?Sized> Shared<T> {
    /// An object without a name, for this program and its workers.
    ///
    /// # Errors
    ///
    /// There is no room; the plan is not possible.
    pub fn new(plan: impl Plan<Object = T>) -> Result<Shared<T>> {
        create(Segment::options().unnamed(T::KIND), plan)
    }

    /// An object with a name, for other programs too. The name goes when this value and its clones are dropped.
    ///
    /// # Errors
    ///
    /// As [`Shared::new`]; the name is taken, or impossible.
    pub fn named(name: impl Into<String>, plan: impl Plan<Object = T>) -> Result<Shared<T>> {
        create(Segment::options().name(name), plan)
    }

    /// The object of that name.
    ///
    /// # Errors
    ///
    /// There is none, it is of another kind or of another build, or its owner has ended.
    pub fn attach(name: &str) -> Result<Shared<T>> {
        Shared::of(Object::attach(name, form_of::<T>())?)
    }

    /// The object of that name, made now if there is none: for programs that may start in any order.
    ///
    /// # Errors
    ///
    /// As for [`Shared::attach`] and [`Shared::named`].
    pub fn attach_or_create(name: &str, plan: impl Plan<Object = T>) -> Result<Shared<T>> {
        use swath_segment::Error::{Exists, NotFound};
        match Object::attach(name, form_of::<T>()) {
            Ok(object) => return Shared::of(object),
            Err(NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match Shared::named(name, plan) {
            Err(error) if error.is_segment(|error| matches!(error, Exists { .. })) => Shared::attach(name),
            other => other,
        }
    }

    /// What was mapped must be as large as an object of so many cells is.
    fn of(object: Object) -> Result<Shared<T>> {
        let cells = usize::try_from(object.image().cells).ok();
        let fits = |cells: &usize| T::layout(*cells).is_some_and(|l| l.size() as u64 == object.image().bytes);
        let Some(cells) = cells.filter(fits) else {
            let name = object.name().unwrap_or("an unnamed object");
            let text = format!("{name}: the {} in it has another size than it says", T::KIND);
            return Err(ErrorKind::Memory.with(text));
        };
        check_alignment(T::layout(cells).map_or(usize::MAX, |layout| layout.align()))?;
        Ok(Shared { object: Arc::new(object), cells, marker: PhantomData })
    }

    /// The object itself. Not for everybody: its methods take any party, and this session's alone is right.
    #[inline]
    pub(crate) fn object(&self) -> &T {
        // SAFETY: 1. the mapping has the layout of so many cells (made so, or checked in `of`), page-aligned, and lives as
        // long as `self`; 2. a plan of this kind was placed there before anybody could attach (kind and element checked).
        unsafe { T::at(self.object.as_ptr(), self.cells) }
    }

    /// The calling thread as a party of the object's session; an error in a process forked from the one that attached.
    #[inline]
    pub(crate) fn me(&self) -> std::result::Result<Party, NoParty> {
        // SAFETY: nobody outside of this module's children gets it; they use it with this object, which they borrow.
        unsafe { self.object.party() }
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.object.name()
    }

    /// "mutex `counter`", for errors.
    pub(crate) fn label(&self) -> String {
        match self.name() {
            Some(name) => format!("{} {name:?}", T::KIND),
            None => format!("unnamed {}", T::KIND),
        }
    }

    /// Has the calling thread take part, and says of a refusal whose it was.
    pub(crate) fn ask<'a, R, E>(
        &'a self,
        call: impl FnOnce(&'a T, &Party) -> std::result::Result<R, E>,
    ) -> std::result::Result<R, Refused<E>> {
        match self.me() {
            Ok(me) => call(self.object(), &me).map_err(|why| Refused { object: self.label(), why: Ok(why) }),
            Err(nobody) => Err(Refused { object: self.label(), why: Err(nobody) }),
        }
    }
}

impl<T: InPlace + ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared { object: self.object.clone(), cells: self.cells, marker: PhantomData }
    }
}

impl<T: InPlace + ?Sized> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({})", self.label())
    }
}

/// Why a shared object refused, and which.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused<E> {
    object: String,
    why: std::result::Result<E, NoParty>,
}

impl<E> Refused<E> {
    /// Kind and name of the object.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// What it says; `None` when the calling thread cannot take part at all.
    pub fn why(&self) -> Option<&E> {
        self.why.as_ref().ok()
    }
}

impl<E: fmt::Display> fmt::Display for Refused<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Ok(why) => write!(f, "{}: {why}", self.object),
            Err(nobody) => write!(f, "{}: {nobody}", self.object),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Refused<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.why {
            Ok(why) => Some(why),
            Err(nobody) => Some(nobody),
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<Refused<E>> for Error {
    fn from(refused: Refused<E>) -> Error {
        ErrorKind::Sync.with(refused.to_string()).caused_by(refused)
    }
}

/// A reference as it travels in arguments.
#[derive(Serialize, Deserialize)]
struct Travelling {
    id: u64,
    file: (u64, u64),
    len: u64,
    /// Whose descriptor it is.
    holder: u32,
    fd: i32,
    name: Option<String>,
}

thread_local! {
    /// The objects that are being encoded in this thread, where somebody wants to know.
    static NOTED: RefCell<Option<Vec<Arc<Object>>>> = const { RefCell::new(None) };
}

/// Encodes something, and says which objects are in it: a reference is worth nothing once its object has been dropped.
pub(crate) fn noting_objects<R>(encode: impl FnOnce() -> R) -> (R, Vec<Arc<Object>>) {
    let outer = NOTED.replace(Some(Vec::new()));
    let result = encode();
    (result, NOTED.replace(outer).unwrap_or_default())
}

impl<T: InPlace + ?Sized> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        NOTED.with_borrow_mut(|noted| noted.iter_mut().for_each(|all| all.push(self.object.clone())));
        let reference = self.object.reference();
        let name = reference.name().map(str::to_owned);
        let file = (reference.dev, reference.ino);
        let holder = self.object.holder();
        Travelling { id: reference.id, file, len: reference.len, holder, fd: reference.fd, name }
            .serialize(serializer)
    }
}

impl<'de, T: InPlace + ?Sized> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Shared<T>, D::Error> {
        let Travelling { id, file: (dev, ino), len, holder, fd, name } =
            Travelling::deserialize(deserializer)?;
        let name = name.unwrap_or_default();
        let reference = SegmentRef::new(id, (dev, ino), len, fd, &name);
        Shared::of(Object::open(&reference, holder, form_of::<T>()).map_err(de::Error::custom)?)
            .map_err(de::Error::custom)
    }
}

/// Methods of `Shared<T>` that are the object's own, the party being the caller.
macro_rules! forward {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $ok:ty, $why:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            ///
            /// As the object's own method, with the object's name.
            #[inline]
            pub fn $name(&self, $($arg: $ty),*) -> std::result::Result<$ok, $crate::shared::Refused<$why>> {
                self.ask(|object, me| object.$name(me, $($arg),*))
            }
        )*
    };
}

/// The four forms of a method that may wait.
macro_rules! forward_waiting {
    ($($what:literal: $plain:ident $now:ident $timeout:ident $deadline:ident($($arg:ident: $ty:ty),*) -> $ok:ty, $why:ty;)*) => {
        $($crate::shared::forward! {
            #[doc = concat!($what, ", however long that lasts.")]
            fn $plain($($arg: $ty),*) -> $ok, $why;
            #[doc = concat!($what, " if that is possible without waiting.")]
            fn $now($($arg: $ty),*) -> $ok, $why;
            #[doc = concat!($what, ", waiting at most for `timeout`.")]
            fn $timeout($($arg: $ty,)* timeout: std::time::Duration) -> $ok, $why;
            #[doc = concat!($what, ", waiting at most until `deadline`.")]
            fn $deadline($($arg: $ty,)* deadline: std::time::Instant) -> $ok, $why;
        })*
    };
}

/// Methods that cannot fail once the calling thread can take part, and do not ask who it is.
macro_rules! forward_sure {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $ok:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            ///
            /// The calling thread cannot take part: its process was forked from the one that attached.
            #[inline]
            pub fn $name(&self, $($arg: $ty),*) -> std::result::Result<$ok, $crate::shared::Refused<std::convert::Infallible>> {
                self.ask(|object, _| Ok(object.$name($($arg),*)))
            }
        )*
    };
}

pub(crate) use {forward, forward_sure, forward_waiting};
