//! Which paths a `.dockerignore` excludes. Its rules are docker's: every pattern begins at the folder, the last one that
//! matches a path or a folder above it decides, and `!` takes an exclusion back.

use super::ArchiveError;
use globset::{GlobBuilder, GlobMatcher};
use miren_api::app_file::FILE_MAX;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = ".dockerignore";

/// The patterns of one file, in order.
pub(super) struct Dockerignore(Vec<Rule>);

struct Rule {
    excludes: bool,
    pattern: GlobMatcher,
}

impl Dockerignore {
    /// Reads the file of a folder; one that is not there excludes nothing.
    pub(super) fn of(root: &Path) -> Result<Self, ArchiveError> {
        let unreadable = |source| ArchiveError::Read {
            path: PathBuf::from(FILE),
            source,
        };
        let path = root.join(FILE);
        match path.metadata() {
            Ok(found) if found.is_file() && found.len() <= FILE_MAX as u64 => {}
            Ok(_) => {
                let why = format!("is no file of at most {FILE_MAX} bytes");
                return Err(unreadable(io::Error::other(why)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self(Vec::new())),
            Err(error) => return Err(unreadable(error)),
        }
        Self::parse(&fs::read_to_string(path).map_err(unreadable)?)
    }

    fn parse(text: &str) -> Result<Self, ArchiveError> {
        let lines = text.lines().map(str::trim);
        let rules = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(Self(rules.filter_map(rule).collect::<Result<_, _>>()?))
    }

    /// Whether a path of the folder, relative to it, is left out.
    pub(super) fn excludes(&self, path: &Path) -> bool {
        // The app's settings are read by us, not by docker.
        if path.starts_with(super::SETTINGS) || path == Path::new(FILE) {
            return false;
        }
        let matches = |rule: &&Rule| {
            let mut upwards = path.ancestors().filter(|part| !part.as_os_str().is_empty());
            upwards.any(|part| rule.pattern.is_match(part))
        };
        self.0.iter().rev().find(matches).is_some_and(|rule| rule.excludes)
    }
}

/// None for a pattern that stands for the folder itself, which is never left out.
fn rule(line: &str) -> Option<Result<Rule, ArchiveError>> {
    let (excludes, pattern) = match line.strip_prefix('!') {
        Some(pattern) => (false, pattern.trim()),
        None => (true, line),
    };
    let parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".");
    let plain = parts.collect::<Vec<_>>().join("/");
    if plain.is_empty() {
        return None;
    }
    // Braces mean nothing to docker.
    let plain = plain.replace('{', "\\{").replace('}', "\\}");
    let glob = GlobBuilder::new(&plain)
        .literal_separator(true)
        .backslash_escape(true)
        .build();
    Some(match glob {
        Ok(glob) => Ok(Rule {
            excludes,
            pattern: glob.compile_matcher(),
        }),
        Err(error) => Err(ArchiveError::Pattern {
            pattern: format!("{FILE}: {pattern}"),
            why: error.to_string(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, out: &[&str], kept: &[&str]) {
        let rules = Dockerignore::parse(text).expect("patterns");
        for path in out {
            assert!(rules.excludes(Path::new(path)), "{path} is kept by {text:?}");
        }
        for path in kept {
            assert!(!rules.excludes(Path::new(path)), "{path} is left out by {text:?}");
        }
    }

    #[test]
    fn patterns_begin_at_the_folder() {
        check("*.log\n", &["a.log"], &["sub/a.log", "log"]);
        check("**/*.log", &["a.log", "sub/a.log", "a/b/c.log"], &["a.txt"]);
        check(
            "/target/\n# comment\n\n./cache",
            &["target", "target/x/y", "cache/z"],
            &["sub/target", "targets"],
        );
        check("*/temp*", &["a/temporary.txt", "a/temp/x"], &["temp", "a/b/temp"]);
        check("a?/{x}", &["ab/{x}"], &["ab/x"]);
    }

    #[test]
    fn the_last_match_decides_and_can_take_an_exclusion_back() {
        check(
            "*\n!src\n!README*",
            &["Makefile", "docs/a"],
            &["src", "src/a/b", "README.md"],
        );
        check("docs/*\n!docs/keep.md\n", &["docs/a"], &["docs/keep.md", "docs"]);
        check("!keep\n*", &["keep"], &[]);
    }

    #[test]
    fn the_settings_stay_and_the_folder_itself_is_no_pattern() {
        check("**\n.\n/\n", &["a", "a/b"], &[".miren/app.toml", ".dockerignore"]);
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let Err(error) = Dockerignore::parse("ok\n[a\n") else {
            panic!("it was taken");
        };
        assert!(error.to_string().contains(".dockerignore: [a"), "{error}");
    }
}
