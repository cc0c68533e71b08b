//! Decides which folders the WORKDIR and the VOLUMEs of an image are, and how these are written to where the root is not.

use super::inside::{Inside, clean, is_of_kernel};
use crate::blame::{Blame, Why};
use miren_image::Config;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Most VOLUMEs of an image: each may be a mount. Images that people use have three or four.
const VOLUMES_MAX: usize = 128;
/// Longest text of an image that is repeated in a reason, in characters.
const SHOWN_MAX: usize = 100;

/// A folder that can be written to whatever the root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) inside: PathBuf,
    /// The same folder of the root, seen from the host; none: memory of its own.
    pub(crate) host: Option<PathBuf>,
}

/// What an image asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'i> {
    pub(crate) image: &'i Config,
    /// The app's folder is shown as `/app`.
    pub(crate) has_folder: bool,
    /// Nothing of the root can be written to, and `/tmp` is memory.
    pub(crate) read_only: bool,
}

/// What it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Where its command begins.
    pub(crate) cwd: PathBuf,
    pub(crate) open: Vec<Open>,
}

impl Places {
    /// Makes what is missing. `root` is the same root as `inside`, as the host names it.
    pub(crate) fn make(inside: &Inside, root: &Path, asked: Asked<'_>) -> Result<Self, Why> {
        let mut open = BTreeMap::new();
        let cwd = working_dir(inside, asked)?;
        if asked.read_only && cwd != Path::new("/tmp") && cwd.starts_with("/tmp") {
            open.insert(cwd.clone(), None);
        }
        let volumes = &asked.image.volumes;
        if volumes.len() > VOLUMES_MAX {
            return Err(format!("it names {} VOLUMEs; {VOLUMES_MAX} are the most", volumes.len()).into());
        }
        for path in volumes.iter().filter(|path| !path.is_empty()) {
            let Some(volume) = volume(inside, path)? else { continue };
            // The app's folder is there instead; it counts more than what is below it.
            if !asked.read_only || volume == Path::new("/tmp") || asked.has_folder && volume.starts_with("/app") {
                continue;
            }
            let host = volume.strip_prefix("/").ok().filter(|_| !volume.starts_with("/tmp"));
            let host = host.map(|path| root.join(path));
            open.insert(volume, host);
        }
        let open = open.into_iter().map(|(inside, host)| Open { inside, host });
        Ok(Self {
            cwd,
            open: open.collect(),
        })
    }
}

fn working_dir(inside: &Inside, asked: Asked<'_>) -> Result<PathBuf, Why> {
    match &*asked.image.working_dir {
        _ if asked.has_folder => Ok("/app".into()),
        "" => Ok("/".into()),
        path => {
            let found = find(inside, "WORKDIR", path)?;
            match leads_out(&found) {
                Some(through) => Err(format!("its WORKDIR {} leads into {through}", shown(path)).into()),
                None => Ok(found),
            }
        }
    }
}

/// Through which folder a command would begin outside: in one that a process of ours has open. The runtime puts links to these into
/// a `/dev` of its own; nothing of the image is in that, and only memory at `/dev/shm`.
fn leads_out(found: &Path) -> Option<&'static str> {
    let is_below = |folder: &str| found.starts_with(folder) && found != Path::new(folder);
    match () {
        () if found.starts_with("/dev/shm") => None,
        () => ["/proc", "/dev"].into_iter().find(|folder| is_below(folder)),
    }
}

/// None: it is a place where the runtime shows what belongs there.
fn volume(inside: &Inside, path: &str) -> Result<Option<PathBuf>, Why> {
    if clean(path).is_some_and(|path| is_of_kernel(&path)) {
        return Ok(None);
    }
    let found = find(inside, "VOLUME", path)?;
    if found == Path::new("/") {
        return Err(format!("its VOLUME {} is the whole root", shown(path)).into());
    }
    Ok(Some(found).filter(|found| !is_of_kernel(found)))
}

fn find(inside: &Inside, what: &str, path: &str) -> Result<PathBuf, Why> {
    let whole = clean(path).ok_or_else(|| format!("its {what} {} is not a whole path", shown(path)))?;
    let found = inside.folder(&whole);
    found.map_err(|error| about(&format!("its {what} {}", shown(path)), &error))
}

/// Where a disk is mounted in a root that an image may have filled with links.
pub(crate) fn of_disk(inside: &Inside, path: &Path) -> Result<PathBuf, Why> {
    let found = inside.folder(path);
    let found = found.map_err(|error| about(&format!("the disk at {}", path.display()), &error))?;
    if found == Path::new("/") || is_of_kernel(&found) {
        let text = format!(
            "the disk at {}: the image leads it to {}",
            path.display(),
            found.display()
        );
        return Err(text.into());
    }
    Ok(found)
}

pub(super) fn about(what: &str, error: &io::Error) -> Why {
    Why {
        text: format!("{what}: {error}"),
        node_fault: error.node_fault(),
    }
}

/// A text of an image, quoted, as far as anybody wants to read it.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// What an image gets whose root has a few folders and links.
    fn made(image: &Config, has_folder: bool, read_only: bool) -> Result<(String, Vec<String>), String> {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["proc", "dev", "srv"] {
            fs::create_dir(root.path().join(folder)).expect("a folder");
        }
        fs::write(root.path().join("file"), "").expect("a file");
        for (link, to) in [
            ("data", "/srv/data"),
            ("sly", "/proc/self/fd/7"),
            ("whole", ".."),
            ("shm", "dev/shm"),
            ("slyer", "/dev/fd/7"),
        ] {
            symlink(to, root.path().join(link)).expect("a link");
        }
        let inside = Inside::open(root.path()).expect("a root");
        let asked = Asked {
            image,
            has_folder,
            read_only,
        };
        let places = Places::make(&inside, root.path(), asked).map_err(|why| why.text)?;
        let open = places.open.iter().map(|open| match &open.host {
            None => format!("{} in memory", open.inside.display()),
            Some(host) => {
                assert_eq!(
                    host,
                    &root.path().join(open.inside.strip_prefix("/").expect("a whole path"))
                );
                assert!(host.is_dir(), "{host:?}");
                open.inside.display().to_string()
            }
        });
        Ok((places.cwd.display().to_string(), open.collect()))
    }

    fn with_volumes(volumes: &[&str]) -> Config {
        Config {
            volumes: volumes.iter().map(|path| (*path).to_owned()).collect(),
            ..Config::default()
        }
    }

    fn in_folder(path: &str) -> Config {
        Config {
            working_dir: path.to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn g1_a_command_begins_where_the_image_says_and_never_in_proc_or_dev() {
        let cwd = |path: &str| made(&in_folder(path), false, false).map(|(cwd, _)| cwd);
        for (path, expected) in [
            ("", "/"),
            ("/srv/new", "/srv/new"),
            ("/data/../srv", "/srv"),
            ("/data/x", "/srv/data/x"),
            ("/shm", "/dev/shm"),
            ("/dev/shm/x", "/dev/shm/x"),
            ("/proc", "/proc"),
            ("/dev", "/dev"),
        ] {
            assert_eq!(cwd(path).as_deref(), Ok(expected), "{path}");
        }
        for (path, told) in [
            ("srv", "its WORKDIR \"srv\" is not a whole path"),
            (
                "/file",
                "its WORKDIR \"/file\": there is something on its way that is no folder",
            ),
            ("/proc/self/fd/7", "its WORKDIR \"/proc/self/fd/7\" leads into /proc"),
            ("/sly", "its WORKDIR \"/sly\" leads into /proc"),
            ("/srv/../sly/x", "its WORKDIR \"/srv/../sly/x\" leads into /proc"),
            ("/dev/fd/7", "its WORKDIR \"/dev/fd/7\" leads into /dev"),
            ("/dev/fd", "its WORKDIR \"/dev/fd\" leads into /dev"),
            ("/dev/stdin/x", "its WORKDIR \"/dev/stdin/x\" leads into /dev"),
            ("/slyer", "its WORKDIR \"/slyer\" leads into /dev"),
        ] {
            assert_eq!(cwd(path).expect_err(path), told);
        }
        let long = cwd(&"x".repeat(5000)).expect_err("no whole path");
        assert!(long.len() < 200, "{long}");
        assert_eq!(made(&in_folder("/sly"), true, false), Ok(("/app".into(), vec![])));
        let in_memory = vec!["/tmp/work in memory".to_owned()];
        assert_eq!(
            made(&in_folder("/tmp/work"), false, true),
            Ok(("/tmp/work".into(), in_memory))
        );
    }

    #[test]
    fn g1_volumes_are_folders_and_can_be_written_to_where_the_root_cannot() {
        let volumes = with_volumes(&[
            "/data",
            "/srv/data/",
            "/var/lib/x",
            "/dev/shm",
            "/shm",
            "/proc",
            "/tmp/x",
            "/app",
            "/app/files",
            "",
        ]);
        let open = |has_folder, read_only| made(&volumes, has_folder, read_only).expect("places").1;
        assert_eq!(
            open(false, false),
            Vec::<String>::new(),
            "the root is written to itself"
        );
        assert_eq!(open(true, false), Vec::<String>::new());
        assert_eq!(
            open(false, true),
            ["/app", "/app/files", "/srv/data", "/tmp/x in memory", "/var/lib/x"]
        );
        assert_eq!(open(true, true), ["/srv/data", "/tmp/x in memory", "/var/lib/x"]);
        for (path, told) in [
            ("/", "its VOLUME \"/\" is the whole root"),
            ("/whole", "its VOLUME \"/whole\" is the whole root"),
            ("data", "its VOLUME \"data\" is not a whole path"),
            (
                "/file",
                "its VOLUME \"/file\": there is something on its way that is no folder",
            ),
        ] {
            assert_eq!(made(&with_volumes(&[path]), false, false).expect_err(path), told);
        }
        let many: Vec<String> = (0..=VOLUMES_MAX).map(|number| format!("/{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            made(&with_volumes(&many), false, false).expect_err("too many"),
            "it names 129 VOLUMEs; 128 are the most"
        );
    }
}
