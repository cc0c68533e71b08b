//! Decides where the layers of an app's builds are kept, whose they are, and which are thrown away.
//!
//! What is in a storage is written by steps of a hostile build, if the builder lets them: so each app has its own, owned by
//! users that are nobody else, and nothing of the host opens a file in it.

use crate::builds::Settings;
use crate::program::Programs;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What follows an app's name in the file that says when its storage was used last.
const USED: &str = ".used";
/// What that file says as long as a build is under way, or did not end well.
const BUILDING: &str = "building";

/// Where one app's layers are.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) folder: PathBuf,
    used: PathBuf,
    /// A build did not end well: containers of it may be there.
    pub(crate) is_littered: bool,
}

impl Storage {
    /// The one of an app, which may be new. One of other users is thrown away: its builder could not use it.
    pub(crate) fn open(settings: &Settings, app: &str) -> io::Result<Self> {
        let all = layers(settings);
        fs::create_dir_all(&all)?;
        let folder = all.join(app);
        let used = all.join(format!("{app}{USED}"));
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.uid() == settings.first_user => {}
            Ok(_) => remove(&folder)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if !folder.exists() {
            give(&folder, settings.first_user)?;
        }
        let is_littered = fs::read_to_string(&used).is_ok_and(|text| text == BUILDING);
        fs::write(&used, BUILDING)?;
        Ok(Self {
            folder,
            used,
            is_littered,
        })
    }

    /// A build has ended well.
    pub(crate) fn close(&self) -> io::Result<()> {
        fs::write(&self.used, "built")
    }
}

/// Makes a folder that belongs to the root of builds, and that nobody else sees into.
pub(crate) fn give(folder: &Path, user: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    chown(folder, Some(user), Some(user))
}

fn layers(settings: &Settings) -> PathBuf {
    settings.folder.join("layers")
}

/// What one app's storage takes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    used: SystemTime,
    app: String,
    bytes: u64,
}

/// Throws away what was used longest ago until the rest fits. Blocks for as long as it takes to look through all.
pub(crate) fn bound(settings: &Settings, programs: &Programs) -> io::Result<()> {
    let all = layers(settings);
    let mut kept = Vec::new();
    for entry in fs::read_dir(&all)? {
        let entry = entry?;
        let (name, metadata) = (entry.file_name().to_string_lossy().into_owned(), entry.metadata()?);
        if let Some(app) = name.strip_suffix(USED) {
            let bytes = size(&all.join(app), programs)?;
            let (app, used) = (app.to_owned(), metadata.modified()?);
            kept.push(Kept { used, app, bytes });
        }
    }
    for app in surplus(kept, settings.cache) {
        tracing::info!(app, "throwing away the layers of earlier builds");
        remove(&all.join(&app))?;
        fs::remove_file(all.join(format!("{app}{USED}")))?;
    }
    Ok(())
}

fn surplus(mut kept: Vec<Kept>, limit: u64) -> Vec<String> {
    kept.sort_by_key(|kept| kept.used);
    let mut whole: u128 = kept.iter().map(|kept| u128::from(kept.bytes)).sum();
    let mut surplus = Vec::new();
    for kept in kept {
        if whole <= u128::from(limit) {
            break;
        }
        whole -= u128::from(kept.bytes);
        surplus.push(kept.app);
    }
    surplus
}

/// Bytes on disk below a folder. A program, since it goes down to any depth.
fn size(folder: &Path, programs: &Programs) -> io::Result<u64> {
    let mut command = programs.command("du");
    command
        .args(["--summarize", "--one-file-system", "--block-size=1", "--"])
        .arg(folder);
    let told = command.output()?.stdout;
    let text = String::from_utf8_lossy(&told);
    let bytes = text.split_whitespace().next().and_then(|bytes| bytes.parse().ok());
    bytes.ok_or_else(|| io::Error::other(format!("du does not say how large {} is", folder.display())))
}

/// Removes a folder that a build may have filled: at any depth, whatever the links in it. Blocks.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let mut command = Command::new("rm");
    command
        .args(["--recursive", "--force", "--one-file-system", "--"])
        .arg(folder);
    match command.output()? {
        ended if ended.status.success() => Ok(()),
        ended => Err(io::Error::other(
            String::from_utf8_lossy(&ended.stderr).trim_end().to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let kept = |app: &str, used, bytes| Kept {
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
            app: app.to_owned(),
            bytes,
        };
        let all = || vec![kept("new", 3, 10), kept("old", 1, 10), kept("middle", 2, 10)];
        assert_eq!(surplus(all(), 30), [""; 0]);
        assert_eq!(surplus(all(), 29), ["old"]);
        assert_eq!(surplus(all(), 10), ["old", "middle"]);
        assert_eq!(
            surplus(all(), 9),
            ["old", "middle", "new"],
            "one that is too large alone goes too"
        );
        let huge = vec![kept("a", 1, u64::MAX), kept("b", 2, u64::MAX)];
        assert_eq!(surplus(huge, 1), ["a", "b"]);
    }

    #[test]
    fn what_is_deeper_than_any_path_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("deep");
        let script =
            "mkdir $0 && cd $0 && for i in $(seq 300); do mkdir abcdefghijklmnopqrst && cd abcdefghijklmnopqrst; done";
        let made = Command::new("bash").args(["-c", script]).arg(&deep).status();
        assert!(made.expect("bash").success());
        remove(&deep).expect("it is removed");
        assert!(!deep.exists());
    }
}
