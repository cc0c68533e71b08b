//! Decides what the hooks cost, by the kernel's accounting of their run times (some 20 ns a run are the accounting's own).

use std::{net::UdpSocket, path::Path};

use anyhow::{Context, Result};
use miren_loader::{HookCost, KernelStats, State};

use super::{SLOT, Table, Victim};

/// Exits of a batch. Other processes exit meanwhile and are looked up in vain, which is cheaper: the median of many
/// batches leaves out those with many of them.
const EXITS: u32 = 20;
const BATCHES: u32 = 25;
/// Connects of the one batch.
const CONNECTS: u32 = 100_000;

/// Mean nanoseconds of the exit hook and of the connect hook.
pub(super) fn measure(table: &Table) -> Result<(f64, f64)> {
    let _enabled = KernelStats::enable().context("turning the kernel's accounting on")?;
    let mut exits = Vec::new();
    for _ in 0..BATCHES {
        exits.push(mean(&table.pin_dir, "exit_hook", || {
            for _ in 0..EXITS {
                let victim = Victim::start()?;
                let generation = table.run_victim(&victim)?;
                victim.kill()?;
                victim.reap()?;
                table.exit_time(generation)?;
            }
            Ok(())
        })?);
    }
    exits.sort_unstable_by(f64::total_cmp);
    let exit = exits[exits.len() / 2];
    let connect = mean(&table.pin_dir, "connect_hook4", || connects(table))?;
    Ok((exit, connect))
}

/// A connected datagram socket only looks for a route, so the hook is most of what happens.
fn connects(table: &Table) -> Result<()> {
    let fast_path = table.fast_path()?;
    let endpoint = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let generation = fast_path.begin(SLOT, endpoint)?;
    fast_path.advance(SLOT, generation, State::Running)?;
    let socket = UdpSocket::bind("127.0.0.1:0").context("a socket")?;
    for _ in 0..CONNECTS {
        socket.connect(endpoint).context("connecting")?;
    }
    fast_path.advance(SLOT, generation, State::Dead)?;
    Ok(())
}

fn mean(pin_dir: &Path, hook: &str, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = read(pin_dir, hook)?;
    work()?;
    read(pin_dir, hook)?
        .mean_since(&before)
        .with_context(|| format!("the {hook} did not run"))
}

fn read(pin_dir: &Path, hook: &str) -> Result<HookCost> {
    let costs = HookCost::read(pin_dir).context("reading what the hooks cost")?;
    costs
        .into_iter()
        .find(|cost| cost.name == hook)
        .with_context(|| format!("no {hook} is attached"))
}
