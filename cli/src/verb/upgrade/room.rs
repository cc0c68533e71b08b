//! Whether what an upgrade writes can be written: it is asked before anything is touched.

use super::store;
use crate::failure::{Doing, Failure};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a folder gets, in bytes.
type Plan = Vec<(PathBuf, u64)>;

/// Whether each program of `from` can be put beside the one it is for, with what runs now, and the store beside itself.
pub fn check(from: &Path, programs: &[PathBuf], store: &Path) -> Result<(), Failure> {
    let size = |path: &Path| fs::metadata(path).map_or(0, |facts| facts.len());
    let mut plan: Plan = Vec::new();
    for program in programs {
        let new = from.join(program.file_name().unwrap_or_default());
        plan.push((folder(program), size(&new) + size(program)));
    }
    // Once as the copy, and once more while that comes back.
    plan.push((folder(store), 2 * store::size(store)));
    for (folder, _) in &plan {
        access(folder, AccessFlags::W_OK)
            .map_err(io::Error::from)
            .doing(|| format!("writing to {}", folder.display()))
            .map_err(|failure| failure.remedy("the programs and the store where they can be replaced"))?;
    }
    fits(&plan)
}

fn folder(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// Folders of one file system share its room.
fn fits(plan: &Plan) -> Result<(), Failure> {
    let mut needs: BTreeMap<u64, (&Path, u64)> = BTreeMap::new();
    for (folder, bytes) in plan {
        let device = fs::metadata(folder).doing(|| format!("looking at {}", folder.display()))?;
        needs.entry(device.dev()).or_insert((folder, 0)).1 += bytes;
    }
    for (folder, bytes) in needs.into_values() {
        let of = statvfs(folder)
            .map_err(io::Error::from)
            .doing(|| format!("asking for the room at {}", folder.display()))?;
        let free = of.blocks_free().saturating_mul(of.fragment_size());
        if free < bytes {
            let why = format!(
                "{} has {free} bytes free, and an upgrade needs {bytes}",
                folder.display()
            );
            return Err(Failure::failed(why).remedy("make room there"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_one_file_system_has_to_fit_there_together() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&other).unwrap();
        assert_eq!(fits(&vec![(one.clone(), 1), (other.clone(), 1)]), Ok(()));
        let half = u64::MAX / 4;
        let refused = fits(&vec![(one, half), (other, half)]).unwrap_err();
        assert!(refused.message.contains(&(2 * half).to_string()), "{}", refused.message);
        assert_eq!(refused.remedy, "make room there");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_before_anything_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let programs = [folder.path().join("none/miren-control")];
        let refused = check(folder.path(), &programs, &folder.path().join("control.db")).unwrap_err();
        assert!(refused.message.contains("none"), "{}", refused.message);
    }
}
