//! What makes two specs equal, and what a folder may say.

use super::*;
use std::os::unix::fs::symlink;

fn spec(service: &Service, artifact: &str, image: Option<Digest>) -> Spec {
    Spec {
        service: service.clone(),
        artifact: artifact.to_owned(),
        image,
    }
}

fn service(text: &str) -> Service {
    let parsed = app_file::parse(Some(text), None).unwrap();
    parsed.services["web"].clone()
}

#[test]
fn the_hash_covers_what_runs_and_not_how_often() {
    let base = service("[services.web]\ncommand = \"./serve\"\n");
    let hash_of = |service: &Service| spec(service, "sha256:aa", None).hash("web");
    let larger = service("[services.web]\ncommand = \"./serve\"\n[services.web.concurrency]\nmin_instances = 3\n");
    assert_eq!(hash_of(&base), hash_of(&larger));
    let needy = service("[services.web]\ncommand = \"./serve\"\n[[env]]\nkey = \"A\"\nrequired = true\n");
    assert_eq!(hash_of(&base), hash_of(&needy));
    for other in [
        "[services.web]\ncommand = \"./serve --fast\"\n",
        "[services.web]\ncommand = \"./serve\"\nport = 8080\n",
        "[services.web]\ncommand = \"./serve\"\n[[services.web.disks]]\nname = \"data\"\nmount_path = \"/data\"\n",
        "[services.web]\ncommand = \"./serve\"\n[[services.web.env]]\nkey = \"A\"\nvalue = \"1\"\n",
        "[services.web]\ncommand = \"./serve\"\n[services.web.resources]\nmemory = \"64MiB\"\n",
        "[services.web]\ncommand = \"./serve\"\n[services.web.health]\npath = \"/up\"\n",
        "[services.web]\ncommand = \"./serve\"\nshutdown_timeout = \"1s\"\n",
        "[services.web]\ncommand = \"./serve\"\nread_only_root = true\n",
        "[services.web]\ncommand = \"./serve\"\ninit = false\n",
        "[services.web]\ncommand = \"./serve\"\nhedge = false\n",
    ] {
        assert_ne!(hash_of(&base), hash_of(&service(other)), "{other}");
    }
    assert_ne!(hash_of(&base), spec(&base, "sha256:bb", None).hash("web"));
    assert_ne!(hash_of(&base), spec(&base, "sha256:aa", None).hash("admin"));
}

/// Known to stores of releases before this one: a pool whose hash changed would be replaced by every deploy.
#[test]
fn what_says_nothing_of_newer_settings_has_the_hash_it_always_had() {
    let hash = spec(&service("[services.web]\ncommand = \"./serve\"\n"), "sha256:aa", None).hash("web");
    assert_eq!(hash, "02169fb70243607aa404640397b89c7984fb38408a6b47f72cb2e9719a0b90d5");
}

#[test]
fn the_hash_covers_the_digest_of_an_image_and_not_its_name() {
    let of = |base: &str| {
        service(&format!(
            "[build]\nbase = \"{base}\"\n[services.web]\ncommand = \"./serve\"\n"
        ))
    };
    let (first, second) = (Digest::of(b"first"), Digest::of(b"second"));
    let hash = |base: &str, image| spec(&of(base), "sha256:aa", Some(image)).hash("web");
    assert_eq!(hash("debian:12", first), hash("debian:stable", first));
    assert_ne!(hash("debian:12", first), hash("debian:12", second));
    let host = spec(&of("host"), "sha256:aa", None).hash("web");
    let scratch = spec(&of("scratch"), "sha256:aa", None).hash("web");
    assert_ne!(host, scratch);
    assert_ne!(host, hash("debian:12", first));
}

#[test]
fn what_runs_an_image_as_it_is_has_no_folder_and_another_has_both() {
    let content = Content {
        artifact: "sha256:aa".into(),
        ..Content::default()
    };
    let none = Fetched::new();
    let alone = service("image = \"nginx\"\n");
    assert_eq!((alone.command.as_str(), alone.port), ("", None));
    let spec = Spec::of("web", alone, &content, &none);
    assert_eq!((spec.artifact.as_str(), spec.service.port), ("", Some(3000)));
    let over = service("[build]\nbase = \"debian\"\n[services.web]\ncommand = \"./serve\"\n");
    assert_eq!(over.any_image(), Some("debian"));
    assert_eq!(Spec::of("web", over, &content, &none).artifact, "sha256:aa");
}

#[test]
fn b1_a_folder_with_a_mistake_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".miren")).unwrap();
    std::fs::write(folder.path().join(APP_FILE), "[services.web]\ncomand = \"x\"\n").unwrap();
    let error = read(Some(folder.path()), None).unwrap_err();
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
    assert_eq!(
        run(&read(Some(folder.path()), None).unwrap(), &variables).services["web"].env["A"],
        "2"
    );
}

#[test]
fn g6_settings_are_read_through_a_link_inside_the_folder_and_never_out_of_it() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("etc")).unwrap();
    std::fs::write(place.path().join("etc/app.toml"), "name = \"secret\"\n").unwrap();
    let folder = place.path().join("folder");
    std::fs::create_dir_all(folder.join("deploy")).unwrap();
    std::fs::write(folder.join("deploy/Procfile"), "web: ./serve\n").unwrap();
    symlink("deploy/Procfile", folder.join(PROCFILE)).unwrap();
    let read = || super::read(Some(&folder), None);
    assert_eq!(read().unwrap().services["web"].command, "./serve");
    // A folder of the host in the place of the settings' own, and a file of the host in the place of one.
    for (name, to) in [(".miren", "../etc"), (".miren", "/etc"), (PROCFILE, "/etc/hostname")] {
        let _ = std::fs::remove_file(folder.join(name));
        symlink(to, folder.join(name)).unwrap();
        let error = read().unwrap_err();
        assert!(error.message.contains("leads out of the folder"), "{to}: {error}");
        assert_eq!(error.code, ErrorCode::InvalidConfig);
        std::fs::remove_file(folder.join(name)).unwrap();
    }
}

#[test]
fn g6_a_dockerfile_that_leads_out_of_the_folder_is_left_to_the_build_to_refuse() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/etc/hostname", folder.path().join("Dockerfile")).unwrap();
    std::fs::write(folder.path().join(PROCFILE), "web: ./serve\n").unwrap();
    let settings = read(Some(folder.path()), None).unwrap();
    assert_eq!(settings.build.dockerfile.as_deref(), Some("Dockerfile"));
}
