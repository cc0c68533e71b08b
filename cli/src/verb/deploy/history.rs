//! `miren deploy list`, `show` and `cancel`: deploys that were asked for, and how they went.

use super::DeployVerb;
use crate::failure::{Doing, Exit, Failure};
use crate::table::{Cell, Table, Tone, or_dash};
use crate::{Context, ago, app_folder, paths};
use miren_api::deploy::{Deploy, DeployStatus};

#[cfg(test)]
mod tests;

pub async fn run(verb: DeployVerb, context: &mut Context<'_>) -> Result<(), Failure> {
    let client = context.client()?;
    match verb {
        DeployVerb::List(options) => {
            let app = app_folder::resolve(&options)?;
            let mut deploys: Vec<Deploy> = client
                .list(&paths::of_app(app.as_str(), "deploys"))
                .await
                .doing(|| format!("listing deploys of {app}"))?;
            deploys.sort_by_key(|deploy| std::cmp::Reverse(deploy.seq));
            context.console.list(&deploys, "deploys", table(&deploys))
        }
        DeployVerb::Show { id } => {
            let path = paths::of(paths::DEPLOYS, &id);
            let deploy: Deploy = client.get(&path).await.doing(|| format!("showing deploy {id}"))?;
            context.console.thing(&deploy, &fields(&deploy))
        }
        DeployVerb::Cancel { id } => {
            let path = format!("{}/cancel", paths::of(paths::DEPLOYS, &id));
            let nothing = serde_json::Map::new();
            let answer = client.post(&path, &nothing).await;
            let deploy: Deploy = answer
                .doing(|| format!("cancelling deploy {id}"))
                .map_err(|failure| too_late(failure, &id))?;
            let sentence = format!("Cancelled deploy {} of {}; no traffic was moved", deploy.id, deploy.app);
            context.console.done(&deploy, &sentence)
        }
    }
}

/// A deploy that cannot be cancelled any more tells how far it came.
fn too_late(failure: Failure, id: &str) -> Failure {
    if failure.exit == Exit::Conflict && failure.remedy.is_empty() {
        failure.remedy(format!("miren deploy show {id}"))
    } else {
        failure
    }
}

fn table(deploys: &[Deploy]) -> Table {
    let mut table = Table::new(&["id", "seq", "version", "status", "started", "took", "error"])
        .cut(&["error"])
        .leave(&["took", "seq", "started", "error", "version"]);
    for deploy in deploys {
        table.row(vec![
            deploy.id.as_str().into(),
            deploy.seq.into(),
            or_dash(deploy.version.as_ref()).into(),
            Cell::toned(deploy.status.as_str(), tone(deploy.status)),
            ago::since(Some(deploy.started_at)).into(),
            took(deploy).into(),
            first_line(deploy).into(),
        ]);
    }
    table
}

/// The same in short, as a part of what is told of an app.
pub fn recent(deploys: &[Deploy]) -> Table {
    let mut table = Table::new(&["seq", "status", "version", "when", "error"])
        .cut(&["error"])
        .leave(&["when", "error", "version"]);
    for deploy in deploys {
        table.row(vec![
            deploy.seq.into(),
            Cell::toned(deploy.status.as_str(), tone(deploy.status)),
            or_dash(deploy.version.as_ref()).into(),
            ago::since(Some(deploy.finished_at.unwrap_or(deploy.started_at))).into(),
            first_line(deploy).into(),
        ]);
    }
    table
}

fn first_line(deploy: &Deploy) -> &str {
    let error = deploy.error.as_deref().unwrap_or_default();
    error.lines().next().unwrap_or_default()
}

fn fields(deploy: &Deploy) -> Vec<(&'static str, String)> {
    let everywhere = deploy.default_route.then_some("every host without a route of its own");
    let urls: Vec<&str> = deploy.urls.iter().map(String::as_str).chain(everywhere).collect();
    let reused = if deploy.reused {
        ", same sandboxes as before"
    } else {
        ""
    };
    let mut fields = vec![
        ("Deploy", deploy.id.to_string()),
        ("App", deploy.app.to_string()),
        ("Seq", deploy.seq.to_string()),
        ("Version", or_dash(deploy.version.as_ref())),
        ("Status", deploy.status.as_str().to_owned()),
        ("Pool", format!("{}{reused}", or_dash(deploy.pool.as_ref()))),
        ("URLs", or_dash((!urls.is_empty()).then(|| urls.join(", ")).as_ref())),
        ("Started", ago::since(Some(deploy.started_at))),
        ("Took", took(deploy)),
        ("Error", or_dash(deploy.error.as_ref())),
    ];
    let mut before = deploy.started_at;
    for step in &deploy.steps {
        let since = format!("+{}", ago::between(before, step.at));
        let line = format!("{:<12} {since:>8}  {}", step.status.as_str(), step.message);
        fields.push(("Step", line));
        before = step.at;
    }
    fields
}

fn took(deploy: &Deploy) -> String {
    let took = deploy.finished_at.map(|end| ago::between(deploy.started_at, end));
    or_dash(took.as_ref())
}

fn tone(status: DeployStatus) -> Tone {
    match status {
        DeployStatus::Succeeded => Tone::Good,
        DeployStatus::Superseded => Tone::Plain,
        DeployStatus::Failed | DeployStatus::RolledBack => Tone::Bad,
        _ => Tone::Waiting,
    }
}
