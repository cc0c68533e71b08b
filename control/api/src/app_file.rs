//! `app.toml` and `Procfile`: what an app runs, read the same way by the CLI and by the server.

use crate::id::AppName;
use crate::settings::{self, Bytes, Problem, Problems, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

mod build;
mod command;
mod disks;
mod ephemeral;
mod limits;
mod procfile;
mod release;
mod required;
mod service;
#[cfg(test)]
mod tests;

pub use build::{Build, Builder, DOCKERFILES, dockerfile_of};
pub use command::{command_line, shell_syntax};
pub use disks::{DISK_GB_MAX, DISKS_MAX, DiskKept, DiskMount, Filesystem};
pub use ephemeral::{MOST_SANDBOXES, Previews};
pub use limits::{
    COMMAND_MAX, FILE_MAX, LONGEST, PATH_MAX, SERVICES_MAX, VALUE_MAX, VARIABLE_NAME_MAX, VARIABLES_MAX, check_value,
    check_variable,
};
pub use release::{RELEASE, Release};
pub use required::{Missing, missing};
pub use service::{Concurrency, FIXED_CAPACITY, Resources, Service};
pub(crate) use service::{hedged, is_hedged};

/// Where an app's settings are, seen from its folder.
pub const APP_FILE: &str = ".miren/app.toml";
/// One process type a line: `web: command`.
pub const PROCFILE: &str = "Procfile";
/// The service that routes lead to unless they name another.
pub const WEB: &str = "web";
/// Port of a `web` service that names none.
pub const WEB_PORT: u16 = 3000;

/// Where the files a sandbox sees outside `/app` come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// The host's `/usr`, `/bin`, `/sbin`, `/lib*` and needed parts of `/etc`, read-only.
    #[default]
    Host,
    /// Nowhere: there are none.
    Scratch,
    /// A container image.
    Image(String),
}

impl Base {
    fn is_host(&self) -> bool {
        *self == Self::Host
    }
}

/// Everything an app's folder says about how it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct AppFile {
    pub name: Option<AppName>,
    /// Image that its services run as it is, unless they name another: then only these settings of the folder count.
    pub image: Option<String>,
    /// What becomes an image of its own, if anything does.
    pub build: Build,
    pub base: Base,
    /// How its previews run.
    pub previews: Previews,
    /// Patterns of files taken along although `.gitignore` excludes them.
    pub include: Vec<String>,
    /// What is run once before traffic is switched to a new version.
    pub release: Option<Release>,
    /// At least one, each with a command.
    pub services: BTreeMap<String, Service>,
}

/// What is read of an app's folder, and asked of it.
#[derive(Clone, Copy)]
pub struct Folder<'t> {
    /// Text of [`APP_FILE`]; `None` if the folder lacks it.
    pub app_file: Option<&'t str>,
    /// Text of [`PROCFILE`].
    pub procfile: Option<&'t str>,
    /// Whether it has a file of this path.
    pub has: &'t dyn Fn(&str) -> bool,
}

/// As [`parse_for`], for a folder with nothing but the two files.
///
/// # Errors
/// As [`parse_for`].
pub fn parse(app_file: Option<&str>, procfile: Option<&str>) -> Result<AppFile, Problems> {
    let folder = Folder {
        app_file,
        procfile,
        has: &|_| false,
    };
    parse_for(None, folder)
}

/// Reads an app's folder. `image` is given in place of its own.
///
/// # Errors
/// All problems of both files, each with its place: at most [`PROBLEMS_MAX`](settings::PROBLEMS_MAX) a file, and how many
/// there are beyond them.
pub fn parse_for(image: Option<&str>, folder: Folder<'_>) -> Result<AppFile, Problems> {
    let (processes, Problems(mut problems)) = procfile::parse(folder.procfile);
    let parsed = source_of(APP_FILE, folder.app_file).map_err(|problem| Problems(vec![problem]));
    let around = Around {
        complete: problems.is_empty(),
        processes,
        image,
        has: folder.has,
    };
    let parsed = parsed.and_then(|text| settings::read(Path::new(APP_FILE), text, |root| declare(root, &around)));
    match parsed {
        Ok(parsed) if problems.is_empty() => Ok(parsed),
        Ok(_) => Err(Problems(problems)),
        Err(Problems(more)) => {
            problems.extend(more);
            Err(Problems(problems))
        }
    }
}

/// What the settings are read with.
struct Around<'t> {
    processes: BTreeMap<String, String>,
    /// Whether `processes` is all that the Procfile meant to say.
    complete: bool,
    /// An image in place of its own.
    image: Option<&'t str>,
    has: &'t dyn Fn(&str) -> bool,
}

impl Around<'_> {
    /// As for keys that are only listed.
    fn nothing() -> Self {
        Self {
            processes: BTreeMap::new(),
            complete: true,
            image: None,
            has: &|_| false,
        }
    }
}

/// The text of a file, none being empty, unless it is too large to be looked at.
fn source_of<'t>(file: &str, text: Option<&'t str>) -> Result<&'t str, Problem> {
    let text = text.unwrap_or_default();
    match text.len() {
        size if size > FILE_MAX => Err(Problem::of_file(Path::new(file), too_large(size as u64))),
        _ => Ok(text),
    }
}

/// What is said about a file of `size` bytes, more than [`FILE_MAX`].
pub fn too_large(size: u64) -> String {
    format!("has {size} bytes, more than the {FILE_MAX} that are read")
}

/// Every key of `app.toml`, for the generated reference.
pub fn reference() -> Vec<settings::KeyDoc> {
    settings::describe(|root| declare(root, &Around::nothing()))
}

/// What `app.toml` may say, for editors.
pub fn schema() -> serde_json::Value {
    settings::schema("app.toml", |root| declare(root, &Around::nothing()))
}

fn declare(root: &mut Table<'_, '_, '_>, around: &Around<'_>) -> AppFile {
    let Around {
        processes, complete, ..
    } = around;
    let name = root.optional("name", "Name of the app: a DNS label.", |text| {
        AppName::parse(text).map_err(|why| format!("{text:?} {why}"))
    });
    root.foreign("post_import", "does nothing here; remove it");
    root.foreign(
        "concurrency",
        "is a setting of each service; set services.<service>.concurrency",
    );
    let include = root.list(
        "include",
        &[],
        "Files to deploy although `.gitignore` excludes them.",
        limits::pattern,
    );
    let (image, build::Declared { base, build }) = below(root, around);
    let previews = root.table("ephemeral", ephemeral::declare);
    let release = release::declare(root, processes.get(RELEASE).map(String::as_str));
    let common = service::Common {
        variables: environment(root),
        image: image.clone().or(build.dockerfile.as_deref().map(build::image_of)),
        base: base.clone(),
    };
    let declared = root.named_tables("services", "<service>", SERVICES_MAX, |name, table| {
        service::declare(name, table, processes.get(name).map(String::as_str), &common)
    });
    let nothing = declared.is_empty();
    let present = |(name, service): (String, Option<Service>)| Some((name, service?));
    let mut services: BTreeMap<String, Service> = declared.into_iter().filter_map(present).collect();
    add_processes(root, processes, &common, &mut services);
    if services.is_empty() && nothing && *complete && common.has_image() && !root.has("services") {
        services.insert(WEB.to_owned(), Service::undeclared(WEB, None, &common));
    }
    if services.len() > SERVICES_MAX {
        let all = services.len();
        let message = format!("with those of the {PROCFILE} the app has {all} services, more than {SERVICES_MAX}");
        root.refuse("services", message);
    }
    disks::refuse_shared(root, &services);
    let misread = root.has("services") && !root.has_table("services");
    if services.is_empty() && nothing && *complete && !misread {
        root.refuse(
            "services",
            format!("the app has no command: add [services.web] with command = \"…\" to {APP_FILE}, or a {PROCFILE} with \"web: …\""),
        );
    }
    AppFile {
        name,
        image,
        build,
        base,
        previews,
        include,
        release,
        services,
    }
}

/// Services that only the Procfile names.
fn add_processes(
    root: &Table<'_, '_, '_>,
    processes: &BTreeMap<String, String>,
    common: &service::Common,
    services: &mut BTreeMap<String, Service>,
) {
    for (name, command) in processes.iter().filter(|(name, _)| *name != RELEASE) {
        if !root.has_in("services", name) {
            services.insert(name.clone(), Service::undeclared(name, Some(command), common));
        }
    }
}

/// What services have under their folder, or in place of it.
fn below(root: &mut Table<'_, '_, '_>, around: &Around<'_>) -> (Option<String>, build::Declared) {
    let doc = "Image that runs as it is; of the folder only the settings count. A service may name another.";
    let own = root.optional("image", doc, limits::image);
    let image = around.image.map(str::to_owned).or(own);
    let declared = build::declare(root, around.has, image.is_some());
    if root.has("image") && declared.base != Base::Host {
        root.refuse(
            "image",
            "does not go with build.base: an image that runs as it is has no folder on top",
        );
    }
    (image, declared)
}

/// What the `[[env]]` tables of a table say.
#[derive(Clone, Default)]
struct Environment {
    set: BTreeMap<String, String>,
    /// What has to have a value in the end, whoever sets it.
    required: BTreeSet<String>,
}

/// Reads `[[env]]` tables. Keys that the system sets, and a key set twice, are refused. One that is required and has no value here
/// is not set here.
fn environment(table: &mut Table<'_, '_, '_>) -> Environment {
    let mut read = Environment::default();
    let mut seen = BTreeSet::new();
    table.tables("env", VARIABLES_MAX, |entry| {
        let key = entry.optional("key", "Name of the variable.", check_variable);
        let value = entry.parsed("value", "", "Its value, at most 64 KiB.", check_value);
        let doc = "Nothing is deployed unless it has a value that is not empty: here, from `miren env set` or `miren deploy -e`.";
        let required = entry.boolean("required", false, doc);
        entry.require("key");
        let Some(key) = key else { return };
        if !seen.insert(key.clone()) {
            return entry.refuse("key", format!("{key} is set a second time"));
        }
        if required {
            read.required.insert(key.clone());
        }
        if !required || !value.is_empty() {
            read.set.insert(key, value);
        }
    });
    read
}

/// A size as serde keeps it in records: bytes.
mod bytes_serde {
    use super::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(size: &Option<Bytes>, out: S) -> Result<S::Ok, S::Error> {
        size.map(|Bytes(count)| count).serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<u64>::deserialize(input)?.map(Bytes))
    }
}
