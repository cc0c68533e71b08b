//! Decides how long the first request to an app that is not running takes, beside the bare runtimes that are under ours.

mod bare;
mod containerd;
pub(crate) mod first_byte;
mod ours;

use std::fmt;
use std::time::Duration;

use bare::Bare;
use comfy_table::{Table, presets};
use containerd::Containerd;
use ours::Ours;
use serde::Serialize;

use crate::fastpath::Spread;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Starts by each way.
    pub rounds: u32,
}

/// Times from asking for it to the first byte that the app answered.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    pub way: String,
    pub first_byte_us: Spread,
    /// Of the medians: how many times as long as the bare runtime under it.
    pub to_bare: Option<f64>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub rounds: u32,
    pub ways: Vec<Way>,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["MS", "P50", "P99", "MAX", "TO BARE"]);
        for way in &self.ways {
            let ms = |us: f64| format!("{:.1}", us / 1000.0);
            let Spread { p50, p99, max } = way.first_byte_us;
            let ratio = way.to_bare.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            table.add_row([way.way.clone(), ms(p50), ms(p99), ms(max), ratio]);
        }
        write!(
            out,
            "{table}\n{} starts by each way, one after the other; ours with a network and through the ingress, the bare ones \
             in the host's network",
            self.rounds
        )
    }
}

/// One way to start the app and hear of it.
trait Start {
    fn name(&self) -> String;

    /// Starts it, and ends it again; the time to its first byte.
    fn once(&mut self) -> anyhow::Result<Duration>;
}

/// Starts the sample app by each way in turns, so that what else the machine does meets all of them.
///
/// # Errors
/// When a program is missing or a start fails.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let containerd = Containerd::start(&at("containerd"))?;
    let socket = containerd.socket();
    let mut ways: Vec<Box<dyn Start>> = vec![
        Box::new(Ours::embedded(&at("embedded"))?),
        Box::new(Bare::runc(&at("runc"))?),
        Box::new(Ours::containerd(&at("sandboxes"), &socket)?),
        Box::new(Bare::ctr(&at("ctr"), &socket)?),
    ];
    let mut times: Vec<Vec<u64>> = vec![Vec::new(); ways.len()];
    // The first round finds nothing in any cache, and is not counted.
    for round in 0..=options.rounds {
        for (way, times) in ways.iter_mut().zip(&mut times) {
            let took = way.once()?;
            if round > 0 {
                times.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
        }
    }
    let spreads: Vec<Spread> = times.into_iter().map(|times| Spread::of(times.into_iter())).collect();
    let ways = ways.iter().zip(&spreads).enumerate().map(|(index, (way, spread))| Way {
        way: way.name(),
        first_byte_us: *spread,
        to_bare: index.is_multiple_of(2).then(|| spread.p50 / spreads[index + 1].p50),
    });
    Ok(Report {
        rounds: options.rounds,
        ways: ways.collect(),
    })
}
