//! Decides how long a deploy lets older code go on: from the new sandboxes' RUNNING to the last request that reached it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use comfy_table::{Table, presets};
use miren_loader::monotonic_ns;
use serde::Serialize;
use serde_json::Value;

use crate::fastpath::Spread;
use crate::load::{Check, Load, Options as LoadOptions, Seen};
use crate::node::{self, Node};

const APP: &str = "shift";
const HOST: &str = "shift.example.test";
/// Requests go on for this long after each deploy: a late one to older code would be among them.
const AFTERMATH: Duration = Duration::from_millis(500);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Deploys of changed code.
    pub rounds: u32,
    /// Requests a second meanwhile.
    pub rate: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub rounds: u32,
    pub rate: f64,
    pub requests: u64,
    pub failed: u64,
    /// From the last new sandbox's RUNNING, on the kernel's clock, to the sending of the last request that older code
    /// answered; 0 when none was sent later.
    pub running_to_last_old_us: Spread,
    /// From the deploy's acceptance to its success, as the server says, in microseconds.
    pub deploy_us: Spread,
    pub fast_path: String,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["MS", "P50", "P99", "MAX"]);
        for (what, spread) in [
            ("new RUNNING → last request to old code", self.running_to_last_old_us),
            ("deploy, accepted → succeeded", self.deploy_us),
        ] {
            let ms = |us: f64| format!("{:.2}", us / 1000.0);
            table.add_row([what.to_owned(), ms(spread.p50), ms(spread.p99), ms(spread.max)]);
        }
        write!(
            out,
            "{table}\n{} deploys under {:.0} requests/s; {} requests, {} failed; fast path: {}",
            self.rounds, self.rate, self.requests, self.failed, self.fast_path
        )
    }
}

/// When each answer's request was sent, and which release answered.
type Answers = Arc<Mutex<Vec<(Instant, u32)>>>;

/// One deploy as it went.
struct Round {
    release: u32,
    /// Slots and generations of its sandboxes.
    sandboxes: Vec<(u64, u64)>,
    took_us: u64,
}

/// Deploys under load on a node of its own.
///
/// # Errors
/// When a program of this build is missing, the node does not start, or a deploy fails.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let node = Node::start(&folder.path().join("node"))?;
    let app = folder.path().join(APP);
    prepare(&app)?;
    deploy(&node, &app, 0)?;
    node.json(&["route", "set", HOST, APP])?;
    let watch = node.follow(&["fastpath", "watch"])?;
    let answers = Answers::default();
    let (start, start_ns) = (Instant::now(), monotonic_ns());
    let load = start_load(&node, options.rate, &answers)?;
    std::thread::sleep(AFTERMATH);
    let mut rounds = Vec::new();
    for release in 1..=options.rounds {
        rounds.push(deploy(&node, &app, release)?);
        std::thread::sleep(AFTERMATH);
    }
    let load = load.stop()?;
    let running = running_at(&watch.finish()?);
    let fast_path = node.fast_path.clone();
    node.stop()?;
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    let sent_ns = |sent: Instant| start_ns + u64::try_from((sent - start).as_nanos()).unwrap_or(u64::MAX);
    let sent: Vec<(u64, u32)> = answers
        .iter()
        .map(|(sent, release)| (sent_ns(*sent), *release))
        .collect();
    let shifts: Vec<u64> = rounds
        .iter()
        .map(|round| shift(round, &running, &sent))
        .collect::<Result<_, _>>()?;
    Ok(Report {
        rounds: options.rounds,
        rate: options.rate,
        requests: load.requests,
        failed: load.failed,
        running_to_last_old_us: Spread::of(shifts.into_iter()),
        deploy_us: Spread::of(rounds.iter().map(|round| round.took_us * 1000)),
        fast_path,
    })
}

/// A folder as a user would have it.
fn prepare(app: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(app.join(".miren"))?;
    std::fs::copy(node::program("hello-rust")?, app.join("hello-rust")).context("copying the sample app")?;
    let settings = format!(
        "name = \"{APP}\"\n[services.web]\ncommand = \"./hello-rust\"\n\
         [services.web.concurrency]\nmode = \"fixed\"\nnum_instances = 2\n"
    );
    Ok(std::fs::write(app.join(".miren/app.toml"), settings)?)
}

fn start_load(node: &Node, rate: f64, answers: &Answers) -> anyhow::Result<Load> {
    let mut options = LoadOptions::get(&format!("http://{}/info", node.http), rate)?;
    options.host = Some(HOST.to_owned());
    let answers = Arc::clone(answers);
    options.check = Some(Check::new(move |seen: &Seen<'_>| {
        let release = release_of(seen.body).ok_or("the answer names no release")?;
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((seen.sent, release));
        Ok(())
    }));
    Load::start(options)
}

fn release_of(body: &[u8]) -> Option<u32> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    answer["release"].as_str()?.parse().ok()
}

fn deploy(node: &Node, app: &Path, release: u32) -> anyhow::Result<Round> {
    std::fs::write(app.join("VERSION"), release.to_string())?;
    let folder = app.to_str().context("the temporary folder has an odd name")?;
    let deployed = node.json(&["deploy", "-d", folder])?;
    let shown = node.json(&["deploy", "show", deployed["deploy"].as_str().unwrap_or_default()])?;
    let time = |key: &str| -> anyhow::Result<jiff::Timestamp> {
        let text = shown[key].as_str().with_context(|| format!("a deploy without {key}"))?;
        Ok(text.parse()?)
    };
    let took = time("finished_at")?.duration_since(time("started_at")?);
    let listed = node.json(&["sandbox", "list", "--state", "running", "-a", APP])?;
    let own = listed.as_array().into_iter().flatten();
    let own = own.filter(|sandbox| sandbox["version"] == deployed["version"]);
    Ok(Round {
        release,
        sandboxes: own.filter_map(place).collect(),
        took_us: u64::try_from(took.as_micros()).unwrap_or_default(),
    })
}

fn place(thing: &Value) -> Option<(u64, u64)> {
    Some((thing["slot"].as_u64()?, thing["generation"].as_u64()?))
}

/// When each generation became RUNNING.
fn running_at(transitions: &[Value]) -> HashMap<(u64, u64), u64> {
    let running = transitions.iter().filter(|change| change["state"] == "RUNNING");
    running
        .filter_map(|change| Some((place(change)?, change["at_ns"].as_u64()?)))
        .collect()
}

/// Nanoseconds from the last new sandbox's RUNNING to the last request sent that older code answered.
fn shift(round: &Round, running: &HashMap<(u64, u64), u64>, sent: &[(u64, u32)]) -> anyhow::Result<u64> {
    let times = round.sandboxes.iter().filter_map(|place| running.get(place));
    let ready = times
        .max()
        .with_context(|| format!("release {} never ran", round.release))?;
    let older = sent.iter().filter(|(_, release)| *release < round.release);
    let last = older.map(|(sent, _)| *sent).max().unwrap_or_default();
    Ok(last.saturating_sub(*ready))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_shift_is_from_the_last_running_to_the_last_request_that_older_code_answered() {
        let change =
            |slot: u64, state: &str, at_ns: u64| json!({"slot": slot, "generation": 1, "state": state, "at_ns": at_ns});
        let running = running_at(&[
            change(1, "PENDING", 50),
            change(1, "RUNNING", 100),
            change(2, "RUNNING", 120),
        ]);
        let round = Round {
            release: 2,
            sandboxes: vec![(1, 1), (2, 1)],
            took_us: 0,
        };
        let sent = [(110, 1), (130, 1), (125, 2), (140, 2)];
        assert_eq!(shift(&round, &running, &sent).unwrap(), 10);
        assert_eq!(shift(&round, &running, &[(90, 1)]).unwrap(), 0);
        let unknown = Round {
            sandboxes: vec![(9, 9)],
            ..round
        };
        assert!(shift(&unknown, &running, &sent).is_err());
    }
}
