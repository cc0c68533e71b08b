//! Decides which files of the host a sandbox sees that has no image.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::{Etc, SandboxDir, Shown};

/// Folders of programs and libraries. Where `/usr` holds them all, these are links into it.
const PROGRAMS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Files of `/etc` that programs from `/usr` need; copied, so that each sandbox keeps the ones it started with.
const COPIED: [&str; 7] = [
    "nsswitch.conf",
    "ld.so.cache",
    "ld.so.conf",
    "protocols",
    "services",
    "mime.types",
    "ssl/openssl.cnf",
];
/// Folders of `/etc` that are shown as they are: certificates and links to programs, nothing secret.
const SHOWN: [&str; 6] = [
    "ld.so.conf.d",
    "ssl/certs",
    "ca-certificates",
    "alternatives",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
];
/// How the folders of `/etc` begin to which a JDK's own folder in `/usr/lib` leads; it does not start without them.
const OF_JAVA: &str = "java";
/// Mount points, which have to exist before the root becomes read-only.
const MOUNT_POINTS: [&str; 6] = ["app", "dev", "proc", "run", "tmp", "etc"];

/// Everybody makes files there, and removes none of another's.
const EVERYBODYS: u32 = 0o1777;

const PASSWD: &str = "root:x:0:0:root:/app:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";

/// Makes the root of a sandbox from the host's files; says which folders are to be mounted into it, read-only.
pub(crate) fn prepare(dir: &SandboxDir, made: Etc<'_>) -> io::Result<Vec<Shown>> {
    let (root, host) = (dir.rootfs(), made.host);
    fs::create_dir_all(&root)?;
    for point in MOUNT_POINTS {
        fs::create_dir(root.join(point))?;
    }
    let mut shown = Vec::new();
    for name in PROGRAMS {
        match fs::read_link(host.join(name)) {
            Ok(link) => symlink(link, root.join(name))?,
            Err(_) if host.join(name).is_dir() => shown.push(show(host, Path::new(name), &root)?),
            Err(_) => {}
        }
    }
    for name in SHOWN.iter().map(|name| format!("etc/{name}")) {
        if host.join(&name).is_dir() {
            shown.push(show(host, Path::new(&name), &root)?);
        }
    }
    show_java(host, &root, &mut shown)?;
    make_etc(&root, made)?;
    open_to_all(&root)?;
    // runc gives what it mounts there the rights of the folder below, whatever the options of the mount say.
    fs::set_permissions(root.join("tmp"), Permissions::from_mode(EVERYBODYS))?;
    Ok(shown)
}

fn show_java(host: &Path, root: &Path, shown: &mut Vec<Shown>) -> io::Result<()> {
    let entries = match fs::read_dir(host.join("etc")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() && name.to_string_lossy().starts_with(OF_JAVA) {
            show_readable(host, &Path::new("etc").join(name), root, shown)?;
        }
    }
    Ok(())
}

/// Shows a folder of the host: all of it, unless there is something in it that not everybody may read. Then its files are copied, as root
/// in a sandbox reads what the host's root does.
fn show_readable(host: &Path, name: &Path, root: &Path, shown: &mut Vec<Shown>) -> io::Result<()> {
    let from = host.join(name);
    if everybody_may_read(&from)? {
        shown.push(show(host, name, root)?);
        return Ok(());
    }
    fs::create_dir_all(root.join(name))?;
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, name.join(entry.file_name()));
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, root.join(name))?;
        } else if kind.is_dir() && is_readable(&entry.path())? {
            show_readable(host, &name, root, shown)?;
        } else if kind.is_file() && is_readable(&entry.path())? {
            fs::copy(entry.path(), root.join(name))?;
        }
    }
    Ok(())
}

/// A folder, and everything below it.
fn everybody_may_read(folder: &Path) -> io::Result<bool> {
    if !is_readable(folder)? {
        return Ok(false);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let readable = match () {
            () if kind.is_symlink() => true,
            () if kind.is_dir() => everybody_may_read(&entry.path())?,
            () => is_readable(&entry.path())?,
        };
        if !readable {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_readable(path: &Path) -> io::Result<bool> {
    let seen = fs::symlink_metadata(path)?;
    let needed = if seen.is_dir() { 0o005 } else { 0o004 };
    Ok(seen.mode() & needed == needed)
}

/// Whatever mask this process makes files under: not everybody in a sandbox is root.
fn open_to_all(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_to_all(&entry.path())?;
        } else if kind.is_file() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

fn show(host: &Path, name: &Path, root: &Path) -> io::Result<Shown> {
    fs::create_dir_all(root.join(name))?;
    Ok(Shown {
        host: host.join(name),
        inside: Path::new("/").join(name),
    })
}

fn make_etc(root: &Path, made: Etc<'_>) -> io::Result<()> {
    let (from, to) = (made.host.join("etc"), root.join("etc"));
    for name in COPIED {
        if from.join(name).is_file() {
            fs::create_dir_all(to.join(name).parent().unwrap_or(&to))?;
            fs::copy(from.join(name), to.join(name))?;
        }
    }
    match fs::read_link(from.join("localtime")) {
        Ok(link) => symlink(link, to.join("localtime"))?,
        Err(_) if from.join("localtime").is_file() => drop(fs::copy(from.join("localtime"), to.join("localtime"))?),
        Err(_) => {}
    }
    fs::write(to.join("passwd"), PASSWD)?;
    fs::write(to.join("group"), GROUP)?;
    made.write(&to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn host() -> tempfile::TempDir {
        let host = tempfile::tempdir().expect("a folder");
        for dir in ["usr/bin", "etc/ssl/certs", "etc/ssl/private", "root", "home", "lib"] {
            fs::create_dir_all(host.path().join(dir)).expect("folder");
        }
        symlink("usr/bin", host.path().join("bin")).expect("link");
        for (name, text) in [
            ("etc/nsswitch.conf", "hosts: files dns\n"),
            ("etc/shadow", "secret"),
            ("etc/passwd", "real users"),
        ] {
            fs::write(host.path().join(name), text).expect("file");
        }
        fs::write(
            host.path().join("etc/resolv.conf"),
            "# made by x\nnameserver 127.0.0.53\nnameserver 10.0.0.9\n",
        )
        .expect("file");
        host
    }

    #[test]
    fn what_a_jdk_has_in_etc_is_shown_but_for_what_not_everybody_may_read() {
        let (host, run) = (host(), tempfile::tempdir().expect("a folder"));
        let jdk = host.path().join("etc/java-17");
        for folder in ["security", "management", "hidden"] {
            fs::create_dir_all(jdk.join(folder)).expect("a folder");
        }
        for (name, mode) in [
            ("security/java.security", 0o644),
            ("management/management.properties", 0o644),
            ("management/jmxremote.password", 0o600),
            ("hidden/key", 0o644),
            ("logging.properties", 0o644),
            ("security", 0o755),
            ("management", 0o755),
            ("hidden", 0o700),
        ] {
            let path = jdk.join(name);
            if !path.exists() {
                fs::write(&path, name).expect("a file");
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        symlink("../java-17/logging.properties", jdk.join("link")).expect("a link");
        let dir = SandboxDir::new(run.path(), "sb-1");
        let made = Etc {
            host: host.path(),
            sandbox: "sb-1",
            address: IpAddr::from([10, 0, 0, 2]),
        };
        let shown = prepare(&dir, made).expect("a root");
        let inside: Vec<_> = shown.iter().map(|shown| shown.inside.display().to_string()).collect();
        assert!(inside.contains(&"/etc/java-17/security".to_owned()), "{inside:?}");
        let of_java = inside.iter().filter(|path| path.starts_with("/etc/java"));
        assert_eq!(of_java.count(), 1, "{inside:?}");
        let root = dir.rootfs().join("etc/java-17");
        for copied in ["management/management.properties", "logging.properties", "link"] {
            assert!(fs::symlink_metadata(root.join(copied)).is_ok(), "{copied}");
        }
        for hidden in ["management/jmxremote.password", "hidden"] {
            assert!(!root.join(hidden).exists(), "{hidden}");
        }
        fs::remove_file(jdk.join("management/jmxremote.password")).expect("a file");
        fs::remove_dir_all(jdk.join("hidden")).expect("a folder");
        let dir = SandboxDir::new(run.path(), "sb-2");
        let shown = prepare(&dir, made).expect("a root");
        let whole = shown.iter().any(|shown| shown.inside == Path::new("/etc/java-17"));
        assert!(whole, "{shown:?}");
    }

    #[test]
    fn only_programs_and_needed_settings_of_the_host_are_shown() {
        let (host, run) = (host(), tempfile::tempdir().expect("a folder"));
        let dir = SandboxDir::new(run.path(), "sb-1");
        let made = Etc {
            host: host.path(),
            sandbox: "sb-1",
            address: IpAddr::from([10, 0, 0, 2]),
        };
        let shown = prepare(&dir, made).expect("a root");
        let inside: Vec<_> = shown.iter().map(|shown| shown.inside.display().to_string()).collect();
        assert_eq!(
            inside,
            ["/usr", "/lib", "/etc/ssl/certs"],
            "a folder is mounted, a link is not"
        );
        let root = dir.rootfs();
        assert_eq!(fs::read_link(root.join("bin")).expect("a link"), Path::new("usr/bin"));
        let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
        let tmp = fs::metadata(root.join("tmp")).expect("a folder").mode();
        assert_eq!(tmp & 0o7777, 0o1777);
        assert_eq!(read("etc/passwd"), PASSWD);
        assert_eq!(read("etc/resolv.conf"), "nameserver 10.0.0.9\n");
        assert!(read("etc/hosts").contains("10.0.0.2 sb-1"));
        for hidden in ["root", "home", "etc/shadow", "etc/ssl/private"] {
            assert!(!root.join(hidden).exists(), "{hidden}");
        }
    }
}
