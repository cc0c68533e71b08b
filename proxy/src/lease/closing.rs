//! How long what is under way to a retired sandbox may go on, and from when on control need not wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Until when requests and tunnels may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadlines {
    pub requests: Instant,
    pub tunnels: Instant,
}

impl Deadlines {
    /// So long after `now`.
    pub(super) fn after(requests: Duration, tunnels: Duration, now: Instant) -> Self {
        // A time that no clock shows is none that anybody waits for.
        let until = |left| now.checked_add(left).unwrap_or(now + FAR);
        Self {
            requests: until(requests),
            tunnels: until(tunnels),
        }
    }

    /// Neither later than in `other`.
    fn at_most(self, other: Self) -> Self {
        Self {
            requests: self.requests.min(other.requests),
            tunnels: self.tunnels.min(other.tunnels),
        }
    }
}

/// Longer than anything is given.
const FAR: Duration = Duration::from_secs(30 * 86_400);

/// What is told of the end of one lease, and what was done about it.
#[derive(Debug, Default)]
pub(super) struct Closing {
    deadlines: watch::Sender<Option<Deadlines>>,
    /// Whether control was asked for the deadlines.
    asked: AtomicBool,
    /// Tunnels that were told to go, and are not waited for.
    let_off: AtomicU32,
    given_back: AtomicBool,
}

impl Closing {
    /// Control says how long there is; no deadline moves away.
    pub(super) fn tell(&self, told: Deadlines) {
        self.deadlines.send_if_modified(|known| {
            let new = known.map_or(told, |known| known.at_most(told));
            known.replace(new) != Some(new)
        });
    }

    /// Whether control has to be asked: it was not, and has not said.
    pub(super) fn is_to_be_asked(&self) -> bool {
        self.deadlines.borrow().is_none() && !self.asked.swap(true, Ordering::Relaxed)
    }

    /// Whether no request has any time left.
    pub(super) fn are_requests_over(&self, now: Instant) -> bool {
        self.deadlines.borrow().is_some_and(|until| now >= until.requests)
    }

    /// Waits until no tunnel has any time left.
    pub(super) async fn tunnels_over(&self) {
        let mut told = self.deadlines.subscribe();
        loop {
            let until = told.borrow_and_update().map(|until| until.tunnels);
            let over = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => return,
                // The sender is `self`: it is there as long as this waits.
                _ = told.changed() => {}
            }
        }
    }

    pub(super) fn let_off(&self) -> u32 {
        self.let_off.load(Ordering::SeqCst)
    }

    pub(super) fn one_let_off(&self) {
        self.let_off.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn one_ended(&self) {
        self.let_off.fetch_sub(1, Ordering::SeqCst);
    }

    /// It is given back; true once.
    pub(super) fn give_back(&self) -> bool {
        !self.given_back.swap(true, Ordering::SeqCst)
    }

    pub(super) fn is_given_back(&self) -> bool {
        self.given_back.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(requests: u64, tunnels: u64, now: Instant) -> Deadlines {
        Deadlines::after(Duration::from_secs(requests), Duration::from_secs(tunnels), now)
    }

    #[test]
    fn l3_deadlines_come_nearer_and_never_move_away() {
        let (closing, now) = (Closing::default(), Instant::now());
        assert!(!closing.are_requests_over(now + FAR), "nothing was told");
        closing.tell(after(30, 60, now));
        closing.tell(after(60, 30, now));
        assert_eq!(*closing.deadlines.borrow(), Some(after(30, 30, now)));
        let second = Duration::from_secs(1);
        assert!(!closing.are_requests_over(now + 30 * second - Duration::from_nanos(1)));
        assert!(closing.are_requests_over(now + 30 * second));
    }

    #[test]
    fn control_is_asked_once_and_not_when_it_has_said() {
        let (asked, told) = (Closing::default(), Closing::default());
        assert!(asked.is_to_be_asked() && !asked.is_to_be_asked());
        told.tell(after(0, 0, Instant::now()));
        assert!(!told.is_to_be_asked());
    }

    #[test]
    fn a_time_beyond_all_clocks_is_no_fault() {
        let now = Instant::now();
        let told = Deadlines::after(Duration::MAX, Duration::from_millis(u64::MAX), now);
        assert!(told.requests > now && told.tunnels > now);
    }

    #[tokio::test]
    async fn tunnels_wait_for_the_newest_word() {
        let (closing, now) = (Closing::default(), Instant::now());
        closing.tell(after(0, 86_400, now));
        tokio::join!(closing.tunnels_over(), async {
            tokio::task::yield_now().await;
            closing.tell(after(0, 0, now));
        });
    }
}
