//! Who uses a mounted disk, as far as `/proc` says: an answer for people, bounded in length and in time.

use crate::mounts;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NAMED_MAX: usize = 8;
const FILES_MAX: usize = 1024;
const TIME_MAX: Duration = Duration::from_secs(1);

/// The disk in question.
#[derive(Clone, Copy)]
pub(crate) enum Held<'a> {
    /// A block device, by number and path, and what its files have for `st_dev` while they can be seen.
    Device {
        number: u64,
        path: &'a Path,
        files: Option<u64>,
    },
    /// A folder, by where it is mounted.
    At(&'a Path),
}

/// Names processes with files on it, or with a mount of it in a mount namespace of their own.
pub(crate) fn of(held: Held<'_>) -> Vec<String> {
    let deadline = Instant::now() + TIME_MAX;
    let here = fs::read_link("/proc/thread-self/ns/mnt").unwrap_or_default();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .map(|entry| entry.path())
        .filter(|path| pid(path).is_some())
        .take_while(|_| Instant::now() < deadline)
        .filter_map(|process| Some(format!("{} {}", name(&process), how(&process, held, &here)?)))
        .take(NAMED_MAX)
        .collect()
}

fn how(process: &Path, held: Held<'_>, here: &Path) -> Option<&'static str> {
    let on_it = |link: PathBuf| match held {
        Held::Device { files, .. } => files.is_some() && fs::metadata(link).ok().map(|file| file.dev()) == files,
        Held::At(at) => fs::read_link(link).is_ok_and(|target| target.starts_with(at)),
    };
    if links(process).any(on_it) {
        return Some("uses files on it");
    }
    let Held::Device { number, path, .. } = held else {
        return None;
    };
    if fs::read_link(process.join("ns/mnt")).ok()? == here {
        return None;
    }
    let mountinfo = fs::read(process.join("mountinfo")).ok()?;
    let mut mounts = mounts::parse(&mountinfo).into_iter();
    mounts
        .any(|mount| mount.is_of(number, path))
        .then_some("has it mounted in its own namespace")
}

/// What a process has open, stands in or runs.
fn links(process: &Path) -> impl Iterator<Item = PathBuf> {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let links = ["cwd", "root", "exe"].map(|link| process.join(link));
    links.into_iter().chain(open.take(FILES_MAX).map(|entry| entry.path()))
}

fn pid(process: &Path) -> Option<u32> {
    process.file_name()?.to_str()?.parse().ok()
}

fn name(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    format!("{} ({})", pid(process).unwrap_or_default(), name.trim())
}
