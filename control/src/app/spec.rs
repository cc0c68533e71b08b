//! Decides what a deployed folder runs: its services, their environment, and the hash that two equal specs share.

use crate::app::state::AppState;
use crate::artifact;
use crate::executor::{ArtifactDigest, Order};
use crate::images::Fetched;
use crate::record::{Content, PoolRecord, RunRecord, SandboxRecord, Settings, Source, Variables};
use miren_api::app_file::{
    self, APP_FILE, AppFile, Base, Concurrency, FILE_MAX, PROCFILE, Previews, Service, WEB, WEB_PORT,
};
use miren_api::beneath::{self, Unreadable};
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
        release,
        ..
    } = settings(folder, image)?;
    Ok(Settings {
        services,
        previews,
        build,
        release,
    })
}

fn settings(folder: Option<&Path>, image: Option<&str>) -> Result<AppFile, ApiError> {
    let of = |file: &str| folder.map_or(Ok(None), |folder| text(folder, file));
    let (app_file, procfile) = (of(APP_FILE)?, of(PROCFILE)?);
    let read = app_file::Folder {
        app_file: app_file.as_deref(),
        procfile: procfile.as_deref(),
        has: &|file| folder.is_some_and(|folder| beneath::has(folder, file)),
    };
    app_file::parse_for(image, read).map_err(|problems| {
        ApiError::new(ErrorCode::InvalidConfig, problems.to_string())
            .remedy(format!("correct {APP_FILE} or {PROCFILE} and deploy again"))
    })
}

/// The text of a file of an unpacked folder, which may have links to anywhere.
fn text(folder: &Path, file: &str) -> Result<Option<String>, ApiError> {
    let refused = |code, why: String| ApiError::new(code, format!("reading {file}: it {why}"));
    let read = beneath::read(folder, file, FILE_MAX).map_err(|error| match error {
        Unreadable::Io(_) => refused(ErrorCode::Internal, error.to_string()),
        _ => refused(ErrorCode::InvalidConfig, error.to_string()).remedy(format!(
            "make {file} a file, or a link to one in the folder, and deploy again"
        )),
    })?;
    let text = read.map(String::from_utf8).transpose();
    text.map_err(|_| refused(ErrorCode::InvalidConfig, "is not UTF-8 text".into()))
}

/// The order that starts, or describes, one sandbox of a pool: nothing in it is a place on any machine.
pub fn order(pool: &PoolRecord, sandbox: &SandboxRecord) -> Order {
    order_by(
        sandbox,
        &Spec {
            service: pool.spec.clone(),
            artifact: pool.artifact.clone(),
            image: pool.image,
        },
    )
}

/// The same of one that runs a command once.
pub fn order_of_run(run: &RunRecord, sandbox: &SandboxRecord) -> Order {
    Order {
        one_off: Some(run.one_off()),
        ..order_by(sandbox, &run.spec)
    }
}

/// The order that a sandbox of an app was started with; none when nothing says what it is.
pub fn order_of(state: &AppState, sandbox: &SandboxRecord) -> Option<Order> {
    match state.runs.get(&sandbox.id) {
        Some(run) => Some(order_of_run(run, sandbox)),
        None => Some(order(state.pools.get(&sandbox.pool)?, sandbox)),
    }
}

fn order_by(sandbox: &SandboxRecord, spec: &Spec) -> Order {
    let service = &spec.service;
    let mut env = service.env.clone();
    env.extend(service.port.map(|port| ("PORT".to_owned(), port.to_string())));
    env.insert("MIREN_APP".into(), sandbox.app.to_string());
    env.insert("MIREN_SERVICE".into(), sandbox.service.clone());
    env.insert("MIREN_VERSION".into(), sandbox.version.to_string());
    env.insert("MIREN_INSTANCE_NUM".into(), sandbox.number.to_string());
    Order {
        id: sandbox.id.clone(),
        app: sandbox.app.clone(),
        service_name: sandbox.service.clone(),
        version: sandbox.version.clone(),
        service: service.clone(),
        root: match (spec.image, &service.base) {
            (Some(image), _) => Root::Image(image),
            (None, Base::Scratch) => Root::Scratch,
            (None, Base::Host | Base::Image(_)) => Root::Host,
        },
        app_files: (!spec.artifact.is_empty()).then(|| ArtifactDigest(spec.artifact.clone())),
        env,
        one_off: None,
    }
}

/// What a service's sandboxes are made from, for a command that serves nobody: without its port, its health and its disks, which are
/// those of the sandboxes that serve.
pub fn once(spec: Spec, command: String) -> Spec {
    let service = Service {
        command,
        port: None,
        health_path: None,
        disks: Vec::new(),
        concurrency: Concurrency::Fixed { count: 1 },
        ..spec.service
    };
    Spec { service, ..spec }
}
