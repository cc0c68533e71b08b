//! What `app.toml` and `Procfile` mean together, and what is said about mistakes in them.

use super::*;

fn refused(app_file: &str) -> String {
    parse(Some(app_file), None).unwrap_err().to_string()
}

#[test]
fn a_procfile_alone_is_enough() {
    let app = parse(None, Some("# processes\nweb: node server.js\nworker: ./work --all\n")).unwrap();
    assert_eq!(app.services["web"].port, Some(3000));
    assert!(matches!(
        app.services["web"].concurrency,
        Concurrency::Auto {
            requests_per_instance: 10,
            ..
        }
    ));
    assert_eq!(app.services["worker"].port, None);
    assert_eq!(app.services["worker"].concurrency, Concurrency::Fixed { count: 1 });
}

#[test]
fn app_toml_overrides_the_procfile_service_by_service() {
    let text = "name = \"shop\"\n[[env]]\nkey = \"A\"\nvalue = \"1\"\n[services.web]\ncommand = \"./serve\"\nport = 8080\n\
                [[services.web.env]]\nkey = \"A\"\nvalue = \"2\"\n[services.web.concurrency]\nmode = \"fixed\"\nnum_instances = 2\n";
    let app = parse(Some(text), Some("web: old\nworker: work\n")).unwrap();
    let web = &app.services["web"];
    assert_eq!(
        (web.command.as_str(), web.port, web.env["A"].as_str()),
        ("./serve", Some(8080), "2")
    );
    assert_eq!(web.concurrency, Concurrency::Fixed { count: 2 });
    assert_eq!(app.services["worker"].env["A"], "1");
}

#[test]
fn b1_mistakes_are_named_with_their_place() {
    assert!(
        refused("[services.web]\ncomand = \"x\"\n")
            .contains(":2: services.web.comand: unknown key \"comand\"; did you mean \"command\"?")
    );
    assert!(refused("[services.web]\nport = 3000\n").contains("the service has no command"));
    assert!(refused("").contains("the app has no command"));
    assert!(refused("name = \"No Good\"\n[services.web]\ncommand = \"x\"\n").contains("name"));
    let fixed = "[services.web]\ncommand = \"x\"\n[services.web.concurrency]\nnum_instances = 2\n";
    assert!(refused(fixed).contains("does not go with mode = \"auto\""));
    assert!(
        refused("[services.web]\ncommand = \"x\"\n[[services.web.env]]\nvalue = \"1\"\n").contains("key: is missing")
    );
    assert!(refused("[services.web]\ncommand = \"x\"\n[[env]]\nkey = \"PORT\"\n").contains("set by the system"));
}

/// Each text, and each problem in it as it is told.
const MISTAKES: &[(&str, &[&str])] = &[
    (
        "[service.web]\ncommand = \"x\"\n",
        &[
            ": services: the app has no command",
            ":1: service: unknown key \"service\"; did you mean \"services\"?",
        ],
    ),
    (
        "services = { web = { command = \"x\", prot = 1 } }\n",
        &[":1: services.web.prot: unknown key \"prot\"; did you mean \"port\"?"],
    ),
    (
        "services.web.command = \"x\"\nservices.web.resources.cpus = 1\n",
        &[":2: services.web.resources.cpus: unknown key \"cpus\"; did you mean \"cpu\"?"],
    ),
    (
        "[services.web]\ncommand = \"x\"\nnum_instances = 2\n",
        &[
            ":3: services.web.num_instances: unknown key \"num_instances\"; did you mean \"services.web.concurrency.num_instances\"?",
        ],
    ),
    (
        "[[services.web.env]]\nkey = \"A\"\nvlaue = \"1\"\n[services.web]\ncommand = \"x\"\n",
        &[":3: services.web.env[0].vlaue: unknown key \"vlaue\"; did you mean \"value\"?"],
    ),
    (
        "[services.web]\ncommand = \"x\"\n[[env]]\nkey = \"A\"\n\n[[env]]\nvlaue = \"1\"\n",
        &[
            ":6: env[1].key: is missing",
            ":7: env[1].vlaue: unknown key \"vlaue\"; did you mean \"value\"?",
        ],
    ),
    (
        "[services.web]\ncommand = \"x\"\nport = 1\nport = 2\nhost = \n",
        &[":4: duplicate key", ":5: string values must be quoted"],
    ),
    (
        "[services.web]\ncommand = [\"x\"]\nport = \"80\"\nenv = {}\nhealth = \"/\"\n",
        &[
            ":2: services.web.command: is a list, not a string",
            ":3: services.web.port: is a string, not an integer",
            ":4: services.web.env: is a table, not a list of tables",
            ":5: services.web.health: is a string, not a table",
        ],
    ),
    ("services = 1\n", &[":1: services: is an integer, not a table"]),
    ("[services]\n", &[":1: services: the app has no command"]),
    (
        "[services.\"Web 1\"]\ncommand = \"x\"\n",
        &[":1: services.\"Web 1\": \"Web 1\" is no name of a service: it has 'W'"],
    ),
    (
        "include = [\"a\", 1, \"\"]\nname = 5\n[services.web]\ncommand = \"x\"\n",
        &[
            ":1: include[1]: is an integer",
            ":1: include[2]: is empty",
            ":2: name: is an integer",
        ],
    ),
    (
        "[services.web]\ncommand = \" \"\nport_timeout = \"0s\"\nshutdown_timeout = \"25h\"\ndrain_timeout = 5\n",
        &[
            ":2: services.web.command: is empty",
            ":3: services.web.port_timeout: \"0s\" leaves no time",
            ":4: services.web.shutdown_timeout: \"25h\" is longer than a day",
            ":5: services.web.drain_timeout: is an integer, not a string",
        ],
    ),
    (
        "[services.web]\ncommand = \"x\\u0000\"\nhealth.path = \"/a\\r\\nb\"\n[[env]]\nkey = \"A\"\nvalue = \"\\u0000\"\n[[env]]\nkey = \"A\"\n",
        &[
            ":2: services.web.command: contains a zero byte",
            ":3: services.web.health.path: \"/a\\r\\nb\" has '\\r'",
            ":6: env[0].value: contains a zero byte",
            ":8: env[1].key: A is set a second time",
        ],
    ),
    (
        "[services.web]\ncommand = \"x\"\n[services.web.resources]\nmemory = \"1MiB\"\ncpu = 0x1000\npids = 99999999999999999999\n",
        &[
            ":4: services.web.resources.memory: 1MiB is less than 4MiB",
            ":5: services.web.resources.cpu: is 0x1000, outside 0.01 to 1024",
            ":6: services.web.resources.pids: is 99999999999999999999, outside 4 to 1000000",
        ],
    ),
    (
        "[services.web]\ncommand = \"x\"\n[services.web.concurrency]\nmode = \"fixd\"\nnum_instances = 2\n",
        &[":4: services.web.concurrency.mode: \"fixd\" is not one of"],
    ),
];

#[test]
fn b1_each_mistake_is_told_once_at_its_line_with_its_key() {
    for (text, told) in MISTAKES {
        let problems = parse(Some(text), None).unwrap_err();
        let lines: Vec<String> = problems.0.iter().map(Problem::to_string).collect();
        assert_eq!(lines.len(), told.len(), "{text}\n{problems}");
        for (line, told) in lines.iter().zip(*told) {
            assert!(line.contains(told), "{told:?} is not said in\n{problems}\nof\n{text}");
        }
    }
}

#[test]
fn b1_there_are_limits_to_what_an_app_may_ask_for() {
    let told = |text: &str, what: &str| {
        let problems = parse(Some(text), None).unwrap_err();
        assert!(
            problems.0.iter().any(|problem| problem.to_string().contains(what)),
            "{what:?} is not said in {problems}"
        );
        assert!(
            problems.0.iter().all(|problem| problem.to_string().len() < 600),
            "{problems}"
        );
    };
    let web = "[services.web]\ncommand = \"x\"\n";
    told(
        &format!("[services.web]\ncommand = \"{}\"\n", "x".repeat(COMMAND_MAX + 1)),
        "has 65537 bytes, more than 65536",
    );
    let value = "x".repeat(VALUE_MAX + 1);
    told(
        &format!("{web}[[env]]\nkey = \"A\"\nvalue = \"{value}\"\n"),
        ":5: env[0].value: has 65537 bytes, more than 65536",
    );
    told(
        &format!("{web}[[env]]\nkey = \"{}\"\n", "A".repeat(256)),
        "has 256 bytes, more than 255",
    );
    told(
        &format!("{web}{}", "[[env]]\n".repeat(VARIABLES_MAX + 1)),
        ":3: env: has 257 items, more than 256",
    );
    let services: String = (0..=SERVICES_MAX)
        .map(|n| format!("[services.s{n}]\ncommand = \"x\"\n"))
        .collect();
    told(&services, ":1: services: has 65 tables, more than 64");
    told(
        &format!("{web}{}", "#".repeat(FILE_MAX)),
        ".miren/app.toml: has 262173 bytes",
    );
    let many: String = (0..150).map(|n| format!("k{n} = 1\n")).collect();
    let problems = parse(Some(&format!("{many}{web}")), None).unwrap_err();
    assert_eq!(problems.0.len(), settings::PROBLEMS_MAX + 1);
    assert_eq!(
        (problems.0[99].line, problems.0[100].to_string().as_str()),
        (100, ".miren/app.toml: and 50 more problems")
    );
}

#[test]
fn b1_lines_of_a_procfile_are_refused_one_by_one() {
    let procfile = "web: x\nWorker: y\n\nweb: z\nclock:\n";
    let told = [
        "Procfile:2: Worker: the name has 'W': only lower-case letters, digits and '-' are allowed",
        "Procfile:4: web: is named a second time",
        "Procfile:5: clock: the command is empty",
    ];
    assert_eq!(parse(None, Some(procfile)).unwrap_err().to_string(), told.join("\n"));
    // What the broken line would have run is not missed as well.
    assert_eq!(parse(None, Some("nonsense")).unwrap_err().0.len(), 1);
}

#[test]
fn a_broken_procfile_line_is_refused_with_its_number() {
    let problems = parse(None, Some("web: ok\nnonsense\n")).unwrap_err();
    assert!(
        problems.to_string().starts_with("Procfile:2: \"nonsense\""),
        "{problems}"
    );
}

#[test]
fn the_reference_has_every_level() {
    let paths: Vec<String> = reference().into_iter().map(|key| key.path).collect();
    for path in ["name", "build.base", "env[].key", "services.<service>.concurrency.mode"] {
        assert!(
            paths.iter().any(|known| known == path),
            "{path} is missing in {paths:?}"
        );
    }
}

#[test]
fn an_image_needs_no_command_and_is_under_every_service_that_names_no_other() {
    let alone = parse(Some("image = \"nginx\"\n"), None).expect("an app");
    let web = &alone.services["web"];
    assert_eq!(
        (web.command.as_str(), web.any_image(), web.port),
        ("", Some("nginx"), None)
    );
    let text = "image = \"shop:1\"\n[services.web]\n[services.cache]\nimage = \"redis\"\nport = 6379\n";
    let several = parse(Some(text), Some("worker: work\n")).expect("an app");
    let images: Vec<_> = several.services.values().map(Service::any_image).collect();
    assert_eq!(images, [Some("redis"), Some("shop:1"), Some("shop:1")]);
    assert_eq!(several.services["worker"].command, "work");
    let given = parse_for(Some("shop:2"), of(text)).expect("an app");
    assert_eq!(given.services["web"].any_image(), Some("shop:2"));
    assert_eq!(given.services["cache"].any_image(), Some("redis"));
}

#[test]
fn a_folder_on_an_image_keeps_its_command_and_port() {
    let text = "[build]\nbase = \"python:3\"\n";
    let app = parse(Some(text), Some("web: python serve.py\n")).expect("an app");
    let web = &app.services["web"];
    assert_eq!((web.image.as_deref(), web.port), (None, Some(3000)));
    assert_eq!(web.base, Base::Image("python:3".into()));
    let scratch = parse(Some("[build]\nbase = \"scratch\"\n"), Some("web: ./serve\n")).expect("an app");
    assert_eq!(scratch.services["web"].base, Base::Scratch);
    for (wrong, why) in [
        ("image = \"a b\"\n", "no name of an image"),
        ("image = \"a\"\n[build]\nbase = \"b\"\n", "does not go with build.base"),
        ("[build]\nbase = \"scratch\"\n[services.web]\n", "has no command"),
    ] {
        let problems = parse(Some(wrong), None).expect_err(wrong);
        assert!(problems.to_string().contains(why), "{wrong}: {problems}");
    }
}

fn of(text: &str) -> Folder<'_> {
    Folder {
        app_file: Some(text),
        procfile: None,
        has: &|file| ["Dockerfile", "deploy/web.Dockerfile"].contains(&file),
    }
}

#[test]
fn a_folder_with_a_dockerfile_is_built_unless_it_says_otherwise() {
    let built = |text| {
        let app = parse_for(None, of(text)).expect(text);
        let image = app.services["web"].image.clone();
        (app.build.dockerfile, image)
    };
    let default = (Some("Dockerfile".to_owned()), Some("./Dockerfile".to_owned()));
    assert_eq!(built(""), default);
    assert_eq!(built("[services.web]\ncommand = \"serve\"\n"), default);
    let (named, image) = built("[build]\ndockerfile = \"deploy/web.Dockerfile\"\n");
    assert_eq!(named.as_deref(), Some("deploy/web.Dockerfile"));
    assert_eq!(image.as_deref().and_then(dockerfile_of), named.as_deref());
    assert_eq!(
        built("[build]\nbase = \"host\"\n[services.web]\ncommand = \"serve\"\n"),
        (None, None)
    );
    assert_eq!(built("image = \"nginx\"\n"), (None, Some("nginx".into())));
    let given = parse_for(Some("nginx"), of("")).expect("an app");
    assert_eq!((given.build.dockerfile, given.image.as_deref()), (None, Some("nginx")));
    let other = "[services.web]\n[services.cache]\nimage = \"redis\"\n";
    let several = parse_for(None, of(other)).expect("an app");
    assert_eq!(several.services["cache"].image.as_deref(), Some("redis"));
    assert_eq!(several.services["web"].image.as_deref(), Some("./Dockerfile"));
}

#[test]
fn a_build_that_cannot_be_meant_is_refused() {
    for (wrong, why) in [
        ("[build]\ndockerfile = \"other\"\n", "the folder has no file \"other\""),
        (
            "[build]\ndockerfile = \"../Dockerfile\"\n",
            "no path of a file in the folder",
        ),
        (
            "[build]\ndockerfile = \"/Dockerfile\"\n",
            "no path of a file in the folder",
        ),
        ("[build]\ndockerfile = \"\"\n", "no path of a file in the folder"),
        (
            "[build]\nbase = \"host\"\ndockerfile = \"Dockerfile\"\n",
            "does not go with build.base",
        ),
        ("[build]\nbuilder = \"kaniko\"\n", "kaniko"),
        ("image = \"./Dockerfile\"\n", "set build.dockerfile"),
        ("[services.web]\nimage = \"./Dockerfile\"\n", "set build.dockerfile"),
        ("[build]\nbase = \"./Dockerfile\"\n", "set build.dockerfile"),
    ] {
        let problems = parse_for(None, of(wrong)).expect_err(wrong);
        assert!(problems.to_string().contains(why), "{wrong}: {problems}");
    }
    let first = "[build]\nbuilder = \"buildah\"\n";
    let app = parse_for(None, of(first)).expect("an app");
    assert_eq!(app.build.builder, Some(Builder::Buildah));
}

#[test]
fn keys_of_other_systems_are_named_with_what_to_do() {
    for (text, why) in [
        ("post_import = \"x\"\n", "post_import: does nothing here"),
        ("concurrency = 3\n", "set services.<service>.concurrency"),
        (
            "[build]\nonbuild = []\n",
            "build.onbuild: belongs to builds without a Dockerfile",
        ),
        ("[build]\nversion = \"3\"\n", "build.version: belongs to builds without"),
        (
            "[services.web]\ncommand = \"x\"\nport_type = \"tcp\"\n",
            "\"tcp\" is not one of \"http\"",
        ),
    ] {
        let problems = parse(Some(text), Some("web: x\n")).expect_err(text);
        assert!(problems.to_string().contains(why), "{text}: {problems}");
    }
    let named = "[services.web]\ncommand = \"x\"\nport_name = \"main\"\nport_type = \"http\"\n";
    parse(Some(named), None).expect("an app");
}

#[test]
fn f16_a_service_is_hedged_unless_it_says_otherwise() {
    let hedge = |setting: &str| {
        let text = format!("[services.web]\ncommand = \"./serve\"\n{setting}");
        parse(Some(&text), None).unwrap().services["web"].hedge
    };
    assert_eq!(
        ["", "hedge = true\n", "hedge = false\n"].map(hedge),
        [true, true, false]
    );
    let wrong = refused("[services.web]\ncommand = \"./serve\"\nhedge = \"no\"\n");
    assert!(
        wrong.contains(":3: services.web.hedge: is a string, not true or false"),
        "{wrong}"
    );
}
