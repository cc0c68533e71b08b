//! What is packed, what is not, and that the bytes depend on the folder alone.

use super::*;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn names(dir: &Path, include: &[&str]) -> Vec<String> {
    let include: Vec<String> = include.iter().map(|pattern| (*pattern).to_owned()).collect();
    let listing = Listing::of(dir, &include, None).unwrap();
    listing.paths().map(|path| path.display().to_string()).collect()
}

fn packed(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    Listing::of(dir, &[], None).unwrap().write(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_same_files_give_the_same_bytes_whatever_their_order_times_and_umask() {
    let one = folder(&[("b", "2"), ("a/x", "1"), ("run.sh", "#!/bin/sh\n")]);
    let other = folder(&[("run.sh", "#!/bin/sh\n"), ("a/x", "1"), ("b", "2")]);
    for (dir, mode) in [(&one, 0o700), (&other, 0o775)] {
        fs::set_permissions(dir.path().join("run.sh"), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(other.path().join("b"), fs::Permissions::from_mode(0o600)).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    File::open(other.path().join("b"))
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    assert_eq!(packed(one.path()), packed(other.path()));

    fs::set_permissions(other.path().join("b"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(packed(one.path()), packed(other.path()), "the executable bit counts");
}

#[test]
fn gitignore_counts_at_every_level_without_a_repository() {
    let dir = folder(&[
        (".gitignore", "target/\n*.log\n!keep.log\n"),
        ("target/big", ""),
        ("x.log", ""),
        ("keep.log", ""),
        (".hidden", ""),
        ("sub/.gitignore", "secret\n"),
        ("sub/secret", ""),
        ("sub/open", ""),
        (".git/config", ""),
    ]);
    assert_eq!(
        names(dir.path(), &[]),
        [".gitignore", ".hidden", "keep.log", "sub", "sub/.gitignore", "sub/open"]
    );
}

#[test]
fn settings_and_includes_are_taken_although_ignored() {
    let dir = folder(&[
        (".gitignore", ".miren\ndist/\nnode_modules\n"),
        (".miren/app.toml", ""),
        ("dist/app.js", ""),
        ("dist/app.js.map", ""),
        ("node_modules/x/y", ""),
        (".git/dist/z", ""),
    ]);
    assert_eq!(names(dir.path(), &[]), [".gitignore", ".miren", ".miren/app.toml"]);
    assert_eq!(
        names(dir.path(), &["dist/*.js", "node_modules/"]),
        [
            ".gitignore",
            ".miren",
            ".miren/app.toml",
            "dist",
            "dist/app.js",
            "node_modules",
            "node_modules/x",
            "node_modules/x/y"
        ]
    );
}

#[test]
fn links_stay_links_and_the_stream_reads_back() {
    let dir = folder(&[("real", "content")]);
    symlink("real", dir.path().join("link")).unwrap();
    symlink("/nowhere", dir.path().join("broken")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let bytes = packed(dir.path());
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let link = entry.link_name().unwrap().map(|to| to.display().to_string());
        seen.push((entry.path().unwrap().display().to_string(), link, text));
    }
    let expected = [
        ("broken", Some("/nowhere"), ""),
        ("empty", None, ""),
        ("link", Some("real"), ""),
        ("real", None, "content"),
    ];
    let expected = expected.map(|(path, link, text)| (path.to_owned(), link.map(str::to_owned), text.to_owned()));
    assert_eq!(seen, expected);
}

#[test]
fn a_socket_is_refused_by_name_unless_ignored() {
    let dir = folder(&[("a", "")]);
    let _socket = UnixListener::bind(dir.path().join("app.sock")).unwrap();
    let error = Listing::of(dir.path(), &[], None).unwrap_err().to_string();
    assert!(error.starts_with("app.sock is a socket"), "{error}");
    fs::write(dir.path().join(".gitignore"), "*.sock\n").unwrap();
    assert_eq!(names(dir.path(), &[]), [".gitignore", "a"]);
}

#[test]
fn a_file_that_shrank_or_grew_meanwhile_is_named() {
    for later in ["", "much longer than before"] {
        let dir = folder(&[("data", "12345")]);
        let listing = Listing::of(dir.path(), &[], None).unwrap();
        fs::write(dir.path().join("data"), later).unwrap();
        let error = listing.write(io::sink()).unwrap_err();
        assert!(matches!(error, ArchiveError::Changed(_)), "{error}");
    }
}

#[test]
fn paths_longer_than_a_tar_header_are_kept() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let dir = folder(&[(&long, "x")]);
    let bytes = packed(dir.path());
    let mut archive = tar::Archive::new(bytes.as_slice());
    let last = archive.entries().unwrap().last().unwrap().unwrap();
    assert_eq!(last.path().unwrap().display().to_string(), long);
}
