//! Decides who may begin something while something else wants to end: a gate that is closed once, and permits that are counted.
//!
//! Whether it is open is looked at and the permit counted in one atomic step: whoever closes the gate sees every permit that
//! was given before, and none is given after. A permit is a promise: its holder does not ask again, and what it begins in turn
//! it counts in with [`Permit::also`], closed or not. Only who has closed the gate can wait until all are gone, or call them off.
//!
//! Nothing here takes a lock, but to sleep and to wake those who sleep.

#![deny(clippy::unwrap_used)]

use std::fmt;
use std::marker::PhantomData;
use std::pin::pin;
use std::task::Poll;
use sync::{Arc, AtomicU64, Ordering};
use waiters::Waiters;

mod sync;
#[cfg(test)]
mod tests;
mod waiters;

/// What is counted: an enum without fields.
pub trait Class: Copy + fmt::Debug + 'static {
    /// Every one, each at its [`Class::index`].
    const ALL: &'static [Self];

    fn index(self) -> usize;
}

/// Classes a gate can tell apart.
pub const MOST_CLASSES: usize = 6;

/// In [`Inner::word`]: no permit is given any more.
const CLOSED: u64 = 1 << 63;
/// What still goes on is called off.
const ABORTED: u64 = 1 << 62;
/// Somebody sleeps until permits are given back.
const WAITED: u64 = 1 << 61;
/// The rest of it: permits there are, of every class. No process lives long enough to give so many; one that tried would stop at
/// the last, and touch no other bit.
const TOTAL: u64 = WAITED - 1;

#[derive(Debug)]
struct Inner {
    epoch: u64,
    word: AtomicU64,
    /// Permits of each class. Counted in after the word and out before it: none is above zero while the word says that there are
    /// no permits.
    counts: [AtomicU64; MOST_CLASSES],
    /// Those who sleep until permits are given back.
    emptied: Waiters,
    /// Those who sleep until it is closed, or all is called off.
    told: Waiters,
}

/// The gate. Cheap to clone.
pub struct Gate<C> {
    inner: Arc<Inner>,
    class: PhantomData<fn() -> C>,
}

/// Something that was let in, counted until this is dropped.
pub struct Permit<C: Class> {
    gate: Gate<C>,
    class: C,
}

/// The gate is closed: nothing new is begun under this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    pub epoch: u64,
}

/// The right to wait for the end of what a closed gate let in.
pub struct Closed<C> {
    gate: Gate<C>,
    first: bool,
}

/// Permits there are, by class.
pub struct Counts<C> {
    of: [u64; MOST_CLASSES],
    class: PhantomData<fn() -> C>,
}

/// How waiting for the end of everything ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited<C: Class> {
    Idle,
    /// With what was still there.
    TimedOut(Counts<C>),
}

impl<C: Class> Gate<C> {
    /// An open one. `epoch` tells it from the one before and the one after: a gate is never opened again.
    pub fn new(epoch: u64) -> Self {
        const { assert!(C::ALL.len() <= MOST_CLASSES, "a gate counts few classes") };
        Self {
            inner: Arc::new(Inner {
                epoch,
                word: AtomicU64::new(0),
                counts: Default::default(),
                emptied: Waiters::default(),
                told: Waiters::default(),
            }),
            class: PhantomData,
        }
    }

    /// Lets one thing in, if the gate is open.
    ///
    /// # Errors
    /// When it is closed.
    pub fn enter(&self, class: C) -> Result<Permit<C>, Draining> {
        let if_open = |word: u64| (word & CLOSED == 0).then(|| one_more(word));
        match self
            .inner
            .word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, if_open)
        {
            Ok(_) => Ok(self.counted(class)),
            Err(_) => Err(Draining {
                epoch: self.inner.epoch,
            }),
        }
    }

    /// A permit for what the word counts already.
    fn counted(&self, class: C) -> Permit<C> {
        self.inner.counts[class.index()].fetch_add(1, Ordering::SeqCst);
        Permit {
            gate: self.clone(),
            class,
        }
    }

    /// Lets nothing in from now on. May be done again: the result says whether this call was the first.
    pub fn close(&self) -> Closed<C> {
        let first = self.inner.word.fetch_or(CLOSED, Ordering::SeqCst) & CLOSED == 0;
        if first {
            self.inner.told.wake(|| {});
        }
        Closed {
            gate: self.clone(),
            first,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.has(CLOSED)
    }

    /// Waits until somebody closes it.
    pub async fn closed(&self) -> Closed<C> {
        self.inner.told.until(|| {}, || {}, || self.is_closed()).await;
        Closed {
            gate: self.clone(),
            first: false,
        }
    }

    /// What was let in and is not over. Those of different classes are not looked at in one instant.
    pub fn counts(&self) -> Counts<C> {
        Counts {
            of: std::array::from_fn(|class| self.inner.counts[class].load(Ordering::SeqCst)),
            class: PhantomData,
        }
    }

    /// As [`Gate::counts`], of one class.
    pub fn count(&self, class: C) -> u64 {
        self.inner.counts[class.index()].load(Ordering::SeqCst)
    }

    fn has(&self, bit: u64) -> bool {
        self.inner.word.load(Ordering::SeqCst) & bit != 0
    }

    fn is_idle(&self) -> bool {
        self.inner.word.load(Ordering::SeqCst) & TOTAL == 0
    }

    /// Sleeps until `is_done`, which permits that are given back may bring about.
    async fn emptied(&self, is_done: impl Fn() -> bool) {
        let word = &self.inner.word;
        let begin = || {
            word.fetch_or(WAITED, Ordering::SeqCst);
        };
        self.inner.emptied.until(begin, || not_waited(word), is_done).await;
    }
}

impl<C: Class> Permit<C> {
    /// Counts one more thing in that comes of this one: also when the gate is closed.
    #[must_use = "it is counted for as long as the permit is held"]
    pub fn also(&self, class: C) -> Self {
        let more = |word: u64| Some(one_more(word));
        let word = &self.gate.inner.word;
        let _ = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        self.gate.counted(class)
    }

    pub fn class(&self) -> C {
        self.class
    }

    /// Whether what goes on was called off.
    pub fn is_cancelled(&self) -> bool {
        self.gate.has(ABORTED)
    }

    /// Waits until what goes on is called off.
    pub async fn cancelled(&self) {
        let told = &self.gate.inner.told;
        told.until(|| {}, || {}, || self.is_cancelled()).await;
    }
}

impl<C: Class> Drop for Permit<C> {
    fn drop(&mut self) {
        let inner = &*self.gate.inner;
        let last_of_class = inner.counts[self.class.index()].fetch_sub(1, Ordering::SeqCst) == 1;
        // After the class: whoever says WAITED later sees it, whoever said so before is woken.
        let word = inner.word.fetch_sub(1, Ordering::SeqCst);
        if word & WAITED != 0 && (last_of_class || word & TOTAL == 1) {
            inner.emptied.wake(|| not_waited(&inner.word));
        }
    }
}

impl<C: Class> Closed<C> {
    /// Whether the gate was open before the call that gave this.
    pub fn is_first(&self) -> bool {
        self.first
    }

    pub fn counts(&self) -> Counts<C> {
        self.gate.counts()
    }

    /// Waits until everything that was let in is over, or `deadline` is.
    pub async fn wait(&self, deadline: impl Future<Output = ()>) -> Waited<C> {
        let mut idle = pin!(self.gate.emptied(|| self.gate.is_idle()));
        let mut deadline = pin!(deadline);
        std::future::poll_fn(|cx| {
            if idle.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Waited::Idle);
            }
            deadline
                .as_mut()
                .poll(cx)
                .map(|()| Waited::TimedOut(self.gate.counts()))
        })
        .await
    }

    /// Waits until nothing of this class is left; another class may still bring about more of it.
    pub async fn empty(&self, class: C) {
        self.gate.emptied(|| self.gate.count(class) == 0).await;
    }

    /// Calls off what is still there: each permit says so from now on.
    pub fn abort(&self) {
        self.gate.inner.word.fetch_or(ABORTED, Ordering::SeqCst);
        self.gate.inner.told.wake(|| {});
    }
}

impl<C: Class> Counts<C> {
    pub fn of(&self, class: C) -> u64 {
        self.of[class.index()]
    }

    pub fn total(&self) -> u64 {
        self.of.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// A word with one more permit.
///
/// # Panics
/// Where there is no room for one, before anything is changed.
fn one_more(word: u64) -> u64 {
    assert!(word & TOTAL < TOTAL, "permits are given, and none is ever given back");
    word + 1
}

/// The last one who slept is woken, or sleeps no more.
fn not_waited(word: &AtomicU64) {
    word.fetch_and(!WAITED, Ordering::SeqCst);
}

impl<C> Clone for Gate<C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            class: PhantomData,
        }
    }
}

impl<C: Class> fmt::Debug for Gate<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (epoch, is_closed) = (self.inner.epoch, self.is_closed());
        let mut shown = f.debug_struct("Gate");
        let shown = shown.field("epoch", &epoch).field("closed", &is_closed);
        shown.field("counts", &self.counts()).finish()
    }
}

impl<C: Class> fmt::Debug for Permit<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.class).finish()
    }
}

impl<C: Class> fmt::Debug for Closed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Closed");
        shown.field("first", &self.first).field("gate", &self.gate).finish()
    }
}

impl<C: Class> fmt::Debug for Counts<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(C::ALL.iter().map(|class| (class, self.of(*class))))
            .finish()
    }
}

impl<C> Clone for Counts<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Counts<C> {}

impl<C> PartialEq for Counts<C> {
    fn eq(&self, other: &Self) -> bool {
        self.of == other.of
    }
}

impl<C> Eq for Counts<C> {}

impl fmt::Display for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "draining (epoch {}): nothing new is begun", self.epoch)
    }
}

impl std::error::Error for Draining {}
