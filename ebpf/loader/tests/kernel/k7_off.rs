//! Decides whether a table without the kernel gives the same answers (K7).

use miren_loader::{
    ActiveMode, ChangedBy, Events, FastPath, FastPathConfig, Mode, ProxyEvents, SlotError, SlotReader, SlotSource,
    State,
};

use crate::{
    lab::{Lab, Victim, begin, cgroup_root, occupy, run, wait_until},
    roles::{Player, say},
};

const ENDPOINT: &str = "198.51.100.70:80";

/// What was asked, and what the answer was; times, pids and who noticed are left out.
#[derive(Default)]
struct Transcript(Vec<String>);

impl Transcript {
    fn note(&mut self, what: impl std::fmt::Display, answer: impl std::fmt::Debug) {
        self.0.push(format!("{what}: {answer:?}"));
    }
}

/// Everything a daemon asks a table for.
fn transcript(mode: Mode) -> Vec<String> {
    let lab = Lab::new();
    let fast_path = lab.open(mode);
    let reader = lab.reader(mode);
    let mut events = fast_path.events().expect("events");
    let mut answers = Transcript::default();
    answers.note("a second reader of events", fast_path.events().map(drop));
    ask_every_arrow(&fast_path, &reader, &mut answers);
    ask_every_exit(&fast_path, &mut events, &mut answers);
    answers.note("a thread", register_a_thread(&fast_path));
    answers.note("no such slot", fast_path.begin(64, ENDPOINT.parse().expect("endpoint")));
    answers.note("a process that never was", register(&fast_path, 0x3fff_ffff));
    let status = fast_path.status();
    answers.note("slots, and events dropped", (status.slots, status.dropped_events));
    fast_path.remove().expect("remove");
    answers.0
}

fn ask_every_arrow(fast_path: &FastPath, reader: &SlotReader, answers: &mut Transcript) {
    for from in State::ALL.into_iter().skip(1) {
        for to in State::ALL {
            let generation = begin(fast_path, 1, ENDPOINT, from);
            answers.note(format_args!("{from} to {to}"), fast_path.advance(1, generation, to));
            answers.note("and is now", reader.word(1));
            let _ = fast_path.advance(1, generation, State::Dead);
            answers.note("release", fast_path.release(1, generation));
            answers.note("and is now", reader.word(1));
        }
    }
}

fn ask_every_exit(fast_path: &FastPath, events: &mut Events, answers: &mut Transcript) {
    for (slot, from) in (2..).zip([State::Pending, State::Running, State::Draining, State::Stopping]) {
        let victim = Victim::start();
        let generation = occupy(fast_path, slot, ENDPOINT, victim.pid(), from);
        answers.note(
            "registered twice",
            fast_path.register_init(slot, generation, victim.pid()),
        );
        victim.end();
        let exit = run("an exit", events.next()).expect("a stream");
        let kept = fast_path.slot(slot);
        answers.note(
            format_args!("exit from {from}"),
            (exit.slot, exit.generation, exit.state),
        );
        answers.note("slot", (kept.generation, kept.state, kept.endpoint));
        let told = (exit.tgid, exit.at_ns, exit.by, exit.exit_code);
        assert_eq!(told, (kept.tgid, kept.since_ns, kept.changed_by, kept.exit_code));
    }
}

fn register(fast_path: &FastPath, tgid: u32) -> Result<(), SlotError> {
    let generation = begin(fast_path, 20, ENDPOINT, State::Pending);
    let registered = fast_path.register_init(20, generation, tgid);
    let _ = fast_path.advance(20, generation, State::Dead);
    registered
}

/// `Ok(true)` if a thread that is not a process was refused as such.
fn register_a_thread(fast_path: &FastPath) -> bool {
    // The leader of a test binary's group runs the harness, so this is another thread.
    // SAFETY: no arguments.
    let tid = unsafe { libc::gettid() }.unsigned_abs();
    assert_ne!(tid, std::process::id());
    matches!(register(fast_path, tid), Err(SlotError::NotAProcess { tgid }) if tgid == tid)
}

#[test]
fn k7_both_modes_give_the_same_answers() {
    let (kernel, off) = (transcript(Mode::Kernel), transcript(Mode::Off));
    assert!(kernel.len() > 100, "{} answers", kernel.len());
    for (kernel, off) in kernel.iter().zip(&off) {
        assert_eq!(kernel, off);
    }
    assert_eq!(kernel.len(), off.len());
}

/// (slot, state, by control) of every change that `changes` is told.
fn told(changes: &mut tokio::sync::broadcast::Receiver<miren_loader::Transition>) -> Vec<(u32, State, bool)> {
    std::iter::from_fn(|| changes.try_recv().ok())
        .map(|change| (change.slot, change.state, change.by == ChangedBy::Control))
        .collect()
}

#[test]
fn k7_every_change_is_told_to_whoever_listens_and_what_is_in_use_can_be_listed() {
    for mode in [Mode::Kernel, Mode::Off] {
        let lab = Lab::new();
        let fast_path = lab.open(mode);
        let mut events = fast_path.events().expect("events");
        let stopped = begin(&fast_path, 1, ENDPOINT, State::Running);
        let mut changes = fast_path.transitions();
        let listed: Vec<_> = fast_path.in_use().iter().map(|last| (last.slot, last.state)).collect();
        assert_eq!(listed, [(1, State::Running)], "{mode:?}");
        fast_path.advance(1, stopped, State::Stopped).expect("advance");
        fast_path.release(1, stopped).expect("release");
        let victim = Victim::start();
        occupy(&fast_path, 2, ENDPOINT, victim.pid(), State::Running);
        victim.end();
        run("an exit", events.next()).expect("a stream");
        let expected = [
            (1, State::Stopped, true),
            (1, State::Free, true),
            (2, State::Pending, true),
            (2, State::Running, true),
            (2, State::Dead, mode == Mode::Off),
        ];
        assert_eq!(told(&mut changes), expected, "{mode:?}");
        let listed = fast_path.in_use();
        assert_eq!((listed.len(), listed[0].slot, listed[0].state), (1, 2, State::Dead));
        fast_path.remove().expect("remove");
    }
}

#[test]
fn k7_off_mode_takes_its_processes_up_again_after_a_restart() {
    let lab = Lab::new();
    let fast_path = lab.open(Mode::Off);
    let (alive, mut gone) = (Victim::start(), Some(Victim::start()));
    let kept = occupy(&fast_path, 1, ENDPOINT, alive.pid(), State::Running);
    let gone_pid = gone.as_ref().expect("started").pid();
    let lost = occupy(&fast_path, 2, ENDPOINT, gone_pid, State::Draining);
    drop(fast_path);
    gone.take().expect("once").end();

    let fast_path = lab.open(Mode::Off);
    let mut events = fast_path.events().expect("events");
    let exit = run("the exit nobody saw", events.next()).expect("a stream");
    assert_eq!(
        (exit.slot, exit.generation, exit.state, exit.tgid),
        (2, lost, State::Stopped, gone_pid)
    );
    assert_eq!(fast_path.slot(1).state, State::Running);
    alive.end();
    let exit = run("the exit after the restart", events.next()).expect("a stream");
    assert_eq!(
        (exit.slot, exit.generation, exit.state, exit.by),
        (1, kept, State::Dead, ChangedBy::Control)
    );
}

#[test]
fn k5_k7_off_mode_does_not_take_a_reused_pid_for_its_process() {
    let lab = Lab::new();
    let fast_path = lab.open(Mode::Off);
    let victim = Victim::start();
    let generation = occupy(&fast_path, 1, ENDPOINT, victim.pid(), State::Running);
    drop(fast_path);
    // The start time in the table is what another process with the same pid would not have.
    let SlotSource::File(path) = lab.source(Mode::Off) else {
        panic!("a file")
    };
    let mut table = std::fs::read(&path).expect("the table");
    table[4096 + 64 + 24] ^= 1;
    std::fs::write(&path, table).expect("the table");
    let fast_path = lab.open(Mode::Off);
    let slot = fast_path.slot(1);
    assert_eq!((slot.generation, slot.state), (generation, State::Dead));
}

#[test]
fn k7_the_status_says_which_mode_and_why() {
    let lab = Lab::new();
    let status = lab.kernel().status();
    assert_eq!((status.mode, status.reason.as_deref()), (ActiveMode::Kernel, None));
    let places: Vec<_> = status
        .programs
        .iter()
        .map(|program| program.attached_to.as_str())
        .collect();
    let cgroup = cgroup_root();
    let cgroup = cgroup.to_str().expect("a path");
    assert_eq!(places, [cgroup, cgroup, "sched_process_exit"]);
    let names: Vec<_> = status.programs.iter().map(|program| program.name.as_str()).collect();
    assert_eq!(names, ["connect_hook4", "connect_hook6", "exit_hook"]);
    let json = serde_json::to_value(&status).expect("JSON");
    assert_eq!(json["mode"], "kernel");
    assert_eq!(json["pin_dir"], lab.pin_dir.to_str().expect("a path"));
    assert_eq!(json["slots"], serde_json::json!({"used": 0, "capacity": 64}));
    assert_eq!(
        json["transitions"],
        serde_json::json!({"by_kernel": 0, "by_control": 0})
    );
    for key in ["reason", "abi", "refused_connects", "reset_packets", "dropped_events"] {
        assert!(json.get(key).is_some(), "{key} in {json}");
    }
}

#[test]
fn k7_auto_falls_back_and_says_why() {
    let lab = Lab::new();
    let mut config = lab.config(Mode::Auto);
    config.pin_dir = "/tmp/not-a-bpffs/miren".into();
    let fast_path = FastPath::open(config.clone()).expect("open");
    assert_eq!(fast_path.mode(), ActiveMode::Off);
    let reason = fast_path.status().reason.expect("a reason");
    assert!(reason.contains("is not on a bpffs"), "{reason}");
    assert!(ProxyEvents::open(&lab.source(Mode::Off)).expect("open").is_none());
    config.mode = Mode::Kernel;
    assert!(FastPath::open(config).is_err(), "kernel means kernel");
}

#[test]
fn k7_without_privileges_auto_is_off_and_kernel_says_what_it_needs() {
    let lab = Lab::new();
    // Makes sure the bpffs is there, which a stranger could not mount.
    lab.kernel().remove().expect("remove");
    let mut stranger = Player::start("stranger", lab.pin_dir.to_str().expect("a path"));
    let auto = stranger.hear();
    assert!(
        auto.starts_with("off because ") && auto.contains("run as root, or set fast_path.mode"),
        "{auto}"
    );
    let kernel = stranger.hear();
    assert!(
        kernel.contains("Permission denied") && kernel.contains("needs CAP_BPF"),
        "{kernel}"
    );
}

/// Somebody without privileges who tries all the same.
pub fn play_stranger(pin_dir: &str) {
    crate::k8_reader::drop_privileges();
    let folder = tempfile::tempdir().expect("folder");
    let table_file = folder.path().join("slots");
    let config = |mode| FastPathConfig {
        mode,
        pin_dir: pin_dir.into(),
        table_file: table_file.clone(),
        capacity: 64,
        cgroup: None,
    };
    let fast_path = FastPath::open(config(Mode::Auto)).expect("auto always works");
    say(&format!(
        "{} because {}",
        fast_path.mode(),
        fast_path.reason().unwrap_or_default()
    ));
    say(&FastPath::open(config(Mode::Kernel))
        .expect_err("no privileges")
        .to_string());
}

#[test]
fn k7_switching_the_kernel_off_takes_its_hooks_away() {
    let lab = Lab::new();
    drop(lab.kernel());
    assert!(lab.pin_dir.exists());
    drop(lab.open(Mode::Off));
    assert!(!lab.pin_dir.exists());
    let SlotSource::File(path) = lab.source(Mode::Off) else {
        panic!("a file")
    };
    assert!(path.exists());
    drop(lab.kernel());
    assert!(
        !path.exists(),
        "a table nobody writes any more is not left for a proxy to find"
    );
}

#[test]
fn k7_removing_leaves_nothing() {
    let lab = Lab::new();
    lab.kernel().remove().expect("remove");
    assert!(!lab.pin_dir.exists());
    let victim = Victim::start();
    let fast_path = lab.open(Mode::Off);
    let generation = occupy(&fast_path, 0, ENDPOINT, victim.pid(), State::Running);
    victim.end();
    wait_until("the watch notices", State::Dead, || fast_path.slot(0).state);
    assert_eq!(fast_path.slot(0).generation, generation);
    fast_path.remove().expect("remove");
}
