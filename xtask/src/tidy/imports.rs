//! Who may import whom: one vendor, one folder; and which of our crates stand on which.

use super::Sources;
use anyhow::{Context, Result};

/// A vendor, the beginnings of its paths in code, and the only folders that may use them.
struct Vendor {
    paths: &'static [&'static str],
    folders: &'static [&'static str],
}

const VENDORS: &[Vendor] = &[
    Vendor {
        paths: &["aya::"],
        folders: &["ebpf/loader/"],
    },
    Vendor {
        paths: &["aya_ebpf::"],
        folders: &["ebpf/programs/"],
    },
    Vendor {
        paths: &["libcontainer::"],
        // The specification both runtimes get is checked against its types.
        folders: &[
            "control/sandbox/src/embedded",
            "control/sandbox/src/bundle/spec/tests.rs",
        ],
    },
    Vendor {
        paths: &["containerd_client::", "prost_types::"],
        folders: &["control/sandbox/src/containerd"],
    },
    Vendor {
        paths: &["rtnetlink::"],
        folders: &["control/sandbox/src/network"],
    },
    Vendor {
        paths: &["rusqlite::"],
        folders: &["control/src/store", "control/tests/"],
    },
    Vendor {
        paths: &["oci_client::"],
        folders: &["control/image/src/registry"],
    },
    Vendor {
        paths: &["docker_credential::"],
        folders: &["control/image/src/auths"],
    },
];

/// A part of a crate, and what it must not know: who stands above it, and what would tie it to one engine.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "proxy/src/request",
        &[
            "crate::edge::",
            "crate::listen::",
            "tokio::net::",
            "tokio::io::",
            "hyper::",
            "socket2::",
        ],
    ),
    (
        "proxy/src/listen",
        &["crate::edge::", "crate::request::", "crate::lease::"],
    ),
    ("proxy/src/lease", &["crate::edge::", "crate::listen::"]),
    ("proxy/src/routing", &["crate::edge::", "crate::listen::"]),
    (
        "control/src/store",
        &["crate::record::", "crate::ledger::", "crate::app::"],
    ),
    (
        "control/src/record",
        &[
            "crate::app::",
            "crate::images::",
            "crate::ledger::",
            "crate::routing::",
            "crate::server::",
        ],
    ),
    ("control/src/ledger", &["crate::app::", "crate::server::"]),
    (
        "control/src/lease",
        &["crate::app::", "crate::store::", "crate::ledger::", "crate::server::"],
    ),
    (
        "control/src/routing",
        &["crate::app::", "crate::apps::", "crate::server::"],
    ),
    (
        "control/src/app",
        &[
            "crate::apps::",
            "crate::control::",
            "crate::daemon::",
            "crate::server::",
        ],
    ),
    // It asks apps and reads; what it is given has no store in it.
    (
        "control/src/server",
        &["crate::store::", "crate::ledger::", "crate::app::World"],
    ),
    // Planners: what they decide by are arguments.
    ("control/src/app/crash", PLANNERS),
    ("control/src/app/deploy", PLANNERS),
    ("control/src/app/pool", PLANNERS),
    ("control/src/app/preview", PLANNERS),
    ("control/src/app/retention", PLANNERS),
    ("control/src/app/turn", PLANNERS),
    ("control/src/drain/phase", PLANNERS),
    ("control/src/drain/plan", PLANNERS),
    ("control/src/lease/table", PLANNERS),
    ("proxy/src/life/phase", PLANNERS),
    // The whole grammar is put together of the verbs.
    ("cli/src/verb", &["crate::args::"]),
    ("cli/src/options", &["crate::args::", "crate::verb::"]),
];

/// What a pure function has no use for: the time, the store, the runtime, and waiting.
const PLANNERS: &[&str] = &[
    "crate::store::",
    "crate::executor::",
    "crate::ledger::",
    "std::time::Instant",
    "Instant::now",
    "Timestamp::now",
    "tokio::",
];

/// Our crates, and which of ours each may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("miren-abi", &[]),
    ("miren-programs", &["miren-abi"]),
    ("miren-log", &[]),
    ("miren-fault", &[]),
    ("miren-loader", &["miren-abi", "miren-log"]),
    ("miren-api", &[]),
    ("miren-api-fuzz", &["miren-api"]),
    ("miren-build", &["miren-api", "miren-image"]),
    ("miren-disk", &["miren-api"]),
    ("miren-gate", &[]),
    ("miren-image", &[]),
    ("miren-init", &[]),
    (
        "miren-sandbox",
        &[
            "miren-api",
            "miren-disk",
            "miren-fault",
            "miren-gate",
            "miren-image",
            "miren-init",
            "miren-loader",
            "miren-log",
        ],
    ),
    (
        "miren-control",
        &[
            "miren-api",
            "miren-build",
            "miren-disk",
            "miren-fault",
            "miren-gate",
            "miren-image",
            "miren-loader",
            "miren-log",
            "miren-sandbox",
        ],
    ),
    (
        "miren-proxy",
        &["miren-api", "miren-fault", "miren-gate", "miren-loader", "miren-log"],
    ),
    ("miren-cli", &["miren-api", "miren-log"]),
    ("miren-bench", &["miren-api", "miren-loader", "miren-abi"]),
    ("miren-blackbox", &["miren-api", "miren-bench", "miren-fault"]),
    ("hello-rust", &[]),
    ("xtask", &[]),
];

pub fn check(sources: &Sources) -> Result<Vec<String>> {
    let mut found: Vec<String> = sources
        .rust
        .iter()
        .flat_map(|(path, text)| {
            let mut found = check_vendors(path, text);
            found.extend(check_layers(path, text));
            found
        })
        .collect();
    for (path, text) in &sources.manifests {
        found.extend(check_manifest(path, text)?);
    }
    Ok(found)
}

fn check_vendors(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if path == file!() {
        // The table and its tests name what they forbid.
        return found;
    }
    for vendor in VENDORS
        .iter()
        .filter(|vendor| !vendor.folders.iter().any(|folder| path.starts_with(folder)))
    {
        for import in vendor.paths.iter().filter(|import| uses(text, import)) {
            found.push(format!(
                "{path}: uses {import} which belongs to {}",
                vendor.folders.join(", ")
            ));
        }
    }
    found
}

fn check_layers(path: &str, text: &str) -> Vec<String> {
    let within = |part: &str| {
        path.strip_prefix(part)
            .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    };
    let layers = LAYERS.iter().filter(|(part, _)| within(part));
    let banned = layers.flat_map(|(folder, banned)| banned.iter().map(move |import| (folder, import)));
    banned
        // Tests put together what they like.
        .filter(|(_, import)| !super::is_test(path) && uses(super::without_unit_tests(text), import))
        .map(|(folder, import)| format!("{path}: uses {import}, which {folder} must not know"))
        .collect()
}

/// Whether code, not a comment or a string of this table, has a path that begins so.
fn uses(text: &str, import: &str) -> bool {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
        .any(|line| {
            line.match_indices(import).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '"' | ':'))
            })
        })
}

fn check_manifest(path: &str, text: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = toml::from_str(text).with_context(|| path.to_owned())?;
    let Some(name) = manifest
        .get("package")
        .and_then(|package| package.get("name")?.as_str())
    else {
        return Ok(Vec::new());
    };
    let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else {
        return Ok(vec![format!(
            "{path}: crate {name} is not in the import table of xtask/src/tidy/imports.rs"
        )]);
    };
    let ours = dependencies(&manifest)
        .into_iter()
        .filter(|dependency| CRATES.iter().any(|(known, _)| known == dependency));
    let wrong = ours.filter(|dependency| !allowed.contains(&dependency.as_str()));
    Ok(wrong
        .map(|dependency| format!("{path}: {name} may not depend on {dependency}"))
        .collect())
}

/// Names in `[dependencies]`. What only tests use is not held by the table.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let table = manifest.get("dependencies").and_then(toml::Value::as_table);
    table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_outside_its_folder_is_found() {
        assert_eq!(check_vendors("proxy/src/lease.rs", "use rusqlite::Error;\n").len(), 1);
        assert!(check_vendors("control/src/store/sqlite.rs", "use rusqlite::Error;\n").is_empty());
        assert!(check_vendors("proxy/src/lease.rs", "// rusqlite::Error is mapped there\n").is_empty());
        assert!(check_vendors("ebpf/programs/src/main.rs", "use aya_ebpf::maps;\n").is_empty());
    }

    #[test]
    fn a_part_that_knows_who_stands_above_it_is_found() {
        let knows = "use crate::edge::Plain;\n";
        assert_eq!(check_layers("proxy/src/request/head.rs", knows).len(), 1);
        assert_eq!(
            check_layers("proxy/src/request.rs", "use tokio::net::TcpStream;\n").len(),
            1
        );
        assert!(check_layers("proxy/src/life.rs", knows).is_empty());
        let asks = "use crate::server::Server;\n";
        assert_eq!(check_layers("control/src/app/task.rs", asks).len(), 1);
        assert!(check_layers("control/src/apps.rs", asks).is_empty(), "another part");
        assert_eq!(
            check_layers("control/src/app/pool.rs", "let at = Instant::now();\n").len(),
            1
        );
    }

    #[test]
    fn a_dependency_the_table_lacks_is_found() {
        let manifest = "[package]\nname = \"miren-cli\"\n[dependencies]\nmiren-control.workspace = true\n";
        assert_eq!(check_manifest("cli/Cargo.toml", manifest).unwrap().len(), 1);
        let stranger = "[package]\nname = \"new-crate\"\n";
        assert!(check_manifest("x/Cargo.toml", stranger).unwrap()[0].contains("not in the import table"));
    }
}
