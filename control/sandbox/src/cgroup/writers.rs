//! Decides what the process that writes a sandbox's log may use: groups of its own beside the sandbox's, so that whoever writes pays.
//!
//! Its memory is not the sandbox's: it has to be there when a sandbox is killed for want of memory, to say so.

use super::Cgroups;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Processor time of a writer, as a part of its sandbox's limit, and its bounds in cores. A kept line costs 4 to
/// 8 µs, so what may be kept takes a fiftieth to a twenty-fifth of a core; the rest reads what is dropped. Who writes faster still waits.
const PART: f64 = 0.25;
const LEAST: f64 = 0.05;
const MOST: f64 = 0.25;
/// Length of the scheduler's period, in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;
/// Bytes that reach the disk for one byte of a line, at most: six where each is a control character, and what a line says besides.
const EXPANSION: u64 = 8;
const CPU: &str = "cpu";
/// What limits processor time and disk, in either version.
const CONTROLLERS: [&str; 3] = [CPU, "blkio", "io"];

/// What one writer may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriterLimits<'d> {
    /// Cores of the sandbox; none: as many as there are.
    pub(crate) cpu: Option<f64>,
    /// Bytes of lines each second.
    pub(crate) bytes: u64,
    /// Where they are written to.
    pub(crate) disk: &'d Path,
}

impl Cgroups {
    /// The groups of a node's log writers: `/miren-<node>.logs`, which no node is called, where something is limited.
    pub(crate) fn of_writers(node: &str) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let limiting = limiting(&mounts);
        if let Some(warning) = unlimited(&limiting) {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            roots: limiting.into_iter().map(|(root, _)| root).collect(),
            name: format!("miren-{node}.logs"),
        })
    }

    /// Makes the groups of one writer, which is to join all of them.
    ///
    /// # Errors
    /// When a limit of processor time is refused. One of the disk is left out where there is none: not every file system has a
    /// device of its own, and lines are few enough without.
    pub(crate) fn make_for_writer(&self, sandbox: &str, limits: WriterLimits<'_>) -> io::Result<Vec<PathBuf>> {
        let quota = (limits.cpu.map_or(MOST, |cpu| (cpu * PART).clamp(LEAST, MOST)) * PERIOD as f64) as u64;
        let device = device(limits.disk);
        for (root, dir) in self.roots.iter().zip(self.dirs(sandbox)) {
            fs::create_dir_all(&dir)?;
            // Of version 2 only, and refused where the controller is mounted elsewhere.
            for above in [root, &root.join(&self.name)] {
                for controller in ["+cpu", "+io"] {
                    let _ = set(above, "cgroup.subtree_control", controller);
                }
            }
            set(&dir, "cpu.cfs_period_us", &PERIOD.to_string())?;
            set(&dir, "cpu.cfs_quota_us", &quota.to_string())?;
            set(&dir, "cpu.max", &format!("{quota} {PERIOD}"))?;
            if let Some(device) = &device {
                let bytes = limits.bytes.saturating_mul(EXPANSION);
                let limited = set(&dir, "blkio.throttle.write_bps_device", &format!("{device} {bytes}"))
                    .and_then(|()| set(&dir, "io.max", &format!("{device} wbps={bytes}")));
                if let Err(error) = limited {
                    tracing::debug!(dir = %dir.display(), device, %error, "this disk cannot be limited");
                }
            }
        }
        Ok(self.dirs(sandbox).collect())
    }
}

/// Has this process join groups that were made for it.
pub(crate) fn join(groups: &[PathBuf]) -> io::Result<()> {
    groups.iter().try_for_each(|dir| {
        // 0 is whoever writes it.
        set(dir, "cgroup.procs", "0")
            .map_err(|error| io::Error::new(error.kind(), format!("joining {}: {error}", dir.display())))
    })
}

/// Writes a file of a group; one that the hierarchy does not have is no error.
fn set(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = dir.join(file);
    if !path.exists() {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("writing {value:?} to {}: {error}", path.display()),
        )
    })
}

/// What is to be said where no hierarchy limits processor time, with the remedy.
fn unlimited(hierarchies: &[(PathBuf, Vec<String>)]) -> Option<&'static str> {
    let limits = |(_, controllers): &(PathBuf, Vec<String>)| controllers.iter().any(|name| name == CPU);
    (!hierarchies.iter().any(limits)).then_some(
        "the processor time of what reads the outputs of sandboxes is not limited: the cgroup controller cpu is mounted nowhere; mount \
         it (mount -t cgroup -o cpu cpu /sys/fs/cgroup/cpu), or start the machine with systemd.unified_cgroup_hierarchy=1 and without \
         cgroup_disable=cpu",
    )
}

/// Hierarchies with a controller that limits something here, and which, read from the text of `/proc/self/mounts`.
fn limiting(mounts: &str) -> Vec<(PathBuf, Vec<String>)> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields.filter_map(|fields| {
        let (point, controllers) = match fields[..] {
            [_, point, "cgroup", options, ..] => (point, options.replace(',', " ")),
            [_, point, "cgroup2", ..] => {
                let there = fs::read_to_string(Path::new(point).join("cgroup.controllers"));
                (point, there.unwrap_or_default())
            }
            _ => return None,
        };
        let ones = controllers.split_whitespace().filter(|name| CONTROLLERS.contains(name));
        Some((PathBuf::from(point), ones.map(str::to_owned).collect()))
    });
    found.filter(|(_, ones): &(_, Vec<String>)| !ones.is_empty()).collect()
}

/// The whole disk that a folder is on, as `major:minor`: parts of one cannot be limited. None where it has none of its own.
fn device(folder: &Path) -> Option<String> {
    let number = fs::metadata(folder).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let about = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let whole = match about.join("partition").exists() {
        true => about.canonicalize().ok()?.parent()?.join("dev"),
        false => about.join("dev"),
    };
    Some(fs::read_to_string(whole).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f4_groups_are_where_something_is_limited() {
        let mounts = "cgroup /c/cpu cgroup rw,relatime,cpu,cpuacct 0 0\n\
                      cgroup /c/memory cgroup rw,memory 0 0\n\
                      cgroup /c/blkio cgroup rw,blkio 0 0\n\
                      cgroup2 /nowhere cgroup2 rw 0 0\n";
        let found = limiting(mounts);
        let roots: Vec<_> = found.iter().map(|(root, _)| root.clone()).collect();
        assert_eq!(roots, [PathBuf::from("/c/cpu"), PathBuf::from("/c/blkio")]);
        assert_eq!(unlimited(&found), None);
    }

    #[test]
    fn f4_a_machine_without_limits_of_processor_time_is_told_of() {
        let unified = tempfile::tempdir().expect("a folder");
        let point = unified.path().display();
        for (controllers, mounts, is_limited) in [
            ("io memory pids", format!("cgroup2 {point} cgroup2 rw 0 0\n"), false),
            ("cpuset io", format!("cgroup2 {point} cgroup2 rw 0 0\n"), false),
            ("cpuset cpu io", format!("cgroup2 {point} cgroup2 rw 0 0\n"), true),
            ("", "cgroup /c/blkio cgroup rw,blkio 0 0\n".to_owned(), false),
            ("", "cgroup /c/x cgroup rw,cpuset,cpuacct 0 0\n".to_owned(), false),
            ("", String::new(), false),
        ] {
            fs::write(unified.path().join("cgroup.controllers"), controllers).expect("a file");
            let said = unlimited(&limiting(&mounts));
            assert_eq!(said.is_none(), is_limited, "{controllers:?}, {mounts:?}");
            assert!(said.is_none_or(|said| said.contains("mount")), "{said:?}");
        }
    }

    #[test]
    fn f4_a_writer_gets_a_part_of_its_sandboxs_time_and_never_more_than_a_quarter_of_a_core() {
        let dir = tempfile::tempdir().expect("a folder");
        let groups = Cgroups {
            roots: vec![dir.path().to_owned()],
            name: "miren-test.logs".into(),
        };
        let group = dir.path().join("miren-test.logs/sb-1");
        fs::create_dir_all(&group).expect("a folder");
        for file in ["cpu.max", "cpu.cfs_quota_us", "cgroup.procs"] {
            fs::write(group.join(file), "").expect("a file");
        }
        for (cpu, quota) in [
            (None, "25000"),
            (Some(16.0), "25000"),
            (Some(0.5), "12500"),
            (Some(0.01), "5000"),
        ] {
            let limits = WriterLimits {
                cpu,
                bytes: 1 << 20,
                disk: dir.path(),
            };
            let made = groups.make_for_writer("sb-1", limits).expect("groups");
            assert_eq!(made, std::slice::from_ref(&group));
            assert_eq!(
                fs::read_to_string(group.join("cpu.cfs_quota_us")).expect("a file"),
                quota
            );
            let max = fs::read_to_string(group.join("cpu.max")).expect("a file");
            assert_eq!(max, format!("{quota} 100000"), "{cpu:?}");
        }
        assert!(
            !group.join("cpu.cfs_period_us").exists(),
            "nothing is made that the kernel does not have"
        );
        join(std::slice::from_ref(&group)).expect("joined");
        assert_eq!(fs::read_to_string(group.join("cgroup.procs")).expect("a file"), "0");
    }
}
