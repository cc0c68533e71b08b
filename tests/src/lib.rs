//! The black-box harness: real binaries in a folder of their own, driven through public doors only.
//!
//! A test starts a [`Node`] (`miren dev` on a private port), deploys [`AppFolder`]s, and talks to it with the CLI and
//! over HTTP. Whatever a test does, dropping the node ends its processes and removes what they made.
//! `MIREN_TEST_FAST_PATH=auto|kernel|off` selects the fast path of every node, so that the suite can run once per mode.
//! Tests run as many at a time as there are cores, in any order: none may count on being alone.

mod apps;
mod binaries;
mod build;
mod census;
mod cli;
mod containerd;
mod follow;
mod forbid;
pub mod http;
mod image;
pub mod leftovers;
mod mixed;
mod node;
pub mod process;
mod proxy;
mod small_disk;
mod supervised;
mod wait;

pub use apps::AppFolder;
pub use binaries::Binaries;
pub use build::Build;
pub use cli::{Cli, Output};
pub use containerd::Containerd;
pub use follow::{Follow, RequestLine, request_lines};
pub use image::{ContainerImage, Registry};
pub use mixed::{Answer, Floor, Kind, KindReport, Mixed, MixedReport};
pub use node::{Deployed, Node, NodeOptions, NodeRuntime, fast_path};
pub use proxy::{SecondProxy, Started};
pub use small_disk::SmallDisk;
pub use supervised::{SupervisedControl, SupervisedProxy};
pub use wait::wait_until;
