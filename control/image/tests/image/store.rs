//! Decides where the stores of these tests are, and what is looked at in them.

use miren_image::{Auths, Fault, Image, ImageError, Images, Limits, Registries};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A store in a folder that goes away with it.
pub struct Store {
    pub images: Images,
    pub folder: tempfile::TempDir,
}

/// Long enough for any machine: what a test waits for at most.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn store() -> Store {
    store_with(Limits::default())
}

/// The same, and the registries of these tests may be asked.
pub fn near(limits: Limits) -> Limits {
    naming(&["127.0.0.1", "0.0.0.0"], limits)
}

/// The same, and these registries may be asked.
pub fn naming(registries: &[&str], limits: Limits) -> Limits {
    let registries = registries.iter().map(|name| (*name).to_owned()).collect();
    Limits {
        registries: Registries::new(registries),
        ..limits
    }
}

pub fn store_with(limits: Limits) -> Store {
    store_of(near(limits))
}

pub fn store_naming(registries: &[&str]) -> Store {
    store_of(naming(registries, Limits::default()))
}

fn store_of(limits: Limits) -> Store {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(&folder.path().join("images"), limits).unwrap();
    Store { images, folder }
}

impl Store {
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    pub async fn pull(&self, reference: &str) -> Result<Image, ImageError> {
        self.images.pull(reference, &Auths::none(), &|_| {}).await
    }

    /// Names in a folder of the store, sorted.
    pub fn names(&self, part: &str) -> Vec<String> {
        names(&self.path().join(part))
    }

    /// Waits until nothing half written is left: an unpacking nobody waits for ends by itself.
    pub async fn settled(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.names("temp").is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "left: {:?}", self.names("temp"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The kind of a failure, as one word.
pub fn kind(error: &ImageError) -> &'static str {
    match error.fault {
        Fault::Invalid(_) => "invalid",
        Fault::NotFound(_) => "not found",
        Fault::Unauthorized(_) => "unauthorized",
        Fault::Unreachable(_) => "unreachable",
        Fault::TimedOut { .. } => "timed out",
        Fault::Corrupt(_) => "corrupt",
        Fault::TooLarge { .. } => "too large",
        Fault::Unsupported(_) => "unsupported",
        Fault::NoSpace => "no space",
        Fault::Io(_) => "io",
    }
}
