//! The sample apps as folders to deploy.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::binaries::sample_app;
use crate::cli::Output;

/// A temporary copy of a sample app, to be changed at will and deployed.
pub struct AppFolder {
    pub name: String,
    folder: TempDir,
}

impl AppFolder {
    /// The multi-threaded Rust server: the cheapest under load.
    #[track_caller]
    pub fn rust(name: &str) -> Self {
        let app = Self::empty(name);
        fs::copy(sample_app(), app.path().join("hello-rust")).expect("copying the sample app");
        app.command("./hello-rust")
    }

    pub fn python(name: &str) -> Self {
        Self::of_source(name, "hello-python", "server.py").command("python3 server.py")
    }

    pub fn node(name: &str) -> Self {
        Self::of_source(name, "hello-node", "server.js").command("node server.js")
    }

    /// Keeps numbers on a disk at `/data`, each before it answers.
    pub fn ledger(name: &str) -> Self {
        Self::of_source(name, "ledger", "ledger.py").command("python3 ledger.py")
    }

    /// A copy of the whole folder of a sample app, which names itself as its folder is called.
    #[track_caller]
    pub fn sample(name: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("miren-app-")
            .tempdir()
            .expect("making a folder");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(name).join(".");
        let copied = Output::of(Command::new("cp").arg("-a").arg(from).arg(folder.path()));
        assert_eq!(copied.code, 0, "{copied}");
        Self {
            name: name.to_owned(),
            folder,
        }
    }

    /// A folder with no file but the `app.toml` that [`Self::app_toml`] writes.
    pub fn empty(name: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("miren-app-")
            .tempdir()
            .expect("making a folder");
        fs::create_dir(folder.path().join(".miren")).expect("making .miren");
        Self {
            name: name.to_owned(),
            folder,
        }
    }

    fn of_source(name: &str, source: &str, file: &str) -> Self {
        let app = Self::empty(name);
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("apps")
            .join(source)
            .join(file);
        fs::copy(&from, app.path().join(file)).unwrap_or_else(|error| panic!("copying {}: {error}", from.display()));
        app
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces the whole `app.toml`.
    pub fn app_toml(self, text: &str) -> Self {
        fs::write(self.path().join(".miren/app.toml"), text).expect("writing app.toml");
        self
    }

    /// An `app.toml` that names the app and runs `command`.
    pub fn command(self, command: &str) -> Self {
        let text = format!("name = {:?}\n[services.web]\ncommand = {command:?}\n", self.name);
        self.app_toml(&text)
    }

    /// Adds lines at the end of `app.toml`; what has been written so far ends in `[services.web]`.
    pub fn and(self, lines: &str) -> Self {
        let file = self.path().join(".miren/app.toml");
        let mut text = fs::read_to_string(&file).expect("reading app.toml");
        writeln!(text, "{lines}").expect("a string takes everything");
        fs::write(file, text).expect("writing app.toml");
        self
    }

    /// Replaces some words of `app.toml`.
    #[track_caller]
    pub fn with(self, old: &str, new: &str) -> Self {
        let text = fs::read_to_string(self.path().join(".miren/app.toml")).expect("reading app.toml");
        assert!(text.contains(old), "{old:?} is not in {text}");
        self.app_toml(&text.replace(old, new))
    }

    /// Always `count` sandboxes.
    pub fn fixed(self, count: u32) -> Self {
        self.and(&format!(
            "[services.web.concurrency]\nmode = \"fixed\"\nnum_instances = {count}"
        ))
    }

    pub fn env(self, key: &str, value: &str) -> Self {
        self.and(&format!("[[services.web.env]]\nkey = {key:?}\nvalue = {value:?}"))
    }

    /// Writes the file `VERSION`, which makes a deploy of this folder a new one: the app reports it as `release`.
    pub fn release(self, text: &str) -> Self {
        self.set_release(text);
        self
    }

    /// [`Self::release`] of a folder that was deployed before.
    pub fn set_release(&self, text: &str) {
        fs::write(self.path().join("VERSION"), text).expect("writing VERSION");
    }
}
