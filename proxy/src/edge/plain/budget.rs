//! What requests may hold of the proxy's memory before they have a sandbox, all together: large heads, and the beginnings of bodies.

use crate::listen::Place;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What is taken at a time, so that small steps cost nothing.
const STEP: u64 = 16 * 1024;
/// What each request holds without asking: the buffer its head is read into at first.
const FREE: u64 = 4 * 1024;
/// How long one waits for others to give way.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// The memory there is for all, in steps.
#[derive(Debug)]
pub struct Budget(Semaphore);

/// What one request holds of it; given back when it is dropped.
#[derive(Debug)]
pub struct Share<'b> {
    budget: &'b Budget,
    taken: Option<SemaphorePermit<'b>>,
}

impl Budget {
    /// Of so many bytes.
    pub fn new(most: u64) -> Self {
        let steps = usize::try_from(most / STEP).unwrap_or(usize::MAX);
        Self(Semaphore::new(steps.min(Semaphore::MAX_PERMITS)))
    }

    pub fn share(&self) -> Share<'_> {
        Share {
            budget: self,
            taken: None,
        }
    }
}

impl Share<'_> {
    /// Takes what is missing for so many bytes in all, before they are held. Where nothing is left, those who have been longest with
    /// an unfinished head give way. False if that was not enough.
    pub async fn hold(&mut self, bytes: u64, place: &Place) -> bool {
        let Some(missing) = self.missing(bytes) else {
            return false;
        };
        if missing == 0 || self.take(missing) {
            return true;
        }
        place.make_room();
        let taken = tokio::time::timeout(GIVE_WAY, self.budget.0.acquire_many(missing)).await;
        match taken {
            Ok(Ok(more)) => self.add(more),
            Ok(Err(_)) | Err(_) => return false,
        }
        true
    }

    /// Steps; none if nobody could have so many.
    fn missing(&self, bytes: u64) -> Option<u32> {
        let wanted = bytes.saturating_sub(FREE).div_ceil(STEP);
        let taken = self.taken.as_ref().map_or(0, SemaphorePermit::num_permits) as u64;
        u32::try_from(wanted.saturating_sub(taken)).ok()
    }

    fn take(&mut self, steps: u32) -> bool {
        match self.budget.0.try_acquire_many(steps) {
            Ok(more) => {
                self.add(more);
                true
            }
            Err(_) => false,
        }
    }
}

impl<'b> Share<'b> {
    fn add(&mut self, more: SemaphorePermit<'b>) {
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_hold(share: &mut Share<'_>, bytes: u64) -> bool {
        share
            .missing(bytes)
            .is_some_and(|missing| missing == 0 || share.take(missing))
    }

    #[test]
    fn f13_all_requests_together_hold_no_more_than_there_is() {
        let budget = Budget::new(3 * STEP);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(
            may_hold(&mut one, FREE) && may_hold(&mut other, FREE),
            "small ones cost nothing"
        );
        assert!(may_hold(&mut one, FREE + 1) && may_hold(&mut one, FREE + STEP));
        assert!(may_hold(&mut other, FREE + 2 * STEP));
        assert!(!may_hold(&mut one, FREE + STEP + 1), "nothing is left");
        assert!(may_hold(&mut one, FREE + STEP), "what it has it keeps");
        drop(other);
        assert!(may_hold(&mut one, FREE + 3 * STEP));
        drop(one);
        assert_eq!(budget.0.available_permits(), 3);
        assert!(!may_hold(&mut budget.share(), u64::MAX));
    }
}
