//! Which builder is asked, what becomes of its output and its processes; with scripts in the place of builders.

use crate::{Archive, BuildError, Builds, Order, Settings};
use miren_api::app_file::Builder;
use miren_image::{Auths, Registries};
use parking_lot::Mutex;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A node without any builder but the scripts that it is given.
struct Node {
    folder: TempDir,
    limit: Duration,
    cache: u64,
}

impl Node {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        for name in ["app", "programs"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let node = Self {
            folder,
            limit: Duration::from_secs(60),
            cache: 1 << 30,
        };
        // None of this machine's own is asked.
        for builder in ["buildctl", "docker"] {
            node.program(builder, "exit 1");
        }
        node.file("Dockerfile", "FROM scratch\n");
        node
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.folder.path().join("programs").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    fn app(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.app().join(name), text).expect("a file");
    }

    /// How many files and folders of builds there are that go with them.
    fn left(&self) -> usize {
        let under_way = self.folder.path().join("builds/under-way");
        fs::read_dir(under_way).expect("a folder").count()
    }

    fn builds(&self) -> Arc<Builds> {
        let builds = Builds::open(Settings {
            folder: self.folder.path().join("builds"),
            run_dir: self.folder.path().join("run"),
            helper: "/bin/false".into(),
            auths: Auths::from_file(&self.folder.path().join("docker/config.json")),
            registries: Registries::default(),
            plain_http: Vec::new(),
            first_user: 1_900_000_000,
            processes: 1000,
            limit: self.limit,
            memory: 1 << 30,
            cache: self.cache,
            programs: Some(self.folder.path().join("programs")),
        })
        .expect("folders");
        Arc::new(builds)
    }

    async fn build(&self, builder: Option<Builder>) -> (Result<Archive, BuildError>, Vec<String>) {
        self.build_with(&self.builds(), builder).await
    }

    async fn build_with(
        &self,
        builds: &Arc<Builds>,
        builder: Option<Builder>,
    ) -> (Result<Archive, BuildError>, Vec<String>) {
        let told = Mutex::new(Vec::new());
        let tell = |line: String| told.lock().push(line);
        let app = self.app();
        let order = Order {
            app: "app",
            folder: &app,
            dockerfile: "Dockerfile",
            builder,
            outside: None,
        };
        let built = builds.build(order, &tell).await;
        (built, told.into_inner())
    }
}

/// Answers, and does what `build` says where it is to build.
fn docker(build: &str) -> String {
    format!(
        "case $1 in
           version) echo 28;;
           build) while [ $# -gt 1 ]; do [ $1 = --iidfile ] && ids=$2; shift; done; {build}; echo sha256:1 > $ids;;
           save) shift; echo saved $3 > $2;;
           image) echo removed >&2;;
         esac"
    )
}

#[tokio::test]
async fn docker_builds_saves_and_forgets() {
    let node = Node::new();
    node.program("docker", &docker("echo building $1; ls $1"));
    let (built, told) = node.build(Some(Builder::Docker)).await;
    let archive = built.expect("an image");
    assert_eq!(fs::read_to_string(archive.path()).expect("saved"), "saved sha256:1\n");
    let app = node.app();
    assert_eq!(
        told,
        [
            "building Dockerfile with docker".to_owned(),
            format!("building {}", app.display()),
            "Dockerfile".to_owned()
        ]
    );
    let path = archive.path().to_owned();
    drop(archive);
    assert!(!path.exists(), "it vanishes with its handle");
}

#[tokio::test]
async fn buildkit_is_told_where_everything_is() {
    let node = Node::new();
    node.program(
        "buildctl",
        "[ $1 = debug ] && exit 0\nfor word; do case $word in *dest=*) out=${word##*dest=};; esac; done; echo \"$@\" > $out",
    );
    let (built, _) = node.build(Some(Builder::Buildkit)).await;
    let archive = built.expect("an image");
    let asked = fs::read_to_string(archive.path()).expect("saved");
    let app = node.app().display().to_string();
    let under_way = node.folder.path().join("builds/under-way");
    for part in [
        format!("--local=context={app} --local=dockerfile={app} --opt=filename=Dockerfile"),
        "--frontend=dockerfile.v0".to_owned(),
        format!("--output=type=docker,dest={}/", under_way.display()),
    ] {
        assert!(asked.contains(&part), "{asked}");
    }
}

#[tokio::test]
async fn the_first_builder_that_answers_builds() {
    let node = Node::new();
    let (built, _) = node.build(Some(Builder::Docker)).await;
    let refused = built.expect_err("its daemon does not answer").to_string();
    assert!(
        refused.starts_with("no docker daemon answers; install buildah"),
        "{refused}"
    );
    node.program("buildah", "echo this is buildah; exit 1");
    node.program("docker", &docker("true"));
    let (_, told) = node.build(None).await;
    assert_eq!(told[0], "building Dockerfile with buildah", "it comes before docker");
    node.program("buildctl", "[ $1 = debug ] || exit 1");
    let (_, told) = node.build(None).await;
    assert_eq!(told[0], "building Dockerfile with buildkit", "it comes first");
}

#[tokio::test]
async fn a_failed_build_shows_the_end_of_its_output() {
    let node = Node::new();
    node.program("docker", &docker("seq 100; echo no such thing >&2; exit 7"));
    let (built, told) = node.build(Some(Builder::Docker)).await;
    let error = built.expect_err("it failed").to_string();
    assert!(
        error.starts_with("docker build of Dockerfile: exit status: 7\n  82\n"),
        "{error}"
    );
    assert!(error.ends_with("\n  100\n  no such thing"), "{error}");
    assert_eq!(told.len(), 102, "all of it was told");
    assert_eq!(node.left(), 0, "under way");
}

/// Writes its pid, then waits for ever.
fn endless(node: &Node) -> (String, PathBuf) {
    let pid = node.folder.path().join("pid");
    let script = format!(
        "mkfifo {0}.go; echo $$ > {0}; echo here; read x < {0}.go",
        pid.display()
    );
    (script, pid)
}

/// Whether the process whose pid is in the file has ended.
fn has_ended(pid: &PathBuf) -> bool {
    let pid = fs::read_to_string(pid).expect("a pid");
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_killed() {
    let mut node = Node::new();
    // Long enough for the first program to write its pid, and for the second one to do all it has to.
    node.limit = Duration::from_secs(5);
    let (script, pid) = endless(&node);
    node.program("docker", &docker(&script));
    let builds = node.builds();
    let (built, _) = node.build_with(&builds, Some(Builder::Docker)).await;
    let error = built.expect_err("it took too long").to_string();
    assert_eq!(error, "building Dockerfile took longer than 5s (images.build_timeout)");
    // The next one has its turn when the first has ended.
    node.program("docker", &docker("true"));
    let (built, _) = node.build_with(&builds, Some(Builder::Docker)).await;
    built.expect("an image");
    assert!(has_ended(&pid));
}

#[tokio::test]
async fn a_build_that_nobody_waits_for_is_killed_and_its_turn_passes_on() {
    let node = Arc::new(Node::new());
    let (script, pid) = endless(&node);
    node.program("docker", &docker(&script));
    let builds = node.builds();
    let (lines, mut told) = tokio::sync::mpsc::unbounded_channel();
    let first = tokio::spawn({
        let (builds, app) = (Arc::clone(&builds), node.app());
        async move {
            let order = Order {
                app: "app",
                folder: &app,
                dockerfile: "Dockerfile",
                builder: Some(Builder::Docker),
                outside: None,
            };
            let tell = |line: String| drop(lines.send(line));
            builds.build(order, &tell).await
        }
    });
    while told.recv().await.expect("it builds") != "here" {}
    node.program("docker", &docker("echo second"));
    let second = tokio::spawn({
        let (builds, node) = (Arc::clone(&builds), Arc::clone(&node));
        async move { node.build_with(&builds, Some(Builder::Docker)).await }
    });
    first.abort();
    let (built, _) = second.await.expect("it ran");
    built.expect("an image");
    assert!(has_ended(&pid), "one at a time");
}

/// A client that is killed may have started others, which write on.
#[tokio::test]
async fn what_a_build_writes_after_nobody_waits_for_it_is_removed_too() {
    let node = Node::new();
    let go = node.folder.path().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    // It has the pipe open when it says so, and nobody waits in vain for the other end.
    let late = format!(
        "(exec 4<>{}; echo here; read x <&4; echo late > $2) & wait",
        go.display()
    );
    let script = docker("true").replace("echo saved $3 > $2", &late);
    node.program("docker", &script);
    let builds = node.builds();
    let (lines, mut told) = tokio::sync::mpsc::unbounded_channel();
    let app = node.app();
    let order = Order {
        app: "app",
        folder: &app,
        dockerfile: "Dockerfile",
        builder: Some(Builder::Docker),
        outside: None,
    };
    let tell = |line: String| drop(lines.send(line));
    tokio::select! {
        _ = builds.build(order, &tell) => panic!("it ended"),
        () = async { while told.recv().await.expect("it builds") != "here" {} } => {}
    }
    fs::write(&go, "go\n").expect("somebody reads");
    node.program("docker", &docker("true"));
    let (built, _) = node.build_with(&builds, Some(Builder::Docker)).await;
    drop(built.expect("an image"));
    assert_eq!(node.left(), 0, "under way");
}

#[tokio::test]
async fn a_dockerfile_that_leads_out_of_the_folder_is_not_read() {
    let node = Node::new();
    node.program("docker", &docker("true"));
    let dockerfile = node.app().join("Dockerfile");
    fs::write(node.folder.path().join("secret"), "a secret of the host").expect("a file");
    for (to, why) in [
        ("../secret", "leads out of the folder"),
        ("/etc/passwd", "leads out of the folder"),
        ("/dev/zero", "leads out of the folder"),
        ("nowhere", "is a link to nothing"),
    ] {
        fs::remove_file(&dockerfile).expect("the one before");
        symlink(to, &dockerfile).expect("a link");
        let (built, told) = node.build(None).await;
        let error = built.expect_err("it leads out").to_string();
        assert!(
            error.starts_with(&format!("Dockerfile {why}; make it a file")),
            "{to}: {error}"
        );
        assert_eq!(told, [""; 0]);
    }
    fs::remove_file(&dockerfile).expect("the last one");
    node.file("real", "FROM scratch\n");
    symlink("real", &dockerfile).expect("a link");
    node.build(Some(Builder::Docker))
        .await
        .0
        .expect("a link inside is none");
    for rules in [".dockerignore", "Dockerfile.dockerignore", ".containerignore"] {
        symlink("/etc/passwd", node.app().join(rules)).expect("a link");
        let (built, _) = node.build(None).await;
        let error = built.expect_err("it leads out").to_string();
        assert!(
            error.starts_with(&format!("{rules} leads out of the folder")),
            "{error}"
        );
        fs::remove_file(node.app().join(rules)).expect("the link");
    }
}

#[tokio::test]
async fn g6_docker_is_told_to_read_the_rules_that_count() {
    let node = Node::new();
    node.program("docker", &docker("echo by ${DOCKER_BUILDKIT:-itself}"));
    node.file(".dockerignore", "*\n");
    let (_, told) = node.build(Some(Builder::Docker)).await;
    assert_eq!(told[1], "by itself");
    node.file("Dockerfile.dockerignore", "");
    let (_, told) = node.build(Some(Builder::Docker)).await;
    assert_eq!(told[1], "by 1");
}

#[test]
fn what_an_earlier_process_left_is_removed() {
    let node = Node::new();
    node.builds();
    let left = node.folder.path().join("builds/under-way/0.tar");
    fs::write(&left, "half an image").expect("a file");
    node.builds();
    assert!(!left.exists());
}
