//! Decides who is woken: those who sleep until something is so, each of whom looks again before and after lying down.

use crate::sync::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

/// Those who sleep.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<Asleep>);

#[derive(Default)]
struct Asleep {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// A place among them; dropping it gives it up.
struct Place<'w, E: Fn()> {
    waiters: &'w Waiters,
    number: Option<u64>,
    nobody: E,
}

impl Waiters {
    /// Sleeps until `is_so`. `somebody` is called, with the lock held, whenever one lies down, `nobody` when the last one gave up:
    /// whoever makes it so may ask what they noted instead of coming here in vain.
    pub(crate) async fn until(&self, somebody: impl Fn(), nobody: impl Fn(), is_so: impl Fn() -> bool) {
        let mut place = Place {
            waiters: self,
            number: None,
            nobody,
        };
        poll_fn(|cx| {
            if is_so() {
                return Poll::Ready(());
            }
            place.lie_down(cx, &somebody);
            // Again: what came about before it lay down woke nobody.
            if is_so() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Wakes them all; `nobody` is called with the lock held, as in [`Waiters::until`].
    pub(crate) fn wake(&self, nobody: impl Fn()) {
        let wakers = {
            let mut asleep = self.lock();
            nobody();
            std::mem::take(&mut asleep.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    /// Keeps everybody from lying down and from being woken, as long as the result is there.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn hold(&self) -> impl Sized + '_ {
        self.lock()
    }

    /// A panic while it was held left it whole: each holder does one thing to it.
    fn lock(&self) -> MutexGuard<'_, Asleep> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Fn()> Place<'_, E> {
    fn lie_down(&mut self, cx: &Context<'_>, somebody: &impl Fn()) {
        let mut asleep = self.waiters.lock();
        let number = *self.number.get_or_insert_with(|| {
            asleep.next += 1;
            asleep.next
        });
        asleep.wakers.insert(number, cx.waker().clone());
        somebody();
    }
}

impl<E: Fn()> Drop for Place<'_, E> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut asleep = self.waiters.lock();
        asleep.wakers.remove(&number);
        if asleep.wakers.is_empty() {
            (self.nobody)();
        }
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiters")
    }
}
