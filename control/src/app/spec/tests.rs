//! What makes two specs equal, and what a folder may say.

use super::*;

fn service(text: &str) -> Service {
    let parsed = app_file::parse(Some(text), None).unwrap();
    parsed.services["web"].clone()
}

#[test]
fn the_hash_covers_what_runs_and_not_how_often() {
    let base = service("[services.web]\ncommand = \"./serve\"\n");
    let hash_of = |service: &Service| hash("sha256:aa", "web", service);
    let larger = service("[services.web]\ncommand = \"./serve\"\n[services.web.concurrency]\nmin_instances = 3\n");
    assert_eq!(hash_of(&base), hash_of(&larger));
    for other in [
        "[services.web]\ncommand = \"./serve --fast\"\n",
        "[services.web]\ncommand = \"./serve\"\nport = 8080\n",
        "[services.web]\ncommand = \"./serve\"\n[[services.web.disks]]\nname = \"data\"\nmount_path = \"/data\"\n",
        "[services.web]\ncommand = \"./serve\"\n[[services.web.env]]\nkey = \"A\"\nvalue = \"1\"\n",
        "[services.web]\ncommand = \"./serve\"\n[services.web.resources]\nmemory = \"64MiB\"\n",
        "[services.web]\ncommand = \"./serve\"\n[services.web.health]\npath = \"/up\"\n",
        "[services.web]\ncommand = \"./serve\"\nshutdown_timeout = \"1s\"\n",
    ] {
        assert_ne!(hash_of(&base), hash_of(&service(other)), "{other}");
    }
    assert_ne!(hash_of(&base), hash("sha256:bb", "web", &base));
    assert_ne!(hash_of(&base), hash("sha256:aa", "admin", &base));
}

#[test]
fn b1_a_folder_with_a_mistake_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".miren")).unwrap();
    std::fs::write(folder.path().join(APP_FILE), "[services.web]\ncomand = \"x\"\n").unwrap();
    let error = read(folder.path(), &Variables::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidConfig);
    assert!(error.message.contains("app.toml:2"), "{error}");
}

#[test]
fn the_variables_people_set_win() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(PROCFILE), "web: ./serve\n").unwrap();
    let variables = Variables {
        all: BTreeMap::from([("A".to_owned(), "2".to_owned())]),
        ..Variables::default()
    };
    assert_eq!(read(folder.path(), &variables).unwrap()["web"].env["A"], "2");
}

#[test]
fn an_app_file_that_is_a_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join(PROCFILE)).unwrap();
    let error = read(folder.path(), &Variables::default()).unwrap_err();
    assert!(error.message.contains("is not a file"), "{error}");
}
