//! Decides how a test gets a folder and mounts of its own, and gives back every device, even when it panics.

use crate::disk::{AttachOptions, DiskId, DiskSpec, Filesystem, Provider};
use crate::disks::Disks;
use crate::image::Context;
use crate::limits::Limits;
use crate::mounts;
use crate::step::Steps;
use miren_api::AppName;
use miren_api::settings::Bytes;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;
pub const SOON: Duration = Duration::from_secs(20);
pub const WRITABLE: AttachOptions = AttachOptions { read_only: false };

pub struct Bench {
    dir: TempDir,
}

/// Runs a test on a thread with a mount namespace of its own.
pub fn alone(test: impl FnOnce(&Bench) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: run as root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().to_owned();
        let bench = Bench { dir };
        let result = catch_unwind(AssertUnwindSafe(|| test(&bench)));
        bench.give_back();
        drop(bench);
        assert!(!path.exists(), "{} is left", path.display());
        result
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(panic)) | Err(panic) => resume_unwind(panic),
    }
}

/// As [`alone`], once with each file system whose programs are on this machine; setup installs those of all.
pub fn each(test: fn(&Bench, Kind)) {
    for kind in Kind::installed() {
        alone(move |bench| test(bench, kind));
    }
}

/// As [`each`], on a file system that has nothing to wait for.
pub fn each_in_memory(test: fn(&Bench, Kind)) {
    for kind in Kind::installed() {
        in_memory(move |bench| test(bench, kind));
    }
}

/// The file system a test's disks have.
#[derive(Clone, Copy, Debug)]
pub struct Kind(pub Filesystem);

impl Kind {
    fn installed() -> Vec<Self> {
        use Filesystem::{Btrfs, Ext4, Xfs};
        let all = [Ext4, Xfs, Btrfs].into_iter();
        let kinds: Vec<Self> = all.filter(|one| one.maker().find().is_ok()).map(Self).collect();
        eprintln!("with {kinds:?}");
        assert!(!kinds.is_empty(), "no program makes a file system");
        kinds
    }

    /// What a disk of so many MiB has if it is ext4; as much more than the least it can have, if it is another.
    pub fn bytes(self, mib: u64) -> Bytes {
        Bytes(self.0.smallest() - Filesystem::Ext4.smallest() + mib * MIB)
    }

    /// A disk of the app `shop`, of so many [`Kind::bytes`].
    pub fn spec(self, name: &str, mib: u64) -> DiskSpec {
        DiskSpec {
            id: id(name),
            kept: Provider::Loop {
                size: self.bytes(mib),
                filesystem: self.0,
            },
        }
    }
}

/// As [`alone`], on a file system that has nothing to wait for.
pub fn in_memory(test: impl FnOnce(&Bench) + Send + 'static) {
    alone(|bench| {
        let (at, options) = (bench.dir.path(), Some("size=1g"));
        mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), options).expect("a tmpfs");
        test(bench);
    });
}

impl Bench {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn open(&self) -> Disks {
        self.open_with(Steps::default())
    }

    pub fn open_with(&self, steps: Steps) -> Disks {
        self.open_limited(steps, |_| {})
    }

    pub fn open_limited(&self, steps: Steps, limit: impl FnOnce(&mut Limits)) -> Disks {
        let mut limits = Limits {
            unmount: Duration::from_secs(10),
            ..Limits::default()
        };
        limit(&mut limits);
        Disks::open_with(&self.path("disks"), Context { limits, steps }).expect("the folder of the disks")
    }

    /// Where a disk of the app `shop` lies.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.path("disks").join(format!("shop.{name}"))
    }

    pub fn image(&self, id: &str) -> PathBuf {
        self.folder(id).join("image")
    }

    /// Loop devices that refer to a file here.
    pub fn devices(&self) -> Vec<PathBuf> {
        let blocks = fs::read_dir("/sys/block").expect("block devices").flatten();
        let backed = blocks.filter(|block| {
            let file = fs::read_to_string(block.path().join("loop/backing_file")).unwrap_or_default();
            Path::new(file.trim()).starts_with(self.dir.path())
        });
        backed.map(|block| Path::new("/dev").join(block.file_name())).collect()
    }

    /// What lies in the folder of the disks, apart from its lock; a disk of the app `shop` by its own name.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("disks")).expect("the folder").flatten();
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .trim_start_matches("shop.")
                    .to_owned()
            })
            .collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }

    fn give_back(&self) {
        for point in mounts::below(self.dir.path()).expect("mounts").iter().rev() {
            crate::image::thaw_if_frozen(point);
            let _ = umount2(point, MntFlags::MNT_DETACH);
        }
        let deadline = Instant::now() + SOON;
        while let Some(device) = self.devices().first() {
            let _ = Command::new("losetup").arg("-d").arg(device).output();
            assert!(Instant::now() < deadline, "{} is left", device.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub fn id(text: &str) -> DiskId {
    DiskId::new(&AppName::from_text("shop"), text).expect("a name")
}

/// An ext4 disk of the app `shop`.
pub fn spec(name: &str, mib: u64) -> DiskSpec {
    Kind(Filesystem::Ext4).spec(name, mib)
}

/// Makes a disk, mounts it, and puts a file on it whose content [`has_data`] knows.
pub fn with_data(bench: &Bench, disks: &Disks, spec: &DiskSpec) -> PathBuf {
    disks.create(spec).expect("created");
    let at = bench.path(&format!("at-{}", spec.id.name()));
    disks.attach(&spec.id, &at, WRITABLE).expect("attached");
    let mut file = File::create(at.join("data")).expect("a file");
    file.write_all(&pattern())
        .and_then(|()| file.sync_all())
        .expect("written");
    at
}

pub fn has_data(at: &Path) {
    assert!(fs::read(at.join("data")).expect("the file") == pattern(), "other bytes");
}

fn pattern() -> Vec<u8> {
    (0..3 * MIB).map(|at| (at % 251) as u8).collect()
}

/// Digests of all files in a folder, and what else is there.
pub fn content(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let kind = fs::symlink_metadata(dir).expect("it is there").file_type();
    if kind.is_dir() {
        found.insert(dir.to_owned(), "folder".to_owned());
        for entry in fs::read_dir(dir).expect("a folder").flatten() {
            found.extend(content(&entry.path()));
        }
    } else if kind.is_file() {
        let digest = Sha256::digest(fs::read(dir).expect("a file"));
        found.insert(dir.to_owned(), format!("{digest:x?}"));
    } else {
        found.insert(dir.to_owned(), format!("{:?}", fs::read_link(dir)));
    }
    found
}

/// Notes the steps an operation takes.
pub fn noting() -> (Steps, Arc<Mutex<Vec<&'static str>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let hook = move |step| noted.lock().expect("steps").push(step);
    (
        Steps {
            hook: Some(Arc::new(hook)),
        },
        seen,
    )
}

/// Ends the operation after that many steps as if the process were gone: without a message and without a clean-up.
pub fn crashing(after: usize) -> Steps {
    let taken = Mutex::new(0);
    let hook = move |_| {
        let mut taken = taken.lock().expect("steps");
        *taken += 1;
        if *taken == after {
            drop(taken);
            resume_unwind(Box::new("crash"));
        }
    };
    Steps {
        hook: Some(Arc::new(hook)),
    }
}

/// Whether the operation was ended by [`crashing`].
pub fn crashes<T>(operation: impl FnOnce() -> T) -> bool {
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(_) => false,
        Err(panic) if panic.downcast_ref::<&str>() == Some(&"crash") => true,
        Err(panic) => resume_unwind(panic),
    }
}

/// Waits for something to become true.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
