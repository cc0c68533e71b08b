//! Decides what a request costs: processor time of the ingress, for requests of several shapes, beside others in the same run.
//!
//! Everyone is measured in every round, one after the other, and compared within it: a machine that is slower for a while
//! is so for all of them.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::load::Load;
use shape::Shape;
use target::Target;

mod peer;
mod shape;
mod target;

pub use peer::Peer;

/// Of each load, before its measurement: connections are made, caches filled.
const WARM_UP: Duration = Duration::from_millis(300);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    pub rounds: u32,
    /// Requests a second.
    pub rate: f64,
    /// Of each load.
    pub duration: Duration,
    /// Who else is measured.
    pub against: Vec<Peer>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub rounds: u32,
    pub rate: f64,
    pub shapes: Vec<ShapeReport>,
}

/// One shape of requests.
#[derive(Clone, Debug, Serialize)]
pub struct ShapeReport {
    pub shape: &'static str,
    /// Processor time of this build's ingress per request, in microseconds: the middle of all rounds.
    pub cpu_us: f64,
    pub failed: u64,
    pub peers: Vec<PeerReport>,
}

/// Somebody else on the same requests.
#[derive(Clone, Debug, Serialize)]
pub struct PeerReport {
    pub name: String,
    pub cpu_us: f64,
    /// This build's time by theirs: the middle of the ratios of each round.
    pub ratio: f64,
    pub failed: u64,
}

impl Report {
    /// Requests that failed, of anybody.
    #[must_use]
    pub fn failed(&self) -> u64 {
        let of_peers = |shape: &ShapeReport| shape.peers.iter().map(|peer| peer.failed).sum::<u64>();
        self.shapes.iter().map(|shape| shape.failed + of_peers(shape)).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let mut header = vec!["SHAPE".to_owned(), "US/REQUEST".to_owned(), "FAILED".to_owned()];
        for peer in self.shapes.first().iter().flat_map(|shape| &shape.peers) {
            let name = peer.name.to_uppercase();
            header.extend([name, "RATIO".to_owned(), "FAILED".to_owned()]);
        }
        table.set_header(header);
        for shape in &self.shapes {
            let us = |us: f64| format!("{us:.1}");
            let mut row = vec![shape.shape.to_owned(), us(shape.cpu_us), shape.failed.to_string()];
            for peer in &shape.peers {
                row.extend([us(peer.cpu_us), format!("{:.2}", peer.ratio), peer.failed.to_string()]);
            }
            table.add_row(row);
        }
        write!(
            out,
            "{table}\nprocessor time per request at {:.0} requests/s, middle of {} rounds; ratio: this build / the other",
            self.rate, self.rounds
        )
    }
}

/// What one load cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    us: f64,
    failed: u64,
}

/// Measures this build and everyone it is compared with.
///
/// # Errors
/// When a program is missing, somebody does not start, or nothing was answered.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    anyhow::ensure!(options.rounds > 0, "at least one round is needed");
    let folder = tempfile::tempdir()?;
    let ours = Target::ours(folder.path())?;
    let mut targets = vec![];
    for (number, peer) in options.against.iter().enumerate() {
        targets.push(peer.start(&folder.path().join(format!("peer-{number}")), number, &ours)?);
    }
    targets.insert(0, ours);
    // By shape, target and round.
    let mut costs = vec![vec![Vec::new(); targets.len()]; Shape::ALL.len()];
    for round in 0..options.rounds as usize {
        for (of_shape, shape) in costs.iter_mut().zip(Shape::ALL) {
            // Everyone comes first in turn.
            for turn in 0..targets.len() {
                let at = (turn + round) % targets.len();
                of_shape[at].push(measure(&targets[at], shape, options)?);
            }
        }
    }
    let names: Vec<String> = options.against.iter().map(ToString::to_string).collect();
    let shapes = Shape::ALL.into_iter().zip(&costs);
    let report = Report {
        rounds: options.rounds,
        rate: options.rate,
        shapes: shapes
            .map(|(shape, costs)| sum_up(shape.name(), &names, costs))
            .collect(),
    };
    for target in targets {
        target.stop()?;
    }
    Ok(report)
}

fn measure(target: &Target, shape: Shape, options: &Options) -> anyhow::Result<Cost> {
    let load = Load::start(shape.load(target, options.rate)?)?;
    std::thread::sleep(WARM_UP);
    let (before, (requests_before, _)) = (target.processor_time()?, load.progress());
    std::thread::sleep(options.duration);
    let (after, (requests_after, _)) = (target.processor_time()?, load.progress());
    let report = load.stop()?;
    let requests = requests_after.saturating_sub(requests_before);
    anyhow::ensure!(requests > 0, "{} answered nothing to {}", target.name, shape.name());
    if let Some(failure) = report.failures.first() {
        eprintln!("miren-bench: {}, {}: {failure}", target.name, shape.name());
    }
    Ok(Cost {
        us: after.saturating_sub(before).as_secs_f64() * 1e6 / requests as f64,
        failed: report.failed,
    })
}

/// `costs` by target, ours first, and round.
fn sum_up(shape: &'static str, names: &[String], costs: &[Vec<Cost>]) -> ShapeReport {
    let middle_of = |costs: &[Cost]| middle(costs.iter().map(|cost| cost.us).collect());
    let failed = |costs: &[Cost]| costs.iter().map(|cost| cost.failed).sum();
    let (ours, others) = costs
        .split_first()
        .map_or((&[][..], &[][..]), |(ours, others)| (&ours[..], others));
    let peers = names.iter().zip(others).map(|(name, theirs)| PeerReport {
        name: name.clone(),
        cpu_us: middle_of(theirs),
        ratio: middle(
            ours.iter()
                .zip(theirs)
                .map(|(ours, theirs)| ours.us / theirs.us)
                .collect(),
        ),
        failed: failed(theirs),
    });
    ShapeReport {
        shape,
        cpu_us: middle_of(ours),
        failed: failed(ours),
        peers: peers.collect(),
    }
}

/// The middle one; 0 of none.
fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// The processor time a process has used so far, all its threads, those that have ended too.
fn processor_time(pid: nix::unistd::Pid) -> anyhow::Result<Duration> {
    let clock = nix::time::clock_getcpuclockid(pid).with_context(|| format!("finding the processor clock of {pid}"))?;
    let time = nix::time::clock_gettime(clock).with_context(|| format!("reading the processor clock of {pid}"))?;
    Ok(time.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(us: &[f64]) -> Vec<Cost> {
        us.iter().map(|us| Cost { us: *us, failed: 1 }).collect()
    }

    #[test]
    fn ratios_are_taken_in_each_round_and_not_of_the_middles() {
        // Twice as slow in the second round, for both: the ratio stays what it is.
        let (ours, theirs) = (costs(&[10.0, 20.0, 12.0]), costs(&[20.0, 40.0, 20.0]));
        let report = sum_up("small", &["nginx".to_owned()], &[ours, theirs]);
        assert_eq!((report.cpu_us, report.failed), (12.0, 3));
        assert_eq!((report.peers[0].cpu_us, report.peers[0].ratio), (20.0, 0.5));
    }

    #[test]
    fn processor_time_counts_work_and_no_waiting() {
        let own = nix::unistd::Pid::this();
        let before = processor_time(own).expect("our own clock");
        let mut sum = 0_u64;
        while processor_time(own).expect("our own clock") == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(processor_time(own).expect("our own clock") > before);
    }
}
