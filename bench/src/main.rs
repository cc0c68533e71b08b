//! `miren-bench`: picks the scenario and prints its report as a table or as one JSON document.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use http::{HeaderName, HeaderValue, Method, Uri};
use miren_bench::load::{Load, Options};
use miren_bench::peer::Peer;
use miren_bench::{coldstart, deploy, drain, exercise, fastpath, peer, steady, upgrade};
use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;

/// The system's gives memory back and faults it in again for each large answer (docs/adr/0025-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the running system.
#[derive(Parser)]
#[command(name = "miren-bench", version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    /// One JSON document instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Scenario {
    /// Sends requests on a fixed timetable; exits 1 when one fails. SIGINT and SIGTERM end it early.
    Load(Box<LoadArguments>),
    /// Times the kernel side by its own clock, beside a pidfd and a channel in user space. Needs root.
    Fastpath {
        /// Processes to kill for each measurement.
        #[arg(long, default_value_t = 1000)]
        rounds: u32,
    },
    /// Starts an app from nothing by our runtimes, and by what is under them. Needs root, containerd and runc.
    Coldstart {
        /// Starts by each way; each round waits about 10 s until nothing runs.
        #[arg(long, default_value_t = 20)]
        rounds: u32,
    },
    /// Deploys changed code under load on a node of its own, and tells how long older code still got requests. Needs root;
    /// exits 1 when a request failed.
    Deploy {
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// Requests a second.
        #[arg(long, default_value_t = 1000.0)]
        rate: f64,
    },
    /// Processor time of the ingress per request, for small answers, 64 KiB answers, POST, and a connection for each
    /// request; beside others in the same run. Needs root; exits 1 when a request failed.
    Steady {
        /// Rounds of every shape against everyone; the ratio is taken in each.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Requests a second.
        #[arg(long, default_value_t = 2000.0)]
        rate: f64,
        /// How long each load lasts.
        #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
        duration: Duration,
        /// What to measure beside this build: `nginx`, or a folder with the binaries of another build.
        #[arg(long, value_delimiter = ',')]
        against: Vec<steady::Peer>,
    },
    /// Replaces the ingress under load, beside nginx (reload and new program) and HAProxy (reload). Needs root; exits 1 when
    /// this build lost a request or a WebSocket.
    Upgrade(ExerciseArguments),
    /// Takes a copy of the app away under load, by `sandbox stop` and by a deploy, beside nginx and HAProxy. Needs root; exits 1
    /// when this build lost a request or a WebSocket.
    Drain(ExerciseArguments),
}

#[derive(clap::Args)]
struct ExerciseArguments {
    /// How often everybody does it.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Short requests a second, half of them with a connection for each.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// WebSockets that are held meanwhile; with 0, a drain waits for requests alone.
    #[arg(long, default_value_t = 8)]
    websockets: usize,
    /// How long the load is looked at before, and how long it goes on afterwards.
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Who else does it; whoever is not installed is left out, and named.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nginx,haproxy")]
    against: Vec<Peer>,
}

impl From<ExerciseArguments> for exercise::Options {
    fn from(arguments: ExerciseArguments) -> Self {
        Self {
            rounds: arguments.rounds,
            rate: arguments.rate,
            websockets: arguments.websockets,
            duration: arguments.duration,
            against: arguments.against,
        }
    }
}

#[derive(clap::Args)]
struct LoadArguments {
    /// `http://ADDRESS:PORT/PATH` with a numeric address.
    #[arg(long)]
    url: Uri,
    /// `Host` of the requests; the URL's own by default.
    #[arg(long)]
    host: Option<String>,
    /// Requests a second, sent whether or not earlier ones were answered.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Like `30s`; until a signal by default.
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Connections kept alive, and so the most requests in flight.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Body of each request.
    #[arg(long, default_value = "")]
    body: String,
    /// Further header, `Name: value`; may be repeated.
    #[arg(long = "header", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A request without a whole answer after this long has failed.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

fn header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').context("write it as \"Name: value\"")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Ok(false): measured, but something failed.
    let outcome = match arguments.scenario {
        Scenario::Load(load) => run_load(*load, arguments.json),
        Scenario::Fastpath { rounds } => run_fast_path(rounds, arguments.json),
        Scenario::Coldstart { rounds } => run_cold_start(rounds, arguments.json),
        Scenario::Deploy { rounds, rate } => run_deploy(deploy::Options { rounds, rate }, arguments.json),
        Scenario::Steady {
            rounds,
            rate,
            duration,
            against,
        } => {
            let options = steady::Options {
                rounds,
                rate,
                duration,
                against,
            };
            run_steady(&options, arguments.json)
        }
        Scenario::Upgrade(options) => run_exercise(upgrade::run, options, arguments.json),
        Scenario::Drain(options) => run_exercise(drain::run, options, arguments.json),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("miren-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when no request failed.
fn run_load(arguments: LoadArguments, json: bool) -> anyhow::Result<bool> {
    let mut ending = SigSet::empty();
    ending.add(Signal::SIGINT);
    ending.add(Signal::SIGTERM);
    // Blocked before any thread exists, so that only the thread below takes them.
    ending
        .thread_block()
        .context("blocking the signals that end the load")?;
    let load = Load::start(Options {
        url: arguments.url,
        host: arguments.host,
        method: arguments.method,
        headers: arguments.headers,
        body: arguments.body.into(),
        rate: arguments.rate,
        duration: arguments.duration,
        connections: arguments.connections,
        timeout: arguments.timeout,
        check: None,
    })?;
    let stop = load.stopper();
    std::thread::spawn(move || ending.wait().map(|_| stop()));
    let report = load.wait()?;
    print(&report, json)?;
    Ok(report.failed == 0)
}

fn run_fast_path(rounds: u32, json: bool) -> anyhow::Result<bool> {
    let report = fastpath::run(&fastpath::Options { rounds })?;
    print(&report, json)?;
    Ok(true)
}

fn run_cold_start(rounds: u32, json: bool) -> anyhow::Result<bool> {
    let report = coldstart::run(&coldstart::Options { rounds })?;
    print(&report, json)?;
    Ok(true)
}

/// True when no request failed.
fn run_deploy(options: deploy::Options, json: bool) -> anyhow::Result<bool> {
    let report = deploy::run(&options)?;
    print(&report, json)?;
    Ok(report.failed == 0)
}

/// True when no request failed.
fn run_steady(options: &steady::Options, json: bool) -> anyhow::Result<bool> {
    let report = steady::run(options)?;
    print(&report, json)?;
    Ok(report.failed() == 0)
}

/// True when this build lost nothing.
fn run_exercise(
    run: fn(&exercise::Options) -> anyhow::Result<exercise::Report>,
    options: ExerciseArguments,
    json: bool,
) -> anyhow::Result<bool> {
    peer::wait::heed_signals()?;
    let report = run(&options.into())?;
    for row in &report.rows {
        for failure in &row.failures {
            eprintln!("miren-bench: {}, {}: {failure}", row.who, row.what);
        }
    }
    print(&report, json)?;
    Ok(report.lost_by_ours() == 0)
}

fn print(report: &(impl Serialize + Display), json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
