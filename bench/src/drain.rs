//! Decides what it costs clients that a copy of the app is taken away: a sandbox stopped and a deploy with us, beside a server taken out of
//! nginx and HAProxy, and stopped.

use std::path::Path;
use std::time::Duration;

use crate::exercise::{Comparison, Exercises, Options, Report};
use crate::peer::Peer;
use ours::{Deploy, Stop};
use theirs::{Haproxied, Nginxed};

mod ours;
mod theirs;

/// What WebSockets have before the app is stopped nevertheless; a long request takes less.
const BUDGET: Duration = Duration::from_secs(3);

/// Nothing is waited for any more; and what was taken away has ended.
const MOMENTS: [&str; 2] = ["idle", "stopped"];
const NOTES: &str = "idle: from the command until nothing at the old copies is waited for any more, by the ingress's own word; WebSockets stay, \
                     and have 3 s (miren: STOPPING; nginx: older workers are gone; HAProxy: no session, or older workers are gone); -: it never was\n\
                     stopped: from the command until the old copies have ended, which is seen up to 100 ms late with miren";

/// Takes copies of the app away under load, ours and theirs in turns.
///
/// # Errors
/// When a program of this build is missing, a node does not start, or a copy cannot be taken away.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let comparison = Comparison {
        ours,
        theirs: of,
        moments: MOMENTS,
        notes: NOTES,
    };
    comparison.run(options)
}

fn ours(folder: &Path) -> anyhow::Result<Exercises> {
    Ok(vec![
        Box::new(Stop::start(&folder.join("stop"))?),
        Box::new(Deploy::start(&folder.join("deploy"))?),
    ])
}

fn of(peer: Peer, folder: &Path) -> anyhow::Result<Exercises> {
    Ok(match peer {
        Peer::Nginx => vec![
            Box::new(Nginxed::start(&folder.join("at-once"), false)?),
            Box::new(Nginxed::start(&folder.join("patient"), true)?),
        ],
        Peer::Haproxy => vec![
            Box::new(Haproxied::start(&folder.join("state"), false)?),
            Box::new(Haproxied::start(&folder.join("reload"), true)?),
        ],
    })
}
