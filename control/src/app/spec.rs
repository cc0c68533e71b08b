//! Decides what a deployed folder runs: its services, their environment, and the hash that two equal specs share.

use crate::artifact;
use crate::executor::{ArtifactDigest, Order};
use crate::images::Fetched;
use crate::record::{Content, PoolRecord, SandboxRecord, Settings, Source, Variables};
use miren_api::app_file::{
    self, APP_FILE, AppFile, Base, Concurrency, FILE_MAX, PROCFILE, Previews, Service, WEB, WEB_PORT,
};
use miren_api::{ApiError, ErrorCode};
use miren_image::{Digest, Image, Protocol};
use miren_sandbox::Root;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use crate::record::Spec;

#[cfg(test)]
mod tests;

/// What decides how a sandbox runs; ids of versions, sizes of pools and names of images do not.
#[derive(Serialize)]
struct Hashed<'a> {
    /// Of this structure.
    format: u32,
    artifact: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Digest>,
    service: &'a str,
    spec: Service,
}

impl Spec {
    /// Of a service whose images are here. One that says nothing about its port has that of its image.
    pub fn of(name: &str, mut service: Service, content: &Content, images: &Fetched) -> Self {
        let image = service.any_image().and_then(|name| images.get(name));
        if let (WEB, None) = (name, service.port) {
            service.port = Some(image.and_then(exposed).unwrap_or(WEB_PORT));
        }
        Self {
            artifact: match &service.image {
                Some(_) => String::new(),
                None => content.artifact.clone(),
            },
            image: image.map(|image| image.digest),
            service,
        }
    }

    /// Two services with the same hash can share a pool.
    pub fn hash(&self, name: &str) -> String {
        let hashed = Hashed {
            format: 1,
            artifact: &self.artifact,
            image: self.image,
            service: name,
            spec: Service {
                concurrency: Concurrency::Fixed { count: 1 },
                image: None,
                required: BTreeSet::new(),
                base: match &self.service.base {
                    Base::Image(_) => Base::Host,
                    base => base.clone(),
                },
                ..self.service.clone()
            },
        };
        let bytes = serde_json::to_vec(&hashed).unwrap_or_default();
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The lowest port that an image says it serves on.
fn exposed(image: &Image) -> Option<u16> {
    let ports = image.config.exposed_ports.iter();
    let tcp = ports.filter(|port| port.protocol == Protocol::Tcp);
    tcp.map(|port| port.number).min()
}

/// What runs: what a folder's settings say, with the variables that people set.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub services: BTreeMap<String, Service>,
    pub previews: Previews,
}

/// What runs by these settings, with `variables` over those of its services.
pub fn run(settings: &Settings, variables: &Variables) -> Run {
    let mut services = settings.services.clone();
    for (name, service) in &mut services {
        variables.apply(name, &mut service.env);
    }
    let previews = settings.previews;
    Run { services, previews }
}

/// As [`read`], of what a version runs and off the runtime's threads.
///
/// # Errors
/// `not_found` when the folder is not there any more, and those of [`read`].
pub async fn load(artifacts: &Path, content: &Content) -> Result<Settings, ApiError> {
    let image = content.image.clone();
    let folder = (!content.artifact.is_empty()).then(|| artifact::folder(artifacts, &content.artifact));
    let reading = tokio::task::spawn_blocking(move || match folder {
        None => read(None, image.as_deref()),
        Some(folder) if folder.is_dir() => read(Some(&folder), image.as_deref()),
        Some(_) => Err(ApiError::new(ErrorCode::NotFound, "its folder is not kept any more").remedy("deploy it again")),
    });
    let failed = |error| ApiError::new(ErrorCode::Internal, format!("reading the folder: {error}"));
    reading.await.map_err(failed)?
}

/// What the folder of a source says: as it was read when the source was accepted, and read now where an earlier release did that.
///
/// # Errors
/// Those of [`load`].
pub async fn settled(artifacts: &Path, source: &Source) -> Result<Settings, ApiError> {
    match &source.settings {
        Some(settings) => Ok(settings.clone()),
        None => load(artifacts, &source.content).await,
    }
}

/// What an unpacked folder says. `image` is in place of the one in its settings.
///
/// # Errors
/// `invalid_config` with every problem of its settings.
pub fn read(folder: Option<&Path>, image: Option<&str>) -> Result<Settings, ApiError> {
    let AppFile {
        services,
        previews,
        build,
        ..
    } = settings(folder, image)?;
    Ok(Settings {
        services,
        previews,
        build,
    })
}

fn settings(folder: Option<&Path>, image: Option<&str>) -> Result<AppFile, ApiError> {
    let of = |file: &str| folder.map_or(Ok(None), |folder| text(&folder.join(file)));
    let (app_file, procfile) = (of(APP_FILE)?, of(PROCFILE)?);
    let read = app_file::Folder {
        app_file: app_file.as_deref(),
        procfile: procfile.as_deref(),
        has: &|file| folder.is_some_and(|folder| folder.join(file).is_file()),
    };
    app_file::parse_for(image, read).map_err(|problems| {
        ApiError::new(ErrorCode::InvalidConfig, problems.to_string())
            .remedy(format!("correct {APP_FILE} or {PROCFILE} and deploy again"))
    })
}

fn text(path: &Path) -> Result<Option<String>, ApiError> {
    let refused = |code, why: String| Err(ApiError::new(code, format!("reading {}: {why}", path.display())));
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return refused(ErrorCode::Internal, error.to_string()),
        Ok(found) if !found.is_file() => return refused(ErrorCode::InvalidConfig, "it is not a file".into()),
        Ok(found) if found.len() > FILE_MAX as u64 => {
            return refused(
                ErrorCode::InvalidConfig,
                format!("it {}", app_file::too_large(found.len())),
            );
        }
        Ok(_) => {}
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => refused(ErrorCode::InvalidConfig, error.to_string()),
    }
}

/// The order that starts, or describes, one sandbox of a pool: nothing in it is a place on any machine.
pub fn order(pool: &PoolRecord, sandbox: &SandboxRecord) -> Order {
    let mut env = pool.spec.env.clone();
    env.extend(pool.spec.port.map(|port| ("PORT".to_owned(), port.to_string())));
    env.insert("MIREN_APP".into(), pool.app.to_string());
    env.insert("MIREN_SERVICE".into(), pool.service.clone());
    env.insert("MIREN_VERSION".into(), sandbox.version.to_string());
    env.insert("MIREN_INSTANCE_NUM".into(), sandbox.number.to_string());
    Order {
        id: sandbox.id.clone(),
        app: pool.app.clone(),
        service_name: pool.service.clone(),
        version: sandbox.version.clone(),
        service: pool.spec.clone(),
        root: match (pool.image, &pool.spec.base) {
            (Some(image), _) => Root::Image(image),
            (None, Base::Scratch) => Root::Scratch,
            (None, Base::Host | Base::Image(_)) => Root::Host,
        },
        app_files: (!pool.artifact.is_empty()).then(|| ArtifactDigest(pool.artifact.clone())),
        env,
    }
}
