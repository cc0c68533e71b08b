//! What is known of an upgrade that is under way, on the disk before it is done: whoever finds it goes on, or back, with it.

use super::check::CONTROL_CONFIG;
use super::process::{self, Role};
use crate::dev::lock::{self, Lock};
use crate::failure::{Doing, Failure};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const NAME: &str = "upgrade.json";
const LOCK: &str = "upgrade.lock";
/// Where control has its data unless its settings say otherwise.
const DATA_DIR: &str = "/var/lib/miren";

/// Which step is being done. Each is done again from its beginning by whoever finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new programs are put beside the old ones; nothing else has changed.
    Stage,
    Control,
    Proxy,
    Command,
}

/// An upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// None: the programs were in place before it began.
    pub from: Option<PathBuf>,
    pub old_version: String,
    pub new_version: String,
    pub phase: Phase,
    /// Why it goes back, if it does.
    pub back: Option<String>,
    pub control: Role,
    /// None: no proxy runs here.
    pub proxy: Option<Role>,
    pub control_socket: PathBuf,
    pub proxy_socket: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub store: PathBuf,
    pub old_schema: Option<i64>,
    pub new_schema: i64,
    /// The copy of the store is whole, and nothing of it was removed.
    pub copied: bool,
    /// The store is becoming the copy again: it is neither the one nor the other.
    #[serde(default)]
    pub restoring: bool,
    /// The new control was ready: it may have promised something to somebody.
    pub served: bool,
    /// The operator takes a gap of the proxy.
    pub restarts_proxy: bool,
    /// What starts control where no supervisor does.
    #[serde(default)]
    pub start_control: Option<String>,
    /// The operator says that the parents of the daemons start them again.
    #[serde(default)]
    pub is_supervised: bool,
}

impl Record {
    /// Whether the store has to be the copy again before the old control starts. What a control that was never ready wrote was
    /// promised to nobody; what one wrote that was ready is kept, unless the old one cannot read it.
    pub fn store_comes_back(&self) -> bool {
        self.restoring || self.copied && (!self.served || self.old_schema != Some(self.new_schema))
    }

    /// Whether all was done but removing what it needed: the copy is given up last.
    pub fn is_over(&self) -> bool {
        self.served && !self.copied && self.back.is_none()
    }

    /// As it is found by somebody who was not there: if a new control has had the store, it may have promised something since.
    pub fn found(mut self) -> Self {
        self.served |= self.copied;
        self
    }

    /// The programs that are replaced: control, the proxy, and the command where it is beside them.
    pub fn programs(&self) -> Vec<PathBuf> {
        let mut programs = vec![self.control.program.clone()];
        programs.extend(self.proxy.as_ref().map(|proxy| proxy.program.clone()));
        programs.extend(self.command());
        programs
    }

    /// The command line, which is beside control.
    pub fn command(&self) -> Option<PathBuf> {
        Some(self.control.program.with_file_name("miren")).filter(|path| path.exists())
    }
}

/// Where the record is, held by one process at a time.
pub struct Book {
    path: PathBuf,
    /// Beside the socket, which leads to it while no control tells where its data is.
    pointer: PathBuf,
    _lock: Lock,
}

impl Book {
    pub fn open(data_dir: &Path, control_socket: &Path) -> Result<Self, Failure> {
        let path = data_dir.join(LOCK);
        let Some(lock) = Lock::take(&path)? else {
            let who = lock::holder(&path);
            return Err(
                Failure::failed(format!("another upgrade of this node is under way ({who})"))
                    .code("already_running")
                    .remedy("wait for its end"),
            );
        };
        Ok(Self {
            path: data_dir.join(NAME),
            pointer: control_socket.with_file_name(NAME),
            _lock: lock,
        })
    }

    /// That of an upgrade which did not come to its end.
    pub fn read(&self) -> Result<Option<Record>, Failure> {
        read(&self.path)
    }

    /// There whole or as it was before, also after a power cut.
    pub fn write(&self, record: &Record) -> Result<(), Failure> {
        let what = || format!("writing {}", self.path.display());
        let text = serde_json::to_vec_pretty(record).map_err(io::Error::from).doing(what)?;
        let part = self.path.with_extension("part");
        let written = || {
            let mut file = File::create(&part)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&part, &self.path)?;
            sync_folder(&self.path)?;
            match symlink(&self.path, &self.pointer) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        };
        written().doing(what)
    }

    pub fn remove(&self) -> Result<(), Failure> {
        let what = || format!("removing {}", self.path.display());
        // It leads nowhere next.
        let _ = fs::remove_file(&self.pointer);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_folder(&self.path)),
        }
        .doing(what)
    }
}

/// That of a node whose control may not answer, found by its socket; or, after a reboot, by what its control has open; or, if that does not
/// start either, in `data_dir`. Without one: where control has its data unless told otherwise.
pub fn of(control_socket: &Path, data_dir: Option<&Path>) -> Result<Option<Record>, Failure> {
    if let Some(record) = read(&control_socket.with_file_name(NAME))? {
        return Ok(Some(record));
    }
    let control = process::control_at(control_socket);
    if let Some(store) = control.and_then(|listener| process::open_file(listener.pid, "control.db")) {
        return read(&store.with_file_name(NAME));
    }
    let data_dir = data_dir.map_or_else(|| usual_data_dir(Path::new(CONTROL_CONFIG)), Path::to_owned);
    let found = read(&data_dir.join(NAME))?;
    Ok(found.filter(|record| place(&record.control_socket) == place(control_socket)))
}

/// What the settings say, as far as they can be read: control says what is wrong with them.
fn usual_data_dir(settings: &Path) -> PathBuf {
    let text = fs::read_to_string(settings).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    table
        .get("data_dir")
        .and_then(toml::Value::as_str)
        .map_or_else(|| PathBuf::from(DATA_DIR), PathBuf::from)
}

/// Whatever its folder is called: /var/run is /run.
fn place(socket: &Path) -> PathBuf {
    let folder = socket.parent().and_then(|folder| folder.canonicalize().ok());
    folder.map_or_else(
        || socket.to_owned(),
        |folder| folder.join(socket.file_name().unwrap_or_default()),
    )
}

fn read(path: &Path) -> Result<Option<Record>, Failure> {
    let what = || format!("reading {}", path.display());
    match fs::read(path) {
        Ok(text) => Ok(Some(
            serde_json::from_slice(&text).map_err(io::Error::from).doing(what)?,
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(what),
    }
}

/// What was renamed in the folder of `path` is so after a power cut.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_where_settings_say() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("control.toml");
        assert_eq!(usual_data_dir(&settings), Path::new(DATA_DIR), "there are none");
        fs::write(&settings, "data_dir = \"/srv/data\"\n[api]\nx = 1\n").unwrap();
        assert_eq!(usual_data_dir(&settings), Path::new("/srv/data"));
        fs::write(&settings, "name = \"a\"\n").unwrap();
        assert_eq!(usual_data_dir(&settings), Path::new(DATA_DIR));
    }
}
