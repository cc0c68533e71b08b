//! Decides what a manifest refers to, and which image of an index is the one for this machine.

use crate::digest::Digest;
use crate::error::Fault;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// Media types of a manifest and of an index, in both dialects.
pub(crate) const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A reference to content.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) enum Manifest {
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
struct Raw {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Manifest {
    /// Told apart by what is in it: not every registry names the media type.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let broken = |error| Fault::corrupt(format_args!("the manifest is broken: {error}"));
        let raw: Raw = serde_json::from_slice(bytes).map_err(broken)?;
        match (raw.config, raw.layers, raw.manifests) {
            (Some(config), Some(layers), None) => Ok(Self::Image { config, layers }),
            (None, None, Some(manifests)) => Ok(Self::Index(manifests)),
            _ => Err(Fault::unsupported("it is neither an image manifest nor an index")),
        }
    }
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: Option<String>,
}

impl Platform {
    pub(crate) fn ours() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }

    /// Whether this machine can run it; variants are not looked at.
    pub(crate) fn is_ours(&self) -> bool {
        let ours = Self::ours();
        self.os == ours.os && self.architecture == ours.architecture
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// The image for this machine: the baseline if there are several variants of it.
pub(crate) fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, Fault> {
    let ours = |descriptor: &&Descriptor| descriptor.platform.as_ref().is_some_and(Platform::is_ours);
    let is_baseline = |descriptor: &&Descriptor| {
        let variant = descriptor
            .platform
            .as_ref()
            .and_then(|platform| platform.variant.as_deref());
        matches!(variant, None | Some("" | "v1" | "v8"))
    };
    let baseline = manifests.iter().filter(ours).find(is_baseline);
    baseline.or_else(|| manifests.iter().find(ours)).ok_or_else(|| {
        let others = manifests.iter().filter_map(|descriptor| descriptor.platform.as_ref());
        let others: Vec<String> = others.take(20).map(Platform::to_string).collect();
        Fault::unsupported(format_args!(
            "there is no image for {}, only for {}",
            Platform::ours(),
            others.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn index(platforms: &[(&str, &str, Option<&str>)]) -> Vec<Descriptor> {
        let entries = platforms.iter().enumerate().map(|(at, (os, architecture, variant))| {
            let digest = format!("sha256:{at:064x}");
            let platform = json!({ "os": os, "architecture": architecture, "variant": variant });
            json!({ "digest": digest, "size": 1, "platform": platform })
        });
        let text = json!({ "manifests": entries.collect::<Vec<_>>() }).to_string();
        let Manifest::Index(manifests) = Manifest::parse(text.as_bytes()).expect("an index") else {
            panic!("not read as an index")
        };
        manifests
    }

    #[test]
    fn this_machine_s_image_is_chosen_and_its_baseline_first() {
        let ours = Platform::ours().architecture;
        let manifests = index(&[
            ("unknown", "unknown", None),
            ("windows", &ours, None),
            ("linux", &ours, Some("v3")),
            ("linux", &ours, None),
        ]);
        assert_eq!(choose(&manifests).expect("one").digest, manifests[3].digest);
        assert_eq!(choose(&manifests[..3]).expect("one").digest, manifests[2].digest);
    }

    #[test]
    fn without_one_the_others_are_named() {
        let fault = choose(&index(&[("linux", "pdp11", Some("v7"))])).expect_err("none");
        assert!(fault.to_string().contains("linux/pdp11/v7"), "{fault}");
    }

    #[test]
    fn what_is_neither_or_both_is_refused() {
        let descriptor = json!({ "digest": format!("sha256:{:064x}", 1), "size": 1 });
        let both = json!({ "config": descriptor, "layers": [], "manifests": [] });
        for text in ["{}", "[]", "{\"config\":{}}", both.to_string().as_str()] {
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
