//! `miren ephemeral`: the previews of an app, how long they live, and their end.

use crate::failure::{Doing, Failure};
use crate::options::AppOptions;
use crate::table::{Cell, Table, Tone, or_dash};
use crate::{Context, ago, app_folder, paths, preview, prompt};
use clap::{Args, Subcommand};
use miren_api::ephemeral::{Ephemeral, ExtendRequest};
use miren_api::{AppName, Label};

#[cfg(test)]
mod tests;

#[derive(Debug, Subcommand)]
pub enum EphemeralVerb {
    /// All previews of an app
    List(AppOptions),
    /// One preview
    Show(Named),
    /// Give a preview more time
    Extend {
        #[command(flatten)]
        named: Named,
        /// From now on
        #[arg(long, value_name = "DURATION", default_value = "24h", allow_hyphen_values = true)]
        ttl: String,
    },
    /// Delete a preview with its sandboxes; what serves the app is untouched
    Delete {
        #[command(flatten)]
        named: Named,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
    },
}

/// A preview of an app.
#[derive(Debug, Args)]
pub struct Named {
    /// Its label
    label: String,
    #[command(flatten)]
    app: AppOptions,
}

impl Named {
    fn resolve(&self, context: &Context<'_>) -> Result<(AppName, Label), Failure> {
        let label = preview::label(&self.label, context.console)?;
        Ok((app_folder::resolve(&self.app)?, label))
    }
}

pub async fn run(verb: EphemeralVerb, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        EphemeralVerb::List(options) => {
            let app = app_folder::resolve(&options)?;
            let path = paths::of_app(app.as_str(), "ephemeral");
            let answer = context.client()?.list(&path).await;
            let mut previews: Vec<Ephemeral> = answer.doing(|| format!("listing previews of {app}"))?;
            previews.sort_by(|a, b| (a.expires_at, &a.label).cmp(&(b.expires_at, &b.label)));
            context.console.list(&previews, "previews", table(&previews))
        }
        EphemeralVerb::Show(named) => {
            let (app, label) = named.resolve(context)?;
            let path = paths::of_ephemeral(app.as_str(), label.as_str());
            let answer = context.client()?.get(&path).await;
            let found: Ephemeral = answer.doing(|| format!("showing preview {label} of {app}"))?;
            context.console.thing(&found, &fields(&found))
        }
        EphemeralVerb::Extend { named, ttl } => {
            let (app, label) = named.resolve(context)?;
            let request = ExtendRequest {
                ttl: preview::ttl(ttl)?,
            };
            let path = format!("{}/extend", paths::of_ephemeral(app.as_str(), label.as_str()));
            let answer = context.client()?.post(&path, &request).await;
            let extended: Ephemeral = answer.doing(|| format!("extending preview {label} of {app}"))?;
            let sentence = format!("Preview {label} of {app} lives until {}", end(&extended));
            context.console.done(&extended, &sentence)
        }
        EphemeralVerb::Delete { named, force } => delete(&named, force, context).await,
    }
}

async fn delete(named: &Named, force: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    let (app, label) = named.resolve(context)?;
    if !force && !confirmed(&app, &label).await? {
        return Err(Failure::failed(format!("preview {label} of {app} was not deleted")).code("not_confirmed"));
    }
    let path = paths::of_ephemeral(app.as_str(), label.as_str());
    let answer = context.client()?.delete(&path).await;
    let deleted: Ephemeral = answer.doing(|| format!("deleting preview {label} of {app}"))?;
    let sentence = format!("Deleted preview {label} of {app} ({})", deleted.version);
    context.console.done(&deleted, &sentence)
}

/// Without a terminal there is nobody to ask, so `-f` is needed.
async fn confirmed(app: &AppName, label: &Label) -> Result<bool, Failure> {
    let remedy = format!("miren ephemeral delete {label} -a {app} -f");
    prompt::attended(&format!("deleting preview {label} needs a yes"), &remedy)?;
    prompt::yes(&format!("Delete preview {label} of app {app}?")).await
}

/// The previews of an app, also as a part of what is told of the app.
pub fn table(previews: &[Ephemeral]) -> Table {
    let mut table = Table::new(&["label", "version", "status", "expires", "created", "url"])
        .cut(&["url"])
        .lists(&["url"])
        .leave(&["created", "url", "version"]);
    for preview in previews {
        let tone = if preview.ready > 0 { Tone::Good } else { Tone::Plain };
        table.row(vec![
            preview.label.as_str().into(),
            preview.version.as_str().into(),
            Cell::toned(status(preview), tone),
            ago::left(Some(preview.expires_at)).into(),
            ago::since(Some(preview.created_at)).into(),
            urls(preview, ", ").into(),
        ]);
    }
    table
}

fn fields(preview: &Ephemeral) -> Vec<(&'static str, String)> {
    let pools: Vec<&str> = preview.pools.iter().map(|pool| pool.as_str()).collect();
    vec![
        ("Label", preview.label.to_string()),
        ("App", preview.app.to_string()),
        ("Version", preview.version.to_string()),
        ("Clone of", or_dash(preview.source.as_ref())),
        ("Status", status(preview)),
        ("Expires", end(preview)),
        ("Created", ago::since(Some(preview.created_at))),
        ("Pools", or_dash((!pools.is_empty()).then(|| pools.join(", ")).as_ref())),
        ("URLs", urls(preview, "\n")),
    ]
}

/// It has no sandboxes until it is asked for something, which is nothing to worry about.
fn status(preview: &Ephemeral) -> String {
    match preview.ready {
        0 => "idle".to_owned(),
        ready => format!("ready {ready}"),
    }
}

fn end(preview: &Ephemeral) -> String {
    format!(
        "{} ({})",
        ago::exactly(preview.expires_at),
        ago::left(Some(preview.expires_at))
    )
}

/// As the server sent them.
fn urls(preview: &Ephemeral, between: &str) -> String {
    let urls = (!preview.urls.is_empty()).then(|| preview.urls.join(between));
    or_dash(urls.as_ref())
}
