//! What the demo shows at its end: a table for people, one document for programs.

use super::story::{Event, Told};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write;

pub struct Report {
    pub requests: u64,
    pub failed_requests: u64,
    told: Told,
}

impl Report {
    pub fn of(told: Told) -> Result<Self> {
        let number = |key: &str| {
            told.load[key]
                .as_u64()
                .with_context(|| format!("the load report lacks {key}"))
        };
        Ok(Self {
            requests: number("requests")?,
            failed_requests: number("failed")?,
            told,
        })
    }

    pub fn json(&self) -> Result<String> {
        let events: Vec<Value> = self
            .told
            .events
            .iter()
            .map(|event| json!({"what": event.what, "took_ms": event.took_ms, "outcome": event.outcome}))
            .collect();
        let document = json!({
            "requests": self.requests,
            "failed_requests": self.failed_requests,
            "fast_path": self.told.fast_path,
            "events": events,
            "load": self.told.load,
            "fastpath_status": self.told.status,
            "transitions": self.told.transitions,
        });
        Ok(serde_json::to_string_pretty(&document)?)
    }

    pub fn table(&self) -> String {
        let mut out = String::new();
        let width = self.told.events.iter().map(|event| event.what.len()).max().unwrap_or(0);
        let _ = writeln!(
            out,
            "\n{:width$}  {:>8}  OUTCOME",
            "WHILE REQUESTS KEPT COMING",
            "TOOK",
            width = width.max(26)
        );
        for Event { what, took_ms, outcome } in &self.told.events {
            let _ = writeln!(
                out,
                "{what:width$}  {:>5} ms  {outcome}",
                took_ms,
                width = width.max(26)
            );
        }
        self.kernel_lines(&mut out);
        let latency = &self.told.load["latency_ms"];
        let _ = writeln!(
            out,
            "\n{} requests at {} a second, {} failed; latency p50 {} ms, p99 {} ms, max {} ms; fast path: {}",
            self.requests,
            self.told.load["rate"].as_f64().unwrap_or(0.0).round(),
            self.failed_requests,
            latency["p50"],
            latency["p99"],
            latency["max"],
            self.told.fast_path,
        );
        out
    }

    /// The transitions that the kernel made by itself, on the kernel's clock.
    fn kernel_lines(&self, out: &mut String) {
        let own: Vec<&Value> = self
            .told
            .transitions
            .iter()
            .filter(|change| change["by"] == json!("kernel"))
            .collect();
        if own.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\nKERNEL TIME (s)   SLOT  GENERATION  STATE    REPLACED AFTER   (taken out of routing by the kernel itself)"
        );
        for change in own {
            let at = number(change, "at_ns");
            let seconds = format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000);
            let (slot, generation) = (number(change, "slot"), number(change, "generation"));
            let state = change["state"].as_str().unwrap_or("?");
            // One that was retired is not replaced: its successor was RUNNING before.
            let after = self.next_running(at).filter(|_| state == "DEAD");
            let after = after.map_or(String::new(), |ns| format!("{:.1} ms", ns as f64 / 1e6));
            let line = format!("{seconds:>15}  {slot:>5}  {generation:>10}  {state:7}  {after}");
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }

    /// Nanoseconds from `at_ns` until the next sandbox was RUNNING.
    fn next_running(&self, at_ns: u64) -> Option<u64> {
        let running = self
            .told
            .transitions
            .iter()
            .filter(|change| change["state"] == json!("RUNNING"));
        running
            .filter_map(|change| number(change, "at_ns").checked_sub(at_ns))
            .min()
    }
}

fn number(change: &Value, key: &str) -> u64 {
    change[key].as_u64().unwrap_or(0)
}
