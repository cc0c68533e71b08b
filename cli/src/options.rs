//! Options that several verbs have: where control is, how results are printed, which app is meant.

use clap::{ArgAction, Args, ValueEnum};
use miren_api::Server;
use std::path::PathBuf;

/// Where miren-control listens unless told otherwise.
const DEFAULT_SERVER: &str = "unix:/run/miren/control.sock";

/// Options that every verb takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where miren-control listens
    #[arg(long, global = true, env = "MIREN_SERVER", value_name = "URL", default_value = DEFAULT_SERVER,
          value_parser = Server::parse)]
    pub server: Server,
    /// Say more on stderr
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// When to colour; NO_COLOR in the environment means never
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// How results are printed: for people, or for scripts with times in RFC 3339
    #[arg(long, global = true, value_enum, ignore_case = true, default_value = "table")]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// Which app a verb is about.
#[derive(Clone, Debug, Default, Args)]
pub struct AppOptions {
    /// The app; otherwise the name in the folder's .miren/app.toml
    #[arg(short, long, env = "MIREN_APP", value_name = "NAME")]
    pub app: Option<String>,
    /// The app's folder
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}
