//! Dockerfiles that reach for the host, as somebody has them who may deploy: each finds a root without anything of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use miren_blackbox::{AppFolder, ContainerImage, Node, NodeOptions, Output, Registry, process, wait_until};
use serde_json::Value;
use tempfile::TempDir;

const TOOLS: [&str; 13] = [
    "/bin/bash",
    "/usr/bin/cat",
    "/usr/bin/chmod",
    "/usr/bin/cp",
    "/usr/bin/ln",
    "/usr/bin/ls",
    "/usr/bin/mkdir",
    "/usr/bin/mknod",
    "/usr/bin/mount",
    "/usr/bin/sleep",
    "/usr/bin/timeout",
    "/usr/bin/touch",
    "/usr/bin/unshare",
];
const LIMIT: Duration = Duration::from_secs(60);
/// How every attack ends, so that nothing of it is ever run as an app.
const END: &str = "RUN echo the end of the attack; exit 9\n";

/// A node, the registry that its operator named, and a folder of the host's that is nobody's business.
struct Host {
    node: Node,
    registry: Registry,
    base: String,
    folder: TempDir,
    secret: String,
}

impl Host {
    fn new() -> Self {
        let registry = Registry::start();
        let base = registry.push("tools:1", &ContainerImage::of_programs(&TOOLS));
        // Not where memory of a builder's own is mounted: it would hide what is there.
        let folder = tempfile::Builder::new()
            .prefix("miren-host-")
            .tempdir_in("/var/lib")
            .expect("a folder");
        let secret = format!("secret-{:x}", std::process::id());
        fs::write(folder.path().join("secret"), &secret).expect("a file");
        Self {
            node: NodeOptions::unique().registry(&registry).start(),
            registry,
            base,
            folder,
            secret,
        }
    }

    fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// Reads and writes the folder of the host's below `at`, and what else a host has there.
    fn attempt(&self, at: &str) -> String {
        let folder = format!("{at}{}", self.folder.path().display());
        let others = ["/etc/shadow", "/root/.bashrc", "/var/lib/dpkg/status"].map(|path| format!("{at}{path}"));
        format!(
            "cat {folder}/secret; touch {folder}/owned && echo wrote {folder}; echo owned > {folder}/secret && echo wrote the secret; \
             for file in {} {at}{}/control.toml; do [ -e $file ] && echo sees $file; done; \
             touch {at}/usr/bin/owned {at}/etc/owned; echo tried",
            others.join(" "),
            self.node.folder().display()
        )
    }

    /// Deploys a Dockerfile that does not get as far as an image, and looks whether the host is as it was.
    fn attack(&self, name: &str, dockerfile: &str) -> Output {
        let app = AppFolder::rust("hostile").app_toml("name = \"hostile\"\n[build]\nbuilder = \"buildah\"\n");
        fs::write(app.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
        let output = self.node.cli.call(&["deploy", "-d", &app.path().to_string_lossy()]);
        assert_ne!(output.code, 0, "{name}: {output}");
        let told = format!("{}{}", output.stdout, output.stderr);
        assert!(!told.contains(&self.secret), "{name}: {output}");
        let lines = || told.lines().map(str::trim);
        let found = lines().find(|line| ["sees ", "wrote ", "did "].iter().any(|begin| line.starts_with(begin)));
        assert_eq!(found, None, "{name}: {output}");
        let left: Vec<_> = fs::read_dir(self.folder.path())
            .expect("a folder")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, ["secret"], "{name}");
        assert_eq!(
            fs::read_to_string(self.secret_file()).expect("a file"),
            self.secret,
            "{name}"
        );
        let end = lines().find(|line| *line == "tried" || line.starts_with("Error: "));
        println!("{name}: {:.150}", end.unwrap_or("refused before it began"));
        for folder in ["/usr/bin", "/etc"] {
            assert!(!Path::new(folder).join("owned").exists(), "{name} wrote to {folder}");
        }
        output
    }

    /// Stages before the one that attacks: one with links that lead to the root of whoever follows them.
    fn with_links(&self) -> String {
        let base = &self.base;
        let shell = "SHELL [\"/bin/bash\", \"-c\"]";
        let links = "RUN mkdir -p /d; ln -s / /b; ln -s / /d/b";
        format!("FROM {base} AS links\n{shell}\n{links}\nFROM {base}\n{shell}\n")
    }
}

/// Mounts and copies that the builder is talked into.
#[test]
fn f1_a_folder_that_a_builder_is_talked_into_is_none_of_the_host() {
    let host = Host::new();
    let mounts = [
        (
            "a cache outside the caches",
            "type=cache,id=../../../../../../../..,target=/m",
        ),
        (
            "a cache at the root",
            "type=cache,id=/../../../../../../../..,target=/m,sharing=shared",
        ),
        (
            "a cache from a stage's link",
            "type=cache,from=links,source=/b,target=/m",
        ),
        (
            "a stage's link, writable",
            "type=bind,from=links,source=/b,target=/m,rw",
        ),
        (
            "a stage's link in a folder",
            "type=bind,from=links,source=/d/b,target=/m,rw",
        ),
        (
            "above a stage",
            "type=bind,from=links,source=/../../../../../../..,target=/m,rw",
        ),
        (
            "above an image",
            &format!("type=bind,from={},source=/../../../../../..,target=/m,rw", host.base),
        ),
        ("above the folder", "type=bind,source=../../../../../../..,target=/m,rw"),
        ("the folder", "type=bind,source=/,target=/m,rw"),
        (
            "a stage over the processes",
            "type=bind,from=links,source=/b,target=/proc,rw",
        ),
        ("memory over the processes", "type=tmpfs,target=/proc"),
        ("a stage over devices", "type=bind,from=links,source=/b,target=/dev,rw"),
        ("a secret", "type=secret,id=../../../../etc/shadow,target=/m/etc/shadow"),
        ("a key", "type=ssh,target=/m/agent"),
    ];
    for (name, mount) in mounts {
        let tries = ["/m", "/proc", "/dev", "", "/proc/1/root"]
            .map(|at| host.attempt(at))
            .join("; ");
        let dockerfile = format!("{}RUN --mount={mount} {tries}\n{END}", host.with_links());
        host.attack(name, &dockerfile);
    }
    let secret = host.secret_file().display().to_string();
    let steps = [
        (
            "a copy through a stage's link",
            format!("COPY --from=links /b{secret} /stolen\nRUN cat /stolen"),
        ),
        (
            "a copy from above a stage",
            format!("COPY --from=links /../../../../../../..{secret} /stolen\nRUN cat /stolen"),
        ),
        (
            "a copy from above the folder",
            format!("COPY ../../../../../../..{secret} /stolen\nRUN cat /stolen"),
        ),
        (
            "an addition from above the folder",
            format!("ADD ../../../../../../..{secret} /stolen\nRUN cat /stolen"),
        ),
        (
            "a copy onto a link",
            format!(
                "COPY --from=links /b /out\nCOPY Dockerfile /out{}/owned\nRUN true",
                host.folder.path().display()
            ),
        ),
        (
            "a working folder behind a link",
            format!(
                "COPY --from=links /b /out\nWORKDIR /out{}\nRUN cat secret",
                host.folder.path().display()
            ),
        ),
        (
            "an addition from a file's URL",
            format!("ADD file://{secret} /stolen\nRUN cat /stolen"),
        ),
    ];
    for (name, step) in steps {
        host.attack(name, &format!("{}{step}\n{END}", host.with_links()));
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
