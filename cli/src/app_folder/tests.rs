//! Finding the folder and naming the app.

use super::*;
use crate::failure::Exit;
use std::fs;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

const APP: &str = "name = \"shop\"\n[services.web]\ncommand = \"./serve\"\n";

#[test]
fn a_parent_with_an_app_file_is_found_from_below() {
    let dir = folder(&[(".miren/app.toml", APP), ("src/deep/x", "")]);
    let found = AppFolder::open(&dir.path().join("src/deep")).unwrap();
    assert_eq!(found.root, dir.path().canonicalize().unwrap());
    assert_eq!(found.file.name.unwrap().as_str(), "shop");
}

#[test]
fn a_procfile_of_its_own_wins_over_a_parents_app_file() {
    let dir = folder(&[(".miren/app.toml", APP), ("inner/Procfile", "web: ./other")]);
    let found = AppFolder::open(&dir.path().join("inner")).unwrap();
    assert_eq!(found.file.services["web"].command, "./other");
}

#[test]
fn every_problem_is_listed_with_its_line() {
    let dir = folder(&[(
        ".miren/app.toml",
        "nmae = \"shop\"\n[services.web]\ncommand = \"x\"\nport = 0\n",
    )]);
    let failure = AppFolder::open(dir.path()).unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    for part in ["app.toml:1", "did you mean \"name\"", "app.toml:4", "services.web.port"] {
        assert!(failure.message.contains(part), "{part} in {}", failure.message);
    }
}

#[test]
fn no_command_and_no_folder_are_said_plainly() {
    let failure = AppFolder::open(folder(&[]).path()).unwrap_err();
    assert!(failure.message.contains("no command"), "{}", failure.message);
    let failure = AppFolder::open(Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
}

#[test]
fn the_option_wins_over_the_app_file_and_no_name_is_wrong_usage() {
    let dir = folder(&[(".miren/app.toml", APP)]);
    let options = |app: Option<&str>| AppOptions {
        app: app.map(str::to_owned),
        dir: dir.path().to_owned(),
    };
    assert_eq!(resolve(&options(Some("other"))).unwrap().as_str(), "other");
    assert_eq!(resolve(&options(None)).unwrap().as_str(), "shop");
    assert_eq!(resolve(&options(Some("Not a name"))).unwrap_err().exit, Exit::Usage);

    let nameless = folder(&[("Procfile", "web: ./serve")]);
    let failure = resolve(&AppOptions {
        app: None,
        dir: nameless.path().to_owned(),
    })
    .unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.remedy.contains("-a NAME"));

    let empty = folder(&[]);
    let failure = resolve(&AppOptions {
        app: None,
        dir: empty.path().to_owned(),
    })
    .unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{failure}");
}
