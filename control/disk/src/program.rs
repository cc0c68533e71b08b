//! How an external program is found and run: at its usual place, without a shell or an environment, for a bounded time.

use crate::error::DiskError;
use std::ffi::OsStr;
use std::io::{PipeReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PLACES: &[&str] = &[
    "/usr/sbin",
    "/sbin",
    "/usr/bin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];
/// The end of what a program writes is what an error needs.
const OUTPUT_MAX: usize = 4096;
const POLL: Duration = Duration::from_millis(5);

/// A program, and the package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub name: &'static str,
    pub package: &'static str,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None after a signal.
    pub code: Option<i32>,
    pub output: String,
}

impl Program {
    pub(crate) fn find(&self) -> Result<PathBuf, DiskError> {
        let mut paths = PLACES.iter().map(|place| Path::new(place).join(self.name));
        paths.find(|path| path.is_file()).ok_or(DiskError::MissingProgram {
            program: self.name,
            package: self.package,
        })
    }

    /// Runs it to its end, or kills it after `limit`.
    pub(crate) fn run(&self, arguments: &[&OsStr], limit: Duration) -> Result<Ended, DiskError> {
        let path = self.find()?;
        let starting = |error: std::io::Error| DiskError::io("starting", &path)(error);
        let (reader, writer) = std::io::pipe().map_err(starting)?;
        let mut child = Command::new(&path)
            .args(arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(starting)?)
            .stderr(writer)
            .spawn()
            .map_err(starting)?;
        let (tail, read) = mpsc::channel();
        std::thread::spawn(move || tail.send(end_of(reader)));
        let status = wait(&mut child, limit).map_err(DiskError::io("waiting for", &path))?;
        // Who inherited the pipe might keep it open for longer.
        let output = read.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        match status {
            Some(status) => Ok(Ended {
                code: status.code(),
                output,
            }),
            None => Err(self.failed(arguments, format!("did not end within {limit:?}: {output}"))),
        }
    }

    /// As [`Program::run`]; any exit code but 0 is an error.
    pub(crate) fn must(&self, arguments: &[&OsStr], limit: Duration) -> Result<(), DiskError> {
        let ended = self.run(arguments, limit)?;
        match ended.code {
            Some(0) => Ok(()),
            code => Err(self.failed(arguments, format!("{}: {}", exit(code), ended.output))),
        }
    }

    fn failed(&self, arguments: &[&OsStr], detail: String) -> DiskError {
        let target = arguments.last().map(|last| last.to_string_lossy()).unwrap_or_default();
        DiskError::Failed {
            doing: format!("{} {target}", self.name),
            detail,
        }
    }
}

pub(crate) fn exit(code: Option<i32>) -> String {
    code.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"))
}

/// None when it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

fn end_of(mut pipe: PipeReader) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        let over = kept.len().saturating_sub(OUTPUT_MAX);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: Program = Program {
        name: "sh",
        package: "dash",
    };

    fn run(script: &str, limit: Duration) -> Result<Ended, DiskError> {
        SHELL.run(&["-c".as_ref(), script.as_ref()], limit)
    }

    #[test]
    fn the_end_of_the_output_is_kept() {
        let ended = run(
            "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; echo last >&2; exit 3",
            Duration::from_secs(60),
        )
        .expect("it ran");
        assert_eq!(ended.code, Some(3));
        assert!(ended.output.len() <= OUTPUT_MAX && ended.output.ends_with("2999\nlast"));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let error = run("echo here; exec sleep 600", Duration::from_millis(300)).expect_err("killed");
        assert!(error.to_string().contains("did not end within 300ms: here"), "{error}");
    }

    #[test]
    fn the_environment_is_not_passed_on() {
        let ended = run("echo [$HOME$CARGO_MANIFEST_DIR]", Duration::from_secs(60)).expect("it ran");
        assert_eq!(ended.output, "[]");
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let none = Program {
            name: "mkfs.none",
            package: "none-progs",
        };
        let error = none.find().expect_err("nothing has that name");
        assert_eq!(
            error.to_string(),
            "mkfs.none is not installed: install the package none-progs"
        );
    }
}
