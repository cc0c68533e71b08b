//! Decides which facts are kept in the store: what is saved, never live machines.

use crate::store::{Key, Kind, Record};
use jiff::Timestamp;
use miren_api::app_file::{Concurrency, Release, Service};
use miren_api::deploy::{Deploy, DeployRequest};
use miren_api::id::{AppName, DeployId, Label, NodeId, PoolId, SandboxId, VersionId};
use miren_api::lease::LeaseKey;
use miren_api::resource::{NodeFault, Route, SandboxState};
use miren_image::Digest;
use miren_sandbox::Facts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

mod asked;
mod crash;
mod deadlines;
mod node;
mod preview;
mod run;
pub mod size;
mod snapshot;
mod spec;
mod variables;

pub use asked::{Asked, AskedPreview};
pub use crash::CrashRecord;
pub use deadlines::Deadlines;
pub use node::{DrainRecord, NodeRecord};
pub use preview::{LabelRecord, Preview};
pub use run::{Attached, Outcome, ReleaseRecord, RunRecord, ended_by_itself, no_pool};
pub use snapshot::{SNAPSHOT_ID, SnapshotRecord};
pub use spec::{Settings, Spec};
pub use variables::Variables;

/// Index of records by the app they belong to.
pub const BY_APP: &str = "app";
/// Index of sandboxes by their pool, which never changes.
pub const BY_POOL: &str = "pool";

/// Something the store keeps.
pub trait Stored: Serialize + DeserializeOwned {
    const KIND: Kind;

    fn id(&self) -> Cow<'_, str>;

    /// Names and values it is found by.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn key(&self) -> Key {
        Key::new(Self::KIND, self.id())
    }
}

/// A record whose body is not what this release writes.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the stored {key} cannot be understood: {why}; start the release that wrote it, or restore a copy of the store"
)]
pub struct UndecodableRecord {
    pub key: Key,
    pub why: String,
}

/// Reads a record back.
pub fn decode<T: Stored>(record: &Record) -> Result<T, UndecodableRecord> {
    serde_json::from_str(&record.body).map_err(|error| UndecodableRecord {
        key: record.key.clone(),
        why: error.to_string(),
    })
}

/// An app as its own task keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    pub name: AppName,
    pub created_at: Timestamp,
    /// Number of the next deploy.
    pub next_seq: u64,
    /// Its sandboxes drain, then all its records go.
    pub deleting: bool,
    /// They stay when it goes.
    #[serde(default)]
    pub keep_disks: bool,
}

/// One build of an app and the pools that run it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    pub id: VersionId,
    pub app: AppName,
    /// Of the deploy that made it; of a preview, one that rises with each of them.
    pub seq: u64,
    pub created_at: Timestamp,
    #[serde(flatten)]
    pub content: Content,
    /// What people set over the variables of its folder.
    #[serde(default)]
    pub variables: Variables,
    pub pools: BTreeMap<String, PoolId>,
    /// It was made to be reached under a label, and goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

/// The names that a version gives its images, each with the digest that was found under it, once somebody has looked.
pub type Pins = BTreeMap<String, Option<Digest>>;
/// What a version runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Digest of an uploaded folder. Empty: there is none, and all settings are the defaults.
    pub artifact: String,
    /// An image that was given in place of the one in the folder's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The images that it names.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub images: Pins,
}

/// What a deploy installs; settled when it is accepted, whatever is deployed meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    #[serde(flatten)]
    pub content: Content,
    pub variables: Variables,
    /// The version it installs again; none: it makes a new one.
    pub version: Option<VersionId>,
    /// What its folder says, as it was read when it was accepted. None once the deploy has ended, and in what an earlier release
    /// accepted: then the folder is read where that is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
}

/// A deploy as the API shows it, and what is needed to go on with it after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeployRecord {
    pub deploy: Deploy,
    pub request: DeployRequest,
    /// Absent in records of releases in which a deploy always had its folder in the request.
    #[serde(default)]
    source: Option<Source>,
    /// When its sandboxes were asked for.
    pub starting_at: Option<Timestamp>,
    /// Generation of the snapshot that switched traffic to it.
    pub generation: Option<u64>,
    /// The idempotency key it was asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// It uses none of the sandboxes there are, even if they run the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
    /// What its release command came to, once that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseRecord>,
}

/// One version's claim on a pool: while there is one, the pool lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub version: VersionId,
    pub seq: u64,
    pub concurrency: Concurrency,
}

/// The sandboxes of one service with one spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolRecord {
    pub id: PoolId,
    pub app: AppName,
    pub service: String,
    pub spec_hash: String,
    pub spec: Service,
    /// The folder at `/app`. Empty: there is none.
    pub artifact: String,
    /// What is under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// It belongs to the preview of this label, and to no version that was deployed, even if that runs the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    pub references: Vec<Reference>,
    pub created_at: Timestamp,
    /// Size last decided.
    pub desired: u32,
    /// Since when less than `desired` has been enough.
    pub low_since: Option<Timestamp>,
    pub crash: CrashRecord,
}

impl PoolRecord {
    /// No version refers to it: its sandboxes drain, and their deaths are no crashes.
    pub fn is_retiring(&self) -> bool {
        self.references.is_empty()
    }

    /// Number of the first deploy that claimed it for `version`.
    pub fn claimed_by(&self, version: &VersionId) -> Option<u64> {
        let claims = self.references.iter().filter(|claim| claim.version == *version);
        claims.map(|claim| claim.seq).min()
    }

    /// The youngest version that refers to it: the one new sandboxes are started for.
    pub fn newest(&self) -> Option<&Reference> {
        self.references.iter().max_by_key(|reference| reference.seq)
    }
}

/// One sandbox, kept for a while after its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub id: SandboxId,
    pub app: AppName,
    pub service: String,
    pub version: VersionId,
    pub pool: PoolId,
    /// Where it runs; what an earlier release wrote says nothing, and means the one node there was.
    #[serde(default)]
    pub node: NodeId,
    /// `MIREN_INSTANCE_NUM`: the lowest that was free in its pool.
    pub number: u32,
    pub state: SandboxState,
    pub reason: Option<String>,
    pub facts: Facts,
    pub created_at: Timestamp,
    pub running_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// It ended while control was away: nobody saw why, so it speaks against nothing.
    #[serde(default)]
    pub unseen: bool,
    /// It could not be started, and that was the node's fault: it speaks against nothing either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_fault: Option<NodeFault>,
    /// Until when what is under way there may go on, since it was told to go. An earlier release does not know of them, and gives them anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadlines: Option<Deadlines>,
}

impl SandboxRecord {
    /// One of a pool that is about to be started.
    pub fn new(pool: &PoolRecord, version: VersionId, node: NodeId, number: u32, now: Timestamp) -> Self {
        Self {
            id: SandboxId::generate(),
            app: pool.app.clone(),
            service: pool.service.clone(),
            version,
            pool: pool.id.clone(),
            node,
            number,
            state: SandboxState::Pending,
            reason: None,
            facts: Facts::default(),
            created_at: now,
            running_at: None,
            ended_at: None,
            unseen: false,
            node_fault: None,
            deadlines: None,
        }
    }

    /// Its node, slot and generation, once it has them.
    pub fn lease_key(&self) -> Option<LeaseKey> {
        Some(LeaseKey {
            node: self.node,
            slot: self.facts.slot?,
            generation: self.facts.generation?,
        })
    }

    /// PENDING or RUNNING: counts towards its pool's size.
    pub fn counts(&self) -> bool {
        matches!(self.state, SandboxState::Pending | SandboxState::Running)
    }
}

/// Where a host leads; the default route has the host `(default)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouteRecord(pub Route);

/// Which version serves an app, and the number of the deploy that installed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRecord {
    pub app: AppName,
    pub version: VersionId,
    pub seq: u64,
    /// Whether it answers requests: whether a service of it is `web`. An earlier release did not say, and believed it.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub web: bool,
}

fn yes() -> bool {
    true
}

macro_rules! stored {
    ($record:ident, $kind:ident, $($field:ident).+ $(, $index:ident => $($value:ident).+)*) => {
        impl Stored for $record {
            const KIND: Kind = Kind::$kind;

            fn id(&self) -> Cow<'_, str> {
                let id: &str = self.$($field).+.as_ref();
                id.into()
            }

            fn indexes(&self) -> Vec<(&'static str, String)> {
                vec![$(($index, self.$($value).+.to_string())),*]
            }
        }
    };
}

stored!(AppRecord, App, name);
stored!(VersionRecord, Version, id, BY_APP => app);
stored!(DeployRecord, Deploy, deploy.id, BY_APP => deploy.app);
stored!(PoolRecord, Pool, id, BY_APP => app);
stored!(SandboxRecord, Sandbox, id, BY_APP => app, BY_POOL => pool);
stored!(ActiveRecord, Active, app);

impl Stored for RouteRecord {
    const KIND: Kind = Kind::Route;

    fn id(&self) -> Cow<'_, str> {
        self.0.host.as_str().into()
    }
}

impl DeployRecord {
    /// A deploy that was just accepted.
    pub fn new(deploy: Deploy, request: DeployRequest, source: Source) -> Self {
        Self {
            deploy,
            request,
            source: Some(source),
            starting_at: None,
            generation: None,
            asked: None,
            restart: false,
            release: None,
        }
    }

    /// What it installs.
    pub fn source(&self) -> Source {
        self.source.clone().unwrap_or_else(|| Source {
            content: Content {
                artifact: self.request.artifact.clone().unwrap_or_default(),
                ..Content::default()
            },
            variables: Variables::default().with(&self.request),
            version: None,
            settings: None,
        })
    }

    /// The command that has to succeed before it switches: of what makes a new version, and not of one that there was.
    pub fn release_command(&self) -> Option<&Release> {
        let source = self.source.as_ref().filter(|source| source.version.is_none())?;
        source.settings.as_ref()?.release.as_ref()
    }

    /// Whether it installs any image.
    pub fn names_images(&self) -> bool {
        self.source
            .as_ref()
            .is_some_and(|source| !source.content.images.is_empty())
    }

    /// Settles which images it installs.
    pub fn pin(&mut self, images: Pins) {
        let mut source = self.source();
        source.content.images = images;
        self.source = Some(source);
    }

    /// Forgets what only a deploy under way needs.
    pub fn close(&mut self) {
        if let Some(source) = &mut self.source {
            source.settings = None;
        }
    }

    pub fn id(&self) -> &DeployId {
        &self.deploy.id
    }
}
