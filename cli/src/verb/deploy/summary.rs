//! `--summary-json FILE`: how a deploy ended, for whoever runs it unattended; written whole or not at all, whatever the outcome.

use crate::failure::{Exit, Failure};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A file that is written in the end.
pub struct SummaryFile {
    path: PathBuf,
    began: Instant,
}

impl SummaryFile {
    /// Where it cannot be written, that is found out before anything is done.
    ///
    /// # Errors
    /// When its folder takes no file, or something else than a file is there: that would be replaced.
    pub fn at(path: &Path) -> Result<Self, Failure> {
        let file = Self {
            path: path.to_owned(),
            began: Instant::now(),
        };
        let is_file = || fs::symlink_metadata(path).map_or(true, |there| there.is_file());
        if path.file_name().is_none() || !is_file() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
            return Err(file.unwritable(&error));
        }
        let draft = file.draft();
        let tried = fs::File::create_new(&draft).and_then(|_| fs::remove_file(&draft));
        tried.map_err(|error| file.unwritable(&error))?;
        Ok(file)
    }

    /// Writes how it ended. `told` is what was printed of it, or would have been.
    ///
    /// # Errors
    /// When it cannot be written any more.
    pub fn write(&self, told: Option<&Value>, outcome: &Result<Exit, Failure>) -> Result<(), Failure> {
        let document = document(told, outcome, self.began.elapsed());
        let draft = self.draft();
        let written = fs::File::create_new(&draft).and_then(|mut file| {
            file.write_all(format!("{document:#}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)
        });
        written.map_err(|error| {
            // What is left of it is no summary.
            let _ = fs::remove_file(&draft);
            self.unwritable(&error)
        })
    }

    fn draft(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{}", std::process::id()))
    }

    fn unwritable(&self, error: &io::Error) -> Failure {
        let what = format!("writing the summary to {}", self.path.display());
        Failure::failed(error.to_string())
            .doing(&what)
            .remedy("name a file in a folder that is there and can be written to")
    }
}

/// The same keys whatever happened, null where there is nothing.
fn document(told: Option<&Value>, outcome: &Result<Exit, Failure>, took: Duration) -> Value {
    let unheard = unheard(told, outcome);
    let outcome = unheard.as_ref().unwrap_or(outcome);
    let keys = [
        "app",
        "version",
        "deploy",
        "seq",
        "status",
        "urls",
        "label",
        "expires_at",
        "replaced",
        "evicted",
    ];
    let mut document = serde_json::Map::new();
    let of = |key: &str| told.and_then(|told| told.get(key)).cloned().unwrap_or_default();
    document.extend(keys.map(|key| (key.to_owned(), of(key))));
    if document["urls"].is_null() {
        document.insert("urls".to_owned(), json!([]));
    }
    let url = document["urls"].get(0).cloned().unwrap_or_default();
    let code = match outcome {
        Ok(exit) => exit.code(),
        Err(failure) => failure.exit.code(),
    };
    document.insert("url".to_owned(), url);
    document.insert("outcome".to_owned(), json!(word(told, outcome)));
    document.insert("exit_code".to_owned(), json!(code));
    document.insert(
        "duration_ms".to_owned(),
        json!(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
    );
    document.insert("error".to_owned(), error(told, outcome));
    document.into()
}

/// How it ended where nobody was left to be told: as it did.
fn unheard(told: Option<&Value>, outcome: &Result<Exit, Failure>) -> Option<Result<Exit, Failure>> {
    let ended = match told?["status"].as_str()? {
        "SUCCEEDED" => Exit::Done,
        "FAILED" | "SUPERSEDED" | "ROLLED_BACK" => Exit::Failed,
        _ => return None,
    };
    let is_unheard = matches!(outcome, Err(failure) if *failure == Failure::output_closed());
    is_unheard.then_some(Ok(ended))
}

/// `succeeded`, `accepted` where nobody waited for the end, or why not.
fn word(told: Option<&Value>, outcome: &Result<Exit, Failure>) -> String {
    let status = told.and_then(|told| told["status"].as_str()).unwrap_or_default();
    match (outcome, status) {
        (Err(failure), _) => failure.code.clone(),
        (Ok(_), "SUCCEEDED" | "FAILED" | "SUPERSEDED" | "ROLLED_BACK") => status.to_lowercase(),
        (Ok(_), _) => "accepted".to_owned(),
    }
}

fn error(told: Option<&Value>, outcome: &Result<Exit, Failure>) -> Value {
    let of_deploy = told.and_then(|told| told["error"].as_str());
    match (outcome, of_deploy) {
        (Err(failure), _) => json!({"code": failure.code, "message": failure.message, "remedy": failure.remedy}),
        (Ok(Exit::Done), _) => Value::Null,
        (Ok(_), message) => {
            let message = message.unwrap_or("the server gave no reason");
            json!({"code": word(told, outcome), "message": message, "remedy": ""})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g16_a_deploy_that_nobody_heard_the_end_of_ended_as_it_did() {
        let of = |status: &str, outcome| document(Some(&json!({"status": status})), &outcome, Duration::ZERO);
        let well = of("SUCCEEDED", Err(Failure::output_closed()));
        let told = |document: &Value| (document["outcome"].clone(), document["exit_code"].clone());
        assert_eq!(told(&well), (json!("succeeded"), json!(0)));
        assert!(well["error"].is_null(), "{well}");
        let failed = of("FAILED", Err(Failure::output_closed()));
        assert_eq!(told(&failed), (json!("failed"), json!(1)));
        let other = of("SUCCEEDED", Err(Failure::interrupted()));
        assert_eq!(told(&other), (json!("interrupted"), json!(130)));
    }
}
