//! Decides what a deployed folder runs: its services, their environment, and the hash that two equal specs share.

use super::variables::Variables;
use crate::record::{PoolRecord, SandboxRecord};
use miren_api::app_file::{self, APP_FILE, Concurrency, FILE_MAX, PROCFILE, Service};
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::StartOrder;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// What decides how a sandbox runs; ids of versions and sizes of pools do not.
#[derive(Serialize)]
struct Hashed<'a> {
    /// Of this structure.
    format: u32,
    artifact: &'a str,
    service: &'a str,
    spec: Service,
}

/// As [`read`], of an artifact and off the runtime's threads.
///
/// # Errors
/// `not_found` when the folder is not there any more, and those of [`read`].
pub async fn load(artifacts: &Path, digest: &str, variables: Variables) -> Result<BTreeMap<String, Service>, ApiError> {
    let folder = folder(artifacts, digest);
    let reading = tokio::task::spawn_blocking(move || match folder.is_dir() {
        true => read(&folder, &variables),
        false => Err(ApiError::new(ErrorCode::NotFound, "its folder is not kept any more").remedy("deploy it again")),
    });
    let failed = |error| ApiError::new(ErrorCode::Internal, format!("reading the folder: {error}"));
    reading.await.map_err(failed)?
}

/// The services of an unpacked folder with `variables` over their own.
///
/// # Errors
/// `invalid_config` with every problem of its settings.
pub fn read(folder: &Path, variables: &Variables) -> Result<BTreeMap<String, Service>, ApiError> {
    let app_file = text(&folder.join(APP_FILE))?;
    let procfile = text(&folder.join(PROCFILE))?;
    let parsed = app_file::parse(app_file.as_deref(), procfile.as_deref()).map_err(|problems| {
        ApiError::new(ErrorCode::InvalidConfig, problems.to_string())
            .remedy(format!("correct {APP_FILE} or {PROCFILE} and deploy again"))
    })?;
    let mut services = parsed.services;
    for (name, service) in &mut services {
        variables.apply(name, &mut service.env);
    }
    Ok(services)
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

/// Two services with the same hash can share a pool.
pub fn hash(artifact: &str, name: &str, service: &Service) -> String {
    let hashed = Hashed {
        format: 1,
        artifact,
        service: name,
        spec: Service {
            concurrency: Concurrency::Fixed { count: 1 },
            ..service.clone()
        },
    };
    let bytes = serde_json::to_vec(&hashed).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where an artifact is unpacked.
pub fn folder(artifacts: &Path, digest: &str) -> PathBuf {
    artifacts.join(digest.strip_prefix("sha256:").unwrap_or(digest))
}

/// The order that starts, or describes, one sandbox of a pool.
pub fn order(pool: &PoolRecord, sandbox: &SandboxRecord, artifacts: &Path) -> StartOrder {
    let mut env = pool.spec.env.clone();
    env.extend(pool.spec.port.map(|port| ("PORT".to_owned(), port.to_string())));
    env.insert("MIREN_APP".into(), pool.app.to_string());
    env.insert("MIREN_SERVICE".into(), pool.service.clone());
    env.insert("MIREN_VERSION".into(), sandbox.version.to_string());
    env.insert("MIREN_INSTANCE_NUM".into(), sandbox.number.to_string());
    StartOrder {
        id: sandbox.id.clone(),
        app: pool.app.clone(),
        service_name: pool.service.clone(),
        version: sandbox.version.clone(),
        service: pool.spec.clone(),
        app_files: folder(artifacts, &pool.artifact),
        env,
    }
}
