//! Decides what control needs of the disks of a node, and which refusal each of their errors is.

use async_trait::async_trait;
use miren_api::app_file::DiskMount;
use miren_api::id::AppName;
use miren_api::resource::Disk;
use miren_api::{ApiError, ErrorCode};
use miren_disk::{DiskError, DiskId};
use miren_sandbox::Volumes;

/// The disks of a node, by app and name.
#[async_trait]
pub trait Disks: Send + Sync {
    /// Whether what there is fits what a service asks for, so that a deploy may begin. Nothing is made.
    async fn check(&self, app: &AppName, mounts: Vec<DiskMount>) -> Result<(), ApiError>;

    async fn list(&self) -> Result<Vec<Disk>, ApiError>;

    async fn get(&self, app: &AppName, name: &str) -> Result<Disk, ApiError>;

    /// Deletes a disk that no sandbox has.
    async fn delete(&self, app: &AppName, name: &str) -> Result<(), ApiError>;

    /// Deletes every disk of an app whose sandboxes have ended, after the last clean-up of them.
    async fn delete_all(&self, app: &AppName) -> Result<(), ApiError>;

    async fn grow(&self, app: &AppName, name: &str, size_gb: u32) -> Result<Disk, ApiError>;

    /// Makes the disk `to` of the same app with what is on this one now.
    async fn snapshot(&self, app: &AppName, name: &str, to: &str) -> Result<Disk, ApiError>;
}

#[async_trait]
impl Disks for Volumes {
    async fn check(&self, app: &AppName, mounts: Vec<DiskMount>) -> Result<(), ApiError> {
        let checked = Volumes::check(self, app, mounts).await;
        checked.map_err(|why| {
            ApiError::new(ErrorCode::InvalidConfig, why).remedy(format!("see what there is: miren disk list -a {app}"))
        })
    }

    async fn list(&self) -> Result<Vec<Disk>, ApiError> {
        Volumes::list(self).await.map_err(refused)
    }

    async fn get(&self, app: &AppName, name: &str) -> Result<Disk, ApiError> {
        Volumes::get(self, id(app, name)?).await.map_err(refused)
    }

    async fn delete(&self, app: &AppName, name: &str) -> Result<(), ApiError> {
        Volumes::delete(self, id(app, name)?).await.map_err(refused)
    }

    async fn delete_all(&self, app: &AppName) -> Result<(), ApiError> {
        Volumes::delete_all(self, app).await.map_err(refused)
    }

    async fn grow(&self, app: &AppName, name: &str, size_gb: u32) -> Result<Disk, ApiError> {
        Volumes::grow(self, id(app, name)?, size_gb).await.map_err(refused)
    }

    async fn snapshot(&self, app: &AppName, name: &str, to: &str) -> Result<Disk, ApiError> {
        let grown = Volumes::snapshot(self, id(app, name)?, id(app, to)?).await;
        grown.map_err(refused)
    }
}

fn id(app: &AppName, name: &str) -> Result<DiskId, ApiError> {
    DiskId::new(app, name).map_err(|why| {
        let message = format!("{name:?} of app {:?} is no name of a disk: a name {why}", app.as_str());
        ApiError::new(ErrorCode::InvalidValue, message).field("name")
    })
}

fn refused(error: DiskError) -> ApiError {
    let told = |code| ApiError::new(code, error.to_string());
    match &error {
        DiskError::NotFound { .. } => told(ErrorCode::NotFound).remedy("list the disks with `miren disk list`"),
        DiskError::Exists { .. } => told(ErrorCode::Conflict).remedy("choose another name, or delete that disk first"),
        DiskError::Busy { .. } => {
            told(ErrorCode::Conflict).remedy("deploy the app without the disk, or delete the app, then try again")
        }
        DiskError::Invalid { .. } | DiskError::Unsupported { .. } => told(ErrorCode::InvalidValue),
        DiskError::NoSpace { .. } => told(ErrorCode::Conflict).remedy("make room on the node, then try again"),
        DiskError::MissingProgram { .. }
        | DiskError::Damaged { .. }
        | DiskError::Failed { .. }
        | DiskError::Io { .. } => told(ErrorCode::Internal),
    }
}
