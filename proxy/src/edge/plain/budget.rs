//! What requests may hold of the proxy's memory before they have a sandbox, all together: large heads, and the beginnings of bodies.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is taken at a time, so that small steps cost nothing.
const STEP: u64 = 16 * 1024;
/// What each request holds without asking: the buffer its head is read into at first.
const FREE: u64 = 4 * 1024;

/// The memory there is for all.
#[derive(Debug)]
pub struct Budget {
    most: u64,
    taken: AtomicU64,
}

/// What one request holds of it; given back when it is dropped.
#[derive(Debug)]
pub struct Share<'b> {
    budget: &'b Budget,
    taken: u64,
}

impl Budget {
    pub fn new(most: u64) -> Self {
        Self {
            most,
            taken: AtomicU64::new(0),
        }
    }

    pub fn share(&self) -> Share<'_> {
        Share { budget: self, taken: 0 }
    }
}

impl Share<'_> {
    /// Whether the request may hold so many bytes in all. To be asked before they are.
    pub fn may_hold(&mut self, bytes: u64) -> bool {
        let wanted = bytes.saturating_sub(FREE).next_multiple_of(STEP);
        if wanted <= self.taken {
            return true;
        }
        let more = wanted - self.taken;
        let fits = |taken: u64| taken.checked_add(more).filter(|taken| *taken <= self.budget.most);
        let taken = self
            .budget
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if taken.is_ok() {
            self.taken = wanted;
        }
        taken.is_ok()
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f13_all_requests_together_hold_no_more_than_there_is() {
        let budget = Budget::new(3 * STEP);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.may_hold(FREE) && other.may_hold(FREE), "small ones cost nothing");
        assert!(one.may_hold(FREE + 1) && one.may_hold(FREE + STEP));
        assert!(other.may_hold(FREE + 2 * STEP));
        assert!(!one.may_hold(FREE + STEP + 1), "nothing is left");
        assert!(one.may_hold(FREE + STEP), "what it has it keeps");
        drop(other);
        assert!(one.may_hold(FREE + 3 * STEP));
        drop(one);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
        assert!(!budget.share().may_hold(u64::MAX - STEP));
    }
}
