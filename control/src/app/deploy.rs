//! Decides what a deploy does next, from what is seen of its app: the machine from ACCEPTED to its end.

use crate::clock::later;
use crate::record::DeployRecord;
use jiff::Timestamp;
use miren_api::deploy::DeployStatus;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Shortest time a deploy gives its sandboxes to become RUNNING.
pub const DEPLOY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time from asking for a sandbox to its process, on top of the service's `port_timeout`.
pub const START_BUDGET: Duration = Duration::from_secs(15);

/// What is seen of one deploy's app.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Number of the deploy whose version serves; 0 before the first.
    pub installed: u64,
    pub pools: Vec<PoolSeen>,
    /// Every live proxy serves this deploy's snapshot.
    pub acknowledged: bool,
    /// Sandboxes that only older versions wanted and that are still PENDING or RUNNING.
    pub old_serving: usize,
    /// Longest `port_timeout` of its services.
    pub port_timeout: Duration,
    pub images: ImagesSeen,
    pub release: ReleaseSeen,
    /// What sandboxes may take that have to end before those of the deploy can have their disks.
    pub handover: Duration,
}

/// Where the images are that the deploy needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImagesSeen {
    /// Here; or it needs none.
    #[default]
    Here,
    /// Nobody has asked for them since control started.
    Elsewhere,
    OnTheWay,
    /// Because of the node, since this moment. It may pass, and is to be tried again at the other one.
    Faulty {
        told: String,
        since: Timestamp,
        retry_at: Timestamp,
    },
    Unavailable(String),
}

/// What is seen of the command that has to succeed before anything of the version is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReleaseSeen {
    /// There is none.
    #[default]
    None,
    Due,
    /// Another deploy's runs: two of an app never do at once.
    Waits,
    Runs,
    Succeeded,
    Failed(String),
}

/// What is to be done about the images of a deploy or a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Images {
    Here,
    Fetch,
    Wait(Option<Timestamp>),
    Failed(String),
}

/// Judges images whose faults of the node may take as long as `patience`.
pub fn images(seen: &ImagesSeen, patience: Duration, now: Timestamp) -> Images {
    match seen {
        ImagesSeen::Here => Images::Here,
        ImagesSeen::Elsewhere => Images::Fetch,
        // Its own limit ends it.
        ImagesSeen::OnTheWay => Images::Wait(None),
        ImagesSeen::Faulty { told, since, retry_at } => {
            let until = later(*since, patience);
            match now {
                now if now >= until => Images::Failed(format!(
                    "image: the node cannot get it after {patience:?} ({told}); nothing has changed for requests"
                )),
                now if now >= *retry_at => Images::Fetch,
                _ => Images::Wait(Some(until.min(*retry_at))),
            }
        }
        ImagesSeen::Unavailable(why) => Images::Failed(format!("image: {why}")),
    }
}

/// One pool the deploy needs.
#[derive(Clone, Debug, Default)]
pub struct PoolSeen {
    pub service: String,
    pub ready: u32,
    pub wanted: u32,
    /// Why a sandbox of it failed to boot since the deploy asked for it.
    pub failure: Option<String>,
    /// Why the node cannot start its sandboxes. It may pass.
    pub node_fault: Option<String>,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before something is seen to change, or this moment.
    Wait(Option<Timestamp>),
    /// Get its images.
    Fetch,
    /// Run its release command.
    Release,
    /// Make the version and its pools.
    Stage,
    /// Let traffic go to it, if no newer one has it.
    Switch,
    /// Take the older versions' claims on their pools away.
    Retire,
    Finish(DeployStatus, Option<String>),
}

/// Plans one deploy.
pub fn next(record: &DeployRecord, seen: &Seen, now: Timestamp) -> Step {
    let seq = record.deploy.seq;
    let overtaken = seen.installed > seq && record.generation.is_none();
    if overtaken && !record.deploy.status.is_final() {
        let message = format!("deploy {} of the same app was installed first", seen.installed);
        return Step::Finish(DeployStatus::Superseded, Some(message));
    }
    match record.deploy.status {
        DeployStatus::Accepted | DeployStatus::Staging => {
            match images(&seen.images, patience(seen.port_timeout), now) {
                Images::Here => releasing(&seen.release),
                Images::Fetch => Step::Fetch,
                Images::Wait(until) => Step::Wait(until),
                Images::Failed(why) => Step::Finish(DeployStatus::Failed, Some(why)),
            }
        }
        DeployStatus::Starting => starting(record, seen, now),
        DeployStatus::Switching if record.generation.is_none() => Step::Switch,
        // A newer deploy's switch may have come since: then its own is long over.
        DeployStatus::Switching if seen.acknowledged || seen.installed > seq => Step::Retire,
        DeployStatus::Switching => Step::Wait(None),
        DeployStatus::DrainingOld if seen.old_serving == 0 => Step::Finish(DeployStatus::Succeeded, None),
        DeployStatus::DrainingOld => Step::Wait(None),
        DeployStatus::Succeeded | DeployStatus::Failed | DeployStatus::Superseded | DeployStatus::RolledBack => {
            Step::Wait(None)
        }
    }
}

fn releasing(seen: &ReleaseSeen) -> Step {
    match seen {
        ReleaseSeen::None | ReleaseSeen::Succeeded => Step::Stage,
        ReleaseSeen::Due => Step::Release,
        // Its own limit ends it.
        ReleaseSeen::Waits | ReleaseSeen::Runs => Step::Wait(None),
        ReleaseSeen::Failed(why) => {
            let why = format!("the release command failed: {why}; nothing has changed for requests");
            Step::Finish(DeployStatus::Failed, Some(why))
        }
    }
}

fn starting(record: &DeployRecord, seen: &Seen, now: Timestamp) -> Step {
    let timeout = patience(seen.port_timeout) + seen.handover;
    match readiness(&seen.pools, record.starting_at.unwrap_or(now), timeout, now) {
        Readiness::Ready => Step::Switch,
        Readiness::Wait(until) => Step::Wait(Some(until)),
        Readiness::Failed(why) => Step::Finish(DeployStatus::Failed, Some(why)),
    }
}

/// How long sandboxes get to become RUNNING whose port may take `port_timeout`.
pub fn patience(port_timeout: Duration) -> Duration {
    DEPLOY_TIMEOUT.max(port_timeout + START_BUDGET)
}

/// Whether every pool has the sandboxes it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Not before something is seen to change, or this moment.
    Wait(Timestamp),
    Failed(String),
}

/// Judges pools whose sandboxes were asked for at `since`.
pub fn readiness(pools: &[PoolSeen], since: Timestamp, timeout: Duration, now: Timestamp) -> Readiness {
    if let Some((service, why)) = pools
        .iter()
        .find_map(|pool| Some((&pool.service, pool.failure.as_ref()?)))
    {
        return Readiness::Failed(format!("service {service:?} did not start: {why}"));
    }
    let mut short = pools.iter().filter(|pool| pool.ready < pool.wanted);
    let by_node = short.clone().find(|pool| pool.node_fault.is_some());
    let Some(behind) = by_node.or_else(|| short.next()) else {
        return Readiness::Ready;
    };
    let until = later(since, timeout);
    if now < until {
        return Readiness::Wait(until);
    }
    let why = format!(
        "service {:?} has {} of {} sandboxes RUNNING after {timeout:?}",
        behind.service, behind.ready, behind.wanted
    );
    Readiness::Failed(match &behind.node_fault {
        Some(fault) => format!("{why}: the node cannot start them ({fault}); nothing has changed for requests"),
        None => why,
    })
}

/// Whether a deploy may go from one status to the other.
pub fn may_become(from: DeployStatus, to: DeployStatus) -> bool {
    use DeployStatus::{Accepted, DrainingOld, Failed, Staging, Starting, Succeeded, Superseded, Switching};
    matches!(
        (from, to),
        (Accepted, Staging)
            | (Staging, Starting)
            | (Starting, Switching)
            | (Switching, DrainingOld)
            | (DrainingOld, Succeeded)
            | (Accepted | Staging | Starting | Switching, Superseded)
            | (Accepted | Staging | Starting | Switching | DrainingOld, Failed)
    )
}
