//! Judgements over made-up machines: what is wrong has a remedy, what is optional is no fault.

use super::super::machine::Builder;
use super::super::ports::Holder;
use super::*;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A machine with nothing wrong.
fn healthy() -> Machine {
    Machine {
        is_root: true,
        kernel: "6.18.5-cloud-amd64".into(),
        bpf: Bpf {
            has_folder: true,
            has_types: true,
            refused: None,
        },
        fast_path: "auto".into(),
        cgroups: Cgroups {
            version1: set(&["rw", "nosuid"]),
            version2: Some(set(&["cpu", "io", "memory", "pids"])),
        },
        ports: vec![("0.0.0.0:80".parse().unwrap(), None)],
        disk: Ok(Disk {
            folder: "/var/lib/miren".into(),
            free_bytes: 50 << 30,
            all_bytes: 100 << 30,
            free_files: 1_000_000,
            all_files: 2_000_000,
        }),
        tracking: Some((100, 262_144)),
        clock: Clock::Synchronised,
        containerd: Containerd {
            is_needed: false,
            socket: "/run/containerd/containerd.sock".into(),
            answers: None,
        },
        builders: vec![Builder {
            name: "buildah",
            is_ready: true,
        }],
    }
}

/// The one check that differs from those of a healthy machine, after `change`.
fn changed(change: impl FnOnce(&mut Machine)) -> Check {
    let mut sick = healthy();
    change(&mut sick);
    let (before, after) = (machine(&healthy()), machine(&sick));
    let different: Vec<&Check> = after.iter().filter(|check| !before.contains(check)).collect();
    match different[..] {
        [one] => one.clone(),
        _ => panic!("not one change: {different:?}"),
    }
}

#[test]
fn g18_a_healthy_machine_has_nothing_to_do() {
    let names = [
        "kernel",
        "bpf",
        "cgroup",
        "ports",
        "disk",
        "conntrack",
        "clock",
        "containerd",
        "builder",
    ];
    let checks = machine(&healthy());
    assert_eq!(checks.iter().map(|check| check.name).collect::<Vec<_>>(), names);
    assert!(
        checks.iter().all(|check| check.ok && check.remedy.is_empty()),
        "{checks:?}"
    );
}

fn holder(program: &str) -> Option<Holder> {
    Some(Holder {
        program: program.into(),
        pid: Some(12),
    })
}

#[test]
fn g18_what_is_wrong_is_named_with_what_to_do() {
    type Change = Box<dyn FnOnce(&mut Machine)>;
    let full = |change: fn(&mut Disk)| -> Change { Box::new(move |seen| change(seen.disk.as_mut().unwrap())) };
    let cases: Vec<(Change, &str, &str)> = vec![
        (Box::new(|seen| seen.kernel = "5.15.0".into()), "5.15.0", "6.1"),
        (Box::new(|seen| seen.kernel = "what".into()), "what", "6.1"),
        (
            Box::new(|seen| seen.cgroups = Cgroups::default()),
            "no cgroup",
            "mount -t cgroup2",
        ),
        (
            Box::new(|seen| seen.cgroups.version2 = Some(set(&["cpu", "pids"]))),
            "without memory",
            "cgroup_enable=memory",
        ),
        (
            Box::new(move |seen| seen.ports[0].1 = holder("nginx")),
            "taken by nginx (pid 12)",
            "proxy.toml",
        ),
        (
            full(|disk| disk.free_bytes = 500 << 20),
            "500MiB of 100GiB free",
            "make room",
        ),
        (full(|disk| disk.free_files = 12), "12 of 2000000 inodes", "inodes"),
        (
            Box::new(|seen| seen.disk = Err("/x: gone".into())),
            "/x: gone",
            "data_dir",
        ),
        (
            Box::new(|seen| seen.tracking = Some((220_000, 262_144))),
            "220000 of 262144",
            "nf_conntrack_max",
        ),
        (
            Box::new(|seen| seen.clock = Clock::Alone),
            "not synchronised",
            "timedatectl",
        ),
        (
            Box::new(|seen| seen.containerd.is_needed = true),
            "is not there",
            "systemctl start containerd",
        ),
    ];
    for (change, detail, remedy) in cases {
        let check = changed(change);
        assert!(!check.ok, "{check:?}");
        assert!(
            check.detail.contains(detail) && check.remedy.contains(remedy),
            "{check:?}"
        );
    }
}

#[test]
fn g18_what_is_optional_is_no_fault() {
    assert!(changed(|seen| seen.kernel = "6.1.0-40-amd64".into()).ok);
    let without = |refused: &str| Bpf {
        has_folder: false,
        has_types: false,
        refused: Some(refused.into()),
    };
    let auto = changed(|seen| seen.bpf = without("not permitted"));
    assert!(
        auto.ok && auto.detail.contains("fast path is off") && !auto.remedy.is_empty(),
        "{auto:?}"
    );
    assert!(changed(|seen| seen.builders.clear()).ok);
    assert!(
        changed(|seen| seen.builders[0].is_ready = false)
            .detail
            .contains("without its daemon")
    );
    assert!(changed(|seen| seen.tracking = None).ok);
    assert!(changed(|seen| seen.clock = Clock::Unknown("x".into())).ok);
    assert!(changed(|seen| seen.containerd.answers = Some(Ok(()))).ok);
    let ours = Holder {
        program: "miren-proxy".into(),
        pid: Some(1),
    };
    assert!(changed(|seen| seen.ports[0].1 = Some(ours)).ok);
    let hybrid = changed(|seen| {
        seen.cgroups.version1 = set(&["memory", "cpu", "pids"]);
        seen.cgroups.version2 = Some(set(&[]));
    });
    assert!(hybrid.ok && hybrid.detail.contains("side by side"), "{hybrid:?}");
}

#[test]
fn g18_a_fast_path_that_is_demanded_has_to_be_possible() {
    let mut seen = healthy();
    seen.fast_path = "kernel".into();
    for (change, remedy) in [
        ((|bpf| bpf.has_folder = false) as fn(&mut Bpf), "mount -t bpf"),
        (|bpf| bpf.has_types = false, "CONFIG_DEBUG_INFO_BTF"),
        (|bpf| bpf.refused = Some("no".into()), "CAP_BPF"),
    ] {
        let mut seen = seen.clone();
        change(&mut seen.bpf);
        let checks = machine(&seen);
        assert!(!checks[1].ok && checks[1].remedy.contains(remedy), "{:?}", checks[1]);
        seen.is_root = false;
        let as_user = machine(&seen);
        assert_eq!(as_user[1].ok, seen.bpf.refused.is_some(), "{:?}", as_user[1]);
    }
}

#[test]
fn g18_daemons_of_another_version_or_none_are_told() {
    let running = |control: Result<&str, &str>, proxy: Proxy| {
        let seen = Running {
            own: "1.0.0".into(),
            control: control.map(str::to_owned).map_err(str::to_owned),
            settings: PathBuf::from("/etc/miren/control.toml"),
            proxy,
        };
        let checks = server(&seen);
        for check in &checks {
            assert_eq!(check.ok, check.remedy.is_empty(), "{check:?}");
        }
        checks.iter().map(|check| check.ok).collect::<Vec<_>>()
    };
    let runs = |version: Option<&str>| Proxy::Runs {
        pid: 3,
        version: version.map(str::to_owned),
    };
    assert_eq!(running(Ok("1.0.0"), runs(Some("1.0.0"))), [true, true]);
    assert_eq!(running(Ok("0.9.0"), runs(Some("0.9.0"))), [false, false]);
    assert_eq!(running(Err("nobody"), Proxy::Absent("/s".into())), [false, false]);
    assert_eq!(running(Ok("1.0.0"), runs(None)), [true, true]);
    assert_eq!(
        running(Ok("1.0.0"), Proxy::Unknown("no settings".into())),
        [true, false]
    );
}
