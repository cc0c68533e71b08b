//! A line of a log, as it is kept, told and followed.

use crate::id::SandboxId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One line a sandbox wrote. Also the form in which lines are kept in log files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    #[schema(value_type = String)]
    pub at: Timestamp,
    pub stream: LogStream,
    pub service: String,
    pub sandbox: SandboxId,
    pub line: String,
    /// Where this stands in a line that was too long to be kept as one; absent where it is the whole line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<LinePart>,
}

/// One part of a line of more than 256 KiB. Parts end between letters; put together they are the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinePart {
    /// From 1 on.
    pub number: u32,
    /// The line ends with it.
    pub last: bool,
}

/// Which of its outputs a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    Stdout,
    Stderr,
    /// Written by the system about the sandbox: that lines were dropped, how it ended.
    System,
}
