//! Decides what it costs clients that the ingress is replaced: ours by handing over, beside nginx (reload and new program) and HAProxy
//! (reload, which reads the program anew).

use std::path::Path;

use crate::exercise::{Comparison, Exercises, Options, Report};
use crate::peer::Peer;
use ours::Handover;

mod ours;
mod theirs;

/// The new one serves, and the old one takes nothing new; and, from when all clients have left, the old one is gone.
const MOMENTS: [&str; 2] = ["serves", "old_gone"];
const NOTES: &str = "serves: from the command until the new process serves (miren: its command has returned; nginx: no older worker accepts; \
                     HAProxy: its master lists a new worker)\n\
                     old gone: from when the last client has left until no older process is there";

/// Replaces the ingress under load, ours and theirs in turns.
///
/// # Errors
/// When a program of this build is missing, a node does not start, or an ingress is not replaced.
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
    Ok(vec![Box::new(Handover::start(&folder.join("ours"))?)])
}

fn of(peer: Peer, folder: &Path) -> anyhow::Result<Exercises> {
    Ok(match peer {
        Peer::Nginx => vec![
            Box::new(theirs::nginx_reload(&folder.join("reload"))?),
            Box::new(theirs::nginx_new_program(&folder.join("program"))?),
        ],
        Peer::Haproxy => vec![Box::new(theirs::haproxy_reload(folder)?)],
    })
}
