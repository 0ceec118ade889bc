//! The contract: what every worker of a pool is told once, before it takes anything.
//!
//! It lies in a file in memory that the board names. A worker reads it when it begins, runs the initializer, and only then counts as
//! up; on its way out, when it is told to leave or has done its share, it runs the finalizer.

use std::any::{Any, TypeId, type_name};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use swath_array::travel::Lent;
use swath_platform::{memory, process};

use crate::cause::{Fault, What};
use crate::error::{ErrorKind, Result};
use crate::freight;
use crate::limits::{GROWTH_LOOK, INITIALIZER_TIMEOUT};
use crate::process::Limits;
use crate::task::Call;

/// What every worker is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Contract {
    /// Called in the template, or, where there is none, in every worker before its initializer.
    pub(crate) preload: Option<Call>,
    pub(crate) preload_timeout: Option<Duration>,
    pub(crate) initializer: Option<Call>,
    pub(crate) initializer_timeout: Option<Duration>,
    pub(crate) finalizer: Option<Call>,
    pub(crate) finalizer_timeout: Option<Duration>,
    /// The shared object, encoded, with the name of its type.
    pub(crate) shared: Option<(String, Vec<u8>)>,
    /// Tasks and chunks until it is replaced.
    pub(crate) max_tasks: Option<u64>,
    /// Bytes by which its memory may have grown before it is replaced.
    pub(crate) max_growth: Option<u64>,
    /// After so long without work it leaves.
    pub(crate) idle_timeout: Option<Duration>,
    /// Where it sends arrays that are results.
    pub(crate) inbox: Option<String>,
    /// Share of the memory's limit from which on workers that have grown are replaced.
    pub(crate) recycle_at: Option<f64>,
    /// What it may use.
    pub(crate) limits: Limits,
    /// Each worker on a processor of its own.
    pub(crate) pin: bool,
    /// Processors that the pools of all workers may count on together.
    pub(crate) processors: usize,
}

impl Contract {
    /// Whether workers run more of the user's than tasks and phases.
    pub(crate) fn has_hooks(&self) -> bool {
        self.preload.is_some() || self.initializer.is_some() || self.finalizer.is_some()
    }

    /// Runs the preload hook here.
    pub(crate) fn run_preload(&self) -> Result<(), Fault> {
        self.preload.as_ref().map_or(Ok(()), |call| call.run().map(drop))
    }

    /// How long a worker has from its start until it is ready, if somebody's code runs in between; `preloaded`: its template has run
    /// the hook.
    pub(crate) fn time_to_ready(&self, preloaded: bool) -> Option<Duration> {
        let limit = |call: &Option<Call>, limit: Option<Duration>| {
            call.as_ref().map(|_| limit.unwrap_or(INITIALIZER_TIMEOUT))
        };
        let preload = limit(&self.preload, self.preload_timeout).filter(|_| !preloaded);
        let initializer = limit(&self.initializer, self.initializer_timeout);
        preload.map_or(initializer, |preload| Some(preload + initializer.unwrap_or_default()))
    }

    /// Begins to keep it in this process: the shared object is known, the initializer has run.
    pub(crate) fn enter(&self) -> Result<(), Fault> {
        if let Some(shared) = &self.shared {
            *object() = Shared { encoded: Some(Arc::new(shared.clone())), decoded: HashMap::new() };
        }
        self.initializer.as_ref().map_or(Ok(()), |call| call.run().map(drop))
    }
}

/// A worker's last words: what its finalizer gave, or what went wrong with the initializer or the finalizer.
pub(crate) type Farewell = std::result::Result<Vec<u8>, What>;

/// How much more memory than at its beginning a worker has, looked at from time to time.
pub(crate) struct Growth {
    most: Option<u64>,
    first: u64,
    looked: Instant,
}

impl Growth {
    pub(crate) fn new(most: Option<u64>) -> Growth {
        Growth { most, first: most.map_or(0, |_| private_bytes(process::getpid())), looked: Instant::now() }
    }

    /// Whether it has grown by more than it may.
    pub(crate) fn too_much(&mut self) -> bool {
        let Some(most) = self.most.filter(|_| self.looked.elapsed() >= GROWTH_LOOK) else { return false };
        self.looked = Instant::now();
        private_bytes(process::getpid()).saturating_sub(self.first) > most
    }
}

/// Private memory of a process: what is shared is the arrays'.
pub(crate) fn private_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = statm.split(' ').skip(1).map(|pages| pages.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(shared) * memory::page_size() as u64
}

// ---- the shared object -----------------------------------------------------------------------------------------------

#[derive(Default)]
struct Shared {
    encoded: Option<Arc<(String, Vec<u8>)>>,
    decoded: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

static OBJECT: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);

/// Nothing that can panic half-way runs under this lock, but the user's `Deserialize`, which changes nothing of it.
fn object() -> MutexGuard<'static, Shared> {
    OBJECT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The object that was given to [`PoolBuilder::shared`](crate::PoolBuilder::shared): sent once per worker, decoded at the first call.
///
/// # Panics
/// When the pool has none, or one of another type.
pub fn worker_shared<T: DeserializeOwned + Send + Sync + 'static>() -> Arc<T> {
    let wanted = type_name::<T>();
    let mut shared = object();
    if let Some(known) = shared.decoded.get(&TypeId::of::<T>()) {
        return known.clone().downcast().expect("filed under its type");
    }
    let encoded = shared.encoded.clone();
    let Some((name, bytes)) = encoded.as_deref() else {
        panic!("this pool shares no object (a {wanted} was asked for)")
    };
    assert!(name == wanted, "this pool shares a {name}, not a {wanted}");
    let value: Arc<T> =
        Arc::new(freight::unpack(bytes).unwrap_or_else(|why| panic!("the shared {name}: {why}")));
    shared.decoded.insert(TypeId::of::<T>(), value.clone());
    value
}

pub(crate) fn encode_shared<T: Serialize>(object: &T) -> (Result<(String, Vec<u8>)>, Lent) {
    let name = type_name::<T>();
    let (bytes, lent) = freight::pack(object);
    let encoded = bytes.map(|bytes| (name.to_owned(), bytes)).map_err(|why| {
        ErrorKind::Codec.with(format!("the shared object of type {name} cannot be encoded: {why}"))
    });
    (encoded, lent)
}

// ---- a worker's own state --------------------------------------------------------------------------------------------

thread_local! {
    static STATE: RefCell<HashMap<TypeId, Box<dyn Any>>> = RefCell::default();
}

/// Keeps `value` in this worker, from call to call: a connection, a cache, a loaded model. One value per type; usually
/// called by an initializer.
pub fn set_worker_state<T: 'static>(value: T) {
    STATE.with_borrow_mut(|state| state.insert(TypeId::of::<T>(), Box::new(value)));
}

/// Lends what [`set_worker_state`] has kept in this worker.
///
/// # Panics
/// When nothing of this type is kept here, or it is lent already.
pub fn with_worker_state<T: 'static, R>(f: impl FnOnce(&mut T) -> R) -> R {
    /// Puts it back on every way out, unless there is a new one.
    struct Lent<T: 'static>(Option<Box<T>>);
    impl<T: 'static> Drop for Lent<T> {
        fn drop(&mut self) {
            let value = self.0.take();
            STATE.with_borrow_mut(|state| {
                if let Some(value) = value {
                    state.entry(TypeId::of::<T>()).or_insert(value);
                }
            });
        }
    }
    // Taken out meanwhile, so that `f` may use other states.
    let taken = STATE.with_borrow_mut(|state| state.remove(&TypeId::of::<T>()));
    let mut lent = Lent(taken.and_then(|value| value.downcast().ok()));
    match &mut lent.0 {
        Some(value) => f(value),
        None => panic!("this worker keeps no {}, or lends it already", type_name::<T>()),
    }
}
