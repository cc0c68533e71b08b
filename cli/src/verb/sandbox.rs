//! `miren sandbox`: the single running copies, where they are and how they are doing.

mod exec;

use crate::failure::{Doing, Exit, Failure};
use crate::table::{Cell, Table, Tone, or_dash};
use crate::{Context, ago, app_folder, paths};
use clap::{Subcommand, ValueEnum};
use miren_api::resource::{Sandbox, SandboxState};

#[derive(Debug, Subcommand)]
pub enum SandboxVerb {
    /// The sandboxes that have not ended
    List {
        /// Those that have ended too
        #[arg(long)]
        all: bool,
        /// Only those in this state, which may be that of ended ones
        #[arg(long, value_enum, ignore_case = true)]
        state: Option<StateWord>,
        /// Only those of this app
        #[arg(short, long, env = "MIREN_APP", value_name = "NAME")]
        app: Option<String>,
    },
    /// One sandbox
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Run a command in one, with its rights and limits, and end as it ends
    Exec(exec::ExecOptions),
    /// Drain one sandbox and stop it; its pool may start another
    Stop {
        /// Its id, or the beginning of it
        id: String,
    },
}

/// [`SandboxState`] as a word of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateWord {
    Pending,
    Running,
    Draining,
    Stopping,
    Stopped,
    Dead,
}

impl From<StateWord> for SandboxState {
    fn from(word: StateWord) -> Self {
        match word {
            StateWord::Pending => Self::Pending,
            StateWord::Running => Self::Running,
            StateWord::Draining => Self::Draining,
            StateWord::Stopping => Self::Stopping,
            StateWord::Stopped => Self::Stopped,
            StateWord::Dead => Self::Dead,
        }
    }
}

pub async fn run(verb: SandboxVerb, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match verb {
        SandboxVerb::Exec(options) => return exec::run(options, context).await,
        SandboxVerb::List { all, state, app } => {
            let ended = all || state.is_some();
            list(state.map(Into::into), app, ended, context).await?;
        }
        SandboxVerb::Show { id } => {
            let path = paths::of(paths::SANDBOXES, &id);
            let sandbox: Sandbox = context
                .client()?
                .get(&path)
                .await
                .doing(|| format!("showing sandbox {id}"))?;
            context.console.thing(&sandbox, &fields(&sandbox))?;
        }
        SandboxVerb::Stop { id } => {
            let path = format!("{}/stop", paths::of(paths::SANDBOXES, &id));
            let nothing = serde_json::Map::new();
            let sandbox: Sandbox = context
                .client()?
                .post(&path, &nothing)
                .await
                .doing(|| format!("stopping sandbox {id}"))?;
            context
                .console
                .done(&sandbox, &format!("Stopping sandbox {}", sandbox.id))?;
        }
    }
    Ok(Exit::Done)
}

/// `ended`: those that have ended are meant as well.
async fn list(
    state: Option<SandboxState>,
    app: Option<String>,
    ended: bool,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    let app = app.map(|name| app_folder::parse_name(&name)).transpose()?;
    let query = [
        ("app", app.map(|name| name.to_string())),
        ("state", state.map(|state| state.as_str().to_owned())),
    ];
    let path = paths::with_query(paths::SANDBOXES, &query);
    let mut sandboxes: Vec<Sandbox> = context
        .client()?
        .list(&path)
        .await
        .doing(|| "listing sandboxes".into())?;
    let known = sandboxes.len();
    sandboxes.retain(|sandbox| ended || !sandbox.state.is_terminal());
    context.console.list(&sandboxes, "sandboxes", table(&sandboxes))?;
    let hidden = known - sandboxes.len();
    if hidden > 0 && !context.console.is_json() {
        context
            .console
            .note(&format!("{hidden} more have ended; --all shows them"));
    }
    Ok(())
}

fn table(sandboxes: &[Sandbox]) -> Table {
    let mut table = Table::new(&[
        "id", "app", "service", "version", "pool", "address", "state", "created", "reason",
    ])
    .cut(&["reason"])
    .leave(&["pool", "address", "created", "service", "version", "app", "reason"]);
    for sandbox in sandboxes {
        table.row(vec![
            sandbox.id.as_str().into(),
            sandbox.app.as_str().into(),
            sandbox.service.as_str().into(),
            sandbox.version.as_str().into(),
            sandbox.pool.as_str().into(),
            address(sandbox).into(),
            Cell::toned(sandbox.state.as_str(), tone(sandbox.state)),
            ago::since(Some(sandbox.created_at)).into(),
            sandbox.reason.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

fn fields(sandbox: &Sandbox) -> Vec<(&'static str, String)> {
    let generation = sandbox
        .slot
        .zip(sandbox.generation)
        .map(|(slot, number)| format!("{slot}, generation {number}"));
    vec![
        ("Sandbox", sandbox.id.to_string()),
        ("App", sandbox.app.to_string()),
        ("Service", sandbox.service.clone()),
        ("Version", sandbox.version.to_string()),
        ("Pool", sandbox.pool.to_string()),
        ("State", sandbox.state.as_str().to_owned()),
        ("Reason", or_dash(sandbox.reason.as_ref())),
        ("Address", address(sandbox)),
        ("Process", or_dash(sandbox.pid.as_ref())),
        ("Slot", or_dash(generation.as_ref())),
        ("Node", sandbox.node.clone()),
        ("Created", ago::since(Some(sandbox.created_at))),
        ("Running", ago::since(sandbox.running_at)),
        ("Ended", ago::since(sandbox.ended_at)),
    ]
}

fn address(sandbox: &Sandbox) -> String {
    match (sandbox.ip, sandbox.port) {
        (Some(ip), Some(port)) => std::net::SocketAddr::new(ip, port).to_string(),
        (Some(ip), None) => ip.to_string(),
        _ => "-".to_owned(),
    }
}

fn tone(state: SandboxState) -> Tone {
    match state {
        SandboxState::Running => Tone::Good,
        SandboxState::Pending | SandboxState::Draining | SandboxState::Stopping => Tone::Waiting,
        SandboxState::Stopped => Tone::Plain,
        SandboxState::Dead => Tone::Bad,
    }
}
