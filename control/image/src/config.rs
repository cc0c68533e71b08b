//! Decides what an image's configuration says about running it.

use crate::digest::Digest;
use crate::error::Fault;
use crate::manifest::Platform;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// How an image is meant to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// Empty: the root.
    pub working_dir: String,
    /// As [`crate::Images::resolve_user`] takes it; empty: the first user.
    pub user: String,
    /// In the order given; a name may come twice.
    pub env: Vec<(String, String)>,
    pub exposed_ports: Vec<Port>,
    /// As the image says it; none where it says nothing.
    pub stop_signal: Option<String>,
    /// Folders for what is written, as the image says them. None in records of releases that did not read them.
    #[serde(default)]
    pub volumes: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// A port that the image says it listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    pub number: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// What a configuration is read into.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) config: Config,
    pub(crate) diff_ids: Vec<Digest>,
}

impl ConfigFile {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let broken = |error| Fault::corrupt(format_args!("the image's configuration is broken: {error}"));
        let raw: RawFile = serde_json::from_slice(bytes).map_err(broken)?;
        let platform = Platform {
            os: raw.os,
            architecture: raw.architecture,
            variant: None,
        };
        if !platform.is_ours() {
            return Err(Fault::unsupported(format_args!(
                "the image is for {platform}, this machine is {}",
                Platform::ours()
            )));
        }
        if !matches!(&*raw.rootfs.kind, "" | "layers") {
            let kind = raw.rootfs.kind;
            return Err(Fault::unsupported(format_args!(
                "the image consists of {kind:?}, not of layers"
            )));
        }
        let diff_ids = raw.rootfs.diff_ids.iter().map(|text| text.parse());
        Ok(Self {
            config: raw.config.into(),
            diff_ids: diff_ids.collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default, deserialize_with = "or_null")]
    config: RawConfig,
    rootfs: RawRoot,
}

#[derive(Deserialize)]
struct RawRoot {
    #[serde(rename = "type", default, deserialize_with = "or_null")]
    kind: String,
    #[serde(default, deserialize_with = "or_null")]
    diff_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    #[serde(deserialize_with = "words")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "words")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    working_dir: String,
    #[serde(deserialize_with = "or_null")]
    user: String,
    #[serde(deserialize_with = "or_null")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    exposed_ports: BTreeMap<String, serde_json::Value>,
    stop_signal: Option<String>,
    #[serde(deserialize_with = "or_null")]
    volumes: BTreeMap<String, IgnoredAny>,
    #[serde(deserialize_with = "or_null")]
    labels: BTreeMap<String, Option<String>>,
}

/// Builders write `null` for what is not set.
fn or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A command, which images of the first docker have as one text that is its first word.
fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    let words = match Option::deserialize(from)? {
        None => Vec::new(),
        Some(Words::One(word)) => vec![word],
        Some(Words::Many(words)) => words,
    };
    // Docker's way to say that there is none.
    Ok(if words == [""] { Vec::new() } else { words })
}

impl From<RawConfig> for Config {
    fn from(raw: RawConfig) -> Self {
        let variable = |text: String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        Self {
            entrypoint: raw.entrypoint,
            cmd: raw.cmd,
            working_dir: raw.working_dir,
            user: raw.user,
            env: raw.env.into_iter().map(variable).collect(),
            // It is a hint for people: one that is no port is no reason not to run the image.
            exposed_ports: raw.exposed_ports.keys().filter_map(|text| port(text)).collect(),
            stop_signal: raw.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: raw.volumes.into_keys().collect(),
            labels: raw
                .labels
                .into_iter()
                .map(|(name, value)| (name, value.unwrap_or_default()))
                .collect(),
        }
    }
}

fn port(text: &str) -> Option<Port> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    let number = number.parse().ok().filter(|number| *number != 0)?;
    Some(Port { number, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(config: serde_json::Value) -> Result<ConfigFile, Fault> {
        let ours = Platform::ours();
        let mut file = json!({ "os": ours.os, "architecture": ours.architecture, "rootfs": { "diff_ids": [] } });
        file["config"] = config;
        ConfigFile::parse(file.to_string().as_bytes())
    }

    #[test]
    fn what_is_said_is_read() {
        let file = parse(json!({
            "Entrypoint": ["/run"], "Cmd": ["-v"], "WorkingDir": "/srv", "User": "app:www", "StopSignal": "SIGQUIT",
            "Env": ["A=1=2", "B"], "Labels": { "l": "m" },
            "ExposedPorts": { "80/tcp": {}, "53/udp": {}, "what": {} }, "Healthcheck": { "Test": [] },
        }));
        let config = file.expect("a configuration").config;
        assert_eq!(
            (config.entrypoint, config.cmd),
            (vec!["/run".into()], vec!["-v".into()])
        );
        assert_eq!(config.env, [("A".into(), "1=2".into()), ("B".into(), String::new())]);
        let ports: Vec<_> = config
            .exposed_ports
            .iter()
            .map(|port| (port.number, port.protocol))
            .collect();
        assert_eq!(ports, [(53, Protocol::Udp), (80, Protocol::Tcp)]);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    }

    #[test]
    fn g1_a_command_is_words_one_text_or_nothing() {
        let command = |entrypoint: serde_json::Value, cmd: serde_json::Value| {
            let config = parse(json!({ "Entrypoint": entrypoint, "Cmd": cmd }));
            let config = config.expect("a configuration").config;
            (config.entrypoint, config.cmd)
        };
        let none = Vec::<String>::new;
        for nothing in [json!(null), json!([]), json!(""), json!([""])] {
            assert_eq!(command(nothing.clone(), nothing), (none(), none()));
        }
        let shell = ["/bin/sh", "-c", "serve --all"];
        assert_eq!(command(json!(shell), json!(null)).0, shell);
        assert_eq!(
            command(json!([""]), json!("/serve it")),
            (none(), vec!["/serve it".into()])
        );
        assert_eq!(command(json!(["/run"]), json!(["", "x"])).1, ["", "x"]);
    }

    #[test]
    fn g1_volumes_and_ports_are_the_names_of_their_entries() {
        let config = json!({
            "Volumes": { "/data": {}, "/b": null }, "Labels": { "a": null, "b": "c" },
            "ExposedPorts": { "80": {}, "81/TCP": {}, "0/tcp": {}, "90000/tcp": {}, "1-2/tcp": {}, "5/raw": {}, "6/sctp": null },
        });
        let config = parse(config).expect("a configuration").config;
        assert_eq!(config.volumes, ["/b", "/data"]);
        let numbers: Vec<u16> = config.exposed_ports.iter().map(|port| port.number).collect();
        assert_eq!(numbers, [6, 80, 81]);
        assert_eq!((&*config.labels["a"], &*config.labels["b"]), ("", "c"));
    }

    #[test]
    fn g1_what_means_nothing_here_is_no_reason_not_to_run_an_image() {
        let config = json!({
            "Hostname": "x", "Domainname": "y", "Image": "sha256:0", "MacAddress": "02:42::", "NetworkDisabled": true, "Tty": true,
            "OnBuild": ["RUN x"], "ArgsEscaped": true, "Shell": ["/bin/bash", "-c"], "StopTimeout": 3, "Memory": 1, "Cmd": ["/x"],
            "Healthcheck": { "Test": ["CMD", "x"] }, "CpuShares": 2, "Unheard": [1],
        });
        let expected = Config {
            cmd: vec!["/x".into()],
            ..Config::default()
        };
        assert_eq!(parse(config).expect("a configuration").config, expected);
        let ours = Platform::ours();
        let root = json!({ "type": "layers+base", "diff_ids": [] });
        let file = json!({ "os": ours.os, "architecture": ours.architecture, "rootfs": root });
        let fault = ConfigFile::parse(file.to_string().as_bytes()).expect_err("refused");
        assert!(fault.to_string().contains("layers+base"), "{fault}");
    }

    #[test]
    fn null_is_nothing() {
        assert_eq!(parse(json!(null)).expect("a configuration").config, Config::default());
        let nulls = json!({ "Entrypoint": null, "Cmd": null, "Env": null, "ExposedPorts": null, "Labels": null });
        assert_eq!(parse(nulls).expect("a configuration").config, Config::default());
    }

    #[test]
    fn another_machine_s_image_is_refused() {
        let file = json!({ "os": "linux", "architecture": "pdp11", "rootfs": { "diff_ids": [] } });
        let fault = ConfigFile::parse(file.to_string().as_bytes()).expect_err("refused");
        assert!(
            matches!(&fault, Fault::Unsupported(why) if why.contains("linux/pdp11")),
            "{fault}"
        );
    }
}
