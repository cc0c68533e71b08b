//! `miren rollback`: an earlier version takes the traffic again, followed as any deploy.

use super::deploy::outcome::{self, Watch};
use crate::asking::Change;
use crate::failure::{Exit, Failure};
use crate::options::AppOptions;
use crate::{Context, app_folder};
use clap::Args;
use miren_api::VersionId;
use miren_api::deploy::RollbackRequest;

#[derive(Debug, Args)]
pub struct RollbackOptions {
    #[command(flatten)]
    app: AppOptions,
    /// To this version; otherwise to the one that served before the active one
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// Return once the deploy is accepted
    #[arg(long)]
    detach: bool,
}

pub async fn run(options: RollbackOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let watch = Watch::from_now(options.detach);
    let app = app_folder::resolve(&options.app)?;
    let target = options.to.as_deref().unwrap_or("the version before");
    let line = format!("Rolling {app} back to {target}");
    context.console.begin(&line);
    context.console.step(&line, &line);
    let client = context.client()?;
    let request = RollbackRequest {
        to: options.to.map(VersionId::from_text),
    };
    let key = outcome::idempotency_key();
    let change = Change {
        doing: &format!("rolling {app} back"),
        look: &format!("miren app versions -a {app}"),
    };
    let accepted = change
        .asked(|| client.rollback(app.as_str(), &request, &key), context.console)
        .await?;
    outcome::of(accepted, watch, &client, context).await
}
