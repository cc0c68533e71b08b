//! Decides what the settings of buildah say: those of the host's administrator are for other uses.

use crate::builds::Settings;
use crate::jail::STORAGE;
use crate::registry::Base;
use miren_image::Authority;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

const HOSTS: &str = "127.0.0.1 localhost\n";
const POLICY: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
const REGISTRIES: &str = "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"disabled\"\n";

type File = (PathBuf, String);

/// Those that every command has.
pub(super) fn files(settings: &Settings, bases: &[Base]) -> Vec<File> {
    let storage = format!("[storage]\ndriver = \"overlay\"\nrunroot = \"/run/buildah\"\ngraphroot = \"{STORAGE}\"\n");
    let files = [
        ("policy.json", POLICY.to_owned()),
        ("registries.conf", registries(settings, bases)),
        ("storage.conf", storage),
    ];
    let in_folder = |(name, text)| (PathBuf::from("/etc/containers").join(name), text);
    files.map(in_folder).to_vec()
}

/// Registries on loopback are spoken to without TLS, as in a pull; so are those that the operator says.
fn registries(settings: &Settings, bases: &[Base]) -> String {
    let named = bases
        .iter()
        .filter(|base| base.is_named)
        .map(|base| base.registry.as_str());
    let is_plain = |registry: &&str| {
        Authority(registry).is_loopback() || settings.plain_http.iter().any(|plain| plain == registry)
    };
    let plain: BTreeSet<&str> = named.filter(is_plain).collect();
    let mut text = REGISTRIES.to_owned();
    for registry in plain {
        // Debug quotes as TOML does what a registry's name can have.
        let _ = write!(text, "[[registry]]\nlocation = {registry:?}\ninsecure = true\n");
    }
    text
}

/// Those of the network that a command is in.
pub(super) fn network(resolvers: Option<&str>, host: &str) -> Vec<File> {
    let hosts = (PathBuf::from("/etc/hosts"), format!("{HOSTS}{host}"));
    let resolvers = resolvers.unwrap_or_default().to_owned();
    vec![hosts, ("/etc/resolv.conf".into(), resolvers)]
}
