//! Decides how the node is drained when the daemon is told to stop, and that its supervisor leaves it the time for that.

use super::OnStop;
use crate::apps::CLOSING;
use crate::drain::FORCED;
use miren_api::settings::{Table, show_duration};
use miren_log::supervisor;
use miren_sandbox::Budgets;
use std::time::Duration;

/// What a sandbox that uses its budgets up gets on top of them before it is killed.
const SLACK: Duration = Duration::from_secs(5);

/// Whether the node is drained when the daemon is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStopDrain {
    Keep,
    /// As `miren node drain` does it; the next daemon takes work.
    Node,
}

/// Times of draining the node. Those of a retired sandbox are its service's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    pub on_stop: OnStopDrain,
    pub request_timeout: Duration,
    pub tunnel_timeout: Duration,
    pub stop_grace: Duration,
    /// After which what is left is forced to end; zero: never.
    pub node_timeout: Duration,
}

/// What becomes of sandboxes when the daemon is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// They run on.
    Keep,
    /// They are drained for as long as `limit`, zero for ever; what was let in before is waited for if that is `patient`, and otherwise
    /// left to the next daemon.
    Drain { limit: Duration, patient: bool },
}

impl Drain {
    /// What a sandbox gets at most, whatever its service says.
    pub fn at_most(&self) -> Budgets {
        Budgets {
            requests: self.request_timeout,
            tunnels: self.tunnel_timeout,
            grace: self.stop_grace,
        }
    }

    /// With `drain.on_stop = "node"` as `miren node drain` does it. With `on_stop = "remove"` nothing is waited for but sandboxes, and
    /// these no longer than their own budgets.
    pub fn ending(&self, on_stop: OnStop) -> Ending {
        let budgets = self.at_most().total() + SLACK;
        let (limit, patient) = match (self.on_stop, on_stop, self.node_timeout) {
            (OnStopDrain::Keep, OnStop::Keep, _) => return Ending::Keep,
            (OnStopDrain::Node, _, limit) => (limit, true),
            (OnStopDrain::Keep, OnStop::Remove, Duration::ZERO) => (budgets, false),
            (OnStopDrain::Keep, OnStop::Remove, limit) => (limit.min(budgets), false),
        };
        Ending::Drain { limit, patient }
    }
}

impl Ending {
    /// The phases that the end of the daemon has, each with the longest that it takes; none where one may last for ever.
    pub fn phases(self) -> Option<Vec<(&'static str, Duration)>> {
        match self {
            Self::Keep => Some(vec![("what is under way", CLOSING)]),
            Self::Drain { limit, .. } if limit.is_zero() => None,
            Self::Drain { limit, .. } => Some(vec![
                ("the drain", limit),
                ("what is forced", FORCED),
                ("what is under way", CLOSING),
            ]),
        }
    }

    /// All of them; none where one may last for ever.
    pub fn longest(self) -> Option<Duration> {
        Some(self.phases()?.iter().map(|(_, longest)| *longest).sum())
    }
}

pub(super) fn declare(table: &mut Table<'_, '_, '_>, on_stop: OnStop) -> Drain {
    let supervisor = table.duration(
        "supervisor_timeout",
        "2m",
        "Time after which the supervisor kills control that it told to stop (`TimeoutStopSec`); 0s is never. Settings under which a stop may \
         come closer to it than 5 s are refused.",
    );
    let drain = times(table);
    let refused = match drain.ending(on_stop).phases() {
        _ if supervisor.is_zero() => None,
        Some(phases) => supervisor::check_budgets(&phases, supervisor).err(),
        None => Some(format!(
            "a drain without drain.node_timeout may last for ever, but the supervisor kills after {}",
            show_duration(supervisor)
        )),
    };
    if let Some(why) = refused {
        let remedy = "raise it together with TimeoutStopSec of its unit (0s and infinity: never), or lower the others";
        table.refuse("supervisor_timeout", format!("is too short: {why}; {remedy}"));
    }
    drain
}

fn times(table: &mut Table<'_, '_, '_>) -> Drain {
    Drain {
        on_stop: table.choice(
            "on_stop",
            "keep",
            "On SIGTERM: `node` drains the node as `miren node drain` does, `keep` leaves that to `on_stop`.",
            &[("keep", OnStopDrain::Keep), ("node", OnStopDrain::Node)],
        ),
        request_timeout: table.duration(
            "request_timeout",
            "30s",
            "When the node drains: how long requests in flight may go on.",
        ),
        tunnel_timeout: table.duration(
            "tunnel_timeout",
            "30s",
            "When the node drains: how long WebSockets and other tunnels may go on.",
        ),
        stop_grace: table.duration(
            "stop_grace",
            "10s",
            "When the node drains: what a sandbox gets at most between SIGTERM and SIGKILL.",
        ),
        node_timeout: table.duration(
            "node_timeout",
            "0s",
            "When the node drains: the limit for all of it, after which whatever is left is forced to end; 0s waits for ever.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn refusal(text: &str) -> Option<String> {
        let parsed = Config::parse(Path::new("control.toml"), text);
        parsed.err().map(|problems| problems.to_string())
    }

    #[test]
    fn l4_an_end_has_its_own_time_and_waits_only_where_somebody_drains_the_node() {
        let ending = |text: &str| {
            let config = Config::parse(Path::new("control.toml"), text).map_err(|problems| problems.to_string());
            let config = config.unwrap();
            config.drain.ending(config.on_stop)
        };
        let drains = |seconds, patient| Ending::Drain {
            limit: Duration::from_secs(seconds),
            patient,
        };
        assert_eq!(ending(""), Ending::Keep);
        let node = "[drain]\non_stop = \"node\"\nsupervisor_timeout = \"0s\"\nnode_timeout";
        assert_eq!(ending(&format!("{node} = \"90s\"")), drains(90, true));
        assert_eq!(
            ending(&format!("{node} = \"0s\"")),
            drains(0, true),
            "it may last for ever"
        );
        // With on_stop = "remove" no longer than sandboxes have, and a moment more.
        let budgets = "request_timeout = \"1s\"\ntunnel_timeout = \"2s\"\nstop_grace = \"4s\"";
        let remove = |limit: &str| {
            ending(&format!(
                "on_stop = \"remove\"\n[drain]\n{budgets}\nnode_timeout = \"{limit}\""
            ))
        };
        let own = Budgets {
            requests: Duration::from_secs(1),
            tunnels: Duration::from_secs(2),
            grace: Duration::from_secs(4),
        };
        let own = own.total().as_secs();
        assert_eq!(remove("0s"), drains(own + 5, false));
        assert_eq!(remove("60s"), drains(own + 5, false));
        assert_eq!(remove("3s"), drains(3, false), "what is left is forced then");
    }

    #[test]
    fn l7_an_end_fits_into_the_patience_of_the_supervisor_or_is_refused() {
        for fits in [
            "",
            "on_stop = \"remove\"",
            "[drain]\non_stop = \"node\"\nnode_timeout = \"75s\"",
            "[drain]\non_stop = \"node\"\nsupervisor_timeout = \"0s\"",
            "[drain]\nsupervisor_timeout = \"15s\"",
        ] {
            assert_eq!(refusal(fits), None, "{fits}");
        }
        for (cut, why) in [
            ("[drain]\non_stop = \"node\"", "for ever"),
            ("[drain]\non_stop = \"node\"\nnode_timeout = \"76s\"", "the drain 76s"),
            (
                "on_stop = \"remove\"\n[drain]\nrequest_timeout = \"3m\"",
                "what is forced 30s",
            ),
            ("[drain]\nsupervisor_timeout = \"14s\"", "what is under way 10s"),
        ] {
            let refused = refusal(cut).unwrap_or_default();
            let all = ["drain.supervisor_timeout", "TimeoutStopSec", why];
            assert!(all.iter().all(|part| refused.contains(part)), "{cut}: {refused}");
        }
    }
}
