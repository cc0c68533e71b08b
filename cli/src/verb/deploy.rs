//! `miren deploy`: checks the folder and uploads it, or takes an earlier version, and follows what is made of it to its end.

use crate::app_folder::{self, AppFolder};
use crate::archive::Listing;
use crate::asking::Change;
use crate::failure::{Doing, Exit, Failure};
use crate::options::AppOptions;
use crate::{Context, upload, variable};
use clap::{Args, Subcommand};
use miren_api::app_file::Service;
use miren_api::deploy::DeployRequest;
use miren_api::settings::Bytes;
use miren_api::{AppName, Client, VersionId};
use outcome::Watch;
use preview::Preview;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use summary::SummaryFile;

mod follow;
pub mod history;
pub mod outcome;
mod output;
mod preview;
mod required;
mod summary;
mod words;

/// `miren deploy` alone, or with a verb of its own.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DeployCommand {
    #[command(subcommand)]
    verb: Option<DeployVerb>,
    #[command(flatten)]
    options: DeployOptions,
}

#[derive(Debug, Subcommand)]
pub enum DeployVerb {
    /// The deploys of an app, newest first
    List(AppOptions),
    /// One deploy, step by step
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Give up a deploy that has not moved any traffic yet
    Cancel {
        /// Its id, or the beginning of it
        id: String,
    },
}

#[derive(Debug, Args)]
pub struct DeployOptions {
    #[command(flatten)]
    app: AppOptions,
    /// An environment variable for every service; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = variable::pair)]
    env: Vec<(String, String)>,
    /// A container image to run as it is; of the folder only the settings count
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
    /// The same, from a file: what `docker save` writes, or an OCI layout as tar
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    image_archive: Option<PathBuf>,
    /// An existing version of the app, instead of the folder
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["image", "image_archive"])]
    version: Option<String>,
    /// Reach it under this name, before a host of the app, and leave what serves the app as it is
    #[arg(long, value_name = "LABEL", conflicts_with = "detach")]
    ephemeral: Option<String>,
    /// How long --ephemeral lives; 24h unless the server has another default
    #[arg(long, value_name = "DURATION", requires = "ephemeral", allow_hyphen_values = true)]
    ttl: Option<String>,
    /// Return once the deploy is accepted
    #[arg(long)]
    detach: bool,
    /// Write how it ended to this file, as one JSON document, whatever the outcome
    #[arg(long, value_name = "FILE")]
    summary_json: Option<PathBuf>,
}

pub async fn run(command: DeployCommand, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match command.verb {
        Some(verb) => history::run(verb, context).await.map(|()| Exit::Done),
        None => summarised(command.options, context).await,
    }
}

/// Deploys, and leaves a summary where one is asked for. One that cannot be left is told, unless there is worse to tell.
async fn summarised(options: DeployOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let Some(path) = &options.summary_json else {
        return deploy(options, context).await;
    };
    let file = SummaryFile::at(path)?;
    let outcome = tokio::select! {
        // In this order, so that what is said of an interrupted deploy is in it.
        biased;
        outcome = deploy(options, context) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    };
    let written = file.write(context.console.recorded(), &outcome);
    let exit = outcome?;
    written.map(|()| exit)
}

async fn deploy(options: DeployOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let watch = Watch::from_now(options.detach);
    let preview = Preview::of(&options, context)?;
    let client = context.client()?;
    context.console.begin("looking through the folder");
    let (app, mut request) = match &options.version {
        Some(version) => existing(&options.app, version, context)?,
        None => {
            let image = image(&options, &client, context).await?;
            uploaded(&options, image, &client, context).await?
        }
    };
    request.env = options
        .env
        .into_iter()
        .map(|(name, value)| (name, Some(value)))
        .collect();
    if let Some(preview) = preview {
        return preview.make(&app, request, &client, context).await;
    }
    let key = outcome::idempotency_key();
    let change = Change {
        doing: &format!("deploying {app}"),
        look: &format!("miren app versions -a {app}"),
    };
    let accepted = change
        .asked(|| client.deploy(app.as_str(), &request, &key), context.console)
        .await?;
    outcome::of(accepted, watch, &client, context).await
}

/// What is known of a deploy before it is one.
#[derive(Serialize)]
struct About<'d> {
    app: &'d AppName,
}

/// Nothing is read from the folder but the app's name, where that is not given.
fn existing(
    options: &AppOptions,
    version: &str,
    context: &mut Context<'_>,
) -> Result<(AppName, DeployRequest), Failure> {
    let app = app_folder::resolve(options)?;
    let line = format!("Deploying {app} from version {version}");
    context.console.step("asking for the deploy", &line);
    context.console.record(&About { app: &app });
    let request = DeployRequest {
        version: Some(VersionId::from_text(version)),
        ..DeployRequest::default()
    };
    Ok((app, request))
}

/// The image that is to run, sent if it is in a file.
async fn image(options: &DeployOptions, client: &Client, context: &mut Context<'_>) -> Result<Option<String>, Failure> {
    let Some(file) = &options.image_archive else {
        return Ok(options.image.clone());
    };
    let line = format!("Sending {}", file.display());
    context.console.step(&format!("sending {}", file.display()), &line);
    let sent = upload::send_image(client, file, context.console)
        .await
        .doing(|| format!("sending {}", file.display()))?;
    let name = sent.reference.as_deref().unwrap_or("an image without a name");
    let line = format!("Sent {name}: {}", sent.digest);
    context.console.step("asking for the deploy", &line);
    Ok(Some(sent.digest))
}

async fn uploaded(
    options: &DeployOptions,
    image: Option<String>,
    client: &Client,
    context: &mut Context<'_>,
) -> Result<(AppName, DeployRequest), Failure> {
    let folder = AppFolder::open_for(image.as_deref(), &options.app.dir)?;
    let app = app_folder::resolve_in(&options.app, &folder)?;
    context.console.record(&About { app: &app });
    required::check(&app, &folder.file.services, &options.env, client).await?;
    let listing = folder
        .listing()
        .map_err(|error| Failure::failed(format!("packing {}: {error}", folder.root.display())))?;
    let what = match folder.is_only_settings() {
        true => images(&folder),
        false => format!("{}: {}{}", folder.root.display(), size(&listing), built(&folder)),
    };
    let line = format!("Deploying {app} from {what}");
    context.console.step(&format!("sending {what}"), &line);
    let mut request = DeployRequest {
        image,
        ..DeployRequest::default()
    };
    if listing.files() > 0 {
        let artifact = upload::send(client, listing, context.console)
            .await
            .doing(|| format!("uploading {app}"))?;
        context.console.detail(&format!("uploaded as {}", artifact.digest));
        request.artifact = Some(artifact.digest);
    }
    Ok((app, request))
}

fn images(folder: &AppFolder) -> String {
    let names: BTreeSet<&str> = folder.file.services.values().filter_map(Service::any_image).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn built(folder: &AppFolder) -> String {
    match &folder.file.build.dockerfile {
        Some(dockerfile) => format!(", to be built by its {dockerfile}"),
        None => String::new(),
    }
}

fn size(listing: &Listing) -> String {
    let bytes = match listing.bytes() {
        // Whole kibibytes, so that the number stays short.
        large if large >= 10 * 1024 => Bytes(large & !1023),
        small => Bytes(small),
    };
    format!("{} files, {bytes}", listing.files())
}
