//! Decides whether sandboxes can have a writable copy of their app's files on this machine.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io;
use std::path::Path;

/// Longest value of a mount option (`fsconfig(2)`), and characters that overlayfs reads as separators.
const OPTION_MAX: usize = 255;
const SEPARATORS: [char; 3] = [',', ':', '\\'];

/// Mount options with these paths as their values, if they can be said.
pub(super) fn options(parts: &[(&str, &[&Path])]) -> Option<Vec<String>> {
    let option = |(key, paths): &(&str, &[&Path])| {
        let value: Option<Vec<&str>> = paths.iter().map(|path| plain(path)).collect();
        let value = value?.join(":");
        (value.len() <= OPTION_MAX).then(|| format!("{key}={value}"))
    };
    parts.iter().map(option).collect()
}

/// A path that means nothing else in the options of an overlay.
pub(super) fn plain(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| !text.contains(SEPARATORS))
}

/// Mounts an overlay in a mount namespace of a throw-away thread, below `run_dir`: nothing of it is ever visible.
pub(crate) fn is_possible(run_dir: &Path) -> io::Result<()> {
    let dir = run_dir.join("overlay-check");
    fs::create_dir_all(&dir)?;
    let thread = std::thread::Builder::new().name("miren-overlay".into()).spawn({
        let dir = dir.clone();
        move || try_mount(&dir)
    })?;
    let tried = thread
        .join()
        .map_err(|_| io::Error::other("the thread that tries an overlay panicked"))?;
    fs::remove_dir_all(&dir)?;
    tried
}

fn try_mount(dir: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // As in a sandbox: what is written is kept in memory.
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), none)?;
    for part in ["lower", "upper", "work", "merged"] {
        fs::create_dir(dir.join(part))?;
    }
    let part = |name: &str| dir.join(name).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        part("lower"),
        part("upper"),
        part("work")
    );
    mount(
        Some("overlay"),
        &dir.join("merged"),
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )?;
    Ok(())
}
