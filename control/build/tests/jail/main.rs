//! Decides that a builder sees and may use what it is given and nothing else, with the real kernel: run as root.
//!
//! A script is in the place of buildah. What it writes into its storage is read from outside.

mod node;

use miren_build::BuildError;
use node::{FIRST_USER, Node, registry};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn f1_the_root_of_a_builder_has_nothing_of_the_host_but_its_programs() {
    let node = Node::new("ls /; ls /etc; ls /dev; ls /root /home /var/lib /boot 2>&1 | grep -c 'No such'; ls /context");
    let told = node.told().await;
    let mut expected = "bin context dev etc lib lib64 proc run sbin storage sys tmp usr var"
        .split(' ')
        .collect::<Vec<_>>();
    let own_programs = node
        .folder
        .path()
        .components()
        .nth(1)
        .expect("a folder")
        .as_os_str()
        .to_string_lossy();
    expected.push(&own_programs);
    let first_of_etc = told
        .iter()
        .position(|line| line == "alternatives")
        .unwrap_or(told.len());
    let root: Vec<&str> = told[..first_of_etc].iter().map(String::as_str).collect();
    let unexpected: Vec<&&str> = root
        .iter()
        .filter(|name| !expected.contains(name) && !name.starts_with("lib"))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?} in {told:?}");
    for line in ["resolv.conf", "containers", "null", "Dockerfile", "4"] {
        assert!(told.iter().any(|told| told == line), "{line} is missing in {told:?}");
    }
    for line in ["shadow", "miren", "kmsg", "mem", "vda", "fuse", "ssh"] {
        assert!(!told.iter().any(|told| told == line), "{line} is in {told:?}");
    }
}

#[tokio::test]
async fn f1_a_builder_owns_and_changes_nothing_of_the_host() {
    let node = Node::new(
        "id -u; cat /proc/self/uid_map | tr -s ' '; exec 2>/dev/null
         for at in / /usr /usr/bin /etc /context /sys/fs/cgroup /dev/owned; do touch $at/owned && echo wrote $at; done
         for what in /usr /context /; do mount -o remount,rw $what && touch $what/owned && echo remounted $what; done
         for what in /usr /context /storage /sys/fs/cgroup /; do umount -l $what && echo unmounted $what; done
         mknod /storage/disk b 254 0 && echo made a device
         echo x > /proc/sys/kernel/core_pattern && echo wrote core_pattern
         ip link add a type dummy && echo changed the network
         ls /sys/fs/cgroup/*/ | grep -v : | grep -q . && echo sees groups
         mkdir /sys/fs/cgroup/own && echo made a group
         mkdir /tmp/v1; for of in memory pids cpu; do mount -t cgroup -o $of none /tmp/v1 && echo 999 > /tmp/v1/pids.max && echo lifted $of; done
         mount -t cgroup2 none /tmp/v1 && mkdir /tmp/v1/own && echo made a group of its own
         ls /proc | grep -c '^[0-9]*$'; ls -l /proc/self/fd | grep -c ' -> /'",
    );
    let told = node.told().await;
    assert_eq!(
        told[..2],
        ["0".to_owned(), format!(" 0 {FIRST_USER} 65536")],
        "{told:?}"
    );
    let processes: usize = told[2].parse().unwrap_or_else(|_| panic!("{told:?}"));
    assert!(processes < 10, "it sees {processes} processes: {told:?}");
    assert_eq!(told.len(), 4, "{told:?}");
    let storage = fs::metadata(node.storage("app").join("calls")).expect("a file");
    assert_eq!((storage.uid(), storage.gid()), (FIRST_USER, FIRST_USER));
}

/// Whoever owns what is there: a mount is read-only to its owner too.
#[tokio::test]
async fn f1_what_is_shown_of_the_host_cannot_be_written_nor_give_rights_or_devices() {
    let node = Node::new("cat /proc/self/mounts");
    let told = node.told().await;
    let mounts = told.iter().map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, at, _, options, ..] => (at, options.split(',').collect::<Vec<_>>()),
        _ => panic!("{line:?} is no mount"),
    });
    let (mut writable, mut wrong) = (Vec::new(), Vec::new());
    for (at, options) in mounts {
        if !options.contains(&"nosuid") || !options.contains(&"nodev") && !at.starts_with("/dev/") {
            wrong.push((at, options.clone()));
        }
        if options.contains(&"rw") && (!at.starts_with("/dev/") || at == "/dev/shm") {
            writable.push(at);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    writable.sort_unstable();
    // Its own memory and its own folders. What of /proc is anybody's but its own belongs to the host's root.
    assert_eq!(writable, ["/dev/shm", "/proc", "/run", "/storage", "/tmp", "/var/tmp"]);
}

#[tokio::test]
async fn f1_all_processes_of_a_build_share_its_limits() {
    let node = Node::new("sh -c 'for i in $(seq 200); do sleep 1000 & done' 2>&1 | grep -m1 -o 'Cannot fork'");
    let (_, told) = node.build("app").await;
    assert!(told.iter().any(|line| line == "Cannot fork"), "{told:?}");
    let usual = [("cpu.shares", 1024), ("cpu.weight", 100)];
    let shares = usual.map(|(file, usual)| node.limits(file).iter().any(|share| *share < usual));
    assert!(shares.contains(&true), "of the processor it has what anything else has");
    node.write_program("head -c 200000000 /dev/zero | tail | wc -c; exit ${PIPESTATUS[1]}");
    let (built, told) = node.build("app").await;
    let error = built.expect_err("it needs too much").to_string();
    assert!(error.contains("images.build_memory"), "{error}: {told:?}");
}

#[tokio::test]
async fn f1_a_build_has_no_credentials_and_no_variables_of_the_daemon() {
    let node = Node::new("env | cut -d= -f1 | grep -vi proxy | sort | tr '\\n' ' '; cat /etc/containers/auth.json");
    fs::write(
        node.folder.path().join("config.json"),
        r#"{"auths":{"r.example":{"auth":"bWU6c2VjcmV0"}}}"#,
    )
    .expect("a file");
    let told = node.told().await.join("\n");
    assert!(!told.contains("bWU6c2VjcmV0"), "{told}");
    assert!(told.contains(r#"{"auths":{}}"#), "{told}");
    assert!(told.contains("HOME LC_ALL PATH PWD SHLVL TMPDIR USER _"), "{told}");
}

#[tokio::test]
async fn f1_what_a_builder_leaves_in_the_place_of_an_image_is_not_read() {
    let node = Node::new("true");
    for left in [
        "ln -s /etc/hostname /out/image.tar",
        "mkfifo /out/image.tar",
        "mkdir /out/image.tar",
        "true",
    ] {
        let path = node.folder.path().join("programs/buildah");
        fs::write(&path, format!("#!/bin/bash\nif [ $1 = push ]; then {left}; fi\n")).expect("a script");
        let (built, _) = node.build("app").await;
        let error = built.expect_err(left).to_string();
        assert!(error.starts_with("taking the image"), "{left}: {error}");
    }
}

#[tokio::test]
async fn f1_layers_of_one_app_are_never_used_for_another() {
    let node = Node::new("ls /storage; echo poison > /storage/layer-of-$RANDOM");
    let own = |told: &(Result<String, BuildError>, Vec<String>)| {
        told.1.iter().filter(|line| line.starts_with("layer-of")).count()
    };
    assert_eq!(own(&node.build("one").await), 0);
    assert_eq!(own(&node.build("one").await), 1, "its own are kept");
    assert_eq!(own(&node.build("other").await), 0);
}

#[tokio::test]
async fn f1_layers_that_the_host_s_root_made_are_thrown_away() {
    let node = Node::new("ls /storage");
    let (former, of_root) = (node.folder.path().join("builds/buildah"), node.storage("app"));
    for folder in [&former, &of_root] {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("old"), "a layer").expect("a file");
    }
    let told = node.told().await;
    assert_eq!(told, ["calls"]);
    assert!(!former.exists());
}

#[tokio::test]
async fn layers_of_earlier_builds_are_thrown_away_once_they_are_too_large() {
    let mut node = Node::new("head -c 1000000 /dev/zero > /storage/layer");
    node.cache = 1_500_000;
    for app in ["old", "new"] {
        node.build(app).await.0.expect("an image");
    }
    assert!(!node.storage("old").exists(), "it was used longest ago");
    assert!(node.storage("new").join("layer").exists());
    node.cache = 1000;
    node.build("new").await.0.expect("an image");
    assert!(!node.storage("new").exists(), "alone it is too large");
}

#[tokio::test]
async fn what_a_build_that_did_not_end_well_left_is_removed_before_the_next() {
    let node = Node::new("exit 3");
    node.build("app").await.0.expect_err("it fails");
    node.write_program("true");
    node.build("app").await.0.expect("an image");
    node.build("app").await.0.expect("an image");
    let calls = fs::read_to_string(node.storage("app").join("calls")).expect("calls");
    let verbs: Vec<&str> = calls.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(verbs, ["build", "rm", "build", "push", "build", "push"]);
}

/// A build that fails leaves a container, which is removed before the next one.
#[tokio::test]
async fn layers_that_the_builder_cannot_read_any_more_are_made_anew() {
    let node = Node::new("touch /storage/broken; exit 3");
    node.build("app").await.0.expect_err("it fails");
    node.write_program("ls /storage");
    let (built, told) = node.build("app").await;
    built.expect("an image");
    assert_eq!(told[1..], ["calls"]);
}

#[tokio::test]
async fn layers_in_which_a_build_was_when_the_machine_ended_are_made_anew() {
    let node = Node::new("ls /storage; touch /storage/layer");
    node.build("app").await.0.expect("an image");
    let life = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a life");
    for (state, kept) in [
        ("built".to_owned(), true),
        ("failed".to_owned(), true),
        (format!("building in {}", life.trim()), true),
        ("building in another life".to_owned(), false),
        ("buil".to_owned(), false),
        (String::new(), false),
    ] {
        fs::write(node.own("app").join("state"), &state).expect("a file");
        let (built, told) = node.build("app").await;
        built.expect("an image");
        assert_eq!(told.contains(&"layer".to_owned()), kept, "{state:?}: {told:?}");
    }
}

#[tokio::test]
async fn f1_an_app_of_a_deleted_app_s_name_has_none_of_its_layers() {
    let node = Node::new("ls /storage; touch /storage/layer");
    node.build("app").await.0.expect("an image");
    node.builds().forget("app").expect("it is moved out of the way");
    assert!(!node.own("app").exists());
    let (built, told) = node.build("app").await;
    built.expect("an image");
    assert_eq!(told[1..], ["calls"]);
    node.builds()
        .forget("never-built")
        .expect("there is nothing to be done");
}

/// One that goes on while its app is deleted says nothing about layers that are not its own.
#[tokio::test]
async fn f1_a_build_whose_app_is_deleted_meanwhile_leaves_none() {
    let node = Node::new("true");
    let builds = node.builds();
    let forget = |line: String| {
        if line.contains("building") {
            return;
        }
        builds.forget("app").expect("it is moved out of the way");
    };
    node.write_program("echo here; sleep 0.1");
    let built = node.build_telling(&builds, "app", &forget).await;
    drop(built);
    assert!(!node.own("app").exists());
}

/// How often the sizes of layers are looked at: by a program, which is counted.
fn count_bounding(node: &Node) -> impl Fn() -> usize {
    let (calls, program) = (
        node.folder.path().join("bounded"),
        node.folder.path().join("programs/du"),
    );
    fs::write(
        &program,
        format!("#!/bin/sh\necho once >> {}\nexec /usr/bin/du \"$@\"\n", calls.display()),
    )
    .expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
    move || fs::read_to_string(&calls).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn layers_are_bounded_once_however_a_build_ended() {
    let node = Node::new("true");
    let bounded = count_bounding(&node);
    node.build("app").await.0.expect("an image");
    assert_eq!(bounded(), 1);
    node.write_program("exit 3");
    node.build("app").await.0.expect_err("it fails");
    assert_eq!(bounded(), 2);
    // One that nobody waits for any more.
    node.write_program("echo here; sleep 100");
    let (builds, (here, is_here)) = (node.builds(), tokio::sync::oneshot::channel());
    let here = parking_lot::Mutex::new(Some(here));
    let tell = |line: String| {
        if line == "here" {
            here.lock().take().map(|here| here.send(()));
        }
    };
    tokio::select! {
        _ = node.build_telling(&builds, "app", &tell) => panic!("it ended"),
        _ = is_here => {}
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while bounded() != 3 {
        assert!(std::time::Instant::now() < deadline, "{} times", bounded());
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn what_is_half_there_keeps_nothing_from_being_bounded() {
    let mut node = Node::new("head -c 1000000 /dev/zero > /storage/layer");
    node.cache = 1000;
    let all = node.own("gone.used");
    fs::create_dir_all(all.parent().expect("a folder")).expect("a folder");
    fs::write(&all, "built").expect("a file");
    fs::create_dir(node.own("empty")).expect("a folder");
    node.build("app").await.0.expect("an image");
    assert!(!node.own("app").exists(), "it is too large");
}

#[tokio::test]
async fn f1_a_context_is_read_and_never_written_and_its_links_lead_into_the_root() {
    let node = Node::new(
        "cat /context/link 2>&1 | grep -o 'No such file'; cat /context/etc/hosts; touch /context/owned 2>/dev/null || echo refused",
    );
    let app = node.folder.path().join("app");
    symlink(node.folder.path().join("secret"), app.join("link")).expect("a link");
    symlink("/etc", app.join("etc")).expect("a link");
    // Nobody is kept from writing there by whose it is.
    fs::set_permissions(&app, fs::Permissions::from_mode(0o777)).expect("its mode");
    assert_eq!(node.told().await, ["No such file", "127.0.0.1 localhost", "refused"]);
    assert!(!app.join("owned").exists());
}

#[tokio::test]
async fn f1_a_fetch_is_shown_the_credentials_of_its_own_registry() {
    let mut node = Node::new("cat /etc/containers/auth.json");
    node.pull = "cat /etc/containers/auth.json; echo; ls /context 2>&1 | grep -o 'No such file'".to_owned();
    node.write_program("cat /etc/containers/auth.json");
    // "a:1", "b:2" and "c:3"
    let config = r#"{"auths":{"a.example":{"auth":"YTox"},"b.example":{"auth":"Yjoy"},"c.example":{"auth":"Yzoz"}}}"#;
    fs::write(node.folder.path().join("config.json"), config).expect("a file");
    node.write_dockerfile("FROM a.example/x AS one\nFROM b.example/y\nFROM d.example/z\n");
    let told = node.told().await;
    let expected = [
        "pulling a.example/x",
        r#"{"auths":{"a.example":{"auth":"YTox"}}}"#,
        "No such file",
        "pulling b.example/y",
        r#"{"auths":{"b.example":{"auth":"Yjoy"}}}"#,
        "No such file",
        "pulling d.example/z",
        r#"{"auths":{}}"#,
        "No such file",
        r#"{"auths":{}}"#,
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn f1_a_registry_that_the_operator_named_is_reached_and_nothing_beside_it() {
    let (named, came) = registry("127.0.0.1");
    let (other, came_to_other) = registry("127.0.0.1");
    let knock = |port| {
        format!("(exec 3<>/dev/tcp/127.0.0.1/{port} && read -t 20 line <&3 && echo $line) 2>/dev/null || echo nobody")
    };
    let mut node = Node::new("true");
    node.registries = vec![format!("127.0.0.1:{named}")];
    node.pull = format!("{}; {}", knock(named), knock(other));
    node.write_program(&knock(named));
    node.write_dockerfile(&format!("FROM 127.0.0.1:{named}/x\n"));
    let told = node.told().await;
    assert_eq!(told[1..], ["a registry of the host", "nobody", "nobody"], "{told:?}");
    assert_eq!(came.load(Ordering::SeqCst), 1);
    node.write_dockerfile(&format!("FROM 127.0.0.1:{other}/x\n"));
    let error = node.build("app").await.0.expect_err("nobody named it").to_string();
    assert!(error.contains("images.registries"), "{error}");
    assert_eq!(came_to_other.load(Ordering::SeqCst), 0);
}
