//! `[release]`: the command that is run once, before traffic is switched to a new version.

use super::{PROCFILE, limits};
use crate::settings::Table;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The process type of a Procfile that is no service.
pub const RELEASE: &str = "release";

/// What has to succeed before a new version gets any traffic. It has the variables and limits of `web`, or of the first service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// As the user wrote it; see [`command_line`](super::command_line).
    pub command: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// `procfile`: the line of the Procfile that names it.
pub(super) fn declare(root: &mut Table<'_, '_, '_>, procfile: Option<&str>) -> Option<Release> {
    if procfile.is_some() && root.has_in("services", RELEASE) {
        let why = format!(
            "has {RELEASE:?}, which in the {PROCFILE} is no service but what runs before each switch: rename one of the two"
        );
        root.refuse("services", why);
    }
    root.table(RELEASE, |table| {
        let doc = "What to run once, in a sandbox of the new version, before traffic is switched to it; when it fails, so does the \
                   deploy. Overrides `release:` of the Procfile.";
        let command = table.optional("command", doc, limits::command);
        let doc = "How long it may take; at most a day.";
        let timeout = table.parsed("timeout", "10m", doc, limits::some_time);
        if procfile.is_none() && table.is_present() && !table.has("command") {
            let why = format!("is missing, and the {PROCFILE} has no \"{RELEASE}: …\" either");
            table.refuse("command", why);
        }
        Some(Release {
            command: command.or_else(|| procfile.map(str::to_owned))?,
            timeout,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn g5_a_release_is_no_service_and_app_toml_says_more_of_it() {
        let procfile = "release: ./migrate --all\nweb: ./serve\n";
        let app = parse(None, Some(procfile)).unwrap();
        assert_eq!(app.services.keys().collect::<Vec<_>>(), ["web"]);
        let release = app.release.unwrap();
        assert_eq!(
            (&*release.command, release.timeout),
            ("./migrate --all", Duration::from_secs(600))
        );
        let text = "[release]\ncommand = \"./other\"\ntimeout = \"1h\"\n";
        let release = parse(Some(text), Some(procfile)).unwrap().release.unwrap();
        assert_eq!(
            (&*release.command, release.timeout),
            ("./other", Duration::from_secs(3600))
        );
        let timed = parse(Some("[release]\ntimeout = \"1m\"\n"), Some(procfile))
            .unwrap()
            .release
            .unwrap();
        assert_eq!(
            (&*timed.command, timed.timeout),
            ("./migrate --all", Duration::from_secs(60))
        );
        assert!(parse(None, Some("web: ./serve\n")).unwrap().release.is_none());
        for (app_file, procfile, why) in [
            ("", "release: ./migrate\n", "no command"),
            ("[release]\ntimeout = \"1m\"\n", "web: x\n", "release.command"),
            ("[services.release]\ncommand = \"x\"\n", procfile, "rename"),
            ("[release]\ncommand = \"x\"\ntimeout = \"0s\"\n", procfile, "no time"),
        ] {
            let told = parse(Some(app_file), Some(procfile)).unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
    }
}
