//! What folders are taken for, and that what is written for each of them is what a deploy accepts.

use super::*;
use crate::app_folder::AppFolder;
use crate::options::Format;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

/// Files with their texts, and the command of the `web` service that follows.
type Case<'c> = (&'c [(&'c str, &'c str)], &'c str);

fn shop() -> AppName {
    AppName::from_text("shop")
}

/// The settings as written, and as a deploy reads them with every commented key taken as well.
fn read(sight: &Sight) -> (Proposal, AppFile) {
    let proposal = proposal::of(sight).unwrap();
    let text = text::of(&shop(), &proposal);
    let read = read_back(sight, &text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(read.name, Some(shop()));
    let keys = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    });
    let all = keys.collect::<Vec<_>>().join("\n");
    read_back(sight, &all).unwrap_or_else(|problems| panic!("{problems}\n{all}"));
    assert_eq!(read.include, proposal.include);
    (proposal, read)
}

fn web(files: &[(&str, &str)]) -> (Proposal, String) {
    let (proposal, read) = read(&Sight::of(files));
    let command = read.services.get("web").map(|service| service.command.clone());
    (proposal, command.unwrap_or_default())
}

fn assert_commands(cases: &[Case<'_>]) {
    for (files, command) in cases {
        assert_eq!(web(files).1, *command, "{files:?}");
    }
}

#[test]
fn g15_python_is_started_by_the_server_that_it_names_with_the_object_that_it_makes() {
    let flask = "from flask import Flask\napp = Flask(__name__)\n";
    let fast = "import fastapi\n\napi: FastAPI = fastapi.FastAPI(title='x')\n";
    let factory = "def create_app():\n    app = Flask(__name__)\n    return app\n";
    let fields = "is_app = not_Flask(3)\n    app = Flask()\nx == Flask(1)\n";
    let bind = "--bind 0.0.0.0:$PORT";
    assert_commands(&[
        (
            &[("requirements.txt", "Flask==3.0\ngunicorn>=22\n"), ("app.py", flask)],
            &format!("python3 -m gunicorn 'app:app' {bind}"),
        ),
        (
            &[("requirements.txt", "flask\n# gunicorn\n"), ("hello.py", flask)],
            "python3 -m flask --app hello run --host 0.0.0.0 --port $PORT",
        ),
        (
            &[
                ("pyproject.toml", "dependencies = [\"fastapi\", \"uvicorn[standard]\"]"),
                ("main.py", fast),
            ],
            "python3 -m uvicorn main:api --host 0.0.0.0 --port $PORT",
        ),
        (
            &[
                ("Pipfile", "[packages]\ngunicorn = \"*\""),
                ("shop/__init__.py", factory),
                (".venv/bin/python", ""),
            ],
            &format!(".venv/bin/python -m gunicorn 'shop:create_app()' {bind}"),
        ),
        (
            &[("requirements.txt", "flask-gunicorn\n"), ("server.py", fields)],
            "python3 server.py",
        ),
        (
            &[
                ("manage.py", ""),
                ("site1/wsgi.py", "application = get_wsgi_application()"),
                ("requirements.txt", "Django\nGunicorn\n"),
            ],
            &format!("python3 -m gunicorn site1.wsgi {bind}"),
        ),
        (
            &[("manage.py", ""), ("package.json", r#"{"scripts": {"start": "vite"}}"#)],
            "python3 manage.py runserver --noreload 0.0.0.0:$PORT",
        ),
        (&[("only.py", "")], "python3 only.py"),
        (&[("a.py", ""), ("main.py", "")], "python3 main.py"),
    ]);
    let (proposal, _) = web(&[("requirements.txt", "flask"), ("app.py", flask)]);
    assert!(
        proposal.next[0].contains(".venv/bin/pip install -r requirements.txt"),
        "{proposal:?}"
    );
}

#[test]
fn g15_node_is_started_by_its_script_else_by_its_main_program() {
    let start = r#"{"scripts": {"start": "node x.js"}, "dependencies": {"express": "4"}, "engines": {"node": ">=20"}}"#;
    assert_commands(&[
        (&[("package.json", start)], "npm start"),
        (&[("package.json", start), ("yarn.lock", "")], "yarn start"),
        (&[("package.json", start), ("pnpm-lock.yaml", "")], "pnpm start"),
        (&[("package.json", r#"{"main": "src/x.js"}"#)], "node src/x.js"),
        (
            &[("package.json", r#"{"main": "../x.js"}"#), ("index.js", "")],
            "node index.js",
        ),
        (
            &[("package.json", r#"{"main": "x; rm -rf /"}"#), ("server.js", "")],
            "node server.js",
        ),
        (
            &[("package.json", r#"{"scripts": {"start": 3}}"#), ("app.js", "")],
            "node app.js",
        ),
        (&[("package.json", "[1, {"), ("app.js", "")], "node app.js"),
        (&[("server.js", "")], "node server.js"),
    ]);
    let (proposal, _) = web(&[("package.json", start), ("package-lock.json", "")]);
    assert_eq!(proposal.include, ["node_modules"]);
    assert!(proposal.next[0].starts_with("npm ci"), "{proposal:?}");
    assert!(proposal.found[0].contains(">=20"), "{proposal:?}");
    let (proposal, _) = web(&[("package.json", start), ("node_modules", "")]);
    assert!(proposal.next.is_empty(), "{proposal:?}");
}

#[test]
fn g15_what_is_compiled_is_deployed_as_it_was_made() {
    let pom = "<artifactId>spring-boot-starter-parent</artifactId>";
    assert_commands(&[
        (
            &[("go.mod", "module example.com/shop/v2 // here\n\ngo 1.22\n")],
            "./shop",
        ),
        (&[("go.mod", "module \"$(reboot)\"\n")], "./app"),
        (
            &[("Cargo.toml", "[package]\nname = \"shop\"\n[[bin]]\nname = \"serve\"\n")],
            "./target/release/serve",
        ),
        (
            &[("Cargo.toml", "[package]\nname = \"shop\"\n")],
            "./target/release/shop",
        ),
        (&[("pom.xml", "<project/>")], "java -jar target/app.jar"),
        (
            &[
                ("pom.xml", pom),
                ("target/shop-1.0.jar", ""),
                ("target/shop-1.0-sources.jar", ""),
            ],
            "java -jar target/shop-1.0.jar --server.port=$PORT",
        ),
        (
            &[
                ("build.gradle.kts", ""),
                ("build/libs/s.jar", ""),
                ("build/libs/s-plain.jar", ""),
            ],
            "java -jar build/libs/s.jar",
        ),
        (&[("server.jar", "")], "java -jar server.jar"),
    ]);
    let (proposal, _) = web(&[("go.mod", "module shop")]);
    assert_eq!((proposal.include[0].as_str(), proposal.next.len()), ("/shop", 1));
    let (proposal, _) = web(&[("go.mod", "module shop"), ("shop", "")]);
    assert!(proposal.next.is_empty());
}

#[test]
fn g15_ruby_php_and_pages_have_their_servers() {
    let pages = |folder: &str| format!("python3 -m http.server --bind 0.0.0.0 --directory {folder} $PORT");
    assert_commands(&[
        (
            &[("Gemfile", "gem 'puma'\n"), ("config.ru", "")],
            "bundle exec puma -b tcp://0.0.0.0:$PORT",
        ),
        (
            &[("Gemfile", "gem \"sinatra\""), ("config.ru", "")],
            "bundle exec rackup -o 0.0.0.0 -p $PORT",
        ),
        (
            &[("Gemfile", "gem 'rails'"), ("bin/rails", ""), ("config.ru", "")],
            "bundle exec rails server -b 0.0.0.0 -p $PORT",
        ),
        (
            &[("composer.json", "{}"), ("public/index.php", "")],
            "php -S 0.0.0.0:$PORT -t public",
        ),
        (&[("index.php", "")], "php -S 0.0.0.0:$PORT -t ."),
        (&[("index.html", "")], &pages(".")),
        (&[("public/index.html", "")], &pages("public")),
        (&[("index.html", ""), ("dist/index.html", "")], &pages("dist")),
        (
            &[
                ("index.html", ""),
                ("package.json", r#"{"scripts": {"build": "vite build"}}"#),
            ],
            &pages("dist"),
        ),
    ]);
}

#[test]
fn g15_what_is_run_before_a_switch_says_nothing_of_what_serves() {
    let procfile = ("Procfile", "# what moves\nrelease: python3 migrate.py\n");
    let (proposal, parsed) = read(&Sight::of(&[procfile, ("index.html", "")]));
    assert_eq!(proposal.found[0], "Procfile: release");
    assert!(proposal.found.len() > 1, "{:?}", proposal.found);
    assert!(!parsed.services["web"].command.is_empty());
    assert!(parsed.release.is_some());
    let dockerfile = ("Dockerfile", "FROM scratch\nEXPOSE 8080\n");
    let (proposal, _) = read(&Sight::of(&[procfile, dockerfile]));
    assert!(
        !text::of(&shop(), &proposal).contains("in the Procfile"),
        "{:?}",
        proposal.found
    );
}

#[test]
fn g15_a_procfile_and_a_dockerfile_have_the_last_word() {
    let procfile = (
        "Procfile",
        "worker: python3 work.py\nweb: gunicorn app:app\nrelease: python3 migrate.py\n",
    );
    let (proposal, parsed) = read(&Sight::of(&[procfile, ("app.py", ""), (".venv/bin/python", "")]));
    assert_eq!(proposal.found, ["Procfile: release, web, worker"]);
    assert_eq!(parsed.services["web"].command, "gunicorn app:app");
    assert!(parsed.services.contains_key("worker"));
    assert!(
        !text::of(&shop(), &proposal).contains("[services.release]"),
        "what runs before is no service"
    );
    assert_eq!(
        proposal.include,
        [".venv"],
        "what it needs it needs however it is started"
    );

    let stages =
        "FROM golang AS build\nEXPOSE 1\nRUN go build\nFrom scratch\nexpose 9000/udp 8080/tcp\nEXPOSE 8443 $P\n";
    let (proposal, image) = read(&Sight::of(&[("Dockerfile", stages), ("go.mod", "module a")]));
    assert_eq!(
        proposal.found,
        ["Dockerfile of 2 stages, of which the last one runs; it exposes port 8080"]
    );
    assert_eq!(
        (
            image.services["web"].command.as_str(),
            image.build.dockerfile.as_deref()
        ),
        ("", Some("Dockerfile"))
    );
    assert_eq!(image.services["web"].port, None, "the image says it");
    let (proposal, both) = read(&Sight::of(&[("Dockerfile", "FROM a"), procfile]));
    assert_eq!(
        (proposal.found.len(), both.services["web"].command.as_str()),
        (2, "gunicorn app:app")
    );
    let (_, own) = read(&Sight::of(&[
        ("Dockerfile", "FROM a"),
        ("Dockerfile.miren", "FROM b\nEXPOSE 5000"),
    ]));
    assert_eq!(own.build.dockerfile.as_deref(), Some("Dockerfile.miren"));

    let broken = proposal::of(&Sight::of(&[("Procfile", "web gunicorn\n")])).unwrap_err();
    assert!(broken.to_string().contains("Procfile"), "{broken}");
}

#[test]
fn g15_a_folder_that_says_nothing_gets_a_template_that_says_what_to_fill_in() {
    let (proposal, command) = web(&[("README.md", "hello"), ("notes", "")]);
    assert!(proposal.next[0].contains("services.web.command"), "{proposal:?}");
    assert!(
        command.contains("set services.web.command") && command.ends_with("exit 1"),
        "{command}"
    );
}

fn run_in(dir: &Path, more: &[&str]) -> (Result<(), Failure>, String) {
    let file = dir.parent().unwrap().join("out");
    let sink = |path: &Path| Box::new(fs::File::create(path).unwrap());
    let mut console = Console::plain(sink(&file), sink(&dir.parent().unwrap().join("err")), Format::Json);
    let options = InitOptions {
        dir: dir.to_owned(),
        name: None,
        force: more.contains(&"--force"),
        print: more.contains(&"--print"),
    };
    let outcome = run(&options, &mut console);
    drop(console);
    (outcome, fs::read_to_string(file).unwrap())
}

#[test]
fn g15_settings_are_written_once_whole_and_below_the_folder_only() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("My Shop");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("server.py"), "").unwrap();
    let (shown, document) = run_in(&dir, &["--print"]);
    shown.unwrap();
    assert!(
        document.contains("\"written\":false") || document.contains("\"written\": false"),
        "{document}"
    );
    assert!(!dir.join(".miren").exists(), "nothing is written");
    run_in(&dir, &[]).0.unwrap();
    let folder = AppFolder::open(&dir).unwrap();
    assert_eq!(folder.file.name, Some(AppName::from_text("my-shop")));
    let again = run_in(&dir, &[]).0.unwrap_err();
    assert_eq!((again.exit, again.code.as_str()), (Exit::Conflict, "exists"));
    fs::write(dir.join(APP_FILE), "name = \"own\"\n").unwrap();
    run_in(&dir, &["--print"]).0.unwrap();
    assert_eq!(fs::read_to_string(dir.join(APP_FILE)).unwrap(), "name = \"own\"\n");
    run_in(&dir, &["--force"]).0.unwrap();
    let names: Vec<_> = fs::read_dir(dir.join(".miren"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["app.toml"], "and nothing beside it");

    let elsewhere = outer.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::remove_dir_all(dir.join(".miren")).unwrap();
    symlink(&elsewhere, dir.join(".miren")).unwrap();
    for more in [&[][..], &["--force"]] {
        assert!(run_in(&dir, more).0.is_err());
    }
    assert_eq!(
        fs::read_dir(&elsewhere).unwrap().count(),
        0,
        "no link is written through"
    );
    fs::remove_file(dir.join(".miren")).unwrap();
    fs::create_dir(dir.join(".miren")).unwrap();
    let victim = elsewhere.join("victim");
    symlink(&victim, dir.join(APP_FILE)).unwrap();
    assert!(run_in(&dir, &[]).0.is_err());
    run_in(&dir, &["--force"]).0.unwrap();
    assert!(
        !victim.exists() && !dir.join(APP_FILE).is_symlink(),
        "the link is replaced"
    );
}

#[test]
fn g15_nothing_outside_a_hostile_folder_is_looked_at_and_no_more_of_it_than_so_much() {
    let outer = tempfile::tempdir().unwrap();
    let (dir, secret) = (outer.path().join("app"), outer.path().join("secret"));
    fs::create_dir(&dir).unwrap();
    fs::write(&secret, "web: echo secret\n").unwrap();
    symlink(&secret, dir.join("Procfile")).unwrap();
    symlink("../secret", dir.join("go.mod")).unwrap();
    symlink(outer.path(), dir.join("target")).unwrap();
    symlink("/proc/self/environ", dir.join("package.json")).unwrap();
    symlink("app.py", dir.join("app.py")).unwrap();
    nix::unistd::mkfifo(&dir.join("Dockerfile"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    fs::create_dir(dir.join("Cargo.toml")).unwrap();
    fs::write(dir.join("pom.xml"), vec![b'<'; 8 << 20]).unwrap();
    fs::write(dir.join("main.py"), [0xff, 0xfe, 0x00]).unwrap();
    for number in 0..2_100 {
        fs::create_dir(dir.join(format!("d{number}"))).unwrap();
    }
    symlink("main.py", dir.join("server.py")).unwrap();
    let (send, seen) = std::sync::mpsc::channel();
    let root = dir.clone();
    std::thread::spawn(move || send.send(sight::look(&root).unwrap()));
    // Far above what it takes: only a pipe that is waited for takes longer.
    let sight = seen
        .recv_timeout(Duration::from_secs(60))
        .expect("nothing is waited for");
    for outside in [
        "Procfile",
        "go.mod",
        "package.json",
        "app.py",
        "Dockerfile",
        "Cargo.toml",
    ] {
        assert_eq!(sight.text(outside), None, "{outside}");
    }
    assert_eq!(sight.text("pom.xml").map(str::len), Some(256 << 10));
    assert!(
        sight.has("main.py") || sight.has("server.py"),
        "links inside are links inside: {sight:?}"
    );
    assert!(proposal::of(&sight).is_ok());
}
