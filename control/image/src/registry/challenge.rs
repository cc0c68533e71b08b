//! Decides what a registry wants to be shown, of the header in which it says so.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Where a token is to be had, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) realm: String,
    pub(super) service: Option<String>,
}

impl Challenge {
    /// None: no token is wanted.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let said = headers.get_all(WWW_AUTHENTICATE).iter();
        said.filter_map(|said| said.to_str().ok()).find_map(Self::parse)
    }

    /// `Bearer realm="https://auth.docker.io/token",service="registry.docker.io"`: RFC 9110 §11.6.1, one challenge a line.
    fn parse(said: &str) -> Option<Self> {
        let (scheme, rest) = said.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let named = |name: &str| {
            let mut found = parameters.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.clone())
        };
        Some(Self {
            realm: named("realm")?,
            service: named("service"),
        })
    }
}

/// Names and values, quoted or not; a list ends where it cannot be read.
fn parameters(text: &str) -> Vec<(String, String)> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_owned();
        let (value, behind) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let (value, behind) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), behind)
            }
        };
        found.push((name, value));
        rest = behind;
    }
    found
}

/// Up to the quote that ends it, and what is behind that.
fn unquoted(text: &str) -> (String, &str) {
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => {
                value.push(letter);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return (value, &text[at + 1..]),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_as_registries_write_it() {
        let of = |realm: &str, service: Option<&str>| {
            Some(Challenge {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (said, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                of("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                r#"bearer scope="a,b=c" , Realm="https://r.example/t?a=b" , service=plain"#,
                of("https://r.example/t?a=b", Some("plain")),
            ),
            (r#"Bearer realm="a\"b"#, of("a\"b", None)),
            (r#"Basic realm="test""#, None),
            (r#"Bearer service="s""#, None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(said), expected, "{said}");
        }
    }

    #[test]
    fn a_token_is_taken_where_there_is_a_choice() {
        let mut headers = HeaderMap::new();
        for said in ["Basic realm=\"r\"", "Bearer realm=\"https://r.example\""] {
            headers.append(WWW_AUTHENTICATE, said.parse().expect("a value"));
        }
        assert_eq!(
            Challenge::of(&headers).map(|found| found.realm).as_deref(),
            Some("https://r.example")
        );
    }
}
