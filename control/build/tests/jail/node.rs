//! Decides what the builder of a test is, and what it is given.

use miren_api::app_file::Builder;
use miren_build::{Archive, BuildError, Builds, Order, Outside, Settings};
use miren_image::{Auths, Registries};
use nix::sched::{CloneFlags, unshare};
use parking_lot::Mutex;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const FIRST_USER: u32 = 1_900_000_000;

/// A node whose builder is a script, with a network and a control group of its own.
pub struct Node {
    pub folder: TempDir,
    pub cache: u64,
    pub registries: Vec<String>,
    pub outside: Outside,
    /// What buildah does where it is told to fetch an image.
    pub pull: String,
}

impl Node {
    /// `script` is what buildah does where it is told to build.
    pub fn new(script: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        for name in ["app", "programs"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let name = folder
            .path()
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let node = Self {
            cache: 1 << 30,
            registries: Vec::new(),
            pull: "true".to_owned(),
            outside: Outside {
                network: network(),
                cgroup: format!("/miren-build-{name}/build"),
                resolvers: "nameserver 192.0.2.1\n".to_owned(),
            },
            folder,
        };
        node.write_program(script);
        node.write_dockerfile("FROM scratch\n");
        fs::write(node.folder.path().join("secret"), "a secret of the host").expect("a file");
        node
    }

    pub fn write_program(&self, script: &str) {
        let path = self.folder.path().join("programs/buildah");
        let pull = &self.pull;
        let text = format!(
            "#!/bin/bash\necho \"$@\" >> /storage/calls\ncase $1 in\n\
             pull) {pull};;\nbuild) {script};;\npush) echo image > ${{4#docker-archive:}};;\n\
             rm) [ ! -e /storage/broken ];;\nesac\n"
        );
        fs::write(&path, text).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        // Programs are found by everybody, as those of a distribution are.
        for folder in [self.folder.path().to_owned(), self.folder.path().join("programs")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
    }

    pub fn write_dockerfile(&self, text: &str) {
        fs::write(self.folder.path().join("app/Dockerfile"), text).expect("a file");
    }

    pub fn builds(&self) -> Arc<Builds> {
        let folder = self.folder.path();
        let builds = Builds::open(Settings {
            folder: folder.join("builds"),
            run_dir: folder.join("run"),
            helper: env!("CARGO_BIN_EXE_miren-build-testhelper").into(),
            auths: Auths::from_file(&folder.join("config.json")),
            registries: Registries::new(self.registries.clone()),
            plain_http: Vec::new(),
            first_user: FIRST_USER,
            limit: Duration::from_secs(60),
            memory: 64 << 20,
            processes: 40,
            cache: self.cache,
            programs: Some(folder.join("programs")),
        });
        Arc::new(builds.expect("folders"))
    }

    /// Builds, and says what was told of it.
    pub async fn build(&self, app: &str) -> (Result<String, BuildError>, Vec<String>) {
        let told = Mutex::new(Vec::new());
        let tell = |line: String| told.lock().push(line);
        let built = self.build_telling(&self.builds(), app, &tell).await;
        let image = built.map(|archive| fs::read_to_string(archive.path()).expect("an image"));
        (image, told.into_inner())
    }

    pub async fn build_telling(
        &self,
        builds: &Arc<Builds>,
        app: &str,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Archive, BuildError> {
        let folder = self.folder.path().join("app");
        let order = Order {
            app,
            folder: &folder,
            dockerfile: "Dockerfile",
            builder: Some(Builder::Buildah),
            outside: Some(&self.outside),
        };
        builds.build(order, tell).await
    }

    /// What the builder wrote, after the line that says who builds.
    pub async fn told(&self) -> Vec<String> {
        let (built, told) = self.build("app").await;
        built.unwrap_or_else(|error| panic!("{error}"));
        told[1..].to_vec()
    }

    /// What a file says of each group of its builds that has one.
    pub fn limits(&self, file: &str) -> Vec<u64> {
        let files = self.groups().into_iter().map(|group| group.join(file));
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        texts.filter_map(|text| text.trim().parse().ok()).collect()
    }

    /// Where the group of its builds is, in each hierarchy that may have it.
    fn groups(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts
            .lines()
            .filter_map(|mount| match mount.split(' ').collect::<Vec<_>>()[..] {
                [_, point, "cgroup" | "cgroup2", ..] => Some(PathBuf::from(point)),
                _ => None,
            });
        points
            .map(|point| point.join(self.outside.cgroup.trim_start_matches('/')))
            .collect()
    }

    /// What is kept of an app.
    pub fn own(&self, app: &str) -> PathBuf {
        self.folder.path().join("builds/layers").join(app)
    }

    pub fn storage(&self, app: &str) -> PathBuf {
        self.own(app).join("layers")
    }
}

impl Drop for Node {
    /// A group is let go only a moment after the processes in it.
    fn drop(&mut self) {
        let groups = self.groups();
        let deadline = Instant::now() + Duration::from_secs(20);
        while groups.iter().any(|group| group.exists()) && Instant::now() < deadline {
            groups.iter().for_each(|group| drop(fs::remove_dir(group)));
            std::thread::yield_now();
        }
        groups
            .iter()
            .filter_map(|group| group.parent())
            .for_each(|parent| drop(fs::remove_dir(parent)));
    }
}

/// A network namespace without anything; its thread holds it for as long as the test process lives.
fn network() -> PathBuf {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        tell.send(nix::unistd::gettid()).expect("somebody waits");
        std::thread::park();
    });
    let thread = told.recv().expect("a thread");
    format!("/proc/{}/task/{thread}/ns/net", std::process::id()).into()
}

/// Says a word to whoever comes, and how many came.
pub fn registry(at: &str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((at, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let came = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"a registry of the host\n");
        }
    });
    (port, came)
}
