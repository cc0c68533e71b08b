//! Decides how much time the hooks take, by the kernel's own accounting.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use super::{hook, sys};

/// While this lives the kernel adds up the run time of every BPF program, which itself costs some 20 ns a run.
#[derive(Debug)]
pub struct KernelStats {
    _enabled: OwnedFd,
}

impl KernelStats {
    /// Starts the accounting.
    ///
    /// # Errors
    /// When the kernel refuses (CAP_SYS_ADMIN is needed).
    pub fn enable() -> io::Result<Self> {
        Ok(Self {
            _enabled: sys::enable_stats()?,
        })
    }
}

/// What one attached program has cost so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCost {
    /// Its name in the kernel.
    pub name: String,
    /// How often it ran.
    pub runs: u64,
    /// How long, all runs together.
    pub run_time_ns: u64,
}

impl HookCost {
    /// The cost of every program attached through the pins of a table.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub fn read(pin_dir: &Path) -> io::Result<Vec<Self>> {
        let mut costs = Vec::new();
        for pin in hook::pins(pin_dir)? {
            let link = sys::link_info(sys::open_pin(&pin)?.as_fd())?;
            let program = sys::program_info(sys::open_program(link.program_id)?.as_fd())?;
            costs.push(Self {
                name: program.name,
                runs: program.runs,
                run_time_ns: program.run_time_ns,
            });
        }
        Ok(costs)
    }

    /// Mean nanoseconds of a run since `earlier`; `None` if there was none.
    pub fn mean_since(&self, earlier: &Self) -> Option<f64> {
        let runs = self.runs.checked_sub(earlier.runs).filter(|runs| *runs > 0)?;
        let time = self.run_time_ns.checked_sub(earlier.run_time_ns)?;
        Some(time as f64 / runs as f64)
    }
}
