//! What a failed attempt leads to: the next sandbox, an answer that says which way it failed, or nothing where nobody listens.

use super::refusal::Reason;
use crate::lease::Ended;
use std::time::Duration;

/// Attempts after which a request that was sent, and broke off, is not sent again; the first one included.
const ATTEMPTS: u32 = 3;
/// Attempts when nothing was sent, since no sandbox accepted the connection: each is on another lease, or waits for one.
const CONNECTS: u32 = 8;
/// What the first attempt waits for that follows a shortage of this side's; each further one twice as long, 0.6 s in all.
const SHORTAGE: Duration = Duration::from_millis(5);

/// How an attempt failed. Each engine says it in these words, in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no connection, so nothing was sent. `here`: for a reason of this side, the sandbox is not to blame.
    NotConnected {
        here: bool,
    },
    /// The connection to the sandbox broke. `answered`: after the client was shown something of an answer.
    Broke {
        answered: bool,
    },
    /// No answer began in time.
    TimedOut,
    /// No answer had begun when the time was over that a retired sandbox has for its requests.
    Drained,
    /// What the sandbox said is no answer.
    Unreadable {
        answered: bool,
    },
    ClientGone,
    /// The client's body did not come in time.
    ClientSlow {
        answered: bool,
    },
    /// The client's body breaks its own framing.
    ClientWrong {
        answered: bool,
    },
    /// The proxy stops, and the time for requests is over.
    Overtime {
        answered: bool,
    },
}

impl Failure {
    /// In the account of the request.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotConnected { here: true } => "not connected, for a reason of the proxy's",
            Self::NotConnected { here: false } => "not connected",
            Self::Broke { .. } => "broke off",
            Self::TimedOut => "no answer in time",
            Self::Drained => "no answer before its sandbox was stopped",
            Self::Unreadable { .. } => "malformed answer",
            Self::ClientGone => "client gone",
            Self::ClientSlow { .. } => "client too slow",
            Self::ClientWrong { .. } => "malformed body",
            Self::Overtime { .. } => "the proxy stops",
        }
    }
}

/// What is known when an attempt has failed.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub failure: Failure,
    /// What became of its sandbox.
    pub ended: Ended,
    /// Whether control had told that sandbox to end.
    pub was_stopped: bool,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Whether a second time changes nothing more (RFC 9110 §9.2.2).
    pub idempotent: bool,
    /// Whether all of its body is still here.
    pub whole: bool,
    /// Whether a sandbox ended by itself with it before.
    pub took_one_down: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another sandbox.
    Again,
    /// As [`Next::Again`], for the only time: [`Facts::took_one_down`] from now on.
    AgainOnce,
    /// The client is told why.
    Refuse(Reason),
    /// The connection is cut: only that can still say that no more will come.
    Cut,
}

/// Decides it. `pay` is asked only where it matters: whether the service can afford that a request which may have ended its sandbox
/// is sent to another one (docs/adr/0029-asked-twice.md).
pub fn next(facts: &Facts, pay: impl FnMut() -> bool) -> Next {
    match facts.failure {
        Failure::NotConnected { .. } if facts.attempts < CONNECTS => Next::Again,
        Failure::NotConnected { here: true } => Next::Refuse(Reason::QueueFull),
        Failure::NotConnected { here: false } => Next::Refuse(Reason::UpstreamUnreachable),
        Failure::Broke { answered: true }
        | Failure::Unreadable { answered: true }
        | Failure::ClientSlow { answered: true }
        | Failure::ClientWrong { answered: true }
        | Failure::Overtime { answered: true }
        | Failure::ClientGone => Next::Cut,
        Failure::Broke { answered: false } => broke(facts, pay),
        Failure::Unreadable { answered: false } => Next::Refuse(Reason::UpstreamInvalid),
        Failure::TimedOut => Next::Refuse(Reason::UpstreamTimeout),
        Failure::Drained => Next::Refuse(Reason::DrainDeadline),
        Failure::ClientSlow { answered: false } => Next::Refuse(Reason::RequestTimeout),
        Failure::ClientWrong { answered: false } => Next::Refuse(Reason::BadRequest),
        Failure::Overtime { answered: false } => Next::Refuse(Reason::DrainDeadline),
    }
}

/// How long to wait before the next attempt. What this side lacks another sandbox lacks as well: who gives it up does so in a moment.
pub fn pause(failure: Failure, attempts: u32) -> Duration {
    match failure {
        Failure::NotConnected { here: true } => SHORTAGE * 2_u32.pow(attempts.clamp(1, CONNECTS) - 1),
        _ => Duration::ZERO,
    }
}

/// What was received is sent again only if that can do no harm, also to the service: a request that ends every sandbox which takes
/// it meets one more, and no third.
fn broke(facts: &Facts, mut pay: impl FnMut() -> bool) -> Next {
    let harmless = facts.idempotent && facts.whole && facts.attempts < ATTEMPTS;
    let may_be_once = harmless && !facts.took_one_down;
    match facts.ended {
        Ended::Stopped if harmless => Next::Again,
        // After one that ended with it, a second that breaks off is one too many, whatever its word says yet.
        Ended::Runs if may_be_once => Next::Again,
        Ended::ByItself | Ended::Unknown if may_be_once && pay() => Next::AgainOnce,
        _ if facts.was_stopped => Next::Refuse(Reason::DrainDeadline),
        _ => Next::Refuse(Reason::UpstreamClosed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKE: Facts = Facts {
        failure: Failure::Broke { answered: false },
        ended: Ended::Runs,
        was_stopped: false,
        attempts: 1,
        idempotent: true,
        whole: true,
        took_one_down: false,
    };
    const CLOSED: Next = Next::Refuse(Reason::UpstreamClosed);

    /// What is decided for a service that can pay, and whether it had to.
    fn decide(facts: Facts) -> (Next, bool) {
        let mut paid = false;
        let next = next(&facts, || {
            paid = true;
            true
        });
        (next, paid)
    }

    #[test]
    fn r7_nothing_that_was_not_sent_is_lost_and_it_costs_nothing() {
        for (idempotent, whole, took_one_down) in [(false, true, false), (true, false, true), (false, false, true)] {
            let refused = Facts {
                failure: Failure::NotConnected { here: false },
                idempotent,
                whole,
                took_one_down,
                ..BROKE
            };
            assert_eq!(decide(refused), (Next::Again, false));
            let often = Facts {
                attempts: CONNECTS,
                ..refused
            };
            assert_eq!(decide(often), (Next::Refuse(Reason::UpstreamUnreachable), false));
        }
    }

    #[test]
    fn r7_what_the_proxy_lacks_is_waited_for_and_no_fault_of_the_app() {
        let here = Failure::NotConnected { here: true };
        let pauses: Vec<Duration> = (1..CONNECTS).map(|attempts| pause(here, attempts)).collect();
        assert!(pauses[0] > Duration::ZERO, "{pauses:?}");
        assert!(pauses.windows(2).all(|two| two[1] == two[0] * 2), "{pauses:?}");
        assert!(pauses.iter().sum::<Duration>() < Duration::from_secs(1), "{pauses:?}");
        let last = Facts {
            failure: here,
            attempts: CONNECTS,
            ..BROKE
        };
        assert_eq!(decide(last), (Next::Refuse(Reason::QueueFull), false));
        assert_eq!(pause(Failure::NotConnected { here: false }, 3), Duration::ZERO);
        assert_eq!(pause(BROKE.failure, 1), Duration::ZERO);
    }

    #[test]
    fn f14_what_may_do_harm_twice_is_never_repeated_once_it_was_sent() {
        for ended in [Ended::ByItself, Ended::Stopped, Ended::Runs, Ended::Unknown] {
            for facts in [
                Facts {
                    idempotent: false,
                    ..BROKE
                },
                Facts { whole: false, ..BROKE },
                Facts {
                    attempts: ATTEMPTS,
                    ..BROKE
                },
            ] {
                assert_eq!(decide(Facts { ended, ..facts }), (CLOSED, false), "{facts:?}");
            }
        }
        let stopped = Facts {
            idempotent: false,
            was_stopped: true,
            ..BROKE
        };
        assert_eq!(decide(stopped), (Next::Refuse(Reason::DrainDeadline), false));
    }

    #[test]
    fn f14_one_whose_sandbox_was_stopped_or_runs_goes_elsewhere_and_costs_nothing() {
        for (ended, took_one_down) in [(Ended::Stopped, false), (Ended::Stopped, true), (Ended::Runs, false)] {
            let facts = Facts {
                ended,
                took_one_down,
                ..BROKE
            };
            assert_eq!(decide(facts), (Next::Again, false));
        }
        let second = Facts {
            attempts: 2,
            took_one_down: true,
            ..BROKE
        };
        assert_eq!(decide(second), (CLOSED, false), "one ended with it before");
    }

    #[test]
    fn f14_one_that_may_have_ended_its_sandbox_is_repeated_once_and_paid_for() {
        for ended in [Ended::ByItself, Ended::Unknown] {
            let crashed = Facts { ended, ..BROKE };
            assert_eq!(decide(crashed), (Next::AgainOnce, true));
            assert_eq!(next(&crashed, || false), CLOSED, "nothing is left to pay with");
            let second = Facts {
                attempts: 2,
                took_one_down: true,
                ..crashed
            };
            assert_eq!(decide(second), (CLOSED, false));
        }
    }

    #[test]
    fn at_the_deadline_of_a_retired_sandbox_no_request_is_sent_elsewhere_and_nobody_pays() {
        for (idempotent, was_stopped) in [(true, false), (false, false), (true, true)] {
            let drained = Facts {
                failure: Failure::Drained,
                idempotent,
                was_stopped,
                ..BROKE
            };
            assert_eq!(decide(drained), (Next::Refuse(Reason::DrainDeadline), false));
        }
    }

    #[test]
    fn after_a_part_of_an_answer_only_a_cut_says_that_the_rest_will_not_come() {
        for failure in [
            Failure::Broke { answered: true },
            Failure::Unreadable { answered: true },
            Failure::ClientSlow { answered: true },
            Failure::Overtime { answered: true },
            Failure::ClientGone,
        ] {
            assert_eq!(decide(Facts { failure, ..BROKE }), (Next::Cut, false), "{failure:?}");
        }
    }
}
