//! Why a command did not do what was asked: the message, what to do next, and the exit code it maps to.

use miren_api::settings::Problem;
use miren_api::{ApiError, ClientError, ErrorCode};
use serde::Serialize;
use std::process::ExitCode;

#[cfg(test)]
mod tests;

/// How the process ends. The numbers are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    Usage,
    NotFound,
    /// Conflict, or superseded by a newer deploy.
    Conflict,
    Unreachable,
    /// 128 + SIGINT, as shells report it.
    Interrupted,
    /// That of a command which ran in a sandbox.
    Command(u8),
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unreachable => 5,
            Self::Interrupted => 130,
            Self::Command(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// A failure as it is shown: on stderr in words, or as `{"error": …}` on stdout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub exit: Exit,
    /// Stable word for scripts.
    pub code: String,
    /// What was being done, and why not. Empty: nothing is left to be said to anybody.
    pub message: String,
    /// What to do next; empty when there is nothing.
    pub remedy: String,
    /// The field of the request that is wrong.
    pub field: Option<Box<str>>,
    /// The single problems of a file that `message` tells, for scripts.
    pub problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Document<'f> {
    error: Body<'f>,
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    problems: &'f [Problem],
}

#[derive(Serialize)]
struct Body<'f> {
    code: &'f str,
    message: &'f str,
    remedy: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'f str>,
}

impl Failure {
    fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.to_owned(),
            message: message.into(),
            remedy: String::new(),
            field: None,
            problems: Vec::new(),
        }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message)
    }

    /// The command line asks for something that cannot be meant.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// What was named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, "not_found", message)
    }

    /// Ctrl-C. Whoever pressed it knows why, so nothing is said, and a stream of JSON documents just ends.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted", "")
    }

    /// Ctrl-C where something worth knowing goes on or is left.
    pub fn interrupted_while(message: impl Into<String>) -> Self {
        Self::new(Exit::Interrupted, "interrupted", message)
    }

    /// The reader of stdout has gone: nobody is left to tell, and nothing went wrong.
    pub fn output_closed() -> Self {
        Self::new(Exit::Done, "output_closed", "")
    }

    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        code.clone_into(&mut self.code);
        self
    }

    #[must_use]
    pub fn field(mut self, field: &str) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same failure, with what is wrong in a file.
    #[must_use]
    pub fn problems(mut self, problems: Vec<Problem>) -> Self {
        self.problems = problems;
        self
    }

    /// The same failure, saying what was being done.
    #[must_use]
    pub fn doing(mut self, what: &str) -> Self {
        if !self.message.is_empty() {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// `error: …` and `  try: …`.
    pub fn in_words(&self) -> String {
        let message = self.message.replace('\n', "\n  ");
        if self.remedy.is_empty() {
            format!("error: {message}")
        } else {
            format!("error: {message}\n  try: {}", self.remedy)
        }
    }

    /// `{"error":{"code","message","remedy"}}`, with `"field"` where one of a request is wrong, and with
    /// `"problems":[{"file","line","column","key","message"}]` where a file is; `line` and `column` are left out where there
    /// is none.
    pub fn as_json(&self) -> String {
        let body = Body {
            code: &self.code,
            message: &self.message,
            remedy: &self.remedy,
            field: self.field.as_deref(),
        };
        serde_json::to_string(&Document {
            error: body,
            problems: &self.problems,
        })
        .unwrap_or_default()
    }
}

/// Says what was being done when something failed.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| error.into().doing(&what()))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::Unreachable { .. } => Self::new(Exit::Unreachable, "unreachable", error.to_string())
                .remedy("start it with \"miren dev --dir DIR\", or name the right one with --server or MIREN_SERVER"),
            ClientError::Broken { .. } => Self::new(Exit::Failed, "broken", error.to_string())
                .remedy("the same command once more; if it stays, compare \"miren version\" with the server's"),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let remedy = if error.remedy.is_empty() {
            remedy_of(&error)
        } else {
            error.remedy
        };
        Self {
            exit: exit_of(error.code),
            code: error.code.as_str().to_owned(),
            message: error.message,
            remedy,
            field: error.field.map(String::into_boxed_str),
            problems: Vec::new(),
        }
    }
}

/// The exit code a refusal of the API maps to.
pub fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::NotFound | ErrorCode::NoSuchVersion => Exit::NotFound,
        ErrorCode::Conflict | ErrorCode::Superseded | ErrorCode::Ambiguous => Exit::Conflict,
        ErrorCode::InvalidValue => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn remedy_of(error: &ApiError) -> String {
    let retry = |seconds: u64| format!("again in {seconds} s");
    match error.code {
        ErrorCode::Ambiguous => "more characters of the id".to_owned(),
        ErrorCode::Forbidden => "as root, or as the user miren-control runs as".to_owned(),
        ErrorCode::Starting => retry(error.retry_after.unwrap_or(2)),
        ErrorCode::Draining => "again once the node takes work".to_owned(),
        ErrorCode::Internal | ErrorCode::Unknown => "the log of miren-control says more".to_owned(),
        _ => error.retry_after.map(retry).unwrap_or_default(),
    }
}
