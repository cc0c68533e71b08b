//! `miren deploy --ephemeral`: a version under a label of its own, made while what serves the app stays as it is.

use super::{DeployOptions, outcome, output};
use crate::failure::{Doing, Exit, Failure};
use crate::{Context, ago, preview};
use jiff::Timestamp;
use miren_api::deploy::{DeployRequest, DeployStatus};
use miren_api::ephemeral::{EphemeralDeployed, EphemeralRequest};
use miren_api::{AppName, Client, ClientError, Label, PoolId, VersionId};
use serde::Serialize;
use std::pin::pin;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// What was said of it may still be on its way when it has ended.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The label that was asked for, and for how long.
pub struct Preview {
    label: Label,
    ttl: Option<String>,
    began: Instant,
}

impl Preview {
    /// What the command line says of a preview; nothing when it asks for a deploy.
    pub fn of(options: &DeployOptions, context: &Context<'_>) -> Result<Option<Self>, Failure> {
        let Some(label) = &options.ephemeral else {
            return Ok(None);
        };
        Ok(Some(Self {
            label: preview::label(label, context.console)?,
            ttl: options.ttl.clone().map(preview::ttl).transpose()?,
            began: Instant::now(),
        }))
    }

    /// Asks for it, shows what happens until it can be reached, and prints where.
    pub async fn make(
        self,
        app: &AppName,
        content: DeployRequest,
        client: &Client,
        context: &mut Context<'_>,
    ) -> Result<Exit, Failure> {
        let request = EphemeralRequest {
            label: self.label.to_string(),
            ttl: self.ttl,
            artifact: content.artifact,
            image: content.image,
            version: content.version,
            env: content.env,
            service_env: content.service_env,
        };
        let key = outcome::idempotency_key();
        context
            .console
            .step_if_moving(&format!("making the preview {}", self.label));
        let look = format!("miren ephemeral list -a {app}");
        let answer = tokio::select! {
            answer = watched(client, app, &request, &key, context) => answer,
            _ = tokio::signal::ctrl_c() => {
                let message = format!("preview {} of {app} goes on being made without being watched", self.label);
                return Err(Failure::interrupted_while(message).remedy(look));
            }
        };
        let broken = matches!(answer, Err(ClientError::Broken { .. }));
        let made = answer
            .doing(|| format!("deploying {app} under {}", self.label))
            .map_err(|failure| if broken { unknown(failure, &look) } else { failure })?;
        conclude(&made, self.began.elapsed(), context)
    }
}

/// The answer, with what is said until it comes.
async fn watched(
    client: &Client,
    app: &AppName,
    request: &EphemeralRequest,
    key: &str,
    context: &Context<'_>,
) -> Result<EphemeralDeployed, ClientError> {
    let mut asking = pin!(client.preview(app.as_str(), request, key));
    let mut watching = pin!(output::of_request(client, key, context.console));
    tokio::select! {
        answer = &mut asking => {
            // Nothing is missing without them, so they are not waited for long.
            let _ = tokio::time::timeout(LAST_WORDS, watching).await;
            answer
        }
        () = &mut watching => asking.await,
    }
}

/// Whoever was cut off cannot know how it ended.
fn unknown(failure: Failure, look: &str) -> Failure {
    let message = format!("{}; whether it was made is not known", failure.message);
    Failure { message, ..failure }.remedy(look)
}

/// What is printed in the end: the keys of a deploy, and then its own.
#[derive(Serialize)]
struct Summary<'p> {
    app: &'p AppName,
    version: &'p VersionId,
    /// A preview is no deploy.
    deploy: Option<()>,
    seq: Option<()>,
    status: DeployStatus,
    pool: Option<&'p PoolId>,
    reused: bool,
    urls: &'p [String],
    /// From the start of this command.
    duration_ms: u128,
    label: &'p Label,
    expires_at: Timestamp,
    replaced: Option<&'p VersionId>,
    evicted: &'p [Label],
}

fn summary(made: &EphemeralDeployed, took: Duration) -> Summary<'_> {
    let it = &made.ephemeral;
    Summary {
        app: &it.app,
        version: &it.version,
        deploy: None,
        seq: None,
        status: DeployStatus::Succeeded,
        pool: it.pools.first(),
        reused: made.reused,
        urls: &it.urls,
        duration_ms: took.as_millis(),
        label: &it.label,
        expires_at: it.expires_at,
        replaced: made.replaced.as_ref(),
        evicted: &made.evicted,
    }
}

fn conclude(made: &EphemeralDeployed, took: Duration, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let summary = summary(made, took);
    context.console.record(&summary);
    if context.console.is_json() {
        context.console.document(&summary)?;
    } else {
        context.console.line(&sentence(made, took, Timestamp::now()))?;
        for url in &made.ephemeral.urls {
            context.console.line(&format!("  {url}"))?;
        }
    }
    for note in notes(made) {
        context.console.note(&note);
    }
    Ok(Exit::Done)
}

fn sentence(made: &EphemeralDeployed, took: Duration, now: Timestamp) -> String {
    let it = &made.ephemeral;
    let sandboxes = if made.reused { ", same sandboxes as before" } else { "" };
    format!(
        "Deployed {} as {} under {} in {:.1} s{sandboxes}, until {} ({}). What serves the app is unchanged.",
        it.app,
        it.version,
        it.label,
        took.as_secs_f64(),
        ago::exactly(it.expires_at),
        ago::until(it.expires_at, now),
    )
}

/// What had to go for it, and why it cannot be reached if it has no address.
fn notes(made: &EphemeralDeployed) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(before) = &made.replaced {
        notes.push(format!("It replaces {before}, which had the label before"));
    }
    if !made.evicted.is_empty() {
        let labels: Vec<&str> = made.evicted.iter().map(Label::as_str).collect();
        notes.push(format!(
            "Gone, since an app has only so many previews: {}",
            labels.join(", ")
        ));
    }
    if made.ephemeral.urls.is_empty() {
        let app = &made.ephemeral.app;
        notes.push(format!(
            "no url: give the app a host with miren route set, or set ingress.apps_domain\n  try: miren route set HOST {app}"
        ));
    }
    notes
}
