//! Equal folders are stored once; nothing a tar stream says reaches outside its folder.

use super::*;
use std::io::Cursor;
use tar::{Builder, EntryType, Header};

/// An entry as a hostile tool could write it.
struct Raw<'a> {
    path: &'a str,
    kind: EntryType,
    mode: u32,
    link: &'a str,
    content: &'a [u8],
}

fn file<'a>(path: &'a str, content: &'a [u8]) -> Raw<'a> {
    Raw {
        path,
        kind: EntryType::Regular,
        mode: 0o644,
        link: "",
        content,
    }
}

fn link<'a>(path: &'a str, to: &'a str) -> Raw<'a> {
    Raw {
        kind: EntryType::Symlink,
        link: to,
        ..file(path, b"")
    }
}

fn tar(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        builder.append(&header, entry.content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn artifacts(bytes_max: u64) -> (tempfile::TempDir, Artifacts) {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(&folder.path().join("artifacts"), bytes_max).unwrap();
    (folder, artifacts)
}

fn store(artifacts: &Artifacts, entries: &[Raw<'_>]) -> Result<Artifact, ArtifactError> {
    artifacts.store(Cursor::new(tar(entries)))
}

fn left(artifacts: &Artifacts) -> Vec<String> {
    let entries = std::fs::read_dir(artifacts.folder()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn equal_content_in_any_order_has_one_digest_and_one_folder() {
    let (_guard, artifacts) = artifacts(1000);
    let first = store(&artifacts, &[file("a", b"1"), file("b/c", b"2")]).unwrap();
    let again = store(&artifacts, &[file("./b/c", b"2"), file("a", b"1")]).unwrap();
    assert_eq!(first, again);
    assert_eq!((first.files, first.bytes), (2, 2));
    assert_eq!(left(&artifacts).len(), 1);
    assert!(artifacts.has(&first.digest));
    let folder = artifacts.folder().join(first.digest.strip_prefix("sha256:").unwrap());
    assert_eq!(std::fs::read(folder.join("b/c")).unwrap(), b"2");
}

#[test]
fn path_content_and_the_executable_bit_make_a_difference_and_nothing_else() {
    let (_guard, artifacts) = artifacts(1000);
    let base = store(&artifacts, &[file("a", b"1")]).unwrap().digest;
    let with_mode = |mode| Raw {
        mode,
        ..file("a", b"1")
    };
    assert_eq!(store(&artifacts, &[with_mode(0o600)]).unwrap().digest, base);
    for other in [with_mode(0o755), file("b", b"1"), file("a", b"2"), link("a", "1")] {
        assert_ne!(store(&artifacts, &[other]).unwrap().digest, base);
    }
}

#[test]
fn what_leads_out_of_the_folder_is_refused_and_nothing_stays() {
    let (guard, artifacts) = artifacts(1000);
    std::fs::write(guard.path().join("outside"), b"untouched").unwrap();
    let hard = Raw {
        kind: EntryType::Link,
        ..link("a", "b")
    };
    let device = Raw {
        kind: EntryType::Char,
        ..file("a", b"")
    };
    let cases: [(&str, Vec<Raw<'_>>); 9] = [
        ("has an absolute path", vec![file("/etc/passwd", b"x")]),
        ("leads out of the folder", vec![file("../outside", b"x")]),
        ("leads out of the folder", vec![file("a/../../outside", b"x")]),
        ("lies below something", vec![link("a", ".."), file("a/outside", b"x")]),
        ("lies below something", vec![link("a", "b"), file("a/x", b"x")]),
        (
            "lies below something",
            vec![link("a/b", ".."), link("a/b/c", "../../x")],
        ),
        ("is a hard link", vec![hard]),
        ("is neither", vec![device]),
        ("is there twice", vec![file("a", b"1"), file("a", b"2")]),
    ];
    for (why, entries) in cases {
        let error = store(&artifacts, &entries).unwrap_err().to_string();
        assert!(error.contains(why), "{error:?} does not say {why:?}");
        assert!(left(&artifacts).is_empty(), "{:?} stayed", left(&artifacts));
    }
    assert_eq!(std::fs::read(guard.path().join("outside")).unwrap(), b"untouched");
}

#[test]
fn g6_links_to_anywhere_are_kept_as_they_are_and_count() {
    let (guard, artifacts) = artifacts(1000);
    std::fs::write(guard.path().join("outside"), b"untouched").unwrap();
    let targets = [
        "/usr/bin/python3",
        "../../outside",
        "nowhere",
        "link",
        ".",
        "./lib//x/",
        "\u{1}\n/é",
    ];
    let mut seen = HashSet::new();
    for to in targets {
        let stored = store(&artifacts, &[link("sub/link", to), file("lib/x", b"x")]).unwrap();
        let folder = artifacts.folder().join(stored.digest.strip_prefix("sha256:").unwrap());
        let kept = std::fs::read_link(folder.join("sub/link")).unwrap();
        assert_eq!(kept.as_os_str(), to);
        assert!(seen.insert(stored.digest), "{to:?} is another folder");
    }
    assert_eq!(std::fs::read(guard.path().join("outside")).unwrap(), b"untouched");
    // Removing one follows nothing either.
    let all = artifacts.remove_except(&HashSet::new(), Duration::ZERO).unwrap();
    assert_eq!(all, targets.len());
    assert_eq!(std::fs::read(guard.path().join("outside")).unwrap(), b"untouched");
}

#[test]
fn g6_a_target_that_no_link_can_have_is_refused() {
    let (_guard, artifacts) = artifacts(1000);
    for (to, why) in [
        (vec![b'x'; 4096], "too long"),
        (b"a\0b".to_vec(), "zero byte"),
        (Vec::new(), "a link to nothing"),
    ] {
        let mut builder = Builder::new(Vec::new());
        builder.append_pax_extensions([("linkpath", to.as_slice())]).unwrap();
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Symlink);
        header.set_path("a").unwrap();
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
        let error = artifacts.store(Cursor::new(builder.into_inner().unwrap())).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn links_inside_the_folder_lead_where_they_did() {
    let (_guard, artifacts) = artifacts(1000);
    let stored = store(
        &artifacts,
        &[link("bin/run", "../lib/run.sh"), file("lib/run.sh", b"x")],
    )
    .unwrap();
    let folder = artifacts.folder().join(stored.digest.strip_prefix("sha256:").unwrap());
    assert_eq!(std::fs::read(folder.join("bin/run")).unwrap(), b"x");
}

#[test]
fn too_much_is_refused_before_it_is_written() {
    let (_guard, artifacts) = artifacts(10);
    assert!(store(&artifacts, &[file("a", b"0123456789")]).is_ok());
    let error = store(&artifacts, &[file("a", b"01234"), file("b", b"012345")]).unwrap_err();
    assert!(
        matches!(error, ArtifactError::TooLarge { max: 10, of: "bytes" }),
        "{error}"
    );
}

#[test]
fn a_stream_that_breaks_off_leaves_nothing() {
    let (_guard, artifacts) = artifacts(10_000);
    let whole = tar(&[file("a", &[7; 5000])]);
    for length in [100, 700, 3000] {
        let error = artifacts.store(Cursor::new(&whole[..length])).unwrap_err();
        assert!(matches!(error, ArtifactError::Broken(_)), "{length}: {error}");
    }
    assert!(
        artifacts
            .store(Cursor::new(b"this is no tar archive".repeat(100)))
            .is_err()
    );
    assert!(left(&artifacts).is_empty());
}

#[test]
fn a_full_disk_is_named_with_a_remedy() {
    let error = ArtifactError::Disk {
        path: "/var/lib/miren/artifacts/x".into(),
        source: std::io::Error::from(std::io::ErrorKind::StorageFull),
    };
    let refusal = ApiError::from(error);
    assert!(refusal.remedy.contains("free space"), "{refusal:?}");
}

#[test]
fn half_unpacked_folders_of_an_earlier_process_are_removed() {
    let (_guard, artifacts) = artifacts(10);
    std::fs::create_dir(artifacts.folder().join(".staging-1")).unwrap();
    Artifacts::open(artifacts.folder(), 10).unwrap();
    assert!(left(&artifacts).is_empty());
}

#[test]
fn a_digest_is_never_a_path() {
    let (_guard, artifacts) = artifacts(10);
    for digest in [
        "",
        "sha256:",
        "sha256:..",
        "sha256:../../etc",
        &format!("sha256:{}", "/".repeat(64)),
    ] {
        assert!(!artifacts.has(digest), "{digest}");
    }
}

/// Nobody has wanted it for two hours, as far as anybody can tell.
fn age(artifacts: &Artifacts, digest: &str) {
    let name = digest.strip_prefix("sha256:").unwrap();
    let folder = std::fs::File::open(artifacts.folder().join(name)).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
    folder.set_modified(long_ago).unwrap();
    artifacts.wanted.lock().clear();
}

const GRACE: Duration = Duration::from_secs(3600);

#[test]
fn f11_a_folder_that_was_found_to_be_there_stays_until_it_can_be_named() {
    let (_guard, artifacts) = artifacts(1000);
    let stored = store(&artifacts, &[file("a", b"x")]).unwrap();
    age(&artifacts, &stored.digest);
    // The collector has read the records; then the deploy looks for its folder; then the collector removes.
    let named = HashSet::new();
    assert!(artifacts.has(&stored.digest));
    assert_eq!(artifacts.remove_except(&named, GRACE).unwrap(), 0);
    assert!(artifacts.has(&stored.digest));
    // The next process knows it too.
    let next = Artifacts::open(artifacts.folder(), 1000).unwrap();
    assert_eq!(next.remove_except(&named, GRACE).unwrap(), 0);
    age(&artifacts, &stored.digest);
    assert_eq!(artifacts.remove_except(&named, GRACE).unwrap(), 1);
    assert!(!artifacts.has(&stored.digest));
}

#[test]
fn f11_a_clock_that_jumps_ahead_takes_no_upload_away() {
    let (_guard, artifacts) = artifacts(1000);
    let stored = store(&artifacts, &[file("a", b"x")]).unwrap();
    let name = stored.digest.strip_prefix("sha256:").unwrap();
    let before_the_step = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
    let folder = std::fs::File::open(artifacts.folder().join(name)).unwrap();
    folder.set_modified(before_the_step).unwrap();
    assert_eq!(artifacts.remove_except(&HashSet::new(), GRACE).unwrap(), 0);
}

#[test]
fn f11_an_upload_that_was_answered_is_there_however_the_collector_runs() {
    let (_guard, artifacts) = artifacts(1000);
    for round in 0..1000 {
        let stored = store(&artifacts, &[file("a", b"x")]).unwrap();
        age(&artifacts, &stored.digest);
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                start.wait();
                artifacts.remove_except(&HashSet::new(), GRACE).unwrap();
            });
            start.wait();
            store(&artifacts, &[file("a", b"x")]).unwrap();
        });
        let name = stored.digest.strip_prefix("sha256:").unwrap();
        assert!(
            artifacts.folder().join(name).is_dir(),
            "gone after it was answered, round {round}"
        );
    }
}
