//! Decides what counts as left of sandboxes: whatever the machine has under one's name, found by looking, not by remembering.

use crate::files;
use crate::node::Node;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Something that is there of a sandbox, or of what had a network and a cgroup as one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Whose it is: the id of a sandbox, the name of an outlet, or the node.
    pub of: String,
    /// What of it is there, and why, if that is known.
    pub why: String,
    /// It is nothing but its address, which rests before another gets it.
    pub rests: bool,
}

impl Left {
    pub fn new(of: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            of: of.into(),
            why: why.into(),
            rests: false,
        }
    }
}

/// What was found, by whose it is.
#[derive(Default)]
struct Found(BTreeMap<String, Vec<String>>);

impl Found {
    fn note(&mut self, of: &str, what: impl Into<String>) {
        self.0.entry(of.to_owned()).or_default().push(what.into());
    }

    /// Takes in names that were found in a place, or that it could not be looked at.
    fn take(&mut self, what: &str, names: Result<impl IntoIterator<Item = String>, impl std::fmt::Display>) {
        match names {
            Ok(names) => names.into_iter().for_each(|name| self.note(&name, what)),
            Err(error) => self.note("the node", format!("looking for {what}: {error}")),
        }
    }
}

/// Everything there is, each sandbox once.
pub(crate) async fn find(node: &Arc<Node>) -> Vec<Left> {
    let looking = Arc::clone(node);
    let found = tokio::task::spawn_blocking(move || on_machine(&looking)).await;
    let mut found = found.unwrap_or_else(|error| {
        let mut found = Found::default();
        found.note("the node", format!("looking what is left: {error}"));
        found
    });
    for id in node.registry.ids() {
        found.0.entry(id).or_default();
    }
    for clean_up in node.registry.clean_ups() {
        let told = format!(
            "its clean-up has failed {} times: {}",
            clean_up.attempts, clean_up.error
        );
        found.0.entry(clean_up.id.to_string()).or_default().insert(0, told);
    }
    let mut left: Vec<Left> = found
        .0
        .into_iter()
        .map(|(of, what)| Left::new(of, told(what)))
        .collect();
    left.extend(resting(node));
    left
}

fn told(what: Vec<String>) -> String {
    match what.is_empty() {
        true => "its end or its clean-up is under way".to_owned(),
        false => what.join(", "),
    }
}

fn on_machine(node: &Node) -> Found {
    let mut found = Found::default();
    found.take("its cgroup", node.cgroups.found());
    found.take("the cgroup of what writes its log", node.writers.found());
    found.take("its network namespace", node.network.found_namespaces());
    let dir = node.config.run_dir.join("sandboxes");
    found.take("its files", files::names_in(&dir));
    found.take("a mount", mounts_of(&dir));
    found.take("a mount of a disk", mounts_of(&node.config.run_dir.join("disks")));
    found
}

/// Whose mounts are below a folder that has a folder for each.
fn mounts_of(dir: &Path) -> io::Result<Vec<String>> {
    let whose = |mount: &Path| {
        let below = mount.strip_prefix(dir).ok()?;
        Some(below.components().next()?.as_os_str().to_string_lossy().into_owned())
    };
    let mounts = files::mounts_below(dir)?;
    Ok(mounts.iter().filter_map(|mount| whose(mount)).collect())
}

/// Slots whose generation has ended: their addresses are nobody's, and not given out yet.
fn resting(node: &Node) -> Vec<Left> {
    let ended = node.fast_path.in_use().into_iter().filter(|slot| slot.state.is_ended());
    let taken = node.taken_slots();
    let resting = ended.filter(|slot| !taken.contains(&slot.slot));
    let left = |slot: miren_loader::Transition| Left {
        rests: true,
        ..Left::new(
            format!("slot {}", slot.slot),
            "its address rests before another sandbox gets it",
        )
    };
    resting.map(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d7_what_cannot_be_looked_at_is_not_taken_for_nothing() {
        let mut found = Found::default();
        found.take("its cgroup", Ok::<_, io::Error>(vec!["sb-1".to_owned()]));
        found.take(
            "its files",
            Ok::<_, io::Error>(vec!["sb-1".to_owned(), "sb-2".to_owned()]),
        );
        found.take("a mount", Err::<Vec<String>, _>(io::Error::other("no table")));
        let told: Vec<(String, String)> = found.0.into_iter().map(|(of, what)| (of, told(what))).collect();
        let expected = [
            ("sb-1", "its cgroup, its files"),
            ("sb-2", "its files"),
            ("the node", "looking for a mount: no table"),
        ];
        assert_eq!(told, expected.map(|(of, what)| (of.to_owned(), what.to_owned())));
    }
}
