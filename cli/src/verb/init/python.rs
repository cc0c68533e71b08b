//! Decides how a Python program is started: by the server that its requirements name, with the object that its text makes.

use super::proposal::Proposal;
use super::sight::Sight;

/// Where packages are named that have to be installed.
const REQUIREMENTS: [&str; 3] = ["requirements.txt", "pyproject.toml", "Pipfile"];
/// Environments that a folder may bring.
const ENVIRONMENTS: [&str; 2] = [".venv", "venv"];
/// Programs by their usual names.
const USUAL: [&str; 6] = ["app.py", "main.py", "server.py", "wsgi.py", "asgi.py", "run.py"];

/// Functions that make an app, by their usual names.
const FACTORIES: [&str; 2] = ["create_app", "make_app"];

/// How an app is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flask,
    Wsgi,
    Asgi,
}

/// What a program serves: `module:object`.
struct Object {
    kind: Kind,
    framework: &'static str,
    module: String,
    name: String,
    is_factory: bool,
}

/// A Django project.
pub fn django(sight: &Sight) -> Option<Proposal> {
    sight.text("manage.py")?;
    let python = interpreter(sight);
    let modules = |file: &'static str| {
        let folders = sight
            .programs(file)
            .filter_map(|(path, _)| path.strip_suffix(file)?.strip_suffix('/'));
        folders.into_iter().find(|folder| is_name(folder))
    };
    let project = (modules("wsgi.py"), modules("asgi.py"));
    let command = match project {
        (Some(project), _) if needs(sight, "gunicorn") => {
            format!("{python} -m gunicorn {project}.wsgi --bind 0.0.0.0:$PORT")
        }
        (_, Some(project)) if needs(sight, "uvicorn") => {
            format!("{python} -m uvicorn {project}.asgi:application --host 0.0.0.0 --port $PORT")
        }
        _ => format!("{python} manage.py runserver --noreload 0.0.0.0:$PORT"),
    };
    let proposal = Proposal::web(format!("manage.py: a Django project{}", packages(sight)), command);
    let step = format!("{python} manage.py collectstatic, and ALLOWED_HOSTS with the hosts of the app");
    Some(with_packages(proposal, sight).next(step))
}

/// An object that a server serves, or a program that serves by itself.
pub fn app(sight: &Sight) -> Option<Proposal> {
    let python = interpreter(sight);
    let proposal = match object(sight) {
        Some(object) => {
            let found = format!(
                "{} app {}:{}{}",
                object.framework,
                object.module,
                object.name,
                packages(sight)
            );
            Proposal::web(found, served(sight, &object, python))
        }
        None => {
            let scripts: Vec<&str> = sight.ending(".py").filter(|path| !path.contains('/')).collect();
            let usual = USUAL.into_iter().find(|name| scripts.contains(name));
            let only = match scripts[..] {
                [only] => Some(only),
                _ => None,
            };
            let program = usual.or(only).filter(|name| is_word(name))?;
            Proposal::web(format!("{program}{}", packages(sight)), format!("{python} {program}"))
        }
    };
    Some(with_packages(proposal, sight))
}

fn served(sight: &Sight, object: &Object, python: &str) -> String {
    let Object { module, name, .. } = object;
    let call = if object.is_factory { "()" } else { "" };
    match object.kind {
        Kind::Asgi => {
            let factory = if object.is_factory { " --factory" } else { "" };
            format!("{python} -m uvicorn {module}:{name}{factory} --host 0.0.0.0 --port $PORT")
        }
        Kind::Flask | Kind::Wsgi if needs(sight, "gunicorn") => {
            // A shell would take the brackets.
            format!("{python} -m gunicorn '{module}:{name}{call}' --bind 0.0.0.0:$PORT")
        }
        Kind::Wsgi if needs(sight, "waitress") => {
            format!("{python} -m waitress --port=$PORT '{module}:{name}'")
        }
        Kind::Flask => format!("{python} -m flask --app {module} run --host 0.0.0.0 --port $PORT"),
        Kind::Wsgi => format!("{python} -m gunicorn '{module}:{name}{call}' --bind 0.0.0.0:$PORT"),
    }
}

/// The first object that is an app, in programs by their usual names before others.
fn object(sight: &Sight) -> Option<Object> {
    let mut programs: Vec<(&str, &str)> = sight.programs(".py").filter(|(path, _)| *path != "manage.py").collect();
    programs.sort_by_key(|(path, _)| USUAL.iter().position(|usual| usual == path).unwrap_or(USUAL.len()));
    programs.into_iter().find_map(|(path, text)| {
        let module = path.strip_suffix(".py")?.replace('/', ".");
        let module = module.strip_suffix(".__init__").unwrap_or(&module);
        if !module.split('.').all(is_name) {
            return None;
        }
        made(text).map(|(kind, framework, name, is_factory)| Object {
            kind,
            framework,
            module: module.to_owned(),
            name,
            is_factory,
        })
    })
}

/// What a text makes at its top level; else the function that makes it.
fn made(text: &str) -> Option<(Kind, &'static str, String, bool)> {
    let kinds = [
        ("FastAPI(", Kind::Asgi, "FastAPI"),
        ("Starlette(", Kind::Asgi, "Starlette"),
        ("Quart(", Kind::Asgi, "Quart"),
        ("Litestar(", Kind::Asgi, "Litestar"),
        ("Flask(", Kind::Flask, "Flask"),
        ("falcon.App(", Kind::Wsgi, "Falcon"),
        ("get_wsgi_application(", Kind::Wsgi, "WSGI"),
        ("get_asgi_application(", Kind::Asgi, "ASGI"),
    ];
    let of = |made: &str| {
        let made = made.trim_start();
        kinds.into_iter().find(|(call, ..)| {
            let before = made.split_once(call).map(|(before, _)| before);
            // `Flask(` and `flask.Flask(`, not `is_a_Flask(`.
            before.is_some_and(|before| before.is_empty() || (before.ends_with('.') && is_path(before)))
        })
    };
    let assigned = text.lines().find_map(|line| {
        let (name, made) = line.split_once('=')?;
        // `app: Flask = …` says its type too.
        let name = name.split(':').next()?.trim_end();
        let (_, kind, framework) = of(made).filter(|_| is_name(name))?;
        Some((kind, framework, name.to_owned(), false))
    });
    let factory = || {
        let defines = |name: &&str| text.lines().any(|line| line.starts_with(&format!("def {name}(")));
        let name = FACTORIES.into_iter().find(defines)?;
        let mut made = text.lines().filter_map(|line| Some(line.split_once('=')?.1));
        let (_, kind, framework) = made.find_map(of)?;
        Some((kind, framework, name.to_owned(), true))
    };
    assigned.or_else(factory)
}

fn interpreter(sight: &Sight) -> &'static str {
    match environment(sight) {
        Some(".venv") => ".venv/bin/python",
        Some(_) => "venv/bin/python",
        None => "python3",
    }
}

/// The environment that the folder brings.
fn environment(sight: &Sight) -> Option<&'static str> {
    ENVIRONMENTS
        .into_iter()
        .find(|folder| sight.has(&format!("{folder}/bin/python")))
}

fn with_packages(proposal: Proposal, sight: &Sight) -> Proposal {
    match (environment(sight), requirements(sight)) {
        (Some(folder), _) => proposal.include(folder),
        (None, Some(file)) => {
            let from = match file {
                "requirements.txt" => "-r requirements.txt",
                _ => ".",
            };
            proposal.next(format!(
                "python3 -m venv .venv && .venv/bin/pip install {from} && miren init --force    \
                 # unless the node has these packages: .venv is deployed with the folder"
            ))
        }
        (None, None) => proposal,
    }
}

fn requirements(sight: &Sight) -> Option<&'static str> {
    REQUIREMENTS.into_iter().find(|file| sight.has(file))
}

fn packages(sight: &Sight) -> String {
    requirements(sight).map_or_else(String::new, |file| format!(", packages in {file}"))
}

/// Whether a package is named where packages are.
fn needs(sight: &Sight, package: &str) -> bool {
    let texts = REQUIREMENTS.into_iter().filter_map(|file| sight.text(file));
    let mut lines = texts
        .flat_map(str::lines)
        .map(|line| line.split('#').next().unwrap_or_default());
    lines.any(|line| {
        let mut words = line.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
        words.any(|word| word.eq_ignore_ascii_case(package))
    })
}

fn is_name(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_path(text: &str) -> bool {
    text.trim_end_matches('.').split('.').all(is_name)
}

/// A file's name that a shell takes for one word.
fn is_word(name: &str) -> bool {
    !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
