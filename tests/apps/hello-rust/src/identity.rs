//! Who this process is, and what it writes to its log.

use std::{env, fs, process};

use nix::time::{ClockId, clock_gettime};

use crate::request::Request;

/// What tells this sandbox from every other one.
#[derive(Clone)]
pub struct Identity {
    /// `MIREN_VERSION`, else the text of the file `VERSION`.
    pub version: String,
    /// Text of the file `VERSION` beside the program: what a test changes to deploy something new.
    pub release: String,
    /// `MIREN_SANDBOX`, else the host name.
    pub sandbox: String,
    pub app: String,
    pub instance: String,
}

impl Identity {
    pub fn of_this_process() -> Self {
        let release = fs::read_to_string("VERSION").unwrap_or_default().trim().to_owned();
        let host = fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned();
        Self {
            version: env::var("MIREN_VERSION").unwrap_or_else(|_| release.clone()),
            release,
            sandbox: env::var("MIREN_SANDBOX").unwrap_or(host),
            app: env::var("MIREN_APP").unwrap_or_default(),
            instance: env::var("MIREN_INSTANCE_NUM").unwrap_or_default(),
        }
    }

    pub fn json(&self) -> String {
        format!("{{{}}}\n", self.fields())
    }

    /// As [`Self::json`], with the time for which a request was held; an answer leaves after its end.
    pub fn json_held(&self, began_ns: i64, ended_ns: i64) -> String {
        let fields = self.fields();
        format!("{{{fields},\"began_ns\":{began_ns},\"ended_ns\":{ended_ns}}}\n")
    }

    fn fields(&self) -> String {
        format!(
            "\"version\":{},\"release\":{},\"sandbox\":{},\"pid\":{},\"app\":{},\"instance\":{}",
            quote(&self.version),
            quote(&self.release),
            quote(&self.sandbox),
            process::id(),
            quote(&self.app),
            quote(&self.instance),
        )
    }

    pub fn log(&self, what: &str) {
        println!(
            "at_ns={} version={} sandbox={} {what}",
            monotonic_ns(),
            self.version,
            self.sandbox
        );
    }

    pub fn log_request(&self, request: &Request) {
        self.log(&format!("request {} {}", request.method, request.path_and_query));
    }
}

/// The clock that the kernel's own records use: nanoseconds since boot, `CLOCK_MONOTONIC`.
pub fn monotonic_ns() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec() * 1_000_000_000 + now.tv_nsec())
}

/// Text as a JSON string.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
