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

#[test]
fn a_broken_procfile_line_is_refused_with_its_number() {
    let problems = parse(None, Some("web: ok\nnonsense\n")).unwrap_err();
    assert!(
        problems.to_string().starts_with("Procfile:2: \"nonsense\""),
        "{problems}"
    );
}

#[test]
fn commands_go_through_a_shell_only_when_they_need_one() {
    assert_eq!(command_line("node  server.js"), ["node", "server.js"]);
    assert_eq!(
        command_line("serve --port $PORT"),
        ["/bin/sh", "-c", "serve --port $PORT"]
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
