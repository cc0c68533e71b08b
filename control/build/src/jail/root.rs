//! Decides what is in the root of a builder: system folders to read, devices that anybody has, what the build itself needs.

use super::mounts::{self, HARMLESS, during};
use super::{Folder, Jail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Folders of programs and libraries. Where `/usr` holds them all, all others are links into it.
const PROGRAMS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Of `/etc`: certificates and links to programs, nothing secret.
const SHOWN: [&str; 6] = [
    "alternatives",
    "ld.so.cache",
    "ssl/certs",
    "ca-certificates",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
];
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Memory that a builder may write; it counts as its own.
const MEMORY: [&str; 3] = ["tmp", "run", "dev/shm"];
const MEMORY_OPTIONS: &str = "mode=1777,size=64m,nr_inodes=16k";
const ROOT_OPTIONS: &str = "mode=755,size=8m,nr_inodes=4k";
const PASSWD: &str = "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// Makes the root and leaves the host's behind, as the host's root: whoever comes later cannot undo what is mounted here.
pub(super) fn enter(jail: &Jail) -> io::Result<()> {
    let root = jail.place.as_path();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    during(
        "detaching",
        "/".as_ref(),
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>),
    )?;
    mounts::special("tmpfs", root, HARMLESS, ROOT_OPTIONS)?;
    show_system(root)?;
    make_devices(root)?;
    for place in MEMORY {
        mounts::special("tmpfs", &root.join(place), HARMLESS, MEMORY_OPTIONS)?;
    }
    for Folder { host, inside, writable } in &jail.folders {
        let read_only = if *writable {
            MsFlags::empty()
        } else {
            MsFlags::MS_RDONLY
        };
        mounts::bind(host, &within(root, inside), HARMLESS | read_only)?;
    }
    write_files(root, &jail.files)?;
    let unusual = HARMLESS | MsFlags::MS_NOEXEC;
    mounts::special("proc", &root.join("proc"), unusual, "")?;
    // A runtime wants to see one. It is its own group's, and not its users' to write.
    mounts::special("cgroup2", &root.join("sys/fs/cgroup"), unusual | MsFlags::MS_RDONLY, "")?;
    let sealed = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | HARMLESS;
    during(
        "sealing",
        root,
        mount(None::<&str>, root, None::<&str>, sealed, None::<&str>),
    )?;
    chdir(root)?;
    // The old root is above the new one, and goes.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    Ok(())
}

/// Terminals of its own; the mount is its users'.
pub(super) fn mount_terminals() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mounts::special(
        "devpts",
        "/dev/pts".as_ref(),
        flags,
        "newinstance,ptmxmode=0666,mode=0620",
    )
}

fn show_system(root: &Path) -> io::Result<()> {
    let host = Path::new("/");
    for name in PROGRAMS {
        match fs::read_link(host.join(name)) {
            Ok(link) => symlink(link, root.join(name))?,
            Err(_) if host.join(name).is_dir() => show(host, name, root)?,
            Err(_) => {}
        }
    }
    for name in SHOWN.iter().map(|name| format!("etc/{name}")) {
        if host.join(&name).exists() {
            show(host, &name, root)?;
        }
    }
    Ok(())
}

fn show(host: &Path, name: &str, root: &Path) -> io::Result<()> {
    mounts::bind(&host.join(name), &root.join(name), HARMLESS | MsFlags::MS_RDONLY)
}

fn make_devices(root: &Path) -> io::Result<()> {
    let dev = root.join("dev");
    for name in DEVICES {
        let unusual = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mounts::bind(&Path::new("/dev").join(name), &dev.join(name), unusual)?;
    }
    for (name, to) in DEVICE_LINKS {
        symlink(to, dev.join(name))?;
    }
    fs::create_dir(dev.join("pts"))
}

fn write_files(root: &Path, files: &[(std::path::PathBuf, String)]) -> io::Result<()> {
    let own = [
        ("/etc/passwd", PASSWD),
        ("/etc/group", GROUP),
        ("/etc/nsswitch.conf", NSSWITCH),
    ];
    let own = own.map(|(path, text)| (Path::new(path), text));
    let told = files.iter().map(|(path, text)| (path.as_path(), text.as_str()));
    for (path, text) in own.into_iter().chain(told) {
        let path = within(root, path);
        if let Some(parent) = path.parent() {
            during("making", parent, fs::create_dir_all(parent))?;
        }
        during("writing", &path, fs::write(&path, text))?;
    }
    Ok(())
}

fn within(root: &Path, path: &Path) -> std::path::PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
