//! Decides whether this process was started to be the helper of a sandbox, before anything else of the program runs.

use crate::{containerd, embedded};

/// Runs the helper process of one sandbox and exits, if that is what this process was started for.
///
/// Call it first thing in `main`, before any thread exists: the helper forks.
pub fn helper_main_if_asked() {
    embedded::main_if_asked();
    embedded::exec_main_if_asked();
    containerd::log_main_if_asked();
}
