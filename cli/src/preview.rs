//! How a preview is named on the command line and how long it lives: found wrong before anything is sent.

use crate::console::Console;
use crate::failure::Failure;
use miren_api::Label;
use miren_api::ephemeral::{parse_label, parse_ttl};
use std::time::Duration;

/// Reads the name of a preview, and says so when it becomes another.
pub fn label(text: &str, console: &Console) -> Result<Label, Failure> {
    let label = parse_label(text)?;
    if label.as_str() != text {
        console.note(&format!("Label: {label} (from {text:?})"));
    }
    Ok(label)
}

/// Checks how long a preview shall live. How long that may be at most is for the server to say.
pub fn ttl(text: String) -> Result<String, Failure> {
    match parse_ttl(&text, Duration::MAX) {
        Ok(_) => Ok(text),
        Err(refusal) => Err(refusal
            .remedy("write it like \"24h\" or \"1h 30m\", at least 1s")
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use crate::options::Format;

    fn console() -> Console {
        Console::plain(Box::new(std::io::sink()), Box::new(std::io::sink()), Format::Table)
    }

    #[test]
    fn e5_what_is_no_label_is_wrong_usage_that_names_the_field() {
        let long = "a".repeat(64);
        for text in [
            "",
            &long,
            "-x",
            "x-",
            "release/1.2",
            "größe",
            "プレビュー",
            "*",
            "pr1; DROP TABLE versions; --",
            "' OR 1=1",
            "$(reboot)",
            "`id`",
            "a\nb",
            "a\0b",
            "../../etc/passwd",
        ] {
            let failure = label(text, &console()).unwrap_err();
            assert_eq!(
                (failure.exit, &*failure.code),
                (Exit::Usage, "invalid_value"),
                "{text:?}"
            );
            assert_eq!(failure.field.as_deref(), Some("label"), "{text:?}");
            assert!(
                failure.message.starts_with(&format!("label {text:?} ")),
                "{}",
                failure.message
            );
            assert!(failure.remedy.contains("1 to 63"), "{}", failure.remedy);
        }
        let kept = label("feature/My_Branch", &console()).unwrap();
        assert_eq!(kept.as_str(), "feature-my-branch");
    }

    #[test]
    fn e5_what_is_no_life_is_wrong_usage_and_a_long_one_is_the_servers_to_refuse() {
        for text in ["0", "0s", "-1h", "1ns", "999ms", "soon", "", "24", "1e3s"] {
            let failure = ttl(text.into()).unwrap_err();
            assert_eq!(
                (failure.exit, &*failure.code),
                (Exit::Usage, "invalid_value"),
                "{text:?}"
            );
            assert_eq!(failure.field.as_deref(), Some("ttl"), "{text:?}");
            assert!(failure.message.contains(&format!("{text:?}")), "{}", failure.message);
            assert!(failure.remedy.ends_with("at least 1s"), "{}", failure.remedy);
        }
        for text in ["1s", "1h 30m", "24h", "10 years"] {
            assert_eq!(ttl(text.into()).unwrap(), text);
        }
    }
}
