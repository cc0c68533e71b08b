//! The search for leftovers must find what a node could leave: otherwise "nothing is left" would mean nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use miren_blackbox::leftovers::{self, Leftover, Marks};
use miren_blackbox::wait_until;
use nix::mount::{MsFlags, mount};

fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn cgroup_root() -> PathBuf {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .expect("cgroup2 is mounted");
    line.split(' ').nth(4).unwrap().into()
}

/// Removed whatever the search finds, so that a broken search leaves nothing either.
struct Made(BTreeSet<Leftover>);

impl Drop for Made {
    fn drop(&mut self) {
        leftovers::remove(&self.0);
    }
}

#[test]
fn every_kind_of_leftover_is_found_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let marks = Marks::new(&format!("l{:08x}", std::process::id()), folder.path());
    assert_eq!(leftovers::find(&marks), [].into());

    let name = &marks.name;
    run(&format!("ip link add {name} type bridge"));
    // A subnet nobody uses: of the block for documentation.
    run("ip route add unreachable 192.0.2.0/28 metric 9999");
    fs::write(
        folder.path().join("control.toml"),
        "[network]\nsubnet = \"192.0.2.0/28\"\n",
    )
    .unwrap();
    run(&format!("nft add table inet {name}"));
    let cgroup = cgroup_root().join(format!("miren-{name}"));
    fs::create_dir_all(cgroup.join("inner")).unwrap();
    let at = folder.path().join("mounted");
    fs::create_dir(&at).unwrap();
    mount(Some("none"), &at, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    fs::create_dir(at.join(format!("pins-{name}"))).unwrap();
    let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    fs::write(cgroup.join("inner/cgroup.procs"), child.id().to_string()).unwrap();

    let expected = BTreeSet::from([
        Leftover::Process {
            pid: child.id(),
            command: "sleep".into(),
        },
        Leftover::Mount(at.clone()),
        Leftover::Device(name.clone()),
        Leftover::Route("192.0.2.0/28".into()),
        Leftover::Table(format!("inet {name}")),
        Leftover::Pin(at.join(format!("pins-{name}"))),
        Leftover::Cgroup(cgroup.clone()),
    ]);
    let made = Made(expected.clone());
    let found = leftovers::find(&marks);
    assert_eq!(found, expected, "\n{}", leftovers::describe(&found));

    drop(made);
    child.wait().unwrap();
    wait_until("everything to be removed", Duration::from_secs(60), || {
        let found = leftovers::find(&marks);
        leftovers::remove(&found);
        if found.is_empty() {
            Ok(())
        } else {
            Err(leftovers::describe(&found))
        }
    });
}
