//! Decides whether a request that failed at one sandbox is sent to another.
//!
//! What never reached a sandbox goes elsewhere, always. What may have been acted upon goes elsewhere only if acting twice does
//! no harm; and if its sandbox ended by itself meanwhile, once in its life, for as long as the service can pay: it may be what
//! ends sandboxes.

use miren_loader::State;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Attempts at one request, the first one included.
const ATTEMPTS: usize = 3;
/// How long the word of a sandbox may lag behind its connections: those of a program that its own init started are closed before
/// that init has seen it, and where the kernel writes no words control has to see it first.
pub(super) const WORD_LAG: Duration = Duration::from_millis(20);

/// Sandboxes that requests may have ended, in thousandths: what each answer of the service earns.
const EARNED: i64 = 50;
/// What can be saved up.
const SAVED: i64 = 10_000;
/// What a service has at its beginning: it loses a sandbox or two with requests in flight, and nobody notices.
const FIRST: i64 = 2_000;

/// What became of a sandbox whose connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Unasked: it exited, crashed or was killed; its word does not say which.
    ByItself,
    /// Control is ending it, or has.
    Stopped,
    /// It has not ended: it closed a connection.
    Runs,
    /// Its slot is another one's by now.
    Unknown,
}

impl Ended {
    /// By the word of its slot; `None` where that is about another generation.
    pub(super) fn from_word(state: Option<State>) -> Self {
        match state {
            Some(State::Dead) => Self::ByItself,
            Some(State::Draining | State::Stopping | State::Stopped) => Self::Stopped,
            Some(State::Running) => Self::Runs,
            // No generation that had requests goes back to these.
            Some(State::Free | State::Pending) | None => Self::Unknown,
        }
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No byte of the request was sent: refused, unreachable, or the lease ended first.
    NotSent,
    /// The connection broke with the request on it, and `ended` is what became of its sandbox.
    Broke { ended: Ended },
    /// No answer began in time.
    TimedOut,
}

/// What is known about a request that failed once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Attempts so far.
    pub attempts: usize,
    /// Whether acting on it twice changes nothing more than once, and all of it is there to be sent again.
    pub again_harmless: bool,
    /// Whether the client has got a part of an answer.
    pub answered: bool,
    /// Whether a sandbox ended by itself with it before.
    pub took_one_down: bool,
}

/// What is done about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Elsewhere,
    /// As [`Verdict::Elsewhere`], for the only time: [`Attempted::took_one_down`] from now on.
    ElsewhereOnce,
    GiveUp,
}

/// Decides what is done about `failure`. `pay` is asked only where it matters, and takes what the repetition costs; false if the
/// service cannot pay.
pub fn again(request: &Attempted, failure: Failure, pay: impl FnOnce() -> bool) -> Verdict {
    let harmless = request.again_harmless && !request.answered && request.attempts < ATTEMPTS;
    match failure {
        // What was given to the client cannot be taken back, also where this attempt never began.
        Failure::NotSent if !request.answered => Verdict::Elsewhere,
        Failure::NotSent | Failure::TimedOut => Verdict::GiveUp,
        Failure::Broke { .. } if !harmless => Verdict::GiveUp,
        Failure::Broke { ended: Ended::Stopped } => Verdict::Elsewhere,
        // After one that ended with it, a second that breaks off is one too many, whatever its word says yet.
        Failure::Broke { ended: Ended::Runs } if !request.took_one_down => Verdict::Elsewhere,
        Failure::Broke { ended: Ended::Runs } => Verdict::GiveUp,
        Failure::Broke {
            ended: Ended::ByItself | Ended::Unknown,
        } => match !request.took_one_down && pay() {
            true => Verdict::ElsewhereOnce,
            false => Verdict::GiveUp,
        },
    }
}

/// What a service can pay for requests whose sandbox ended by itself: each such sandbox costs one, however many requests it
/// had, of which one at most ended it.
#[derive(Debug)]
pub struct Losses(AtomicI64);

impl Default for Losses {
    fn default() -> Self {
        Self(AtomicI64::new(FIRST))
    }
}

impl Losses {
    /// The service answered. Two at once may save a little more than can be saved.
    pub(super) fn earn(&self) {
        if self.0.load(Ordering::Relaxed) < SAVED {
            self.0.fetch_add(EARNED, Ordering::Relaxed);
        }
    }

    /// Takes what one sandbox costs; false if that is not there.
    pub(super) fn spend(&self) -> bool {
        let spent = |saved: i64| (saved >= 1_000).then(|| saved - 1_000);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}
