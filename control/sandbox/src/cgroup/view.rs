//! Decides what a sandbox sees below `/sys/fs/cgroup`: its own groups, and where programs look for them.
//!
//! The groups themselves are shown by mounts of their folders: the runtimes' own mounts of version 1 can be written to under one of
//! the two, and the sandbox's cgroup namespace makes either look like the root of a hierarchy.

use super::Cgroups;
use crate::bundle::Shown;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Everything of the kernel's settings that a sandbox sees, and where control groups are in it.
pub(crate) const SYS: &str = "/sys";
const GROUPS: &str = "fs/cgroup";
/// Controllers of version 1 whose groups either runtime has a sandbox join; of another hierarchy it may see the root. What else is
/// among the options of a mount are flags and names.
const CONTROLLERS: [&str; 12] = [
    "cpuset",
    "cpu",
    "cpuacct",
    "blkio",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "perf_event",
    "net_prio",
    "hugetlb",
    "pids",
];

/// The hierarchies of this machine as every sandbox finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Where each is mounted outside, and the folder below `/sys/fs/cgroup` where it is inside; none: it is that folder.
    hierarchies: Vec<(PathBuf, Option<String>)>,
    /// Controllers that share a hierarchy, and where that is.
    links: Vec<(String, String)>,
}

impl View {
    /// Of the hierarchies that are mounted.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self::of(&fs::read_to_string("/proc/self/mounts")?))
    }

    /// Of the text of `/proc/self/mounts`. Where there are hierarchies of version 1, each is a folder with the name that
    /// distributions give it, and version 2 limits nothing; else it is all there is.
    fn of(mounts: &str) -> Self {
        let mut view = Self::default();
        let mut unified = None;
        for line in mounts.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                [_, point, "cgroup", options, ..] => view.add(point, options),
                [_, point, "cgroup2", ..] => unified = unified.or(Some(point)),
                _ => {}
            }
        }
        if view.hierarchies.is_empty() {
            view.hierarchies
                .extend(unified.map(|point| (PathBuf::from(point), None)));
        }
        view
    }

    /// A hierarchy of version 1; one that is mounted twice counts once.
    fn add(&mut self, point: &str, options: &str) {
        let controllers: Vec<&str> = options
            .split(',')
            .filter(|option| CONTROLLERS.contains(option))
            .collect();
        let name = controllers.join(",");
        let is_known = |(_, known): &(PathBuf, Option<String>)| known.as_deref() == Some(&*name);
        if name.is_empty() || self.hierarchies.iter().any(is_known) {
            return;
        }
        if controllers.len() > 1 {
            let links = controllers.iter().map(|one| ((*one).to_owned(), name.clone()));
            self.links.extend(links);
        }
        self.hierarchies.push((point.into(), Some(name)));
    }

    /// Makes what is to be shown of a sandbox's groups: `place`, which is in memory as programs expect it of version 1, becomes its
    /// `/sys`. The groups are made too, as nothing can be mounted that is not there.
    pub(crate) fn make(&self, groups: &Cgroups, sandbox: &str, place: &Path) -> io::Result<Vec<Shown>> {
        let points = place.join(GROUPS);
        fs::create_dir_all(&points)?;
        for (link, to) in &self.links {
            symlink(to, points.join(link))?;
        }
        let mut seen = vec![Shown {
            host: place.to_owned(),
            inside: SYS.into(),
        }];
        for (root, name) in &self.hierarchies {
            let host = root.join(&groups.name).join(sandbox);
            fs::create_dir_all(&host)?;
            let name = name.as_deref().unwrap_or_default();
            fs::create_dir_all(points.join(name))?;
            let inside = Path::new(SYS).join(GROUPS).join(name);
            seen.push(Shown { host, inside });
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(view: &View) -> Vec<(&str, Option<&str>)> {
        let all = view.hierarchies.iter();
        all.map(|(root, name)| (root.to_str().expect("a path"), name.as_deref()))
            .collect()
    }

    #[test]
    fn g3_a_machine_of_version_2_shows_one_folder() {
        let view = View::of("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate,memory_recursiveprot 0 0\n");
        assert_eq!(names(&view), [("/sys/fs/cgroup", None)]);
        assert_eq!(view.links, []);
    }

    #[test]
    fn g3_hierarchies_of_version_1_have_the_names_that_programs_look_for() {
        let view = View::of(
            "tmpfs /sys/fs/cgroup tmpfs ro,mode=755 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n\
             cgroup /sys/fs/cgroup/systemd cgroup rw,nosuid,xattr,name=systemd 0 0\n\
             cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,relatime,cpu,cpuacct 0 0\n\
             cgroup /cg/mem cgroup rw,memory 0 0\n\
             cgroup /somewhere/else cgroup rw,memory 0 0\n",
        );
        let expected = [
            ("/sys/fs/cgroup/cpu,cpuacct", Some("cpu,cpuacct")),
            ("/cg/mem", Some("memory")),
        ];
        assert_eq!(names(&view), expected);
        let links = [("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct")];
        assert_eq!(view.links, links.map(|(link, to)| (link.to_owned(), to.to_owned())));
    }

    #[test]
    fn g3_what_is_shown_is_made_and_is_the_sandboxs_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let mounts = format!(
            "cgroup {} cgroup rw,cpu,cpuacct 0 0\ncgroup {} cgroup rw,memory 0 0\n",
            at("c").display(),
            at("m").display()
        );
        let groups = Cgroups {
            roots: Vec::new(),
            name: "miren-test".into(),
        };
        let seen = View::of(&mounts).make(&groups, "sb-1", &at("sys")).expect("a view");
        let expected = [
            (at("sys"), "/sys"),
            (at("c/miren-test/sb-1"), "/sys/fs/cgroup/cpu,cpuacct"),
            (at("m/miren-test/sb-1"), "/sys/fs/cgroup/memory"),
        ];
        let expected = expected.map(|(host, inside)| Shown {
            host,
            inside: inside.into(),
        });
        assert_eq!(seen, expected);
        for one in &seen {
            assert!(one.host.is_dir(), "{one:?}");
        }
        for name in ["cpu", "cpuacct", "cpu,cpuacct", "memory"] {
            assert!(at("sys/fs/cgroup").join(name).is_dir(), "{name}");
        }
    }
}
