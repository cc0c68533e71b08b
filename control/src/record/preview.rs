//! Decides what is kept of previews: what a version runs when it is asked for, and which version has a label until when.

use super::{AskedPreview, Stored};
use crate::app::spec::Spec;
use crate::store::Kind;
use miren_api::id::{AppName, Label, VersionId};
use miren_api::routing::EphemeralRoute;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a version has that is reached under a label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    pub label: Label,
    /// The version it is a clone of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VersionId>,
    /// What each of its services runs. A pool is made of it when the first request comes.
    pub specs: BTreeMap<String, Spec>,
    /// The idempotency key it was asked for with, from when it is announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<AskedPreview>,
}

/// Which version is reached under a label of an app, and until when. There is one for each label, so that nothing can hide it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelRecord {
    id: String,
    pub app: AppName,
    #[serde(flatten)]
    pub route: EphemeralRoute,
}

impl LabelRecord {
    pub fn new(app: &AppName, route: EphemeralRoute) -> Self {
        Self {
            id: Self::id_of(app, &route.label),
            app: app.clone(),
            route,
        }
    }

    /// Neither names nor labels have a '/'.
    pub fn id_of(app: &AppName, label: &str) -> String {
        format!("{app}/{label}")
    }
}

impl Stored for LabelRecord {
    const KIND: Kind = Kind::Label;

    fn id(&self) -> Cow<'_, str> {
        self.id.as_str().into()
    }
}
