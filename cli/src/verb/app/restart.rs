//! `miren app restart`: what serves runs in new sandboxes, followed as any deploy.

use super::super::deploy::outcome::{self, Watch};
use crate::asking::Change;
use crate::failure::{Exit, Failure};
use crate::options::AppOptions;
use crate::{Context, app_folder};
use clap::Args;

#[derive(Debug, Args)]
pub struct RestartOptions {
    #[command(flatten)]
    app: AppOptions,
    /// Return once the restart is accepted
    #[arg(long)]
    detach: bool,
}

pub async fn run(options: RestartOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let watch = Watch::from_now(options.detach);
    let app = app_folder::resolve(&options.app)?;
    let line = format!("Restarting {app}");
    context.console.begin(&line);
    context.console.step(&line, &line);
    let client = context.client()?;
    let key = outcome::idempotency_key();
    let change = Change {
        doing: &format!("restarting {app}"),
        look: &format!("miren app versions -a {app}"),
    };
    let accepted = change
        .asked(|| client.restart(app.as_str(), &key), context.console)
        .await?;
    outcome::of(accepted, watch, &client, context).await
}
