//! Which values are kept from whoever looks over a shoulder.

/// A part of a name that says its value is a secret.
const SENSITIVE: [&str; 6] = ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "KEY", "CREDENTIAL"];
/// Stands for all but the first character.
const MASK: &str = "•••";

/// The value for a table: on one line, and masked when it looks like a secret.
pub fn shown(name: &str, value: &str, unmask: bool) -> String {
    if unmask || !is_sensitive(name, value) {
        return on_one_line(value);
    }
    match value.chars().next() {
        Some(first) => on_one_line(&format!("{first}{MASK}")),
        None => String::new(),
    }
}

fn is_sensitive(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SENSITIVE.iter().any(|part| name.contains(part)) || has_password(value)
}

/// Whether it is a URL with `user:password@`. A password may have any character, so the last `@` counts.
fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else {
        return false;
    };
    rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

/// Control characters would break the table, or move the cursor.
fn on_one_line(value: &str) -> String {
    let mut line = String::with_capacity(value.len());
    for character in value.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_shows_one_character() {
        for name in [
            "API_KEY",
            "api_token",
            "DB_PASSWORD",
            "PASSWD",
            "A_SECRET_B",
            "GOOGLE_CREDENTIALS",
        ] {
            assert_eq!(shown(name, "hunter2", false), "h•••", "{name}");
            assert_eq!(shown(name, "hunter2", true), "hunter2", "{name}");
        }
        assert_eq!(shown("LEVEL", "debug", false), "debug");
        assert_eq!(shown("API_KEY", "", false), "");
        assert_eq!(shown("API_KEY", "ü", false), "ü•••");
    }

    #[test]
    fn a_url_with_a_password_is_a_secret() {
        for url in ["postgres://u:p@db/shop", "redis://:p@cache", "amqp://a,amqp://u:p/q@b"] {
            assert_eq!(shown("DATABASE_URL", url, false), format!("{}•••", &url[..1]), "{url}");
        }
        for url in ["postgres://u@db/shop", "http://db:5432/shop", "u:p@db", ""] {
            assert_eq!(shown("DATABASE_URL", url, false), url);
        }
    }

    #[test]
    fn a_value_stays_on_its_line() {
        assert_eq!(shown("PEM", "a\nb\x1b[2J", false), "a\\nb\\u{1b}[2J");
    }
}
