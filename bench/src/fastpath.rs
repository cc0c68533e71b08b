//! Decides how long the fast path takes, by the kernel's own clock, beside the ways others notice an exit.

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use miren_loader::{ChangedBy, FastPath, FastPathConfig, Mode, SlotReader, SlotSource, State, monotonic_ns};
use serde::Serialize;

mod cost;
mod observe;
mod spread;
mod victim;

pub use spread::Spread;

use observe::{Observer, ProxyChannel, Spinner, TaskOnPidfd};
use victim::Victim;

/// The slot every victim gets, one generation after the other.
const SLOT: u32 = 1;
/// A victim that is not noticed for this long will never be.
const DEADLINE: Duration = Duration::from_secs(10);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Processes to kill for each of the measurements; at least 1,000 for a p99 that means something.
    pub rounds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { rounds: 1000 }
    }
}

/// The measurements. A small process is killed; a big one takes longer to reach everything but the slot word.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Processes killed for each measurement.
    pub rounds: u32,
    /// From the exit hook's timestamp until a reader that spins on the mapped word sees the change.
    pub exit_to_visible_us: Spread,
    /// From just before kill(2) until the same moment.
    pub kill_to_visible_us: Spread,
    /// From the exit hook's timestamp until a task that waits on a pidfd runs.
    pub exit_to_pidfd_us: Spread,
    /// From the exit hook's timestamp until a proxy has read about it from the socket a pidfd task wrote to.
    pub exit_to_proxy_channel_us: Spread,
    /// Mean run time of the exit hook while every exit measured is of a registered sandbox.
    pub exit_hook_ns: f64,
    /// Mean run time of the connect hook for a connect to a RUNNING sandbox.
    pub connect_hook_ns: f64,
}

/// Measures on a table of its own, which is gone afterwards. Needs root and the kernel.
///
/// # Errors
/// When the kernel side cannot be opened, or a victim is not noticed.
pub fn run(options: &Options) -> Result<Report> {
    ensure!(options.rounds > 0, "at least one round is needed");
    let table = Table::open()?;
    observe::stay_on_cpu(0);
    let visible = measure(&table, options.rounds, Spinner::start(table.reader()?)?)?;
    let pidfd = measure(&table, options.rounds, TaskOnPidfd::start()?)?;
    let channel = measure(&table, options.rounds, ProxyChannel::start()?)?;
    let (exit_hook_ns, connect_hook_ns) = cost::measure(&table)?;
    Ok(Report {
        rounds: options.rounds,
        exit_to_visible_us: Spread::of(visible.iter().map(|times| times.since_exit())),
        kill_to_visible_us: Spread::of(visible.iter().map(|times| times.since_kill())),
        exit_to_pidfd_us: Spread::of(pidfd.iter().map(|times| times.since_exit())),
        exit_to_proxy_channel_us: Spread::of(channel.iter().map(|times| times.since_exit())),
        exit_hook_ns,
        connect_hook_ns,
    })
}

/// One death, CLOCK_MONOTONIC nanoseconds.
struct Times {
    killed: u64,
    exited: u64,
    seen: u64,
}

impl Times {
    fn since_exit(&self) -> u64 {
        self.seen.saturating_sub(self.exited)
    }

    fn since_kill(&self) -> u64 {
        self.seen.saturating_sub(self.killed)
    }
}

fn measure(table: &Table, rounds: u32, mut observer: impl Observer) -> Result<Vec<Times>> {
    let mut all = Vec::with_capacity(rounds as usize);
    for _ in 0..rounds {
        let victim = Victim::start()?;
        let generation = table.run_victim(&victim)?;
        observer.arm(&victim, generation)?;
        let killed = monotonic_ns();
        victim.kill()?;
        let seen = observer.seen()?;
        victim.reap()?;
        all.push(Times {
            killed,
            exited: table.exit_time(generation)?,
            seen,
        });
    }
    Ok(all)
}

/// A table of this process alone.
struct Table {
    fast_path: Option<FastPath>,
    pin_dir: PathBuf,
}

impl Table {
    fn open() -> Result<Self> {
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/miren-bench-{}", std::process::id()));
        let config = FastPathConfig {
            mode: Mode::Kernel,
            pin_dir: pin_dir.clone(),
            table_file: std::env::temp_dir().join(format!("miren-bench-{}", std::process::id())),
            capacity: 64,
            cgroup: None,
        };
        let fast_path = FastPath::open(config).context("opening the fast path to measure it")?;
        Ok(Self {
            fast_path: Some(fast_path),
            pin_dir,
        })
    }

    fn fast_path(&self) -> Result<&FastPath> {
        self.fast_path.as_ref().context("the table is being removed")
    }

    fn reader(&self) -> Result<SlotReader> {
        SlotReader::open(&SlotSource::Pinned(self.pin_dir.clone())).context("mapping the slots")
    }

    /// Makes the victim a RUNNING sandbox and gives its generation.
    fn run_victim(&self, victim: &Victim) -> Result<u64> {
        let fast_path = self.fast_path()?;
        let generation = fast_path.begin(SLOT, ([127, 0, 0, 1], 9).into())?;
        fast_path.advance(SLOT, generation, State::Running)?;
        fast_path.register_init(SLOT, generation, victim.pid())?;
        Ok(generation)
    }

    /// When the exit hook saw this generation end.
    fn exit_time(&self, generation: u64) -> Result<u64> {
        let view = self.fast_path()?.slot(SLOT);
        let by_hook =
            view.generation == generation && view.state == State::Dead && view.changed_by == ChangedBy::Kernel;
        ensure!(by_hook, "the exit hook did not end generation {generation}: {view:?}");
        Ok(view.since_ns)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.fast_path.take().map(|fast_path| fast_path.remove()) {
            eprintln!("removing {}: {error}", self.pin_dir.display());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_header(["MICROSECONDS", "P50", "P99", "MAX"]);
        for (name, spread) in [
            ("exit hook -> word visible", &self.exit_to_visible_us),
            ("kill -> word visible", &self.kill_to_visible_us),
            ("exit hook -> pidfd task", &self.exit_to_pidfd_us),
            (
                "exit hook -> proxy, over pidfd and socket",
                &self.exit_to_proxy_channel_us,
            ),
        ] {
            let [p50, p99, max] = [spread.p50, spread.p99, spread.max].map(|time| format!("{time:.1}"));
            table.add_row([name.to_owned(), p50, p99, max]);
        }
        writeln!(f, "{table}")?;
        writeln!(
            f,
            "exit hook {:.0} ns, connect hook {:.0} ns",
            self.exit_hook_ns, self.connect_hook_ns
        )?;
        write!(f, "{} rounds each", self.rounds)
    }
}
