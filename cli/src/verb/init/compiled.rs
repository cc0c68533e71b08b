//! Decides how a program is started that somebody has to compile first: what the compiler makes is deployed with the folder.

use super::proposal::Proposal;
use super::sight::Sight;

/// Jars beside the one that runs.
const ASIDE: [&str; 5] = [
    "-sources.jar",
    "-javadoc.jar",
    "-plain.jar",
    "-tests.jar",
    "gradle-wrapper.jar",
];

/// A Go module with a program.
pub fn go(sight: &Sight) -> Option<Proposal> {
    let module = sight.text("go.mod")?;
    let path = module.lines().find_map(|line| line.trim().strip_prefix("module "))?;
    let path = path.split("//").next().unwrap_or_default().trim().trim_matches('"');
    let mut parts = path.rsplit('/').filter(|part| !is_major(part));
    let name = parts.next().filter(|name| is_word(name)).unwrap_or("app");
    let step = format!("CGO_ENABLED=0 go build -o {name} .    # the program is deployed with the folder");
    Some(built(
        Proposal::web(format!("go.mod of {path}"), format!("./{name}")),
        name,
        &step,
        sight,
    ))
}

/// A Cargo package with a program.
pub fn rust(sight: &Sight) -> Option<Proposal> {
    let manifest: toml::Table = toml::from_str(sight.text("Cargo.toml")?).unwrap_or_default();
    let named = |table: &toml::Value| table.get("name")?.as_str().map(str::to_owned);
    let binary = manifest.get("bin").and_then(|bins| named(bins.get(0)?));
    let package = manifest.get("package").and_then(named);
    let name = binary.or(package).filter(|name| is_word(name))?;
    let program = format!("target/release/{name}");
    let proposal = Proposal::web(format!("Cargo.toml of {name}"), format!("./{program}"));
    Some(built(
        proposal,
        &program,
        "cargo build --release    # the program is deployed with the folder",
        sight,
    ))
}

/// A jar, or what makes one.
pub fn java(sight: &Sight) -> Option<Proposal> {
    let makers = [
        ("pom.xml", "mvn package"),
        ("build.gradle", "gradle build"),
        ("build.gradle.kts", "gradle build"),
    ];
    let maker = makers.into_iter().find(|(file, _)| sight.has(file));
    let jars = sight.ending(".jar");
    let jar = jars.filter(|jar| !ASIDE.iter().any(|aside| jar.ends_with(aside)) && !jar.contains("/original-"));
    let jar = jar
        .filter(|jar| jar.split('/').all(is_word))
        .min_by_key(|jar| (jar.len(), *jar));
    let spring = maker
        .and_then(|(file, _)| sight.text(file))
        .is_some_and(|text| text.contains("spring-boot"));
    let port = if spring { " --server.port=$PORT" } else { "" };
    let found = match maker {
        Some((file, _)) if spring => format!("{file} of Spring Boot"),
        Some((file, _)) => file.to_owned(),
        None => jar?.to_owned(),
    };
    let (program, is_there) = match (jar, maker) {
        (Some(jar), _) => (jar, true),
        (None, Some(("pom.xml", _))) => ("target/app.jar", false),
        (None, _) => ("build/libs/app.jar", false),
    };
    let proposal = Proposal::web(found, format!("java -jar {program}{port}")).include(program);
    Some(match (is_there, maker) {
        (false, Some((_, make))) => proposal.next(format!(
            "{make} && miren init --force    # the jar that it makes is deployed with the folder"
        )),
        _ => proposal,
    })
}

fn built(proposal: Proposal, program: &str, step: &str, sight: &Sight) -> Proposal {
    let proposal = proposal.include(format!("/{program}"));
    match sight.has(program) {
        true => proposal,
        false => proposal.next(step),
    }
}

/// `v2` at the end of a module's path.
fn is_major(part: &str) -> bool {
    let number = part.strip_prefix('v');
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A name that a shell takes for one word, and that leads nowhere else.
fn is_word(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(plain)
}
