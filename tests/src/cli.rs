//! Calls of the `miren` command and what they printed.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::binaries::Binaries;

/// The command against one server.
#[derive(Clone, Debug)]
pub struct Cli {
    binaries: Binaries,
    pub server: String,
}

/// What one call left behind.
#[derive(Clone, Debug)]
pub struct Output {
    call: String,
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Cli {
    pub fn new(binaries: Binaries, server: String) -> Self {
        Self { binaries, server }
    }

    /// A call to be changed or started by the caller.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.binaries.command("miren");
        // Options first, so that a caller's "--" ends nothing of ours.
        command
            .args(["--server", &self.server])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end, whatever that is. The client has its own deadlines.
    #[track_caller]
    pub fn call(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// A call with `--format json` that must succeed.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> T {
        let output = self.call_json(arguments);
        assert_eq!(output.code, 0, "{output}");
        output.parsed()
    }

    #[track_caller]
    pub fn call_json(&self, arguments: &[&str]) -> Output {
        self.call(&[&["--format", "json"], arguments].concat())
    }

    /// A deploy of the folder, however it ends.
    #[track_caller]
    pub fn deploy(&self, folder: &Path) -> Output {
        self.call_json(&["deploy", "-d", &folder.to_string_lossy()])
    }
}

impl Output {
    /// Runs `command` and keeps what it printed.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let call = format!("{command:?}");
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("running {call}: {error}"));
        Self {
            call,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn parsed<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not the JSON expected: {error}\n{self}"))
    }

    /// Both outputs, for a search of what was said.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Field of the JSON document, empty when absent.
    #[track_caller]
    pub fn field(&self, pointer: &str) -> String {
        match self.parsed::<Value>().pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}\nexit code {}\nstdout: {}\nstderr: {}",
            self.call, self.code, self.stdout, self.stderr
        )
    }
}
