//! What groups are found, and who in them is sent a signal.

use super::*;

#[test]
fn both_versions_of_hierarchies_are_found() {
    let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                  cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                  cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
    let found = hierarchies(mounts);
    assert_eq!(
        found,
        [
            PathBuf::from("/sys/fs/cgroup/memory"),
            PathBuf::from("/sys/fs/cgroup/unified")
        ]
    );
}

#[test]
fn kills_are_read_from_both_versions() {
    let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
    let v2 = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n";
    assert_eq!(field(v1, "oom_kill"), Some(2));
    assert_eq!(field(v2, "oom_kill"), Some(1));
    assert_eq!(field("", "oom_kill"), None);
}

/// The cgroups of a node in a folder that is no cgroup file system.
fn in_folder(root: &Path) -> Cgroups {
    fs::create_dir_all(root.join("miren-test/sb-1")).expect("folders");
    Cgroups {
        roots: vec![root.to_owned()],
        name: "miren-test".into(),
    }
}

/// A process that is ended when the test is over.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn start() -> Self {
        Self(std::process::Command::new("sleep").arg("600").spawn().expect("sleep"))
    }

    /// Whether a signal has ended it, or does within the time that one needs to arrive: signals are in the order they were sent.
    fn is_killed(&mut self) -> bool {
        let probe = Process::open(self.0.id()).expect("a process");
        probe.signal(Signal::SIGTERM).expect("a signal");
        let status = self.0.wait().expect("an end");
        std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGKILL)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Answers one reader after the other with these texts, as a file whose content changes between two looks.
fn answers(fifo: PathBuf, texts: Vec<String>) {
    let make = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    make(&fifo);
    std::thread::spawn(move || {
        for (number, text) in texts.iter().enumerate() {
            // Waits for a reader. The next one must not get this text.
            let mut file = fs::File::options().write(true).open(&fifo).expect("a reader");
            let next = fifo.with_extension(number.to_string());
            make(&next);
            fs::rename(&next, &fifo).expect("another fifo");
            file.write_all(text.as_bytes()).expect("a reader");
        }
    });
}

#[test]
fn f11_a_process_that_left_the_group_meanwhile_is_sent_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let groups = in_folder(dir.path());
    let mut stranger = Sleeper::start();
    let listed = format!("{}\n", stranger.0.id());
    answers(
        dir.path().join("miren-test/sb-1/cgroup.procs"),
        vec![listed, String::new()],
    );
    let sent = groups.signal_others("sb-1", Signal::SIGKILL.into(), 1);
    assert!(sent.expect("a signal"), "there was one");
    assert!(!stranger.is_killed(), "it has the number of one that is gone");
}

#[test]
fn f11_a_process_that_is_in_the_group_is_sent_the_signal() {
    let dir = tempfile::tempdir().expect("a folder");
    let groups = in_folder(dir.path());
    let mut member = Sleeper::start();
    let listed = format!("{}\n0\n4194304\n", member.0.id());
    fs::write(dir.path().join("miren-test/sb-1/cgroup.procs"), listed).expect("a list");
    let sent = groups.signal_others("sb-1", Signal::SIGKILL.into(), 1);
    assert!(sent.expect("numbers without a process are no error"));
    assert!(member.is_killed());
}

/// A group of the version 2 hierarchy, removed when the test is over.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

#[test]
fn f11_the_kernel_kills_a_whole_group_of_version_2() {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = fields
        .filter(|fields| fields[2] == "cgroup2")
        .map(|fields| PathBuf::from(fields[1]))
        .next();
    let root = root.expect("a cgroup2 file system is mounted");
    let name = format!("miren-test-{}", std::process::id());
    let group = Group(root.join(&name).join("sb-1"));
    fs::create_dir_all(&group.0).expect("a group: run as root");
    let mut member = Sleeper::start();
    fs::write(group.0.join("cgroup.procs"), member.0.id().to_string()).expect("a member");
    let groups = Cgroups {
        roots: vec![root],
        name,
    };
    groups.kill_whole("sb-1").expect("killed");
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = member.0.try_wait().expect("a child") {
            break status;
        }
        assert!(Instant::now() < deadline, "its group was killed, and it lives");
        std::thread::yield_now();
    };
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGKILL)
    );
    groups.kill_whole("gone").expect("what is gone is no error");
}
