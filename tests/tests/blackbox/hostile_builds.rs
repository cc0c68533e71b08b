//! Dockerfiles that reach for the host, as somebody has them who may deploy: each finds a root without anything of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use host::{END, Host, TOOLS};
use miren_blackbox::{AppFolder, ContainerImage, Output, process, wait_until};
use serde_json::Value;

mod host;

const LIMIT: Duration = Duration::from_secs(60);

/// Mounts that a builder is talked into, by what they are. `links` is a stage with links to the root.
const MOUNTS: [(&str, &str); 13] = [
    (
        "a cache outside the caches",
        "type=cache,id=../../../../../../../..,target=/m",
    ),
    (
        "a cache at the root",
        "type=cache,id=/../../../../../../../..,target=/m,sharing=shared",
    ),
    ("a cache from a link", "type=cache,from=links,source=/b,target=/m"),
    ("a link", "type=bind,from=links,source=/b,target=/m,rw"),
    ("a link in a folder", "type=bind,from=links,source=/d/b,target=/m,rw"),
    (
        "above a stage",
        "type=bind,from=links,source=/../../../../../../..,target=/m,rw",
    ),
    ("above the folder", "type=bind,source=../../../../../../..,target=/m,rw"),
    ("the folder", "type=bind,source=/,target=/m,rw"),
    (
        "a link over processes",
        "type=bind,from=links,source=/b,target=/proc,rw",
    ),
    ("memory over processes", "type=tmpfs,target=/proc"),
    ("a link over devices", "type=bind,from=links,source=/b,target=/dev,rw"),
    ("a secret", "type=secret,id=../../../../etc/shadow,target=/m/etc/shadow"),
    ("a key", "type=ssh,target=/m/agent"),
];

#[test]
fn f1_a_folder_that_a_builder_is_talked_into_mounting_is_none_of_the_host() {
    let host = Host::new();
    let of_image = format!("type=bind,from={},source=/../../../../../..,target=/m,rw", host.base);
    for (name, mount) in MOUNTS.into_iter().chain([("above an image", of_image.as_str())]) {
        let tries = ["/m", "/proc", "/dev", "", "/proc/1/root"]
            .map(|at| host.attempt(at))
            .join("; ");
        host.attack(
            name,
            &format!("{}RUN --mount={mount} {tries}\n{END}", host.with_links()),
        );
    }
    host.node.stop();
}

#[test]
fn f1_a_file_that_a_builder_is_talked_into_copying_is_none_of_the_host() {
    let host = Host::new();
    let secret = host.secret_file().display().to_string();
    let folder = host.folder.path().display().to_string();
    let above = "/../../../../../../..";
    let stolen = "/stolen\nRUN cat /stolen";
    for step in [
        format!("COPY --from=links /b{secret} {stolen}"),
        format!("COPY --from=links {above}{secret} {stolen}"),
        format!("COPY .{above}{secret} {stolen}"),
        format!("ADD .{above}{secret} {stolen}"),
        format!("ADD file://{secret} {stolen}"),
        format!("COPY --from=links /b /out\nCOPY Dockerfile /out{folder}/owned"),
        format!("COPY --from=links /b /out\nWORKDIR /out{folder}\nRUN cat secret"),
    ] {
        host.attack(&step, &format!("{}{step}\n{END}", host.with_links()));
    }
    host.node.stop();
}

/// What a step does by itself, with every flag that a Dockerfile can ask for.
#[test]
fn f1_a_step_has_no_power_over_the_host() {
    let host = Host::new();
    let step = "mount --bind /proc /mnt && echo did mount; unshare -m true && echo did unshare; unshare -Ur true && echo did become root; \
        mknod /disk b 254 0 && cat /disk && echo did read a disk; mknod /kmsg c 1 11 && cat /kmsg && echo did read the kernel; \
        for device in /dev/mem /dev/kmsg /dev/vda /dev/sda /dev/fuse /dev/kvm; do [ -e $device ] && echo sees $device; done; \
        for file in /sys/fs/cgroup/*/memory.limit_in_bytes /sys/fs/cgroup/*/pids.max /sys/fs/cgroup/*.max; do \
          echo 1099511627776 > $file && echo did lift $file; done; \
        mkdir /sys/fs/cgroup/own && echo did make a group; mkdir -p /tmp/g; \
        for of in memory pids cpu; do mount -t cgroup -o $of none /tmp/g && echo did mount $of; done; \
        mount -t cgroup2 none /tmp/g && echo did mount groups; \
        for file in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/sysrq-trigger; do echo 1 > $file && echo did write $file; done; \
        cp /bin/bash /suid; chmod 4755 /suid; echo tried";
    let flags = [
        "",
        "--security=insecure",
        "--network=host",
        "--security=sandbox --network=none",
    ];
    for flag in flags {
        let tries = format!("{step}; {}; {}", host.attempt(""), host.attempt("/proc/1/root"));
        let base = &host.base;
        let dockerfile = format!("FROM {base}\nSHELL [\"/bin/bash\", \"-c\"]\nRUN {flag} ({tries}) 2>&1\n{END}");
        let output = host.attack(flag, &dockerfile);
        let is_run = output.stderr.lines().any(|line| line.trim() == "tried");
        assert!(is_run || !flag.is_empty(), "{output}");
    }
    // What others wrote for every build on their image is no better.
    let triggers = [
        format!(
            "RUN --mount=type=cache,id=../../../../../../../..,target=/m [\"/bin/bash\", \"-c\", \"{}\"]",
            host.attempt("/m")
        ),
        format!("COPY ../../../../../..{} /stolen", host.secret_file().display()),
    ];
    for trigger in triggers {
        let image = ContainerImage::of_programs(&TOOLS).on_build(&[&trigger]);
        let base = host.registry.push("triggers:1", &image);
        host.attack(
            "a trigger",
            &format!("FROM {base}\nSHELL [\"/bin/bash\", \"-c\"]\nRUN cat /stolen\n{END}"),
        );
    }
    host.node.stop();
}

/// What the host's own users have listening: whoever comes is counted.
fn service() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let came = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came);
    thread::spawn(move || {
        for _ in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, came)
}

#[test]
fn f1_a_dockerfile_leads_nobody_to_the_services_of_the_host() {
    let host = Host::new();
    let (port, came) = service();
    let decimal = u32::from(std::net::Ipv4Addr::LOCALHOST);
    let refused =
        |output: &Output| output.stdout.contains("images.registries") || output.stderr.contains("images.registries");
    for at in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "127.0.0.2",
        &decimal.to_string(),
        "0x7f000001",
        "0.0.0.0",
        "169.254.169.254",
    ] {
        let image = format!("{at}:{port}/a:1");
        for text in [
            format!("FROM {image}\n"),
            format!("ARG WHERE={at}:{port}\nFROM ${{WHERE}}/a:1\n"),
            format!("FROM {}\nCOPY --from={image} /a /a\n", host.base),
            format!(
                "FROM {}\nRUN --mount=type=bind,from={image},target=/m true\n",
                host.base
            ),
        ] {
            let output = host.attack(&text, &text);
            assert!(refused(&output), "{text}: {output}");
        }
    }
    assert_eq!(came.load(Ordering::SeqCst), 0, "somebody came to a service of the host");
    host.node.stop();
}

/// What is only seen by the builder: in the network of the build, the host's services are not there.
#[test]
fn f1_a_builder_leads_nobody_to_the_services_of_the_host() {
    let host = Host::new();
    let (port, came) = service();
    let base = &host.base;
    let trigger = ContainerImage::of_programs(&TOOLS).on_build(&[&format!("ADD http://127.0.0.1:{port}/ /a")]);
    let trigger = host.registry.push("triggers:1", &trigger);
    let elsewhere = ContainerImage::of_programs(&["/bin/bash", "/usr/bin/id"])
        .with_layer_at(&format!("http://127.0.0.1:{port}/layer"));
    let elsewhere = host.registry.push("elsewhere:1", &elsewhere);
    let shell = "SHELL [\"/bin/bash\", \"-c\"]";
    for text in [
        format!("FROM [::1]:{port}/a:1\n"),
        format!("FROM docker://127.0.0.1:{port}/a:1\n"),
        format!("FROM {base}\nADD http://127.0.0.1:{port}/ /a\n{END}"),
        format!("FROM {base}\nADD http://localhost:{port}/a.git /a\n{END}"),
        format!(
            "FROM {base}\n{shell}\nRUN --network=host timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' && echo did reach it\n{END}"
        ),
        format!("# syntax=127.0.0.1:{port}/frontend:1\nFROM {base}\n{shell}\n{END}"),
        format!("FROM {base}\nARG IMAGE=127.0.0.1:{port}/a:1\nCOPY --from=$IMAGE /a /a\n{END}"),
        format!("FROM {trigger}\n{shell}\n{END}"),
        format!("FROM {elsewhere}\n{shell}\n{END}"),
        // The registry is the host's as well, for whatever is not a pull.
        format!("FROM {base}\nADD http://{}/v2/ /a\n{END}", host.registry.address()),
    ] {
        host.attack(&text, &text);
    }
    assert_eq!(came.load(Ordering::SeqCst), 0, "somebody came to a service of the host");
    host.node.stop();
}

/// A process of a step, as the host sees it, and the groups that hold it.
#[test]
fn f1_a_step_is_nobody_on_the_host_and_held_to_limits_that_it_does_not_see() {
    let host = Host::new();
    let mark = format!("{}-step", host.node.name());
    let app = AppFolder::rust("hostile").app_toml("name = \"hostile\"\n[build]\nbuilder = \"buildah\"\n");
    let base = &host.base;
    let steps = format!("RUN echo begun; exec -a {mark} sleep 3000");
    let dockerfile = format!("FROM {base}\nSHELL [\"/bin/bash\", \"-c\"]\n{steps}\n");
    fs::write(app.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
    let mut command = host.node.cli.command(&["deploy", "-d", &app.path().to_string_lossy()]);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the command");
    let mut lines = BufReader::new(child.stderr.take().expect("its errors")).lines();
    assert!(
        lines.any(|line| line.expect("a line").trim() == "begun"),
        "the step does not begin"
    );
    let step = || {
        let named =
            |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(mark.as_bytes()));
        process::all().into_iter().find(named)
    };
    wait_until("the step", LIMIT, || step().map(drop).ok_or("nothing runs"));
    let pid = step().expect("a step");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let uid = status.lines().find(|line| line.starts_with("Uid:")).expect("its user");
    assert_eq!(uid, "Uid:\t1900000000\t1900000000\t1900000000\t1900000000");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
    let outlet = format!("/miren-{}/outlet-", host.node.name());
    assert!(groups.lines().any(|line| line.contains(&outlet)), "{groups}");
    let limits = limits(&groups, &outlet);
    assert!(
        limits.contains(&(2_u64 << 30)) && limits.contains(&4096),
        "{limits:?} in {groups}"
    );
    let deploys: Vec<Value> = host.node.cli.json(&["deploy", "list", "-a", "hostile"]);
    let id = deploys[0]["id"].as_str().expect("an id").to_owned();
    let _: Value = host.node.cli.json(&["deploy", "cancel", &id]);
    wait_until("the end of the step", LIMIT, || {
        step().map_or(Ok(()), |_| Err("it runs"))
    });
    child.wait().expect("its end");
    host.node.stop();
}

/// Bounds of memory and processes in the groups that are named so, of either version.
fn limits(groups: &str, outlet: &str) -> Vec<u64> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let points = mounts
        .lines()
        .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, point, "cgroup" | "cgroup2", ..] => Some(point.to_owned()),
            _ => None,
        });
    let points: Vec<String> = points.collect();
    let paths = groups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .filter(|path| path.starts_with(outlet));
    let files = ["memory.limit_in_bytes", "memory.max", "pids.max"];
    paths
        .flat_map(|path| points.iter().map(move |point| format!("{point}{path}")))
        .flat_map(|group| files.map(|file| format!("{group}/{file}")))
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
        .collect()
}
