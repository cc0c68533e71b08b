//! Decides how control keeps room for itself on a disk that others fill: a file that takes the room while there is plenty, is given
//! up when a write finds none, and is made again when there is.

use crate::metrics::Metrics;
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Room for the store: hours of records and a checkpoint.
pub const OF_DATA: u64 = 16 << 20;
/// Room for what sandboxes are started with: a hundred of them. It may be memory.
pub const OF_RUN: u64 = 2 << 20;
/// Less than this is no room.
const SHORT: u64 = 1 << 20;
/// A reserve is made when this many times its size is free.
const PLENTY: u64 = 3;
/// How often it is looked whether there is room again: nothing tells when others remove their files.
const LOOK: Duration = Duration::from_secs(10);
const NAME: &str = "reserve";

/// The reserve of one folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reserve(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    bytes: u64,
    /// Held while it is made or given up.
    changing: Mutex<()>,
}

impl Reserve {
    /// Keeps `bytes` of the file system of `folder`, as soon as there is plenty.
    pub fn keep(folder: &Path, bytes: u64) -> Self {
        let reserve = Self(Arc::new(Kept {
            folder: folder.to_owned(),
            bytes,
            changing: Mutex::default(),
        }));
        reserve.make();
        reserve
    }

    fn path(&self) -> PathBuf {
        self.0.folder.join(NAME)
    }

    /// Bytes that are kept now.
    pub fn kept(&self) -> u64 {
        fs::metadata(self.path()).map_or(0, |found| found.blocks() * 512)
    }

    fn free(&self) -> io::Result<u64> {
        let of = statvfs(&self.0.folder)?;
        Ok(of.blocks_available() * of.fragment_size())
    }

    /// Gives it up if the disk is full. True: there is room that was not there before.
    pub fn give_up_if_short(&self) -> bool {
        let _changing = self.0.changing.lock();
        let is_short = self.free().is_ok_and(|free| free < SHORT);
        if !is_short || self.kept() == 0 {
            return false;
        }
        match fs::remove_file(self.path()) {
            Ok(()) => {
                let folder = self.0.folder.display();
                tracing::error!(%folder, bytes = self.0.bytes, "the disk is full: control writes into its reserve; free space");
                true
            }
            Err(error) => {
                tracing::error!(path = %self.path().display(), %error, "the disk is full and its reserve cannot be given up");
                false
            }
        }
    }

    /// Makes it if it is not there and there is plenty of room.
    pub fn make(&self) {
        let _changing = self.0.changing.lock();
        if self.kept() >= self.0.bytes {
            return;
        }
        let has_plenty = self
            .free()
            .is_ok_and(|free| free >= self.0.bytes.saturating_mul(PLENTY));
        if !has_plenty {
            return;
        }
        let path = self.path();
        match allocate(&path, self.0.bytes) {
            Ok(()) => tracing::info!(path = %path.display(), bytes = self.0.bytes, "keeping a reserve"),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no reserve can be kept");
                // Half of one is none.
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Removes it for good.
    pub fn remove(&self) {
        // One that is not there is gone.
        let _ = fs::remove_file(self.path());
    }
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    match posix_fallocate(&file, 0, length) {
        // A file system that cannot be asked for room is given something to keep.
        Err(Errno::EOPNOTSUPP) => io::copy(&mut io::Read::take(io::repeat(1), bytes), &mut &file).map(drop),
        made => Ok(made?),
    }
}

/// The reserves of a node.
#[derive(Clone, Debug)]
pub struct Reserves {
    pub data: Reserve,
    /// None: the run files are on the same file system.
    run: Option<Reserve>,
}

impl Reserves {
    pub fn keep(data: &Path, run: &Path) -> Self {
        let file_system = |folder: &Path| {
            File::open(folder)
                .and_then(|folder| folder.metadata())
                .map(|found| found.dev())
        };
        let is_same = matches!((file_system(data), file_system(run)), (Ok(data), Ok(run)) if data == run);
        Self {
            data: Reserve::keep(data, OF_DATA),
            run: (!is_same).then(|| Reserve::keep(run, OF_RUN)),
        }
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, &Reserve)> {
        let run = self.run.as_ref().map(|run| ("run", run));
        std::iter::once(("data", &self.data)).chain(run)
    }

    /// Makes room where it is short, keeps what there is plenty of, and says how much is kept. Blocks.
    fn tend(&self, metrics: &Metrics) {
        for (name, reserve) in self.each() {
            if !reserve.give_up_if_short() {
                reserve.make();
            }
            let kept = i64::try_from(reserve.kept()).unwrap_or(i64::MAX);
            metrics.reserve.with_label_values(&[name]).set(kept);
        }
    }

    /// Looks after them for as long as the daemon runs.
    pub async fn tend_for_ever(self, metrics: Metrics) {
        loop {
            let (reserves, counted) = (self.clone(), metrics.clone());
            let tended = tokio::task::spawn_blocking(move || reserves.tend(&counted)).await;
            if let Err(error) = tended {
                tracing::error!(%error, "looking after the reserves failed");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Leaves nothing in the folder of the run files.
    pub fn remove_run(&self) {
        self.run.iter().for_each(Reserve::remove);
    }
}
