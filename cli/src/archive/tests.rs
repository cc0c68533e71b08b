//! What is packed, what is not, and that the bytes depend on the folder alone.

use super::*;
use std::fs::File;
use std::io::Read;
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
    let listing = Listing::of(dir, &include, &[], None).unwrap();
    listing.paths().map(|path| path.display().to_string()).collect()
}

fn packed(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    Listing::of(dir, &[], &[], None).unwrap().write(&mut bytes).unwrap();
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

/// Path, target and text of every entry.
fn unpacked(bytes: &[u8]) -> Vec<(String, Option<String>, String)> {
    let mut archive = tar::Archive::new(bytes);
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let link = entry
            .link_name_bytes()
            .map(|to| String::from_utf8(to.into_owned()).unwrap());
        seen.push((entry.path().unwrap().display().to_string(), link, text));
    }
    seen
}

#[test]
fn g6_links_stay_as_they_are_wherever_they_lead() {
    let dir = folder(&[("real", "content")]);
    let long = format!("/{}/python3", "x".repeat(300));
    let targets = [
        ("absolute", "/usr/bin/python3"),
        ("dangling", "./no//where/"),
        ("exact", &"y".repeat(100)),
        ("link", "real"),
        ("long", &long),
        ("loop", "loop"),
        ("out", "../../etc"),
        ("to-itself", "."),
    ];
    for (name, to) in targets {
        symlink(to, dir.path().join(name)).unwrap();
    }
    fs::create_dir(dir.path().join("empty")).unwrap();
    let mut expected: Vec<_> = targets
        .map(|(name, to)| (name.to_owned(), Some(to.to_owned()), String::new()))
        .into();
    expected.push(("empty".into(), None, String::new()));
    expected.push(("real".into(), None, "content".into()));
    expected.sort();
    assert_eq!(unpacked(&packed(dir.path())), expected);
}

#[test]
fn g6_rules_about_folders_are_not_about_links_to_folders() {
    let dir = folder(&[(".gitignore", "venv/\nlib64/\n"), ("venv/lib/x", ""), ("real/y", "")]);
    symlink("real", dir.path().join("lib64")).unwrap();
    assert_eq!(names(dir.path(), &[]), [".gitignore", "lib64", "real", "real/y"]);
    let include = names(dir.path(), &["lib64/"]);
    assert!(!include.contains(&"lib64/y".to_owned()), "{include:?}");
}

/// All that is sent of an app with this Dockerfile.
fn sent(dir: &Path, dockerfile: &str) -> Result<Vec<String>, String> {
    let listing = Listing::of(dir, &[], &["Procfile", ".miren/app.toml"], Some(dockerfile));
    let listing = listing.map_err(|error| error.to_string())?;
    Ok(listing.paths().map(|path| path.display().to_string()).collect())
}

#[test]
fn g6_the_rules_of_a_dockerfile_take_the_place_of_those_of_all() {
    let dir = folder(&[
        (".dockerignore", "*.md\n"),
        ("a.md", ""),
        ("b.txt", ""),
        ("Dockerfile", "FROM scratch\n"),
        ("docker/api.Dockerfile", "FROM scratch\n"),
        ("docker/api.Dockerfile.dockerignore", "*\n!a.md\n"),
    ]);
    let all = [".dockerignore", "Dockerfile", "b.txt", "docker"];
    let of_docker = ["docker/api.Dockerfile", "docker/api.Dockerfile.dockerignore"];
    assert_eq!(sent(dir.path(), "Dockerfile").unwrap(), [&all[..], &of_docker].concat());
    let own = ["a.md", "docker"];
    assert_eq!(
        sent(dir.path(), "docker/api.Dockerfile").unwrap(),
        [&own[..], &of_docker].concat()
    );
    // One without a rule excludes nothing.
    fs::write(dir.path().join("Dockerfile.dockerignore"), "# none\n").unwrap();
    assert!(sent(dir.path(), "Dockerfile").unwrap().contains(&"a.md".to_owned()));
}

#[test]
fn g6_what_the_server_reads_is_sent_with_the_links_that_lead_to_it() {
    let dir = folder(&[
        (".gitignore", "*\n"),
        (".dockerignore", "**\n"),
        ("etc/docker/real", "FROM scratch\n"),
        ("etc/docker/Procfile", "web: ./x\n"),
        ("etc/other", ""),
        ("etc/miren/app.toml", ""),
    ]);
    for (name, to) in [
        ("docker", "./etc/docker"),
        ("etc/docker/Dockerfile", "../docker/real"),
        ("Procfile", "docker/Procfile"),
        (".miren", "etc/../etc/miren"),
    ] {
        symlink(to, dir.path().join(name)).unwrap();
    }
    assert_eq!(
        sent(dir.path(), "docker/Dockerfile").unwrap(),
        [
            ".dockerignore",
            ".miren",
            "Procfile",
            "docker",
            "etc",
            "etc/docker",
            "etc/docker/Dockerfile",
            "etc/docker/Procfile",
            "etc/docker/real",
            "etc/miren",
            "etc/miren/app.toml"
        ]
    );
    for (file, to) in [
        ("Procfile", "/etc/hostname"),
        (".dockerignore", "../x"),
        ("Dockerfile", "nowhere"),
        (".gitignore", "/etc/hostname"),
    ] {
        let _ = fs::remove_file(dir.path().join(file));
        symlink(to, dir.path().join(file)).unwrap();
        let refused = sent(dir.path(), "Dockerfile").unwrap_err();
        assert!(refused.starts_with(&format!("{file} ")), "{refused}");
        fs::remove_file(dir.path().join(file)).unwrap();
    }
}

#[test]
fn g6_a_mark_of_utf8_in_front_hides_no_rule() {
    for file in [".gitignore", ".dockerignore", "sub/.gitignore"] {
        let dir = folder(&[(file, "\u{feff}secret\r\nother\r\n")]);
        let sub = dir.path().join(Path::new(file).parent().unwrap());
        fs::write(sub.join("secret"), "").unwrap();
        let names = names(dir.path(), &[]);
        assert!(!names.iter().any(|name| name.ends_with("secret")), "{file}: {names:?}");
    }
}

#[test]
fn g6_a_file_of_rules_that_cannot_be_read_is_named_with_its_line() {
    let in_utf16: Vec<u8> = "secret\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&str, &[u8], &str); 7] = [
        (
            ".gitignore",
            b"ok\n[a\n",
            ".gitignore:2: pattern \"[a\" has a '[' without its ']'",
        ),
        (
            "sub/.gitignore",
            b"\n\nx\\",
            "sub/.gitignore:3: pattern \"x\\\\\" ends with a '\\'",
        ),
        (".gitignore", &in_utf16, ".gitignore:1: has a zero byte"),
        (".dockerignore", b"a\n[]\n", ".dockerignore:2: pattern \"[]\" has"),
        (
            ".dockerignore",
            b"a\n!\n",
            ".dockerignore:2: '!' stands before no pattern",
        ),
        (".dockerignore", b"a\n\xff\n", ".dockerignore:2: is not UTF-8 text"),
        (
            "X.dockerignore",
            b"[z-a]",
            "X.dockerignore:1: pattern \"[z-a]\" has a range",
        ),
    ];
    for (file, text, why) in cases {
        let dir = folder(&[(file, ""), ("X", "FROM scratch\n")]);
        fs::write(dir.path().join(file), text).unwrap();
        let refused = sent(dir.path(), "X").unwrap_err();
        assert!(refused.starts_with(why), "{refused}");
    }
    // Below an excluded folder nothing is read.
    let dir = folder(&[(".gitignore", "sub/\n"), ("sub/.gitignore", "[a\n")]);
    assert_eq!(names(dir.path(), &[]), [".gitignore"]);
}

#[test]
fn a_socket_is_refused_by_name_unless_ignored() {
    let dir = folder(&[("a", "")]);
    let _socket = UnixListener::bind(dir.path().join("app.sock")).unwrap();
    let error = Listing::of(dir.path(), &[], &[], None).unwrap_err().to_string();
    assert!(error.starts_with("app.sock is a socket"), "{error}");
    fs::write(dir.path().join(".gitignore"), "*.sock\n").unwrap();
    assert_eq!(names(dir.path(), &[]), [".gitignore", "a"]);
}

#[test]
fn a_file_that_shrank_or_grew_meanwhile_is_named() {
    for later in ["", "much longer than before"] {
        let dir = folder(&[("data", "12345")]);
        let listing = Listing::of(dir.path(), &[], &[], None).unwrap();
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
