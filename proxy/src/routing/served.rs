//! What is served, by name: two snapshots of one history with one number are the same, and any others may differ.

use miren_api::routing::{RoutingDelta, RoutingSnapshot};
use smol_str::SmolStr;
use std::fmt;

/// A generation of one history; generation 0 of none before the first snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Empty from a control of an earlier release.
    pub lineage: SmolStr,
    pub generation: u64,
}

/// What is to be done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is served already.
    Same,
    Take,
    /// It was told before what is served, and comes after it.
    Late,
}

impl Served {
    pub fn of(snapshot: &RoutingSnapshot) -> Self {
        Self {
            lineage: SmolStr::new(&snapshot.lineage),
            generation: snapshot.generation,
        }
    }

    /// Where `delta` begins.
    pub fn before(delta: &RoutingDelta) -> Self {
        Self {
            lineage: SmolStr::new(&delta.from_lineage),
            generation: delta.from,
        }
    }

    /// Where `delta` leads to.
    pub fn after(delta: &RoutingDelta) -> Self {
        Self {
            lineage: SmolStr::new(&delta.lineage),
            generation: delta.generation,
        }
    }

    /// Whether `told` takes the place of this one. A stream begins with what control routes by now: that is taken whatever its
    /// number, because control may have been put back to an earlier state. So is another history at any time.
    pub(super) fn judge(&self, told: &Self, begins: bool) -> Verdict {
        let is_same_history = self.lineage == told.lineage;
        match told.generation.cmp(&self.generation) {
            // Without a lineage the same number may mean anything, if control is another one.
            std::cmp::Ordering::Equal if is_same_history && !(begins && told.lineage.is_empty()) => Verdict::Same,
            std::cmp::Ordering::Less if is_same_history && !begins => Verdict::Late,
            _ => Verdict::Take,
        }
    }

    /// Whether `told` cannot have come of this one by changes.
    pub(super) fn is_put_back_by(&self, told: &Self) -> bool {
        told.generation < self.generation || (told.generation == self.generation && told.lineage != self.lineage)
    }
}

impl fmt::Display for Served {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lineage.get(..8) {
            Some(lineage) => write!(out, "{} of {lineage}", self.generation),
            None => write!(out, "{}", self.generation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f10_the_first_snapshot_of_a_stream_is_taken_whatever_its_number_unless_it_is_the_same() {
        let served = |lineage: &str, generation| Served {
            lineage: lineage.into(),
            generation,
        };
        let at = served("a", 8);
        for (told, begins, verdict) in [
            (served("a", 9), true, Verdict::Take),
            (served("a", 8), true, Verdict::Same),
            (served("a", 7), true, Verdict::Take),
            (served("b", 9), true, Verdict::Take),
            (served("b", 8), true, Verdict::Take),
            (served("b", 7), true, Verdict::Take),
            (served("a", 9), false, Verdict::Take),
            (served("a", 8), false, Verdict::Same),
            (served("a", 7), false, Verdict::Late),
            (served("b", 7), false, Verdict::Take),
            (served("b", 8), false, Verdict::Take),
        ] {
            assert_eq!(at.judge(&told, begins), verdict, "{told}, begins: {begins}");
        }
        let unnamed = served("", 8);
        assert_eq!(
            unnamed.judge(&unnamed, true),
            Verdict::Take,
            "control may be another one"
        );
        assert_eq!(unnamed.judge(&unnamed, false), Verdict::Same);
    }
}
