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
    use nix::sys::signal::Signal;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::{Child, Command};

    /// A child that ends with its test.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(program: &Path) -> Self {
            Self(Command::new(program).arg("600").spawn().unwrap())
        }

        fn pid(&self) -> Option<i32> {
            i32::try_from(self.0.id()).ok()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn d6_only_a_child_of_the_same_supervisor_is_let_in() {
        let own = i32::try_from(std::process::id()).unwrap();
        let child = Sleeper::start(Path::new("sleep"));
        let pid = child.pid();
        assert_eq!(Parent(own).admits(pid), Ok(()));
        let other = Parent(getppid().as_raw());
        assert!(other.admits(pid).unwrap_err().contains("replaces it itself"));
        drop(child);
        assert!(Parent(own).admits(pid).is_err(), "it is gone");
        assert!(Parent(own).admits(None).is_err());
    }

    #[test]
    fn d6_no_name_of_a_program_makes_it_the_child_of_another() {
        let own = i32::try_from(std::process::id()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let sleep = ["/usr/bin/sleep", "/bin/sleep"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let named = folder.path().join(") S 1 (");
        symlink(sleep.expect("a program that waits"), &named).unwrap();
        let child = Sleeper::start(&named);
        assert_eq!(Parent(own).admits(child.pid()), Ok(()));
        assert!(Parent(1).admits(child.pid()).is_err());
    }

    #[test]
    fn d6_a_supervisor_is_one_that_the_process_ends_with() {
        // What a thread is sent when its parent ends is its own: that of no other test.
        let (before, then) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let before = Parent::of_this_process();
                prctl::set_pdeathsig(Signal::SIGCONT).unwrap();
                (before, Parent::of_this_process())
            });
            asked.join().unwrap()
        });
        assert_eq!(before, None);
        assert_eq!(then, Some(Parent(getppid().as_raw())));
    }
}
