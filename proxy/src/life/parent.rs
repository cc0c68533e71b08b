//! Decides whose successors are let in: where this process ends with the one that started it, only those that do so too.

use nix::sys::prctl;
use nix::unistd::getppid;
use std::fs;

/// A supervisor that this process ends with, and that replaces it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent(i32);

impl Parent {
    /// Told on the first thread: the others are not asked to end with anybody.
    pub fn of_this_process() -> Option<Self> {
        let ends_with = prctl::get_pdeathsig().ok().flatten();
        ends_with.map(|_| Self(getppid().as_raw()))
    }

    /// Whether a process is its child as well.
    ///
    /// # Errors
    /// When it is not, with what to do: it would outlive the supervisor, which would start another one beside it.
    pub fn admits(self, successor: Option<i32>) -> Result<(), String> {
        if successor.and_then(parent_of) == Some(self.0) {
            return Ok(());
        }
        let Self(own) = self;
        Err(format!(
            "process {own} started it, ends with it and replaces it itself: put the new program where the old one is, or restart {own}"
        ))
    }
}

/// The process that another one is the child of.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn d6_only_a_child_of_the_same_supervisor_is_let_in() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).ok();
        assert_eq!(Parent(own).admits(pid), Ok(()));
        let other = Parent(getppid().as_raw());
        assert!(other.admits(pid).unwrap_err().contains("replaces it itself"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Parent(own).admits(pid).is_err(), "it is gone");
        assert!(Parent(own).admits(None).is_err());
    }
}
