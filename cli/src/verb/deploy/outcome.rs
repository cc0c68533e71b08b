//! What is said of an accepted deploy until its end, and the exit code it maps to; the same for every verb that deploys.

use super::follow;
use crate::Context;
use crate::failure::{Exit, Failure};
use miren_api::deploy::{Deploy, DeployStatus};
use miren_api::{AppName, Client, DeployId, PoolId, VersionId};
use serde::Serialize;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Since when the command runs, and whether it stays until the deploy has ended.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    began: Instant,
    detach: bool,
}

impl Watch {
    pub fn from_now(detach: bool) -> Self {
        Self {
            began: Instant::now(),
            detach,
        }
    }
}

/// What is printed in the end.
#[derive(Serialize)]
struct Summary<'d> {
    app: &'d AppName,
    version: Option<&'d VersionId>,
    deploy: &'d DeployId,
    seq: u64,
    status: DeployStatus,
    pool: Option<&'d PoolId>,
    reused: bool,
    urls: &'d [String],
    /// From the start of this command.
    duration_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'d str>,
}

/// A key that no other request has.
pub fn idempotency_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Follows the deploy to its end, unless it is left to itself, and prints how it ended.
pub async fn of(accepted: Deploy, watch: Watch, client: &Client, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if watch.detach {
        return conclude(&accepted, watch.began.elapsed(), context);
    }
    let (id, app) = (accepted.id.clone(), accepted.app.clone());
    context.console.record(&summary(&accepted, watch.began.elapsed()));
    let ended = tokio::select! {
        // Heard from before anything is shown.
        biased;
        _ = tokio::signal::ctrl_c() => {
            let message = format!("deploy {id} of {app} goes on without being watched");
            return Err(Failure::interrupted_while(message).remedy(format!("miren app status -a {app}")));
        }
        ended = follow::to_the_end(client, accepted, context.console) => ended?,
    };
    conclude(&ended, watch.began.elapsed(), context)
}

/// Prints the outcome. A deploy that did not succeed is one document in JSON too, and an exit code.
fn conclude(deploy: &Deploy, took: Duration, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let summary = summary(deploy, took);
    context.console.record(&summary);
    if context.console.is_json() {
        context.console.document(&summary)?;
    } else if let Some(failure) = failure(deploy) {
        return Err(failure);
    } else {
        context.console.line(&sentence(deploy, took))?;
        for url in &deploy.urls {
            context.console.line(&format!("  {url}"))?;
        }
    }
    if let Some(note) = reach(deploy) {
        context.console.note(&note);
    }
    Ok(exit_of(deploy.status))
}

/// What its URLs do not tell of where the app can be reached.
fn reach(deploy: &Deploy) -> Option<String> {
    let Deploy { app, urls, .. } = deploy;
    match deploy.status {
        DeployStatus::Succeeded if deploy.default_route => Some(format!(
            "{app} is the default route: every host without a route of its own leads to it"
        )),
        DeployStatus::Succeeded if urls.is_empty() => Some(format!(
            "{app} has no route yet\n  try: miren route set HOST {app}, or miren route set-default {app}"
        )),
        _ => None,
    }
}

/// The exit code of a deploy that ended so, or is left to itself.
fn exit_of(status: DeployStatus) -> Exit {
    match status {
        DeployStatus::Failed | DeployStatus::RolledBack => Exit::Failed,
        DeployStatus::Superseded => Exit::Conflict,
        _ => Exit::Done,
    }
}

fn failure(deploy: &Deploy) -> Option<Failure> {
    let why = deploy.error.as_deref().unwrap_or("the server gave no reason");
    let failure = |code: &str, remedy: String| {
        let message = format!(
            "deploy {} of {} {}: {why}",
            deploy.id,
            deploy.app,
            code.replace('_', " ")
        );
        Failure {
            exit: exit_of(deploy.status),
            code: code.to_owned(),
            message,
            remedy,
            field: None,
            problems: Vec::new(),
        }
    };
    match deploy.status {
        DeployStatus::Failed => Some(failure("failed", format!("miren logs -a {}", deploy.app))),
        DeployStatus::RolledBack => Some(failure("rolled_back", format!("miren logs -a {}", deploy.app))),
        DeployStatus::Superseded => Some(failure("superseded", format!("miren app versions -a {}", deploy.app))),
        _ => None,
    }
}

fn summary(deploy: &Deploy, took: Duration) -> Summary<'_> {
    Summary {
        app: &deploy.app,
        version: deploy.version.as_ref(),
        deploy: &deploy.id,
        seq: deploy.seq,
        status: deploy.status,
        pool: deploy.pool.as_ref(),
        reused: deploy.reused,
        urls: &deploy.urls,
        duration_ms: took.as_millis(),
        error: deploy.error.as_deref(),
    }
}

fn sentence(deploy: &Deploy, took: Duration) -> String {
    let Deploy { app, id, .. } = deploy;
    if !deploy.status.is_final() {
        return format!("Deploy {id} of {app} accepted; it goes on without being watched");
    }
    let version = deploy.version.as_ref().map_or("(none)", VersionId::as_str);
    let pool = if deploy.reused {
        ", same sandboxes as before"
    } else {
        ""
    };
    format!(
        "Deployed {app} as {version} in {:.1} s{pool}. All traffic goes to it.",
        took.as_secs_f64()
    )
}
