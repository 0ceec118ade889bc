//! The only place that knows about loom: atomics, cells, sleeping and the clock.
//!
//! Built normally these are std's and the kernel's. Built with `--cfg loom` they are loom's, a sleep with a deadline
//! becomes "let the others run", a sleep without one blocks for real (so that a lost wake-up is a deadlock which loom
//! reports), and a thread can be told to die at its k-th step.

#[cfg(loom)]
pub use self::inner::*;
#[cfg(not(loom))]
pub(crate) use self::inner::*;

#[cfg(not(loom))]
mod inner {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use std::thread::yield_now;

    pub(crate) use swath_platform::clock::now_ns;
    pub(crate) use swath_platform::futex::{Wait, wait_any_until, wait_until, wake, wake_all};

    /// [`wait_until`] on the half of a word that the kernel compares: the lower one, also of `expected`.
    pub(crate) fn wait_lower_half_until(word: &AtomicU64, expected: u64, deadline_ns: u64) -> Wait {
        wait_until(lower_half(word), expected as u32, deadline_ns)
    }

    /// [`wake`] for [`wait_lower_half_until`].
    pub(crate) fn wake_lower_half(word: &AtomicU64, n: u32) -> u32 {
        wake(lower_half(word), n)
    }

    /// Never read or written as such by us.
    fn lower_half(word: &AtomicU64) -> &AtomicU32 {
        let low = word.as_ptr().cast::<AtomicU32>();
        let low = if cfg!(target_endian = "little") { low } else { low.wrapping_add(1) };
        // SAFETY: inside the word, aligned, as long-lived as it; an atomic.
        unsafe { &*low }
    }

    /// Between accesses that are all sequentially consistent, where loom, which takes those for acquire and release, needs
    /// to be told.
    #[inline(always)]
    pub(crate) fn model_fence() {}

    /// Whether waits for a peer end by themselves. They do; a model can take that away.
    #[inline(always)]
    pub(crate) const fn slices() -> bool {
        true
    }

    /// std's cell behind loom's interface.
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T: ?Sized>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner()
        }
    }

    impl<T: ?Sized> UnsafeCell<T> {
        #[inline(always)]
        pub(crate) fn with<R>(&self, body: impl FnOnce(*const T) -> R) -> R {
            body(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, body: impl FnOnce(*mut T) -> R) -> R {
            body(self.0.get())
        }
    }
}

#[cfg(loom)]
mod inner {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use loom::sync::{Arc, Condvar, Mutex};

    pub use loom::sync::atomic::Ordering;
    pub(crate) use loom::thread::yield_now;
    pub(crate) use swath_platform::futex::Wait;

    /// What a model's dying thread unwinds with.
    struct Killed;

    #[derive(Copy, Clone)]
    enum Fate {
        Lives,
        /// Dies before its step number `.0` from here.
        DiesAfter(u32),
        Dead,
    }

    loom::thread_local! {
        static FATE: Cell<Fate> = Cell::new(Fate::Lives);
        static SLICES: Cell<bool> = Cell::new(true);
    }

    /// Runs `body` with sleeps that only a wake ends: a lost wake-up is then a deadlock, which loom reports. Nobody
    /// dies in such a model, because the slices are what repairs the wake that a death takes with it.
    pub fn without_slices(body: impl FnOnce()) {
        SLICES.with(|slices| slices.set(false));
        body();
        SLICES.with(|slices| slices.set(true));
    }

    pub(crate) fn slices() -> bool {
        SLICES.with(Cell::get)
    }

    /// Runs `body` as a thread that is killed before step `step` of it, where a step is one access to an atomic or one
    /// futex call; `None` lives. Destructors that run while it unwinds have no effect on shared memory, as
    /// nothing has that a killed thread would have done later. Says whether `body` came to its end.
    pub fn killed_at_step(step: Option<u32>, body: impl FnOnce()) -> bool {
        FATE.with(|fate| fate.set(step.map_or(Fate::Lives, Fate::DiesAfter)));
        let result = catch_unwind(AssertUnwindSafe(body));
        FATE.with(|fate| fate.set(Fate::Lives));
        match result {
            Ok(()) => true,
            Err(payload) if payload.is::<Killed>() => false,
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Counts a step; true when the thread is dead already and the step must have no effect.
    fn dead() -> bool {
        FATE.with(|fate| match fate.get() {
            Fate::Lives => false,
            Fate::Dead => true,
            Fate::DiesAfter(0) => {
                fate.set(Fate::Dead);
                resume_unwind(Box::new(Killed))
            }
            Fate::DiesAfter(left) => {
                fate.set(Fate::DiesAfter(left - 1));
                false
            }
        })
    }

    macro_rules! mortal {
        ($name:ident, $value:ty) => {
            /// loom's atomic, each access of which is a step at which a thread may die.
            #[derive(Debug)]
            pub struct $name(loom::sync::atomic::$name);

            #[allow(missing_docs)]
            impl $name {
                pub fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub fn load(&self, order: Ordering) -> $value {
                    if dead() { 0 } else { self.0.load(order) }
                }

                pub fn store(&self, value: $value, order: Ordering) {
                    if !dead() {
                        self.0.store(value, order);
                    }
                }

                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    if dead() { 0 } else { self.0.swap(value, order) }
                }

                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    if dead() { 0 } else { self.0.fetch_add(value, order) }
                }

                pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    if dead() { 0 } else { self.0.fetch_and(value, order) }
                }

                pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                    if dead() { 0 } else { self.0.fetch_or(value, order) }
                }

                pub fn compare_exchange(
                    &self,
                    old: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    if dead() { Err(0) } else { self.0.compare_exchange(old, new, success, failure) }
                }
            }
        };
    }

    mortal!(AtomicU32, u32);
    mortal!(AtomicU64, u64);

    pub(crate) fn fence(order: Ordering) {
        if !dead() {
            loom::sync::atomic::fence(order);
        }
    }

    pub(crate) fn model_fence() {
        fence(Ordering::SeqCst);
    }

    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T: ?Sized>(loom::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::cell::UnsafeCell::new(value))
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner()
        }
    }

    impl<T: ?Sized> UnsafeCell<T> {
        pub(crate) fn with<R>(&self, body: impl FnOnce(*const T) -> R) -> R {
            self.0.with(body)
        }

        pub(crate) fn with_mut<R>(&self, body: impl FnOnce(*mut T) -> R) -> R {
            self.0.with_mut(body)
        }
    }

    /// Somebody asleep: the words that it sleeps on, by address, and what wakes it.
    struct Sleeper {
        words: Vec<usize>,
        woken: Arc<Condvar>,
    }

    loom::lazy_static! {
        /// The kernel's futex queues, all in one: who sleeps, in the order in which they came. A wake takes out whom it wakes.
        static ref SLEEPERS: Mutex<Vec<Sleeper>> = Mutex::new(Vec::new());
    }

    /// A model has no time: no deadline passes, and whoever has one is never the last to wait.
    pub(crate) fn now_ns() -> u64 {
        0
    }

    pub(crate) fn spin_loop() {}

    pub(crate) fn wait_until(word: &AtomicU32, expected: u32, deadline_ns: u64) -> Wait {
        wait_any_until(&[(word, expected)], deadline_ns)
    }

    pub(crate) fn wait_any_until(words: &[(&AtomicU32, u32)], deadline_ns: u64) -> Wait {
        let unchanged = || words.iter().all(|(word, expected)| word.0.load(Ordering::SeqCst) == *expected);
        sleep(
            words.iter().map(|(word, _)| std::ptr::from_ref(*word).addr()).collect(),
            unchanged,
            deadline_ns,
        )
    }

    fn sleep(words: Vec<usize>, unchanged: impl Fn() -> bool, deadline_ns: u64) -> Wait {
        if dead() {
            return Wait::Interrupted;
        }
        if deadline_ns != u64::MAX {
            yield_now();
            return Wait::TimedOut;
        }
        let mut sleepers = SLEEPERS.lock().unwrap();
        if !unchanged() {
            return Wait::Changed;
        }
        let woken = Arc::new(Condvar::new());
        sleepers.push(Sleeper { words, woken: woken.clone() });
        drop(woken.wait(sleepers).unwrap());
        Wait::Woken
    }

    pub(crate) fn wake(word: &AtomicU32, n: u32) -> u32 {
        wake_at(std::ptr::from_ref(word).addr(), n)
    }

    fn wake_at(address: usize, n: u32) -> u32 {
        if dead() {
            return 0;
        }
        let mut sleepers = SLEEPERS.lock().unwrap();
        let mut woken = 0;
        sleepers.retain(|sleeper| {
            let wakes = woken < n && sleeper.words.contains(&address);
            if wakes {
                woken += 1;
                sleeper.woken.notify_one();
            }
            !wakes
        });
        woken
    }

    pub(crate) fn wake_all(word: &AtomicU32) -> u32 {
        wake(word, u32::MAX)
    }

    pub(crate) fn wait_lower_half_until(word: &AtomicU64, expected: u64, deadline_ns: u64) -> Wait {
        let unchanged = || word.0.load(Ordering::SeqCst) as u32 == expected as u32;
        sleep(vec![std::ptr::from_ref(word).addr()], unchanged, deadline_ns)
    }

    pub(crate) fn wake_lower_half(word: &AtomicU64, n: u32) -> u32 {
        wake_at(std::ptr::from_ref(word).addr(), n)
    }
}
