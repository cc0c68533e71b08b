//! `miren deploy`: checks the folder, uploads it, and follows the deploy to its end.

use crate::app_folder::{self, AppFolder};
use crate::archive::Listing;
use crate::args::AppOptions;
use crate::failure::{Doing, Exit, Failure};
use crate::{Context, upload};
use clap::Args;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::settings::Bytes;
use miren_api::{AppName, DeployId, PoolId, VersionId, app_file};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

mod follow;
#[cfg(test)]
mod tests;

#[derive(Debug, Args)]
pub struct DeployOptions {
    #[command(flatten)]
    app: AppOptions,
    /// An environment variable for every service; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Return once the deploy is accepted
    #[arg(long)]
    detach: bool,
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

pub async fn run(options: DeployOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let began = Instant::now();
    let folder = AppFolder::open(&options.app.dir)?;
    let app = app_folder::resolve_in(&options.app, &folder)?;
    let listing = Listing::of(&folder.root, &folder.file.include)
        .map_err(|error| Failure::failed(format!("packing {}: {error}", folder.root.display())))?;
    context.console.note(&format!(
        "Deploying {app} from {}: {}",
        folder.root.display(),
        size(&listing)
    ));

    let client = context.client()?;
    let artifact = upload::send(&client, listing, context.console)
        .await
        .doing(|| format!("uploading {app}"))?;
    context.console.detail(&format!("uploaded as {}", artifact.digest));
    let request = DeployRequest {
        artifact: artifact.digest,
        env: options.env.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let key = format!("{:032x}", rand::random::<u128>());
    let accepted = client
        .deploy(app.as_str(), &request, &key)
        .await
        .doing(|| format!("deploying {app}"))?;
    if options.detach {
        return conclude(&accepted, began.elapsed(), context);
    }
    let ended = tokio::select! {
        ended = follow::to_the_end(&client, accepted.clone(), context.console) => ended?,
        _ = tokio::signal::ctrl_c() => {
            let message = format!("deploy {} of {app} goes on without being watched", accepted.id);
            return Err(Failure::interrupted_while(message).remedy(format!("miren app status -a {app}")));
        }
    };
    conclude(&ended, began.elapsed(), context)
}

/// Prints the outcome. A deploy that did not succeed is one document in JSON too, and an exit code.
fn conclude(deploy: &Deploy, took: Duration, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if context.console.is_json() {
        context.console.document(&summary(deploy, took))?;
    } else if let Some(failure) = failure(deploy) {
        return Err(failure);
    } else {
        context.console.line(&sentence(deploy, took))?;
        for url in &deploy.urls {
            context.console.line(&format!("  {url}"))?;
        }
    }
    if deploy.status == DeployStatus::Succeeded && deploy.urls.is_empty() {
        context.console.note(&format!(
            "{app} has no route yet\n  try: miren route set HOST {app}, or miren route set-default {app}",
            app = deploy.app
        ));
    }
    Ok(exit_of(deploy.status))
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

fn size(listing: &Listing) -> String {
    let bytes = match listing.bytes() {
        // Whole kibibytes, so that the number stays short.
        large if large >= 10 * 1024 => Bytes(large & !1023),
        small => Bytes(small),
    };
    format!("{} files, {bytes}", listing.files())
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((app_file::check_variable(key)?, value.to_owned()))
}
