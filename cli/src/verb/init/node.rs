//! Decides how a Node program is started.

use super::proposal::Proposal;
use super::sight::Sight;
use serde::Deserialize;
use std::collections::BTreeMap;

const PACKAGE: &str = "package.json";
/// Programs by their usual names, where no package says which it is.
const USUAL: [&str; 4] = ["server.js", "index.js", "app.js", "main.js"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Package {
    main: Option<String>,
    scripts: BTreeMap<String, serde_json::Value>,
    dependencies: BTreeMap<String, serde_json::Value>,
    engines: BTreeMap<String, serde_json::Value>,
}

fn package(sight: &Sight) -> Option<Package> {
    // One that cannot be read is one that says nothing.
    Some(serde_json::from_str(sight.text(PACKAGE)?).unwrap_or_default())
}

/// A package with a `start` script.
pub fn started(sight: &Sight) -> Option<Proposal> {
    let package = package(sight)?;
    package.scripts.get("start")?.as_str()?;
    let (manager, _) = manager(sight);
    let found = format!("{PACKAGE} with a start script{}", engine(&package));
    Some(with_modules(
        Proposal::web(found, format!("{manager} start")),
        &package,
        sight,
    ))
}

/// A program, named by its package or as usual.
pub fn file(sight: &Sight) -> Option<Proposal> {
    let package = package(sight);
    let main = package.as_ref().and_then(|package| package.main.clone());
    let main = main.filter(|main| is_plain(main));
    match (main, package) {
        (Some(main), Some(package)) => {
            let found = format!("{PACKAGE} with main {main}{}", engine(&package));
            Some(with_modules(
                Proposal::web(found, format!("node {main}")),
                &package,
                sight,
            ))
        }
        (_, package) => {
            let program = USUAL.into_iter().find(|name| sight.has(name))?;
            let proposal = Proposal::web(program, format!("node {program}"));
            Some(with_modules(proposal, &package.unwrap_or_default(), sight))
        }
    }
}

/// A package that is no program, but makes something.
pub fn is_built(sight: &Sight) -> bool {
    package(sight).is_some_and(|package| package.scripts.contains_key("build"))
}

/// A path that a shell takes for one word.
fn is_plain(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    !path.is_empty()
        && !path.starts_with(['-', '/'])
        && path.chars().all(plain)
        && !path.split('/').any(|part| part == "..")
}

/// Who installs its packages, and how.
fn manager(sight: &Sight) -> (&'static str, &'static str) {
    let by_lock = [
        ("pnpm-lock.yaml", "pnpm", "pnpm install --frozen-lockfile"),
        ("yarn.lock", "yarn", "yarn install --frozen-lockfile"),
        ("bun.lock", "bun", "bun install --frozen-lockfile"),
        ("bun.lockb", "bun", "bun install --frozen-lockfile"),
        ("package-lock.json", "npm", "npm ci"),
    ];
    let found = by_lock.into_iter().find(|(lock, ..)| sight.has(lock));
    found.map_or(("npm", "npm install"), |(_, manager, install)| (manager, install))
}

fn with_modules(proposal: Proposal, package: &Package, sight: &Sight) -> Proposal {
    if package.dependencies.is_empty() {
        return proposal;
    }
    let mut proposal = proposal.include("node_modules");
    if package.scripts.contains_key("build") {
        let (manager, _) = manager(sight);
        proposal.next.push(format!(
            "{manager} run build, if what it makes is served; add that to include"
        ));
    }
    match sight.has("node_modules") {
        true => proposal,
        false => {
            let (_, install) = manager(sight);
            proposal
                .next
                .insert(0, format!("{install}    # node_modules is deployed with the folder"));
            proposal
        }
    }
}

fn engine(package: &Package) -> String {
    let node = package.engines.get("node").and_then(serde_json::Value::as_str);
    node.map_or_else(String::new, |node| format!(", for node {node}"))
}
