//! Decides which images a Dockerfile stands on, as far as its text says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Most images that are fetched ahead for one build.
const MOST: usize = 16;

/// The images that `FROM` and `COPY --from` name, each once, in order; those that only the builder can tell are left out.
pub(crate) fn of(dockerfile: &str) -> Vec<String> {
    let mut found = Found::default();
    let joined = dockerfile.replace("\\\n", " ");
    for line in joined.lines() {
        let mut words = line.split_whitespace();
        let Some(instruction) = words.next() else { continue };
        match instruction.to_ascii_uppercase().as_str() {
            "FROM" => found.from(words),
            "ARG" if found.stages == 0 => found.argument(words),
            "COPY" => found.copy(words),
            _ => {}
        }
    }
    found.images
}

/// The registry of an image, if it is on this machine's loopback.
pub(crate) fn loopback_registry(image: &str) -> Option<&str> {
    let (registry, _) = image.split_once('/')?;
    let host = registry.split_once(':').map_or(registry, |(host, _)| host);
    let is_loopback = host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    is_loopback.then_some(registry)
}

#[derive(Default)]
struct Found {
    images: Vec<String>,
    arguments: BTreeMap<String, String>,
    names: BTreeSet<String>,
    stages: usize,
}

impl Found {
    fn from<'l>(&mut self, words: impl Iterator<Item = &'l str>) {
        self.stages += 1;
        let mut words = words.filter(|word| !word.starts_with("--"));
        if let Some(image) = words.next() {
            self.add(image);
        }
        if let (Some("AS" | "as" | "As" | "aS"), Some(name)) = (words.next(), words.next()) {
            self.names.insert(name.to_ascii_lowercase());
        }
    }

    fn copy<'l>(&mut self, words: impl Iterator<Item = &'l str>) {
        let options = words.take_while(|word| word.starts_with("--"));
        let from: Vec<&str> = options.filter_map(|option| option.strip_prefix("--from=")).collect();
        for image in from.into_iter().filter(|name| name.parse::<usize>().is_err()) {
            self.add(image);
        }
    }

    fn argument<'l>(&mut self, words: impl Iterator<Item = &'l str>) {
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = self.resolve(value.trim_matches(['"', '\'']));
            self.arguments.extend(value.map(|value| (name.to_owned(), value)));
        }
    }

    fn add(&mut self, name: &str) {
        let Some(image) = self.resolve(name) else { return };
        let is_stage = self.names.contains(&image.to_ascii_lowercase());
        let is_image = image.starts_with(|c: char| c.is_ascii_alphanumeric()) && image != "scratch";
        if is_image && !is_stage && !self.images.contains(&image) && self.images.len() < MOST {
            self.images.push(image);
        }
    }

    /// With the arguments before the first `FROM` put in. None: one of them is not known.
    fn resolve(&self, text: &str) -> Option<String> {
        let mut resolved = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            resolved.push_str(before);
            let (name, behind) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}')?,
                None => after.split_at(after.find(|c: char| !is_of_name(c)).unwrap_or(after.len())),
            };
            let (name, default) = name
                .split_once(":-")
                .map_or((name, None), |(name, default)| (name, Some(default)));
            let value = self.arguments.get(name).map(String::as_str).or(default)?;
            resolved.push_str(value);
            rest = behind;
        }
        resolved.push_str(rest);
        Some(resolved)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::{loopback_registry, of};

    #[test]
    fn images_are_told_from_stages() {
        let text = "# FROM nothing\nFROM --platform=linux/amd64 rust:1 AS build\nRUN make\n\
                    FROM build as tested\nfrom debian:12\nCOPY --chown=1:1 --from=build /a /a\nCOPY --from=0 /b /b\n\
                    COPY --from=busybox:1 \\\n  /bin/busybox /\nCOPY --from=busybox:1 /x /y\nFROM scratch\n";
        assert_eq!(of(text), ["rust:1", "debian:12", "busybox:1"]);
    }

    #[test]
    fn arguments_before_the_first_stage_are_put_in() {
        let text = "ARG TAG=12 NAME\nARG FULL=\"debian:$TAG\"\nFROM ${FULL}\nFROM $FULL-slim\nFROM ${OTHER:-alpine}\n\
                    FROM ${NAME}\nFROM $UNKNOWN\nFROM ${open\nARG TAG=13\nFROM debian:$TAG";
        assert_eq!(of(text), ["debian:12", "debian:12-slim", "alpine"]);
    }

    #[test]
    fn nothing_is_taken_for_an_option() {
        assert_eq!(of("FROM -rf\nFROM\nFROM \"quoted\"\nCOPY --from= a b"), [""; 0]);
    }

    #[test]
    fn registries_on_loopback_are_known() {
        assert_eq!(loopback_registry("127.0.0.1:5000/shop:1"), Some("127.0.0.1:5000"));
        assert_eq!(loopback_registry("localhost/shop"), Some("localhost"));
        for other in [
            "debian:12",
            "10.0.0.1:5000/shop",
            "localhost.example.com/shop",
            "library/debian",
        ] {
            assert_eq!(loopback_registry(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_cannot_ask_for_any_number_of_images() {
        let many: String = (0..100).map(|at| format!("FROM image{at}\n")).collect();
        assert_eq!(of(&many).len(), super::MOST);
    }
}
