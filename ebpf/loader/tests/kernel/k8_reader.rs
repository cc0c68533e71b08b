//! Decides whether a proxy keeps nothing of BPF but a page it can only read (K8).

use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::Path};

use miren_loader::{Mode, ProxyEvents, SlotReader, SlotSource, State};

use crate::{
    lab::{Lab, Victim, begin, occupy, run},
    roles::{Player, listen, say},
};

/// The user a proxy becomes.
const NOBODY: u32 = 65534;

#[test]
fn k8_a_reader_without_privileges_reads_and_cannot_write() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let victim = Victim::start();
    let generation = occupy(&fast_path, 3, "198.51.100.80:80", victim.pid(), State::Pending);
    let mut proxy = Player::start("proxy", lab.pin_dir.to_str().expect("a path"));
    let mut ask = |what: &str| {
        proxy.tell(what);
        proxy.hear()
    };
    assert_eq!(ask("bpf descriptors"), "[]");
    assert_eq!(
        ask("bpf mappings"),
        r#"["r--s", "r--s", "rw-s"]"#,
        "slots; the ring's data; its read position"
    );
    assert_eq!(ask("drop"), "65534");
    assert_eq!(ask("word"), format!("PENDING of generation {generation}"));
    fast_path.advance(3, generation, State::Running).expect("advance");
    assert_eq!(ask("word"), format!("RUNNING of generation {generation}"));
    assert_eq!(ask("make writable"), "Err(13)", "EACCES");
    assert_eq!(ask("open again"), "refused");
    victim.end();
    assert_eq!(ask("word"), format!("DEAD of generation {generation}"));
    assert_eq!(
        ask("hint"),
        format!("3 {generation} DEAD"),
        "the ring works without its descriptor"
    );
}

#[test]
fn k8_pins_and_tables_are_for_root_only() {
    let lab = Lab::new();
    let _fast_path = lab.kernel();
    let mode = |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&lab.pin_dir), 0o700);
    for pin in std::fs::read_dir(&lab.pin_dir).expect("pins") {
        let path = pin.expect("a pin").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    // A folder somebody opened is closed again.
    std::fs::set_permissions(&lab.pin_dir, Permissions::from_mode(0o755)).expect("chmod");
    drop(lab.kernel());
    assert_eq!(mode(&lab.pin_dir), 0o700);

    let lab = Lab::new();
    let fast_path = lab.open(Mode::Off);
    begin(&fast_path, 0, "198.51.100.80:80", State::Running);
    let SlotSource::File(path) = lab.source(Mode::Off) else {
        panic!("a file")
    };
    assert_eq!(mode(&path), 0o600);
}

/// A proxy: opens what it needs as root, then does what it is told.
pub fn play_proxy(pin_dir: &str) {
    let source = SlotSource::Pinned(pin_dir.into());
    let reader = SlotReader::open(&source).expect("a reader");
    // The table is the first BPF mapping there is; its address is needed to attack it.
    let slots = bpf_mappings()[0].0;
    let mut hints = ProxyEvents::open(&source)
        .expect("a ring")
        .expect("kernel mode has one");
    loop {
        let answer = match listen().as_str() {
            "bpf descriptors" => format!("{:?}", bpf_descriptors()),
            "bpf mappings" => {
                let mut all = bpf_mappings();
                all.sort_by_key(|(start, access)| (*start != slots, access.clone()));
                format!("{:?}", all.into_iter().map(|(_, access)| access).collect::<Vec<_>>())
            }
            "drop" => drop_privileges().to_string(),
            "word" => reader.word(3).to_string(),
            "make writable" => format!("{:?}", make_writable(slots)),
            "open again" => SlotReader::open(&source).map_or("refused", |_| "opened").to_owned(),
            "hint" => {
                let hint = run("a hint", hints.next()).expect("a stream");
                format!("{} {} {}", hint.slot, hint.generation, hint.state)
            }
            other => panic!("no question {other}"),
        };
        say(&answer);
    }
}

fn bpf_descriptors() -> Vec<String> {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let names = descriptors
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.contains("bpf"))
        .collect()
}

/// Start and access of every mapping of a BPF map.
fn bpf_mappings() -> Vec<(usize, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("mappings");
    let bpf = maps.lines().filter(|line| line.contains("bpf"));
    let start_and_access = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let start = usize::from_str_radix(range.split_once('-')?.0, 16).ok()?;
        Some((start, rest.split(' ').next()?.to_owned()))
    };
    bpf.filter_map(start_and_access).collect()
}

/// Becomes nobody, for good.
pub fn drop_privileges() -> u32 {
    // SAFETY: numbers and an empty list.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0);
        assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0);
        libc::geteuid()
    }
}

fn make_writable(start: usize) -> Result<(), i32> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: only asks for other rights to a page that stays mapped.
    match unsafe { libc::mprotect(std::ptr::without_provenance_mut(start), 4096, access) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or_default()),
    }
}
