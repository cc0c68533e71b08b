//! Where a dev node's files are, seen from its folder and its name.

use crate::failure::{Doing, Failure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::subnet::name_hash;

/// Longest path a Unix socket can have: `sun_path` is 108 bytes with its final NUL (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// The longest socket name in the run folder.
const LONGEST_SOCKET: &str = "/control.notify";

/// Longest name of a network device: IFNAMSIZ is 16 with its final NUL (netdevice(7)).
const DEVICE_NAME_MAX: usize = 15;

/// The folders and names of one dev node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub name: String,
    pub dir: PathBuf,
    /// Sockets and what lives as long as the daemons.
    pub run_dir: PathBuf,
    /// What the proxy keeps; it must reach this as its own user.
    pub proxy_dir: PathBuf,
    pub bridge: String,
    pub pin_dir: PathBuf,
    /// Set when run files cannot be in `dir`: the folder to remove in the end.
    pub elsewhere: Option<PathBuf>,
}

impl Layout {
    /// Everything in `dir`, or the run files under `/run` where a socket's path would be too long or the proxy's user
    /// could not reach it. `dir` is absolute.
    pub fn new(name: &str, dir: &Path, reachable: bool) -> Self {
        let fits = dir.join("run").as_os_str().len() + LONGEST_SOCKET.len() <= SOCKET_PATH_MAX;
        let elsewhere = (!fits || !reachable).then(|| {
            let number = name_hash(&format!("{name} {}", dir.display()));
            PathBuf::from(format!("/run/miren-dev-{number:08x}"))
        });
        let base = elsewhere.as_deref().unwrap_or(dir);
        Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            run_dir: base.join("run"),
            proxy_dir: base.join("proxy"),
            bridge: bridge(name),
            pin_dir: PathBuf::from(format!("/sys/fs/bpf/miren-{name}")),
            elsewhere,
        }
    }

    pub fn control_toml(&self) -> PathBuf {
        self.dir.join("control.toml")
    }

    pub fn proxy_toml(&self) -> PathBuf {
        self.dir.join("proxy.toml")
    }

    /// Where this `miren dev` is asked for something.
    pub fn desk(&self) -> PathBuf {
        self.run_dir.join("dev.sock")
    }

    /// Where a daemon's output goes.
    pub fn log(&self, daemon: &str) -> PathBuf {
        self.dir.join(format!("{daemon}.log"))
    }

    /// Makes the folders; the proxy's belongs to its user.
    pub fn create(&self, proxy_user: &nix::unistd::User) -> Result<(), Failure> {
        for folder in [&self.dir, &self.run_dir, &self.proxy_dir] {
            fs::create_dir_all(folder).doing(|| format!("making {}", folder.display()))?;
        }
        for folder in [Some(&self.dir), Some(&self.run_dir), self.elsewhere.as_ref()]
            .into_iter()
            .flatten()
        {
            open_the_way(folder).doing(|| format!("letting others through {}", folder.display()))?;
        }
        std::os::unix::fs::chown(
            &self.proxy_dir,
            Some(proxy_user.uid.as_raw()),
            Some(proxy_user.gid.as_raw()),
        )
        .doing(|| format!("giving {} to {}", self.proxy_dir.display(), proxy_user.name))
    }

    /// Removes run files that are not in `dir`; those in `dir` are removed by whoever made them.
    pub fn clean_up(&self) {
        let gone = match &self.elsewhere {
            Some(folder) => fs::remove_dir_all(folder),
            // Only when it is empty: what a daemon left is there for a reason.
            None => fs::remove_dir(&self.run_dir),
        };
        // There is nobody to tell, and the next start copes with what is left.
        let _ = gone;
    }
}

/// `mi-NAME`, or the beginning of the name and its number where it is too long for a network device.
fn bridge(name: &str) -> String {
    let whole = format!("mi-{name}");
    if whole.len() <= DEVICE_NAME_MAX {
        return whole;
    }
    // DNS labels are ASCII, so every byte is a character.
    format!("mi-{}-{:08x}", &name[..3], name_hash(name))
}

/// Whether any user gets through all folders above `dir`; `dir` itself is opened by [`Layout::create`].
pub fn is_reachable(dir: &Path) -> bool {
    dir.ancestors()
        .skip(1)
        .all(|folder| fs::metadata(folder).is_ok_and(|facts| facts.permissions().mode() & 0o001 != 0))
}

/// Lets others pass through a folder, without letting them list it.
fn open_the_way(folder: &Path) -> std::io::Result<()> {
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o001 != 0 {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_the_folder_while_a_socket_fits_there() {
        let layout = Layout::new("dev", Path::new("/srv/dev"), true);
        assert_eq!(layout.run_dir, Path::new("/srv/dev/run"));
        assert_eq!(layout.elsewhere, None);
        assert_eq!(layout.pin_dir, Path::new("/sys/fs/bpf/miren-dev"));
        assert_eq!(layout.bridge, "mi-dev");
    }

    #[test]
    fn a_long_name_still_gives_a_bridge_of_its_own() {
        let [one, other] =
            ["demo-at-the-office", "demo-at-the-fair"].map(|name| Layout::new(name, Path::new("/d"), true));
        assert_ne!(one.bridge, other.bridge);
        assert!(
            one.bridge.starts_with("mi-dem-") && one.bridge.len() == DEVICE_NAME_MAX,
            "{}",
            one.bridge
        );
        assert_eq!(
            Layout::new("twelve-chars", Path::new("/d"), true).bridge,
            "mi-twelve-chars"
        );
    }

    #[test]
    fn a_socket_path_that_would_be_too_long_moves_to_run() {
        let room = SOCKET_PATH_MAX - LONGEST_SOCKET.len() - "/run".len();
        let longest = PathBuf::from(format!("/{}", "d".repeat(room - 1)));
        assert_eq!(Layout::new("dev", &longest, true).elsewhere, None);
        let longer = PathBuf::from(format!("/{}", "d".repeat(room)));
        let layout = Layout::new("dev", &longer, true);
        assert!(layout.run_dir.starts_with("/run"), "{}", layout.run_dir.display());
        assert!(layout.run_dir.as_os_str().len() + LONGEST_SOCKET.len() <= SOCKET_PATH_MAX);
        assert_eq!(layout.control_toml(), longer.join("control.toml"));
    }

    #[test]
    fn a_folder_below_a_closed_one_moves_its_run_files_too() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("dev");
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!is_reachable(&dir));
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(is_reachable(&dir));
        assert_ne!(
            Layout::new("dev", &dir, false).elsewhere,
            Layout::new("other", &dir, false).elsewhere
        );
    }
}
