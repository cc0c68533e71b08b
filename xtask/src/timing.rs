//! Decides how the time of a long run is told: each step by name, in a table at its end, also when a step failed.

use anyhow::Result;
use std::fmt;
use std::time::{Duration, Instant};

/// Steps so far.
#[derive(Debug, Default)]
pub struct Timing {
    steps: Vec<(&'static str, Duration)>,
}

impl Timing {
    /// Does `work` and books it under `name`.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let outcome = work();
        self.steps.push((name, begun.elapsed()));
        outcome
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole: Duration = self.steps.iter().map(|(_, took)| *took).sum();
        writeln!(out, "{:>8}  STEP", "SECONDS")?;
        for (name, took) in &self.steps {
            writeln!(out, "{:>8.0}  {name}", took.as_secs_f64())?;
        }
        write!(out, "{:>8.0}  all of it", whole.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_is_told_too() {
        let mut timing = Timing::default();
        assert_eq!(timing.step("first", || Ok(1)).unwrap(), 1);
        assert!(timing.step("second", || -> Result<()> { anyhow::bail!("no") }).is_err());
        let told = timing.to_string();
        assert!(
            told.contains("first") && told.contains("second") && told.ends_with("all of it"),
            "{told}"
        );
    }
}
