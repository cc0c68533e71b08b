//! Decides where the layers of an app's builds are kept, whose they are, and which are thrown away.
//!
//! What is in a storage is written by steps of a hostile build, if the builder lets them: so each app has its own, owned by
//! users that are nobody else, and nothing of the host opens a file in it.

use crate::builds::Settings;
use crate::program::Programs;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Begins the names of folders that are being removed.
const DISCARDED: &str = "discarded-";
/// Beside the layers of an app: whether a build is under way and in which life of the machine, or how the last one ended.
const STATE: &str = "state";
const LAYERS: &str = "layers";
const BUILT: &str = "built";
const FAILED: &str = "failed";
const LIFE: &str = "/proc/sys/kernel/random/boot_id";

/// Where one app's layers are.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub(crate) folder: PathBuf,
    state: PathBuf,
    /// A build did not end well: containers of it may be there.
    pub(crate) is_littered: bool,
}

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Badly,
}

impl Storage {
    /// The one of an app, which may be new. One of other users is thrown away, as its builder could not use it; so is one in which
    /// something was written when the machine ended: nobody knows how much of that reached the disk.
    pub(crate) fn open(settings: &Settings, app: &str) -> io::Result<Self> {
        let own = layers(settings).join(app);
        let (folder, state) = (own.join(LAYERS), own.join(STATE));
        let life = fs::read_to_string(LIFE)?;
        let said = fs::read_to_string(&state).unwrap_or_default();
        let is_ours = fs::symlink_metadata(&folder).is_ok_and(|found| found.uid() == settings.first_user);
        let is_whole = said == BUILT || said == FAILED || said == building(&life);
        if !(is_ours && is_whole) {
            discard(settings, app)?;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&own)?;
            give(&folder, settings.first_user)?;
        }
        let storage = Self {
            folder,
            state,
            is_littered: is_ours && is_whole && said != BUILT,
        };
        storage.say(&building(&life))?;
        Ok(storage)
    }

    /// A build is over. Its layers are on the disk before that is said. One that was thrown away meanwhile stays away.
    pub(crate) fn close(&self, ended: Ended) -> io::Result<()> {
        let written = File::open(&self.folder).and_then(|folder| Ok(nix::unistd::syncfs(&folder)?));
        let said = written.and_then(|()| {
            self.say(match ended {
                Ended::Well => BUILT,
                Ended::Badly => FAILED,
            })
        });
        match said {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            said => said,
        }
    }

    fn say(&self, state: &str) -> io::Result<()> {
        let mut file = File::create(&self.state)?;
        file.write_all(state.as_bytes())?;
        file.sync_all()
    }
}

fn building(life: &str) -> String {
    format!("building in {}", life.trim())
}

/// Makes a folder that belongs to the root of builds, and that nobody else sees into.
pub(crate) fn give(folder: &Path, user: u32) -> io::Result<()> {
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
        let app = entry?.file_name().to_string_lossy().into_owned();
        let own = all.join(&app);
        // What has no state was never opened to its end.
        let used = fs::metadata(own.join(STATE)).and_then(|state| state.modified());
        let (used, bytes) = (used.unwrap_or(SystemTime::UNIX_EPOCH), size(&own, programs)?);
        kept.push(Kept { used, app, bytes });
    }
    for app in surplus(kept, settings.cache) {
        tracing::info!(app, "throwing away the layers of earlier builds");
        discard(settings, &app)?;
    }
    Ok(())
}

/// Throws away an app's layers: all at once, and then piece by piece.
pub(crate) fn discard(settings: &Settings, app: &str) -> io::Result<()> {
    if let Some(aside) = put_aside(settings, &layers(settings).join(app))? {
        remove_beside(vec![aside]);
    }
    Ok(())
}

/// Moves a folder out of the way, if it is there.
pub(crate) fn put_aside(settings: &Settings, folder: &Path) -> io::Result<Option<PathBuf>> {
    let aside = settings
        .folder
        .join(format!("{DISCARDED}{:016x}", rand::random::<u64>()));
    match fs::rename(folder, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what was moved out of the way, also by an earlier process.
pub(crate) fn remove_discarded(settings: &Settings) -> io::Result<()> {
    let entries = fs::read_dir(&settings.folder)?.collect::<io::Result<Vec<_>>>()?;
    let is_discarded = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(DISCARDED);
    let discarded = entries.into_iter().filter(is_discarded).map(|entry| entry.path());
    remove_beside(discarded.collect());
    Ok(())
}

/// Beside everything else: a build may have filled them.
fn remove_beside(folders: Vec<PathBuf>) {
    let removing = std::thread::Builder::new().spawn(move || {
        for folder in folders {
            if let Err(error) = remove(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "what earlier builds left stays until the next start");
            }
        }
    });
    if let Err(error) = removing {
        tracing::warn!(%error, "what earlier builds left stays until the next start");
    }
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

/// Bytes on disk below a folder, none if it is not there. A program, since it goes down to any depth.
fn size(folder: &Path, programs: &Programs) -> io::Result<u64> {
    if !folder.exists() {
        return Ok(0);
    }
    let mut command = programs.command("du");
    command
        .args(["--summarize", "--one-file-system", "--block-size=1", "--"])
        .arg(folder);
    let told = command.output()?.stdout;
    let text = String::from_utf8_lossy(&told);
    let bytes = text.split_whitespace().next().and_then(|bytes| bytes.parse().ok());
    bytes.ok_or_else(|| io::Error::other(format!("du does not say how large {} is", folder.display())))
}

/// Removes a folder that a build may have filled: at any depth, whatever the links in it. Blocks, and ends with this process:
/// the rest goes at its next start.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "SIGKILL", "--", "rm"])
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
