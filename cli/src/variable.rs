//! How an environment variable is written on the command line.

use miren_api::{app_file, id};

/// `KEY=VALUE`, with a key that a user may set.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((app_file::check_variable(key)?, value.to_owned()))
}

/// The service that a variable is for.
pub fn service(text: &str) -> Result<String, String> {
    id::check_label(text).map_err(|why| format!("service name {text:?} {why}"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_system_and_malformed_ones_are_refused() {
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(pair("A="), Ok(("A".into(), String::new())));
        for wrong in ["A", "=b", "1A=b", "PORT=1", "MIREN_APP=x"] {
            assert!(pair(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_service_is_a_label() {
        assert_eq!(service("web"), Ok("web".into()));
        assert!(service("Web").unwrap_err().contains("service name \"Web\""));
    }
}
