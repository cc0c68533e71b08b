//! How a program is replaced on disk: the new one waits beside it, the old one is kept beside it, and each change is one rename.

use super::process::{file_id, image};
use super::record::sync_folder;
use crate::failure::{Doing, Failure};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

/// Waits to be put in place. While it is there, its program is the old one.
const NEXT: &str = "next";
/// The program that served before.
const PREVIOUS: &str = "previous";
/// One that was put in place by somebody, and does not serve.
const FAILED: &str = "failed";

fn beside(program: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(program);
    name.push(".");
    name.push(what);
    name.into()
}

/// Where the program is that served before.
pub fn previous(program: &Path) -> PathBuf {
    beside(program, PREVIOUS)
}

/// Puts a new program beside the one it is for; whoever may run that one may run it.
pub fn stage(new: &Path, program: &Path) -> Result<(), Failure> {
    copy_as(new, &beside(program, NEXT), Some(program))
}

/// Keeps the program that process `pid` runs; that on disk may be another one already. Without a process: that on disk.
pub fn keep(program: &Path, pid: Option<u32>) -> Result<(), Failure> {
    let (own, kept) = (pid.map_or_else(|| program.to_owned(), image), previous(program));
    remove(&kept)?;
    if file_id(&own) == file_id(program) && fs::hard_link(program, &kept).is_ok() {
        return Ok(());
    }
    copy(&own, &kept)
}

/// Where somebody has put the new program in place already: it waits beside it as if it were staged, and what process `pid` runs is there
/// until its turn comes, whoever starts it.
pub fn swap(program: &Path, pid: u32) -> Result<(), Failure> {
    keep(program, Some(pid))?;
    if file_id(&image(pid)) == file_id(program) {
        return Ok(());
    }
    let next = beside(program, NEXT);
    let part = beside(&next, "part");
    forget(program)?;
    let linked = || {
        fs::hard_link(program, &next)?;
        fs::hard_link(previous(program), &part)?;
        fs::rename(&part, program)?;
        sync_folder(program)
    };
    linked().doing(|| format!("putting {} in place again", previous(program).display()))
}

/// Each program is where it was before it was staged. `puts_back`: somebody had put the new one in place.
pub fn unstage(program: &Path, puts_back: bool) -> Result<(), Failure> {
    if puts_back {
        // Where both names are the same file still, that changes nothing.
        install(program)?;
    }
    forget(program)
}

/// What is kept of an earlier one is not what served before this one.
pub fn keep_none(program: &Path) -> Result<(), Failure> {
    remove(&previous(program))
}

/// Whether the new program waits to be put in place.
pub fn is_staged(program: &Path) -> bool {
    beside(program, NEXT).exists()
}

/// Puts the new program in place, if it is not there yet.
pub fn install(program: &Path) -> Result<(), Failure> {
    match is_staged(program) {
        true => rename(&beside(program, NEXT), program),
        false => Ok(()),
    }
}

/// Puts the old program in place again, if it is not there. `keeps`: the other one is kept as what failed.
pub fn restore(program: &Path, keeps: bool) -> Result<(), Failure> {
    let kept = previous(program);
    let failed = beside(program, FAILED);
    if is_staged(program) {
        // In this order: what waits says that the program is the old one.
        remove(&kept)?;
        if keeps {
            rename(&beside(program, NEXT), &failed)?;
        }
        return forget(program);
    }
    if !kept.exists() {
        return Ok(());
    }
    if file_id(&kept) == file_id(program) {
        return remove(&kept);
    }
    if keeps {
        remove(&failed)?;
        fs::hard_link(program, &failed).doing(|| format!("keeping {}", program.display()))?;
    }
    rename(&kept, program)
}

/// Removes what waits to be put in place, whole or not.
pub fn forget(program: &Path) -> Result<(), Failure> {
    let next = beside(program, NEXT);
    remove(&beside(&next, "part"))?;
    remove(&next)
}

/// There whole, and on the disk, or not at all.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    copy_as(from, to, None)
}

/// With the owner and the mode of another file.
fn copy_as(from: &Path, to: &Path, of: Option<&Path>) -> Result<(), Failure> {
    let part = beside(to, "part");
    let copied = || {
        fs::copy(from, &part)?;
        if let Some(facts) = of.map(fs::metadata).transpose()? {
            // In this order: another owner takes bits of the mode away.
            chown(&part, Some(facts.uid()), Some(facts.gid()))?;
            fs::set_permissions(&part, facts.permissions())?;
        }
        File::open(&part)?.sync_all()?;
        fs::rename(&part, to)?;
        sync_folder(to)
    };
    copied().doing(|| format!("copying {} to {}", from.display(), to.display()))
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to)
        .and_then(|()| sync_folder(to))
        .doing(|| format!("putting {} in the place of {}", from.display(), to.display()))
}

fn is_there(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

pub fn remove(path: &Path) -> Result<(), Failure> {
    // Where nothing may be written, what is not there cannot even be removed.
    if !is_there(path) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Place {
        folder: tempfile::TempDir,
        program: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("program");
            fs::write(&program, "old").unwrap();
            fs::write(folder.path().join("new"), "new").unwrap();
            Self { folder, program }
        }

        fn stage(&self) {
            stage(&self.folder.path().join("new"), &self.program).unwrap();
            keep(&self.program, None).unwrap();
        }

        fn has(&self, text: &str) {
            assert_eq!(fs::read_to_string(&self.program).unwrap(), text);
        }
    }

    #[test]
    fn each_step_may_be_done_again_and_the_old_program_comes_back_from_any() {
        for (steps, again) in [(0, false), (1, false), (1, true), (2, false), (2, true)] {
            let place = Place::new();
            // Of an upgrade before.
            fs::write(previous(&place.program), "older").unwrap();
            if steps > 0 {
                place.stage();
                place.has("old");
            }
            if again {
                place.stage();
            }
            if steps > 1 {
                install(&place.program).unwrap();
                install(&place.program).unwrap();
                place.has("new");
                assert_eq!(fs::read_to_string(previous(&place.program)).unwrap(), "old");
            }
            if steps > 0 {
                restore(&place.program, false).unwrap();
                restore(&place.program, false).unwrap();
            } else {
                forget(&place.program).unwrap();
            }
            place.has("old");
            assert!(!is_staged(&place.program), "{steps} {again}");
        }
    }

    /// A process that ends with its test.
    struct Running(std::process::Child);

    impl Running {
        /// Of a place whose program is one that can be run.
        fn of(place: &Place) -> Self {
            fs::copy("/bin/sleep", &place.program).unwrap();
            Self(std::process::Command::new(&place.program).arg("1000").spawn().unwrap())
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_program_that_was_put_in_place_by_somebody_waits_until_its_turn_comes() {
        for turns_back in [false, true] {
            let place = Place::new();
            let running = Running::of(&place);
            fs::rename(place.folder.path().join("new"), &place.program).unwrap();
            let next = beside(&place.program, NEXT);
            // Begun before, and interrupted when both names were one file.
            fs::hard_link(&place.program, &next).unwrap();
            for _ in 0..2 {
                unstage(&place.program, true).unwrap();
                place.has("new");
                assert!(!is_staged(&place.program));
                swap(&place.program, running.0.id()).unwrap();
                assert_eq!(fs::read_to_string(&next).unwrap(), "new");
                let same = fs::read(&place.program).unwrap() == fs::read("/bin/sleep").unwrap();
                assert!(same, "whoever starts it has what runs");
            }
            if turns_back {
                restore(&place.program, true).unwrap();
                assert_eq!(fs::read_to_string(beside(&place.program, FAILED)).unwrap(), "new");
                assert!(!is_staged(&place.program));
            } else {
                install(&place.program).unwrap();
                place.has("new");
                assert!(previous(&place.program).exists());
            }
        }
    }

    #[test]
    fn a_program_that_runs_already_does_not_wait() {
        let place = Place::new();
        let running = Running::of(&place);
        swap(&place.program, running.0.id()).unwrap();
        assert!(!is_staged(&place.program) && previous(&place.program).exists());
    }

    #[test]
    fn whoever_may_run_a_program_may_run_the_one_that_replaces_it() {
        let place = Place::new();
        let new = place.folder.path().join("new");
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&new, 0o700);
        set(&place.program, 0o751);
        let is_root = nix::unistd::geteuid().is_root();
        if is_root {
            chown(&place.program, Some(1), Some(2)).unwrap();
            set(&place.program, 0o4751);
        }
        let facts = || {
            let facts = fs::metadata(&place.program).unwrap();
            (facts.uid(), facts.gid(), facts.mode())
        };
        let before = facts();
        place.stage();
        install(&place.program).unwrap();
        place.has("new");
        assert_eq!(facts(), before);
        restore(&place.program, false).unwrap();
        place.has("old");
        assert_eq!(facts(), before);
    }

    #[test]
    fn a_program_that_was_put_in_place_by_somebody_is_kept_when_the_old_one_comes_back() {
        let place = Place::new();
        keep(&place.program, None).unwrap();
        fs::rename(place.folder.path().join("new"), &place.program).unwrap();
        restore(&place.program, true).unwrap();
        place.has("old");
        assert_eq!(fs::read_to_string(beside(&place.program, FAILED)).unwrap(), "new");
    }
}
