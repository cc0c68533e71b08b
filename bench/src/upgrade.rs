//! Decides what it costs clients that the ingress is replaced: ours by handing over, beside nginx (reload and new program) and HAProxy
//! (reload, which reads the program anew).

use std::path::Path;

use crate::exercise::{self, Exercise, Options, Report};
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
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut exercises: Vec<Box<dyn Exercise>> = vec![Box::new(Handover::start(&folder.join("ours"))?)];
    let mut left_out = Vec::new();
    for peer in &options.against {
        match peer.program() {
            Ok(_) => exercises.extend(of(*peer, &folder.join(peer.to_string()))?),
            Err(reason) => left_out.push(reason.to_string()),
        }
    }
    Ok(Report {
        rounds: options.rounds,
        rate: options.rate,
        rows: exercise::run(exercises, options)?,
        left_out,
        moments: MOMENTS,
        notes: NOTES,
    })
}

fn of(peer: Peer, folder: &Path) -> anyhow::Result<Vec<Box<dyn Exercise>>> {
    Ok(match peer {
        Peer::Nginx => vec![
            Box::new(theirs::nginx_reload(&folder.join("reload"))?),
            Box::new(theirs::nginx_new_program(&folder.join("program"))?),
        ],
        Peer::Haproxy => vec![Box::new(theirs::haproxy_reload(folder)?)],
    })
}
