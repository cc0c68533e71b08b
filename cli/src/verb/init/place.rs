//! Decides how settings are put into a folder: whole or not at all, and nowhere else, whatever links the folder has.

use crate::failure::{Exit, Failure};
use miren_api::app_file::APP_FILE;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat, renameat_with, unlinkat};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Written first, so that nobody reads half of the settings.
const HALF: &str = ".app.toml.new";

/// Writes the folder's settings; over those that are there only if `force`.
///
/// # Errors
/// When there are some already, or they cannot be written.
pub fn write(root: &Path, text: &str, force: bool) -> Result<(), Failure> {
    put(root, text, force).map_err(|error| {
        let path = root.join(APP_FILE);
        let failed = Failure::failed(format!("writing {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::AlreadyExists => Failure {
                exit: Exit::Conflict,
                ..failed.code("exists").remedy("miren init --force")
            },
            io::ErrorKind::NotADirectory => {
                failed.remedy("make .miren a folder: a link or a file is not written through")
            }
            _ => failed,
        }
    })
}

fn put(root: &Path, text: &str, force: bool) -> io::Result<()> {
    let Some((folder, file)) = APP_FILE.split_once('/') else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let kind = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, kind, Mode::empty())?;
    match mkdirat(&root, folder, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = openat(&root, folder, kind | OFlags::NOFOLLOW, Mode::empty())?;
    // What an earlier attempt left.
    let _ = unlinkat(&folder, HALF, AtFlags::empty());
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut half = File::from(openat(&folder, HALF, new, Mode::from_raw_mode(0o666))?);
    let written = half.write_all(text.as_bytes()).and_then(|()| half.sync_all());
    let placed = written.and_then(|()| match force {
        true => Ok(renameat(&folder, HALF, &folder, file)?),
        false => Ok(renameat_with(&folder, HALF, &folder, file, RenameFlags::NOREPLACE)?),
    });
    if placed.is_err() {
        let _ = unlinkat(&folder, HALF, AtFlags::empty());
    }
    placed
}
