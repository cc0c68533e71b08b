//! What an exercise amounted to: what was lost, by how, how long it took, and what those noticed who lost nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::crowd::{Left, Pace, StreamCounts};
use crate::load::{Cause, Report as LoadReport};

#[cfg(test)]
mod tests;

/// Failures told one by one.
const FAILURES_TOLD: usize = 10;

/// Moments of an exercise, by name.
pub type Times = Vec<(&'static str, Duration)>;

/// One time that it was done.
pub(super) struct Round {
    pub left: Left,
    /// Before its begin, and from then on.
    pub before: Pace,
    pub during: Pace,
    pub times: Times,
}

/// Requests of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub requests: u64,
    pub failed: u64,
    /// Failed ones by what became of them.
    pub causes: BTreeMap<Cause, u64>,
}

impl Counts {
    fn add(&mut self, load: &LoadReport) {
        self.requests += load.requests;
        self.failed += load.failed;
        for (cause, count) in &load.causes {
            *self.causes.entry(*cause).or_default() += count;
        }
    }

    /// As `3 cut, 1 refused`.
    fn causes_in_words(&self) -> String {
        let causes = self.causes.iter();
        let words: Vec<String> = causes
            .map(|(cause, count)| format!("{count} {}", cause.words()))
            .collect();
        words.join(", ")
    }
}

/// In milliseconds; of all rounds, the middle one of `p99_ms` and the longest of `gap_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PaceReport {
    /// 99 of 100 short requests were answered so long after they were meant to leave.
    pub p99_ms: f64,
    /// The longest time without an answer to a short request.
    pub gap_ms: f64,
}

impl PaceReport {
    fn of(paces: impl Iterator<Item = Pace> + Clone) -> Self {
        let gaps = paces.clone().map(|pace| ms(pace.gap));
        Self {
            p99_ms: middle(paces.map(|pace| ms(pace.p99)).collect()),
            gap_ms: gaps.fold(0.0, f64::max),
        }
    }
}

/// Somebody, and one thing that was done; all rounds of it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub who: String,
    pub what: &'static str,
    /// Short requests.
    pub short: Counts,
    /// Requests that take two seconds.
    pub long: Counts,
    pub streams: StreamCounts,
    /// When what had happened, in milliseconds: the middle of all rounds in which it had.
    pub times_ms: BTreeMap<&'static str, f64>,
    pub before: PaceReport,
    pub during: PaceReport,
    /// The first ten, of all kinds.
    pub failures: Vec<String>,
}

impl Row {
    pub(super) fn sum_up(who: String, what: &'static str, rounds: Vec<Round>) -> Self {
        let (mut short, mut long, mut streams) = (Counts::default(), Counts::default(), StreamCounts::default());
        let mut times: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        let mut failures = Vec::new();
        let before = PaceReport::of(rounds.iter().map(|round| round.before));
        let during = PaceReport::of(rounds.iter().map(|round| round.during));
        for round in rounds {
            let left = round.left;
            left.short.iter().for_each(|load| short.add(load));
            left.long.iter().for_each(|load| long.add(load));
            let told = |kind: &str, load: &LoadReport| -> Vec<String> {
                let failures = load.failures.iter();
                failures.map(|failure| format!("{kind}, {failure}")).collect()
            };
            let ([kept, fresh], [get, post]) = (&left.short, &left.long);
            failures.extend(told("kept connection", kept));
            failures.extend(told("new connection", fresh));
            failures.extend(told("long GET", get));
            failures.extend(told("long POST", post));
            failures.extend(left.streams.cuts.iter().cloned());
            streams.add(left.streams);
            for (name, time) in round.times {
                times.entry(name).or_default().push(ms(time));
            }
        }
        failures.truncate(FAILURES_TOLD);
        Self {
            who,
            what,
            short,
            long,
            streams,
            times_ms: times.into_iter().map(|(name, times)| (name, middle(times))).collect(),
            before,
            during,
            failures,
        }
    }

    /// Requests that failed and streams that were cut.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.short.failed + self.long.failed + self.streams.cut
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub rounds: u32,
    pub rate: f64,
    /// Ours first.
    pub rows: Vec<Row>,
    /// Who did not take part, and why.
    pub left_out: Vec<String>,
    /// Names of moments, in the order in which they come.
    #[serde(skip)]
    pub moments: [&'static str; 2],
    /// What the moments mean, for each.
    #[serde(skip)]
    pub notes: &'static str,
}

impl Report {
    /// What was lost by this build; others lose what they lose.
    #[must_use]
    pub fn lost_by_ours(&self) -> u64 {
        let ours = self.rows.iter().filter(|row| row.who == super::OURS);
        ours.map(Row::lost).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let moments = self
            .moments
            .map(|name| format!("{} MS", name.to_uppercase().replace('_', " ")));
        let [first, second] = moments.each_ref().map(String::as_str);
        table.set_header([
            "WHO", "WHAT", "REQUESTS", "FAILED", "LONG", "FAILED", "STREAMS", "TOLD", "CUT", first, second, "P99 MS",
            "DURING", "GAP MS", "DURING",
        ]);
        for row in &self.rows {
            table.add_row(cells(row, self.moments));
        }
        write!(out, "{table}")?;
        for row in &self.rows {
            let (who, what) = (&row.who, row.what);
            for (kind, counts) in [("short", &row.short), ("long", &row.long)] {
                if counts.failed > 0 {
                    write!(out, "\n{who}, {what}: of {kind} requests {}", counts.causes_in_words())?;
                }
            }
        }
        for reason in &self.left_out {
            write!(out, "\nleft out: {reason}")?;
        }
        write!(
            out,
            "\n{} rounds each, one after the other, under {:.0} short requests/s; long: GETs and POSTs, two seconds each, eight at a time\n{}",
            self.rounds, self.rate, self.notes
        )
    }
}

fn cells(row: &Row, moments: [&'static str; 2]) -> Vec<String> {
    let time = |name: &str| row.times_ms.get(name).map_or("-".to_owned(), |ms| format!("{ms:.0}"));
    let [first, second] = moments.map(time);
    let number = |number: u64| number.to_string();
    vec![
        row.who.clone(),
        row.what.to_owned(),
        number(row.short.requests),
        number(row.short.failed),
        number(row.long.requests),
        number(row.long.failed),
        number(row.streams.opened),
        number(row.streams.told),
        number(row.streams.cut),
        first,
        second,
        format!("{:.1}", row.before.p99_ms),
        format!("{:.1}", row.during.p99_ms),
        format!("{:.0}", row.before.gap_ms),
        format!("{:.0}", row.during.gap_ms),
    ]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The middle one; 0 of none.
fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}
