//! Decides what becomes of a preview: how one that is being made goes on, which ones have to go for it, and when one is over.

use crate::app::deploy::{Images, ImagesSeen, PoolSeen, Readiness, images, readiness};
use crate::clock::since;
use jiff::Timestamp;
use miren_api::id::{AppName, Label, VersionId};
use miren_api::routing::EphemeralRoute;
use miren_api::{ApiError, ErrorCode};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How long a label whose time is over stays, so that who comes late is told when that was.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// How far a preview is that is being made. None of this is kept: a control that starts finds a version without its label, and
/// removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Accepted,
    /// Its version exists. Requests that come for the label now have sandboxes: it needs its own before it takes over.
    Starting {
        since: Timestamp,
    },
    /// The label is its own; not every proxy has said so.
    Announced,
}

/// What is seen of a preview that is being made.
#[derive(Clone, Debug)]
pub struct Seen {
    pub images: ImagesSeen,
    /// Pools that have to be ready before it takes over.
    pub pools: Vec<PoolSeen>,
    /// How long they may take.
    pub patience: Duration,
    /// Every live proxy serves it.
    pub acknowledged: bool,
}

/// The next thing to do for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before something is seen to change, or this moment.
    Wait(Option<Timestamp>),
    /// Get its images.
    Fetch,
    /// Make the version.
    Stage,
    /// Let it have the label.
    Publish,
    Done,
    Fail(String),
}

/// Plans one that is being made.
pub fn next(stage: &Stage, seen: &Seen, now: Timestamp) -> Step {
    match stage {
        Stage::Accepted => match images(&seen.images, seen.patience, now) {
            Images::Here => Step::Stage,
            Images::Fetch => Step::Fetch,
            Images::Wait(until) => Step::Wait(until),
            Images::Failed(why) => Step::Fail(why),
        },
        Stage::Starting { since } => match readiness(&seen.pools, *since, seen.patience, now) {
            Readiness::Ready => Step::Publish,
            Readiness::Wait(until) => Step::Wait(Some(until)),
            Readiness::Failed(why) => Step::Fail(why),
        },
        Stage::Announced if seen.acknowledged => Step::Done,
        Stage::Announced => Step::Wait(None),
    }
}

/// Which labels go so that `label` can come and there are at most `most`: those that expire first. Expired ones do not count.
pub fn evicted<'l>(
    label: &str,
    labels: impl Iterator<Item = &'l EphemeralRoute>,
    most: usize,
    now: Timestamp,
) -> Vec<String> {
    let others = labels.filter(|other| other.label != label && now < other.expires_at);
    let mut others: Vec<&EphemeralRoute> = others.collect();
    others.sort_by(|a, b| (a.expires_at, &a.label).cmp(&(b.expires_at, &b.label)));
    let surplus = (others.len() + 1).saturating_sub(most.max(1));
    others[..surplus].iter().map(|other| other.label.clone()).collect()
}

/// Labels that nobody has to be told of any more: those whose time was over so long ago, or that are more than `most`.
pub fn forgotten<'l>(
    labels: impl Iterator<Item = &'l EphemeralRoute>,
    most: usize,
    now: Timestamp,
) -> Vec<&'l EphemeralRoute> {
    let mut over: Vec<_> = labels.filter(|label| label.expires_at <= now).collect();
    over.sort_by_key(|label| std::cmp::Reverse(label.expires_at));
    let old = |(age, label): &(usize, &EphemeralRoute)| *age >= most || since(now, label.expires_at) >= REMEMBERED;
    over.into_iter()
        .enumerate()
        .filter(old)
        .map(|(_, label)| label)
        .collect()
}

/// What is seen of a version that was made to be reached under a label, and is not being made any more.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'v> {
    pub version: &'v VersionId,
    /// What has its label now.
    pub label: Option<&'v EphemeralRoute>,
    /// Whether every proxy knows that no label leads to it; none: nobody has asked them.
    pub unrouted: Option<bool>,
    /// It has a claim on a pool.
    pub refers: bool,
    /// A pool that only it had is not gone yet.
    pub clearing: bool,
}

/// What is to be done about it. Each step can be done again, and each can be the last one for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// It lives until then.
    Keep(Timestamp),
    /// Ask the proxies whether they know.
    Withdraw,
    /// Something is under way that tells when it is over.
    Wait,
    /// Take its claims off its pools. One that nobody else has goes; one that is shared goes on.
    Release,
    /// Nothing is left of it but its record.
    Forget,
}

/// Plans one that is there. One whose time is over goes as one without a label does: the proxies know the time themselves.
pub fn upkeep(seen: Standing<'_>, now: Timestamp) -> Upkeep {
    let own = seen.label.filter(|label| label.version == *seen.version);
    if let Some(label) = own.filter(|label| now < label.expires_at) {
        return Upkeep::Keep(label.expires_at);
    }
    match (seen.unrouted, seen.refers, seen.clearing) {
        (None, ..) => Upkeep::Withdraw,
        (Some(false), ..) => Upkeep::Wait,
        (Some(true), true, _) => Upkeep::Release,
        (Some(true), false, true) => Upkeep::Wait,
        (Some(true), false, false) => Upkeep::Forget,
    }
}

/// What is said where no live label is found.
pub fn no_such_preview(app: &AppName, label: &Label) -> ApiError {
    let message = format!("app {app} has no preview {label}, or its time is over");
    ApiError::new(ErrorCode::NotFound, message).remedy(format!("miren ephemeral list -a {app}"))
}
