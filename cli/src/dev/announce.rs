//! What is said once requests can be served: one line for scripts, a short block for people.

use super::config::LOCALHOST;
use super::plan::Plan;
use crate::console::Console;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};

/// What control says about itself when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub struct ControlReady {
    pub server: String,
    pub metrics: String,
    /// `kernel` or `off`.
    pub fast_path: String,
    #[serde(default)]
    pub fast_path_reason: Option<String>,
    pub pid: u32,
}

/// What the proxy says about itself when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub struct ProxyReady {
    pub metrics: String,
    pub pid: u32,
}

impl ControlReady {
    pub fn parse(facts: &str) -> Result<Self, Failure> {
        understood("miren-control", facts)
    }
}

impl ProxyReady {
    pub fn parse(facts: &str) -> Result<Self, Failure> {
        understood("miren-proxy", facts)
    }
}

fn understood<T: for<'f> Deserialize<'f>>(daemon: &str, facts: &str) -> Result<T, Failure> {
    serde_json::from_str(facts).map_err(|error| {
        Failure::failed(format!(
            "{daemon} said something else than expected when it was ready: {error}"
        ))
        .remedy("build all three programs from the same sources: cargo xtask build")
    })
}

/// The first line on stdout with `--format json`. Its keys are part of the contract.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    ready: bool,
    server: String,
    http: String,
    https: Option<String>,
    /// Where each app is, with `NAME` in place of its name.
    apps: String,
    metrics: Metrics,
    control_pid: u32,
    proxy_pid: u32,
    fast_path: String,
    #[serde(skip)]
    fast_path_reason: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Metrics {
    control: String,
    proxy: String,
}

impl Ready {
    pub fn new(plan: &Plan, control: ControlReady, proxy: ProxyReady) -> Self {
        Self {
            ready: true,
            server: control.server,
            http: plan.http().to_string(),
            https: None,
            apps: format!("http://NAME.{LOCALHOST}:{}", plan.http().port()),
            metrics: Metrics {
                control: control.metrics,
                proxy: proxy.metrics,
            },
            control_pid: control.pid,
            proxy_pid: proxy.pid,
            fast_path: control.fast_path,
            fast_path_reason: control.fast_path_reason.filter(|reason| !reason.is_empty()),
        }
    }
}

/// Prints what was asked for.
pub fn print(ready: &Ready, plan: &Plan, console: &mut Console) -> Result<(), Failure> {
    if let Some(reason) = &ready.fast_path_reason {
        console.note(&format!("warning: the kernel fast path is off: {reason}"));
    }
    if console.is_json() {
        return console.json_line(ready);
    }
    let dir = &plan.layout().dir;
    console.line(&format!(
        "Miren is ready at http://{http}\n  server     {server}\n  apps       {apps}\n  fast path  {fast_path}\n  logs       {dir}/control.log, \
         {dir}/proxy.log\n\nDeploy the app in the current folder from another shell, and open {apps}:\n  \
         export MIREN_SERVER={server}\n  miren init\n  miren deploy\n\nCtrl-C drains and stops everything.",
        http = ready.http,
        server = ready.server,
        apps = ready.apps,
        fast_path = ready.fast_path,
        dir = dir.display(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_scripts_is_the_contracts() {
        let ready = Ready {
            ready: true,
            server: "unix:/d/run/control.sock".into(),
            http: "127.0.0.1:8080".into(),
            https: None,
            apps: "http://NAME.localhost:8080".into(),
            metrics: Metrics {
                control: "127.0.0.1:1".into(),
                proxy: "127.0.0.1:2".into(),
            },
            control_pid: 3,
            proxy_pid: 4,
            fast_path: "kernel".into(),
            fast_path_reason: Some("never printed here".into()),
        };
        assert_eq!(
            serde_json::to_string(&ready).unwrap(),
            r#"{"ready":true,"server":"unix:/d/run/control.sock","http":"127.0.0.1:8080","https":null,"apps":"http://NAME.localhost:8080","metrics":{"control":"127.0.0.1:1","proxy":"127.0.0.1:2"},"control_pid":3,"proxy_pid":4,"fast_path":"kernel"}"#
        );
    }

    #[test]
    fn a_daemon_of_other_sources_is_named() {
        let failure = ControlReady::parse("{\"pid\":1}").unwrap_err();
        assert!(failure.message.contains("miren-control"), "{}", failure.message);
        assert!(failure.remedy.contains("xtask build"));
    }
}
