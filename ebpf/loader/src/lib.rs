//! Decides how user space reads, writes and watches the slot table, in the kernel or in a file.
//!
//! Control opens a [`FastPath`] and is the only writer. A proxy opens a [`SlotReader`] (one load per question) and,
//! where the kernel runs the table, [`ProxyEvents`] as a hint. Everything above those types is the same in both modes.

#![deny(clippy::unwrap_used)]

mod config;
mod error;
mod events;
mod fast_path;
mod identity;
mod kernel;
mod mapping;
mod process;
mod reader;
mod ring;
mod status;
mod table;
mod watch;

pub use config::{ActiveMode, FastPathConfig, Mode, SlotSource};
pub use error::{AttachError, EventError, OpenError, SlotError};
pub use events::{Events, ProxyEvents, Transition};
pub use fast_path::FastPath;
pub use identity::TableId;
pub use kernel::cost::{HookCost, KernelStats};
pub use mapping::monotonic_ns;
pub use miren_abi::VERSION as LAYOUT;
pub use miren_abi::{ChangedBy, EXIT_CODE_UNKNOWN, State, Word};
pub use reader::SlotReader;
pub use status::{ProgramStatus, SlotCounts, Status, TransitionCounts};
pub use table::SlotView;

/// Address and port a sandbox listens on.
pub type Endpoint = std::net::SocketAddr;
