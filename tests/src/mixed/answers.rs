//! Which release answered when: no request may get an older one than was promised, or seen, before it was sent.

use std::time::Instant;

use miren_bench::load::Seen;
use serde_json::Value;

/// One answer of the sample app to `GET /info`.
#[derive(Clone, Debug)]
pub struct Answer {
    pub sent: Instant,
    pub received: Instant,
    pub release: String,
    pub version: String,
    pub sandbox: String,
}

/// From a time on, the release of this rank is the oldest that may answer.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub from: Instant,
    pub rank: u64,
}

impl Answer {
    pub(super) fn read(seen: &Seen<'_>) -> Result<Self, String> {
        let text = String::from_utf8_lossy(seen.body);
        if seen.status != 200 {
            return Err(format!("status {} with {text:?}", seen.status));
        }
        let value: Value = serde_json::from_slice(seen.body).unwrap_or_default();
        let field = |name: &str| match value[name].as_str() {
            Some(field) => Ok(field.to_owned()),
            None => Err(format!("the answer has no {name}: {text:?}")),
        };
        Ok(Self {
            sent: seen.sent,
            received: seen.received,
            release: field("release")?,
            version: field("version")?,
            sandbox: field("sandbox")?,
        })
    }
}

/// One line for each answer that is of no known release, or of one below a floor that held when it was asked for. Every
/// answer is a floor itself: what has been seen once may not be undone.
pub(super) fn too_old(answers: &[Answer], promised: &[Floor], rank: impl Fn(&str) -> Option<u64>) -> Vec<String> {
    let seen = answers.iter().filter_map(|answer| {
        Some(Floor {
            from: answer.received,
            rank: rank(&answer.release)?,
        })
    });
    let mut floors: Vec<Floor> = promised.iter().copied().chain(seen).collect();
    floors.sort_by_key(|floor| floor.from);
    let mut highest = 0;
    for floor in &mut floors {
        highest = highest.max(floor.rank);
        floor.rank = highest;
    }
    let judge = |answer: &Answer| {
        let Some(rank) = rank(&answer.release) else {
            return Some(format!("{:?} is of no known release", answer));
        };
        let before = floors.partition_point(|floor| floor.from < answer.sent);
        let floor = floors[..before].last()?;
        (rank < floor.rank).then(|| {
            let late = answer.sent - floor.from;
            format!(
                "rank {rank} for a request sent {late:?} after rank {}: {answer:?}",
                floor.rank
            )
        })
    };
    answers.iter().filter_map(judge).collect()
}
