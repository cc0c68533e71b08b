//! The command line's grammar: global options, then a verb.

use crate::options::Global;
use crate::verb::Verb;
use clap::Parser;

/// Deploys and looks after apps on one machine.
#[derive(Debug, Parser)]
#[command(name = "miren", version, about, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Format;
    use clap::CommandFactory;
    use miren_api::Server;

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
            ("miren init -d shop --name shop --print", false),
            ("miren app restart -a shop --detach", true),
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
