//! Decides whether a control daemon that numbers processes, or counts time, as no hook does goes on without the hooks (F11).

use std::path::Path;

use miren_loader::{FastPath, FastPathConfig, Mode, State};

use crate::{
    lab::{Lab, Victim, begin, occupy, wait_until, word_of},
    roles::{Player, say},
};

/// How a process gets into another namespace, by its kind.
const WAYS: [(&str, &[&str]); 3] = [
    ("pid", &["--pid", "--fork", "--kill-child", "--mount-proc"]),
    // As in a container that was given the host's /proc.
    ("pid", &["--pid", "--fork", "--kill-child"]),
    ("time", &["--time", "--fork", "--kill-child", "--monotonic", "1000"]),
];

fn nested(way: &[&str], pin_dir: &Path) -> Player {
    let pin_dir = pin_dir.to_str().expect("a path");
    Player::start_through("unshare", way, "nested", pin_dir)
}

#[test]
fn f11_in_another_namespace_auto_is_off_and_kernel_says_what_it_needs() {
    for (kind, way) in WAYS {
        let lab = Lab::new();
        let mut control = nested(way, &lab.pin_dir);
        let kernel = control.hear();
        assert!(
            kernel.contains(&format!("first {kind} namespace")) && kernel.contains("--pid=host"),
            "{way:?}: {kernel}"
        );
        let auto = control.hear();
        assert!(
            auto.starts_with("off because ") && auto.contains(&format!("first {kind} namespace")),
            "{way:?}: {auto}"
        );
        assert_eq!(control.hear(), "DEAD", "{way:?}: its own watch notices an exit");
        assert!(!lab.pin_dir.exists(), "{way:?}: nothing was made in the kernel");
    }
}

#[test]
fn f11_a_table_in_the_kernel_is_not_passed_over() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let victim = Victim::start();
    let generation = occupy(&fast_path, 3, "198.51.100.11:80", victim.pid(), State::Running);
    for (kind, way) in WAYS {
        let mut control = nested(way, &lab.pin_dir);
        let wanted = format!("first {kind} namespace");
        for mode in ["kernel", "auto"] {
            let said = control.hear();
            assert!(said.contains(&wanted) && !said.starts_with("off"), "{mode}: {said}");
        }
    }
    victim.end();
    let slot = fast_path.slot(3);
    assert_eq!(
        (slot.generation, slot.state, slot.changed_by),
        (generation, State::Dead, miren_loader::ChangedBy::Kernel),
        "its hooks are where they were"
    );
}

/// A control daemon in a namespace of its own: what it says of the kernel, of `auto`, and of a process it watches.
pub fn play_nested(pin_dir: &str) {
    let folder = tempfile::tempdir().expect("folder");
    let config = |mode| FastPathConfig {
        mode,
        pin_dir: pin_dir.into(),
        table_file: folder.path().join("slots"),
        capacity: 64,
        cgroup: None,
    };
    let refused = FastPath::open(config(Mode::Kernel)).expect_err("another namespace");
    say(&refused.to_string());
    let fast_path = match FastPath::open(config(Mode::Auto)) {
        Ok(fast_path) => fast_path,
        Err(error) => return say(&error.to_string()),
    };
    let reason = fast_path.reason().unwrap_or_default();
    say(&format!("{} because {reason}", fast_path.mode()));
    let victim = Victim::start();
    let generation = begin(&fast_path, 0, "198.51.100.11:80", State::Running);
    // Where /proc is the host's it knows this process by another number.
    match fast_path.register_init(0, generation, victim.pid()) {
        Ok(()) => {
            victim.end();
            wait_until("the watch notices", State::Dead, || word_of(&fast_path, 0).state());
        }
        Err(error) => panic!("registering {}: {error}", victim.pid()),
    }
    say(word_of(&fast_path, 0).state().name());
}
