//! Decides that paths of an image lead nowhere but into its root.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;

struct Place {
    folder: tempfile::TempDir,
    inside: Inside,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["outside", "root", "root/srv", "root/etc"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        fs::write(folder.path().join("root/file"), "").expect("a file");
        let inside = Inside::open(&folder.path().join("root")).expect("a root");
        Self { folder, inside }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn link(&self, name: &str, to: impl AsRef<Path>) {
        symlink(to, self.root().join(name)).expect("a link");
    }

    fn folder(&self, path: &str) -> Result<String, String> {
        let found = self.inside.folder(&clean(path).expect(path));
        let found = found.map_err(|error| error.to_string())?;
        assert!(
            self.root()
                .join(found.strip_prefix("/").expect("a whole path"))
                .is_dir()
        );
        Ok(found.display().to_string())
    }

    fn nothing_is_outside(&self) {
        let names = |name| fs::read_dir(self.folder.path().join(name)).expect("a folder").count();
        assert_eq!((names("outside"), names("")), (0, 2), "something was made outside");
    }
}

#[test]
fn g1_folders_are_made_as_docker_makes_them() {
    let place = Place::new();
    assert_eq!(place.folder("/srv/a/b").as_deref(), Ok("/srv/a/b"));
    assert_eq!(place.folder("//new/./x/../y/").as_deref(), Ok("/new/y"));
    assert_eq!(place.folder("/").as_deref(), Ok("/"));
    assert!(
        !place.root().join("new/x").exists(),
        "`..` takes back what is written before it"
    );
    let mode = fs::metadata(place.root().join("new"))
        .expect("a folder")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
    assert_eq!(
        place.folder("/file").expect_err("a file"),
        "there is something on its way that is no folder"
    );
    assert_eq!(
        place.folder("/file/x").expect_err("a file"),
        "there is something on its way that is no folder"
    );
}

#[test]
fn g1_links_are_followed_inside_and_nowhere_else() {
    let place = Place::new();
    let outside = place.folder.path().join("outside");
    place.link("whole", "/srv/deep");
    place.link("up", "../../../../../../../../srv");
    place.link("srv/beside", "../etc");
    place.link("out", &outside);
    place.link("chain", "/whole/x");
    place.link("loop", "/loop/x");
    place.link("self", "/proc/self/root");
    for (path, leads) in [
        ("/whole", "/srv/deep".to_owned()),
        ("/up/x", "/srv/x".to_owned()),
        ("/srv/beside/y", "/etc/y".to_owned()),
        ("/out/x", format!("{}/x", outside.display())),
        ("/chain/z", "/srv/deep/x/z".to_owned()),
        ("/self/etc", "/proc/self/root/etc".to_owned()),
        ("/../../outside", "/outside".to_owned()),
    ] {
        assert_eq!(place.folder(path), Ok(leads), "{path}");
    }
    assert_eq!(
        place.folder("/loop").expect_err("a loop"),
        "it leads through links without end"
    );
    assert_eq!(
        place.folder(&"/x".repeat(200)).expect_err("too deep"),
        "it is too many folders deep"
    );
    place.nothing_is_outside();
}

#[test]
fn g1_a_file_takes_the_place_of_whatever_the_image_has_there() {
    let place = Place::new();
    let secret = place.folder.path().join("outside/secret");
    let write = |name| {
        place
            .inside
            .write(Path::new("/etc"), name, "made")
            .map_err(|error| error.to_string())
    };
    place.link("etc/dangling", "../run/not/there");
    place.link("etc/out", &secret);
    place.link("etc/loop", "loop");
    fs::create_dir_all(place.root().join("etc/empty")).expect("a folder");
    fs::create_dir_all(place.root().join("etc/full/x")).expect("a folder");
    fs::write(place.root().join("etc/file"), "longer than before").expect("a file");
    for name in ["dangling", "out", "loop", "empty", "file", "new"] {
        assert_eq!(write(name), Ok(()), "{name}");
        let made = place.root().join("etc").join(name);
        let mode = fs::symlink_metadata(&made).expect(name).permissions().mode();
        assert_eq!(
            (fs::read_to_string(made).expect(name), mode),
            ("made".to_owned(), 0o100_644),
            "{name}"
        );
    }
    assert_eq!(
        write("full").expect_err("a folder"),
        "it is a folder with something in it"
    );
    place.nothing_is_outside();
}

#[test]
fn g1_the_places_of_the_kernel_are_folders_of_the_root() {
    let place = Place::new();
    place.link("dev", place.folder.path().join("outside"));
    place.link("proc", "/srv");
    fs::write(place.root().join("sys"), "a file").expect("a file");
    place.inside.keep_places_of_kernel().expect("folders");
    for name in KERNEL {
        assert!(
            fs::symlink_metadata(place.root().join(name)).expect(name).is_dir(),
            "{name}"
        );
    }
    for (path, is) in [
        ("/proc", true),
        ("/sys/fs", true),
        ("/dev/shm", true),
        ("/", false),
        ("/devices", false),
        ("/srv/dev", false),
    ] {
        assert_eq!(is_of_kernel(Path::new(path)), is, "{path}");
    }
    place.nothing_is_outside();
}

#[test]
fn g1_only_whole_paths_are_paths() {
    for text in [
        "",
        "srv",
        "./srv",
        "../srv",
        "/a\0b",
        &format!("/{}", "x".repeat(PATH_MAX)),
    ] {
        assert_eq!(clean(text), None, "{text}");
    }
    assert_eq!(clean("/../../etc/"), Some("/etc".into()));
}
