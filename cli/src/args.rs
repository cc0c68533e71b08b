//! The command line's grammar: global options and one entry per verb.

use crate::dev::DevOptions;
use crate::verb;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use miren_api::Server;
use std::path::PathBuf;

/// Where miren-control listens unless told otherwise.
const DEFAULT_SERVER: &str = "unix:/run/miren/control.sock";

/// Deploys and looks after apps on one machine.
#[derive(Debug, Parser)]
#[command(name = "miren", version, about, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

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

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run everything in the foreground, with defaults, in one folder
    Dev(DevOptions),
    /// Make the folder's app a new version, and move its traffic there; or list, show, cancel deploys
    Deploy(verb::deploy::DeployCommand),
    /// Move an app's traffic back to an earlier version
    Rollback(verb::rollback::RollbackOptions),
    /// Environment variables: set, get, list, delete
    #[command(subcommand)]
    Env(verb::env::EnvVerb),
    /// Apps: list, status, versions, validate, delete
    #[command(subcommand)]
    App(verb::app::AppVerb),
    /// Previews: list, show, extend, delete; "miren deploy --ephemeral" makes one
    #[command(subcommand)]
    Ephemeral(verb::ephemeral::EphemeralVerb),
    /// Routes: which host leads to which app, whether it is up, how long it may take
    #[command(subcommand)]
    Route(verb::route::RouteVerb),
    /// Pools: the sandboxes of one app and service
    #[command(subcommand)]
    Pool(verb::pool::PoolVerb),
    /// Sandboxes: list, show, stop, run a command in one
    #[command(subcommand)]
    Sandbox(verb::sandbox::SandboxVerb),
    /// Disks: list, show, grow, snapshot, delete
    #[command(subcommand)]
    Disk(verb::disk::DiskVerb),
    /// What an app wrote to its outputs
    Logs(verb::logs::LogsOptions),
    /// The node: status, cordon, drain, and back
    #[command(subcommand)]
    Node(verb::node::NodeVerb),
    /// The kernel side: status, and changes as they happen
    #[command(subcommand, name = "fastpath")]
    FastPath(verb::fastpath::FastPathVerb),
    /// Versions of this program and of the server
    Version,
    /// Print a completion script
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

impl Verb {
    /// Whether it asks the server that `--server` names for anything.
    pub fn asks(&self) -> bool {
        match self {
            Self::Dev(_) | Self::Completions { .. } => false,
            Self::App(verb) => verb.asks(),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_are_taken_after_the_verb_too() {
        let words = ["miren", "app", "list", "--server", "unix:/x.sock", "--format", "JSON"];
        let parsed = Arguments::try_parse_from(words).unwrap();
        assert_eq!(parsed.global.server, Server::Unix("/x.sock".into()));
        assert_eq!(parsed.global.format, Format::Json);
    }

    #[test]
    fn a_deploy_is_asked_for_alone_or_looked_at_with_a_verb() {
        let lines = [
            "miren deploy",
            "miren deploy -a shop -e A=1 --version shop-v1 --detach",
            "miren deploy list -a shop",
            "miren deploy show dep-1 --format json",
            "miren --format json deploy cancel dep-1",
        ];
        for line in lines {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in ["miren deploy --detach list", "miren deploy shop", "miren deploy show"] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn e1_a_preview_is_deployed_from_whatever_a_deploy_takes_and_is_never_detached() {
        for line in [
            "miren deploy --ephemeral pr1",
            "miren deploy -a shop --ephemeral feature/My_Branch --ttl 24h -e A=1",
            "miren deploy --ephemeral=-x --ttl -1h",
            "miren deploy --ephemeral= --image nginx",
            "miren deploy --ephemeral pr1 --version shop-v1 --ttl 30m --format json",
            "miren deploy --ephemeral pr1 --image-archive image.tar",
        ] {
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        for line in [
            "miren deploy --ttl 24h",
            "miren deploy --ephemeral",
            "miren deploy --ephemeral pr1 --detach",
            "miren deploy --ephemeral pr1 list",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn e12_previews_are_named_with_their_app() {
        for line in [
            "miren ephemeral list",
            "miren ephemeral list -a shop --format json",
            "miren ephemeral show pr1 -a shop",
            "miren ephemeral extend pr1",
            "miren ephemeral extend pr1 --ttl -1h -d ./shop",
            "miren ephemeral delete pr1 -a shop -f",
            "miren app versions --ephemeral -a shop --format json",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in ["miren ephemeral", "miren ephemeral extend", "miren ephemeral delete -f"] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn disks_are_named_with_their_app() {
        for line in [
            "miren disk list",
            "miren disk list -a shop --format json",
            "miren disk grow data --size-gb 4 -a shop",
            "miren disk snapshot data copy -d ./shop",
            "miren disk delete data -f",
            "miren app delete shop --keep-disks -f",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "miren disk grow data",
            "miren disk grow data --size-gb 0",
            "miren disk snapshot data",
            "miren disk delete",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn a_command_in_a_sandbox_comes_after_two_dashes_and_keeps_its_options() {
        for line in [
            "miren sandbox exec sb-1 -- ls -l",
            "miren sandbox exec -i sb-1 -- sh -c exit",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "miren sandbox exec sb-1",
            "miren sandbox exec sb-1 ls -l",
            "miren sandbox exec -- ls",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn only_what_asks_the_server_says_so() {
        for (line, asks) in [
            ("miren app validate", false),
            ("miren completions bash", false),
            ("miren app list", true),
            ("miren deploy", true),
        ] {
            let parsed = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(parsed.verb.asks(), asks, "{line}");
        }
    }

    #[test]
    fn variables_are_needed_in_one_form_or_the_other() {
        for line in [
            "miren env set A=1",
            "miren env set -e A=1",
            "miren env set -S web A B=@f -e C=3",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "miren env set",
            "miren env set PORT=1",
            "miren env delete",
            "miren env set -S Web A=1",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn a_server_that_is_none_is_refused_with_the_right_form() {
        let error = Arguments::try_parse_from(["miren", "--server", "nonsense", "version"]).unwrap_err();
        assert!(error.to_string().contains("unix:/path/to/control.sock"), "{error}");
    }
}
