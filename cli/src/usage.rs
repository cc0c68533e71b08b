//! What is said when the command line itself is wrong, in the form that was asked for.

use crate::failure::{Exit, Failure};
use std::ffi::OsString;
use std::io::Write;

/// Prints what clap found, or the help that was asked for.
pub fn report(error: &clap::Error, arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
    if exit == Exit::Usage && asks_for_json(arguments) {
        // Nobody is left to be told when even this cannot be written.
        let _ = writeln!(std::io::stdout(), "{}", as_failure(error).as_json());
    } else {
        let _ = error.print();
    }
    exit
}

fn as_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let message = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:"))
        .collect::<Vec<_>>()
        .join("\n");
    let message = message.trim().trim_start_matches("error: ").to_owned();
    Failure::usage(message).remedy("--help")
}

fn asks_for_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let words: Vec<String> = arguments
        .into_iter()
        .map(|word| word.to_string_lossy().to_ascii_lowercase())
        .collect();
    words.iter().any(|word| word == "--format=json")
        || words.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Arguments;
    use clap::Parser;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn json_is_recognised_even_where_parsing_failed() {
        assert!(asks_for_json(words("miren app --format json nonsense")));
        assert!(asks_for_json(words("miren --format=JSON")));
        assert!(!asks_for_json(words("miren deploy --format table json")));
    }

    #[test]
    fn a_wrong_option_is_named_without_the_usage_block() {
        let error = Arguments::try_parse_from(words("miren app list --nonsense")).unwrap_err();
        let failure = as_failure(&error);
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("--nonsense"), "{}", failure.message);
        assert!(!failure.message.contains("Usage:"), "{}", failure.message);
    }
}
