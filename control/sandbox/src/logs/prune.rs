//! Decides which sandboxes' logs of a service are removed when there are too many.

use super::{SUFFIX, parts};
use crate::files;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Keeps the logs of at most `keep` sandboxes in the folder of a service, those in `living` among them. The ones that
/// were written to longest ago go first.
pub(crate) fn prune(dir: &Path, keep: usize, living: &HashSet<String>) -> io::Result<()> {
    let mut ended: Vec<(SystemTime, PathBuf)> = Vec::new();
    let names = files::names_in(dir)?;
    let sandboxes: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(SUFFIX)).collect();
    for sandbox in sandboxes.iter().filter(|sandbox| !living.contains(**sandbox)) {
        let path = dir.join(format!("{sandbox}{SUFFIX}"));
        if let Some(found) = unless_gone(fs::metadata(&path))? {
            ended.push((found.modified()?, path));
        }
    }
    ended.sort();
    let surplus = sandboxes.len().saturating_sub(keep).min(ended.len());
    for part in ended[..surplus].iter().flat_map(|(_, path)| parts(path)) {
        unless_gone(fs::remove_file(part))?;
    }
    Ok(())
}

/// Another sandbox of the service that boots at the same time removes the same logs.
fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_logs_go_first_and_living_sandboxes_keep_theirs() {
        let dir = tempfile::tempdir().expect("a folder");
        for (age, name) in ["a.log", "b.log", "b.log.1", "c.log", "d.log"].iter().enumerate() {
            let file = fs::File::create(dir.path().join(name)).expect("a file");
            let written = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            file.set_modified(written).expect("a time");
        }
        prune(dir.path(), 2, &HashSet::from(["a".to_owned()])).expect("pruned");
        let mut left = files::names_in(dir.path()).expect("names");
        left.sort();
        assert_eq!(left, ["a.log", "d.log"]);
    }

    #[test]
    fn sandboxes_that_boot_at_once_prune_the_same_logs_without_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        for _ in 0..20 {
            for number in 0..200 {
                fs::File::create(dir.path().join(format!("sb-{number}.log"))).expect("a file");
            }
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                let prune_one = || {
                    start.wait();
                    prune(dir.path(), 2, &HashSet::new())
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(prune_one)).collect();
                for thread in threads {
                    thread.join().expect("no panic").expect("pruned");
                }
            });
        }
    }
}
