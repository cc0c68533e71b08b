//! Decides which images a Dockerfile stands on, as far as its text says so.

use std::collections::{BTreeMap, BTreeSet};

/// Most images that are fetched ahead for one build.
const MOST: usize = 16;

/// The images that `FROM`, `COPY --from` and `RUN --mount` name, each once, in order; those that only the builder can tell are left out.
pub(crate) fn of(dockerfile: &str) -> Vec<String> {
    let mut found = Found::default();
    let joined = dockerfile.replace("\\\n", " ");
    let mut lines = joined.lines();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        let Some(instruction) = words.next() else { continue };
        match instruction.to_ascii_uppercase().as_str() {
            "FROM" => found.from(words),
            "ARG" if found.stages == 0 => found.argument(words),
            "COPY" => found.copy(words),
            "RUN" => found.mounts(words),
            _ => {}
        }
        // What a step is given word by word has no instructions in it.
        if let Some(end) = here_document(line) {
            lines.by_ref().find(|line| line.trim() == end);
        }
    }
    found.images
}

/// The image that is to read the rest, where a builder does as such a line says: `# syntax=docker/dockerfile:1`.
pub(crate) fn frontend(dockerfile: &str) -> Option<String> {
    let directives = dockerfile
        .lines()
        .map_while(|line| line.trim().strip_prefix('#')?.split_once('='));
    let mut said = directives.filter(|(name, _)| name.trim().eq_ignore_ascii_case("syntax"));
    said.next()
        .and_then(|(_, image)| image.split_whitespace().next().map(str::to_owned))
}

/// The word that ends what begins with this line, where `RUN <<END` or `COPY <<END /file` does.
fn here_document(line: &str) -> Option<&str> {
    let is_taken = ["RUN", "COPY", "ADD"].iter().any(|name| {
        let begins = line.trim_start().get(..name.len());
        begins.is_some_and(|begin| begin.eq_ignore_ascii_case(name))
    });
    let (_, rest) = line.split_once("<<").filter(|_| is_taken)?;
    let word = rest.trim_start_matches('-').split_whitespace().next()?;
    Some(word.trim_matches(['"', '\''])).filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
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

    fn mounts<'l>(&mut self, words: impl Iterator<Item = &'l str>) {
        let options = words.take_while(|word| word.starts_with("--"));
        let mounts = options.filter_map(|option| option.strip_prefix("--mount="));
        let from: Vec<&str> = mounts
            .flat_map(|mount| mount.split(','))
            .filter_map(|part| part.strip_prefix("from="))
            .collect();
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
    use super::{frontend, of};

    #[test]
    fn images_are_told_from_stages() {
        let text = "# FROM nothing\nFROM --platform=linux/amd64 rust:1 AS build\nRUN make\n\
                    FROM build as tested\nfrom debian:12\nCOPY --chown=1:1 --from=build /a /a\nCOPY --from=0 /b /b\n\
                    COPY --from=busybox:1 \\\n  /bin/busybox /\nCOPY --from=busybox:1 /x /y\n\
                    RUN --network=none --mount=type=bind,from=golang:1,target=/go --mount=from=build make from=none\n\
                    FROM scratch\n";
        assert_eq!(of(text), ["rust:1", "debian:12", "busybox:1", "golang:1"]);
    }

    #[test]
    fn the_frontend_is_named_before_anything_else() {
        let said = |text| frontend(text);
        assert_eq!(
            said("# escape=`\n#SYNTAX = r.example/a:1 rest\nFROM a").as_deref(),
            Some("r.example/a:1")
        );
        assert_eq!(said("FROM a\n# syntax=r.example/a:1"), None);
        assert_eq!(said("# a word\n# syntax=r.example/a:1"), None);
    }

    #[test]
    fn what_a_step_is_given_names_no_image() {
        let text = "FROM a\nRUN <<END\nFROM inside\nEND\nCOPY <<-'EOF' /x\nFROM inside\n  EOF\nRUN echo $((1<<2))\nFROM b\n\
                    RUN cat << x\nFROM inside";
        assert_eq!(of(text), ["a", "b"]);
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
    fn a_file_cannot_ask_for_any_number_of_images() {
        let many: String = (0..100).map(|at| format!("FROM image{at}\n")).collect();
        assert_eq!(of(&many).len(), super::MOST);
    }
}
