//! Decides how rules get into the kernel, and how it is seen that they are there: what the kernel lists, not what it was told.

use super::chain::{Chain, Family};
use super::ruleset::Wanted;
use super::{NetworkError, names};
use serde_json::Value;
use std::io;
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Daemons are often started without the `sbin` folders in their path.
const NFT: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// Characters of a rule or set that are shown: a set can be long.
const SHOWN: usize = 300;

/// What the kernel has, line by line, without what differs between two readings of the same: numbers of objects, what
/// packets put into a set, the order of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing(Vec<String>);

impl Listing {
    /// The first difference to `other`, as far as it fits into a message.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let start = |line: &String| line.chars().take(SHOWN).collect::<String>();
        let missing = self.0.iter().find(|line| !other.0.contains(line));
        let added = || other.0.iter().find(|line| !self.0.contains(line));
        match missing {
            Some(line) => Some(format!("missing: {}", start(line))),
            None if *self == *other => None,
            None => Some(added().map_or_else(
                || "another order".to_owned(),
                |line| format!("not ours: {}", start(line)),
            )),
        }
    }
}

/// Gives the kernel the rules, and reads back that it has them: in place of the earlier ones, or if that does not lead to
/// them, anew.
pub(super) async fn apply(wanted: &Wanted) -> Result<Listing, NetworkError> {
    match apply_once(wanted, false).await {
        Err(NetworkError::Nft(_) | NetworkError::NotApplied { .. }) => apply_once(wanted, true).await,
        outcome => outcome,
    }
}

async fn apply_once(wanted: &Wanted, anew: bool) -> Result<Listing, NetworkError> {
    run(&["-f", "-"], &wanted.script(anew)).await?;
    let listed = list(&wanted.node).await?;
    let listed = listed.unwrap_or_default();
    match difference(&wanted.chains(), &listed) {
        None => Ok(Listing(listed.iter().map(Value::to_string).collect())),
        Some(difference) => Err(NetworkError::NotApplied {
            table: names::table(&wanted.node),
            difference,
        }),
    }
}

/// What the kernel has now. None: not even the tables.
pub(super) async fn read(node: &str) -> Result<Option<Listing>, NetworkError> {
    let listed = list(node).await?;
    Ok(listed.map(|listed| Listing(listed.iter().map(Value::to_string).collect())))
}

/// Removes the node's tables, if they are there.
pub(super) async fn remove(node: &str) -> Result<(), NetworkError> {
    let table = names::table(node);
    let removed = [Family::Ip, Family::Bridge].map(|family| {
        let family = family.name();
        format!("add table {family} {table}\ndelete table {family} {table}\n")
    });
    run(&["-f", "-"], &removed.concat()).await.map(drop)
}

async fn list(node: &str) -> Result<Option<Vec<Value>>, NetworkError> {
    let table = names::table(node);
    let mut listed = Vec::new();
    // Terse: what packets put into the set of `ip` can be a lot.
    for arguments in [
        ["-jt", "list", "table", "ip", &table],
        ["-j", "list", "table", "bridge", &table],
    ] {
        match run(&arguments, "").await {
            Ok(text) => listed.extend(objects(&text)?),
            Err(NetworkError::Nft(why)) if why.contains("No such file or directory") => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(listed))
}

fn objects(text: &str) -> Result<Vec<Value>, NetworkError> {
    let unreadable = |why: String| NetworkError::Nft(format!("its list of rules is not readable: {why}"));
    let mut listed: Value = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    let Some(Value::Array(objects)) = listed.get_mut("nftables").map(Value::take) else {
        return Err(unreadable(text.chars().take(200).collect()));
    };
    Ok(objects.into_iter().filter_map(comparable).collect())
}

fn comparable(mut object: Value) -> Option<Value> {
    let (kind, inner) = object.as_object_mut()?.iter_mut().next()?;
    if kind == "metainfo" {
        return None;
    }
    let inner = inner.as_object_mut()?;
    inner.remove("handle");
    if let Some(Value::Array(elements)) = inner.get_mut("elem") {
        elements.sort_by_key(Value::to_string);
    }
    Some(object)
}

/// How what is listed differs from the chains and rules that were to be made.
fn difference(chains: &[Chain], listed: &[Value]) -> Option<String> {
    let found = listed.iter().filter(|object| object.get("chain").is_some()).count();
    if found != chains.len() {
        return Some(format!("{found} chains instead of {}", chains.len()));
    }
    chains.iter().find_map(|chain| {
        let (family, name) = (chain.family.name(), chain.name);
        if !listed.iter().any(|object| is_chain(chain, object)) {
            return Some(format!("chain {family} {name} is missing or has another hook"));
        }
        let rules = listed.iter().filter_map(|object| object.get("rule"));
        let inside = rules.filter(|rule| rule["family"] == family && rule["chain"] == name);
        let comments: Vec<&str> = inside
            .map(|rule| rule["comment"].as_str().unwrap_or_default())
            .collect();
        let wanted: Vec<&str> = chain.rules.iter().map(|rule| rule.comment.as_str()).collect();
        (comments != wanted).then(|| format!("chain {family} {name} has the rules {comments:?} instead of {wanted:?}"))
    })
}

fn is_chain(chain: &Chain, object: &Value) -> bool {
    let listed = &object["chain"];
    let hook = chain.hook.is_none_or(|hook| {
        listed["type"] == hook.kind
            && listed["hook"] == hook.at
            && listed["prio"] == hook.priority
            && listed["policy"] == "accept"
    });
    listed["family"] == chain.family.name() && listed["name"] == chain.name && hook
}

/// What nft prints, given this input.
async fn run(arguments: &[&str], input: &str) -> Result<String, NetworkError> {
    for program in NFT {
        match run_program(program, arguments, input).await {
            Ok(output) if output.status.success() => return Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(NetworkError::Nft(said.trim().to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(NetworkError::io(format!("running {program}"))(error)),
        }
    }
    Err(NetworkError::NoNft)
}

async fn run_program(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    child.wait_with_output().await
}

#[cfg(test)]
mod tests {
    use super::super::chain::{Hook, Rule};
    use super::*;
    use serde_json::json;

    fn chain() -> Chain {
        let rule = |comment: &str| Rule {
            text: "accept".into(),
            comment: comment.into(),
        };
        Chain {
            family: Family::Ip,
            name: "input",
            hook: Some(Hook {
                kind: "filter",
                at: "input",
                priority: 0,
            }),
            rules: vec![rule("first"), rule("second")],
        }
    }

    fn listed_chain(policy: &str) -> Value {
        json!({"chain": {"family": "ip", "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": policy}})
    }

    fn listed_rule(comment: &str) -> Value {
        json!({"rule": {"family": "ip", "chain": "input", "comment": comment, "expr": [{"accept": null}]}})
    }

    #[test]
    fn hazard_16_rules_count_as_applied_only_when_the_kernel_lists_them() {
        let listed = [listed_chain("accept"), listed_rule("first"), listed_rule("second")];
        assert_eq!(difference(&[chain()], &listed), None);
        for (wrong, why) in [
            (vec![], "0 chains instead of 1"),
            (
                vec![listed_chain("drop"), listed_rule("first"), listed_rule("second")],
                "another hook",
            ),
            (vec![listed_chain("accept"), listed_rule("first")], "instead of"),
            (
                vec![listed_chain("accept"), listed_rule("second"), listed_rule("first")],
                "instead of",
            ),
            (
                vec![listed_chain("accept"), listed_chain("accept")],
                "2 chains instead of 1",
            ),
        ] {
            let found = difference(&[chain()], &wrong);
            assert!(
                found.as_ref().is_some_and(|found| found.contains(why)),
                "{why}: {found:?}"
            );
        }
    }

    #[test]
    fn hazard_16_a_rule_that_was_changed_is_seen_and_a_set_in_another_order_is_not() {
        let listing = |text: &str| Listing(objects(text).expect("a list").iter().map(Value::to_string).collect());
        let first = listing(
            r#"{"nftables": [{"metainfo": {}}, {"set": {"name": "s", "handle": 1, "elem": ["a", "b"]}}, {"rule": {"expr": 1}}]}"#,
        );
        let same = listing(
            r#"{"nftables": [{"set": {"name": "s", "handle": 9, "elem": ["b", "a"]}}, {"rule": {"expr": 1}}]}"#,
        );
        assert_eq!(first.difference(&same), None);
        let changed = listing(r#"{"nftables": [{"set": {"name": "s", "elem": ["a", "b"]}}, {"rule": {"expr": 2}}]}"#);
        assert!(
            first
                .difference(&changed)
                .is_some_and(|found| found.starts_with("missing: "))
        );
    }
}
