//! Decides which runs may begin, which of them end, and which that have ended are forgotten.

use crate::clock::{later, since};
use crate::record::RunRecord;
use jiff::Timestamp;
use miren_api::id::SandboxId;
use miren_api::{ApiError, ErrorCode};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Runs of one app at a time, besides those of its deploys.
pub const PER_APP: usize = 10;
/// Runs of the node at a time, besides those of deploys.
pub const PER_NODE: usize = 50;
/// What a run gets that nobody set a time for: with its client, and without one.
pub const TIMES: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));
/// How long what became of one is kept, and of how many of an app.
const KEPT: (Duration, usize) = (Duration::from_secs(7 * 24 * 3600), 50);

/// What shall become of an app's runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be ended, and why.
    pub end: Vec<(SandboxId, String)>,
    /// Whose records go.
    pub forget: Vec<SandboxId>,
    /// When to plan again although nothing has happened.
    pub wake: Option<Timestamp>,
}

/// Plans the runs of an app; `deleting`: it goes.
pub fn plan<'r>(runs: impl Iterator<Item = &'r RunRecord> + Clone, deleting: bool, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut wakes = Vec::new();
    for run in runs.clone().filter(|run| !run.is_over()) {
        match &run.unwanted {
            Some(why) => plan.end.push((run.id.clone(), why.clone())),
            None if deleting => plan.end.push((run.id.clone(), "the app was deleted".to_owned())),
            None if run.until <= now => plan.end.push((run.id.clone(), too_long(run))),
            None => wakes.push(run.until),
        }
    }
    let mut ended: Vec<(Timestamp, &SandboxId)> = runs
        .filter_map(|run| Some((run.outcome.as_ref()?.at, &run.id)))
        .collect();
    ended.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let (age, most) = KEPT;
    for (place, (at, id)) in ended.into_iter().enumerate() {
        match place >= most || since(now, at) >= age {
            true => plan.forget.push(id.clone()),
            false => wakes.push(later(at, age)),
        }
    }
    plan.wake = wakes.into_iter().min();
    plan
}

fn too_long(run: &RunRecord) -> String {
    let given = since(run.until, run.created_at);
    format!("it took longer than the {given:?} that it was given")
}

/// Refuses one more run of an app that has so many.
pub fn check_room(living: usize) -> Result<(), ApiError> {
    if living < PER_APP {
        return Ok(());
    }
    let error = ApiError::new(
        ErrorCode::AtCapacity,
        format!("{PER_APP} runs of the app are under way already"),
    );
    Err(error.remedy("end one of them, or wait: `miren app runs` lists them, `miren sandbox stop ID` ends one"))
}

/// As people read a command, and as a shell would have to be given it.
pub fn quoted(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let word = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}
