//! Which value of a name counts, and what may be deleted.

use super::*;
use crate::failure::Exit;

fn known() -> Known {
    let variable = |name: &str, value: &str, service: Option<&str>, source| Variable {
        name: name.into(),
        value: value.into(),
        service: service.map(str::to_owned),
        source,
    };
    use VariableSource::{Config, Manual};
    let variables = vec![
        variable("LEVEL", "config-web", Some("web"), Config),
        variable("LEVEL", "config", None, Config),
        variable("MODE", "config-web", Some("web"), Config),
        variable("MODE", "manual", None, Manual),
        variable("MODE", "manual-web", Some("web"), Manual),
        variable("ONLY", "worker", Some("worker"), Manual),
        variable("BOTH", "config-web", Some("web"), Config),
        variable("BOTH", "manual", None, Manual),
    ];
    Known::new(AppName::parse("shop").unwrap(), variables)
}

fn refusal(names: &[&str], service: Option<&str>) -> Failure {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    known().check_deletable(names.iter(), service).unwrap_err()
}

#[test]
fn by_hand_wins_over_the_file_and_the_service_over_all() {
    let table = [
        ("LEVEL", None, "config"),
        ("LEVEL", Some("web"), "config-web"),
        ("LEVEL", Some("worker"), "config"),
        ("MODE", None, "manual"),
        ("MODE", Some("web"), "manual-web"),
        ("BOTH", Some("web"), "manual"),
        ("ONLY", Some("worker"), "worker"),
    ];
    let known = known();
    for (name, service, value) in table {
        assert_eq!(
            known.effective(name, service).unwrap().value,
            value,
            "{name} {service:?}"
        );
    }
}

#[test]
fn what_is_not_there_is_not_found_and_says_where_it_is() {
    let failure = known().effective("NONE", None).unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound);
    let failure = known().effective("ONLY", None).unwrap_err();
    assert_eq!((failure.exit, failure.remedy.as_str()), (Exit::NotFound, "-S worker"));
}

#[test]
fn only_what_was_set_by_hand_for_just_that_can_be_deleted() {
    let names = ["MODE".to_owned(), "BOTH".to_owned()];
    assert_eq!(known().check_deletable(names.iter(), None), Ok(()));
    assert_eq!(known().check_deletable(names[..1].iter(), Some("web")), Ok(()));

    let failure = refusal(&["MODE", "LEVEL", "NONE"], None);
    assert_eq!(failure.exit, Exit::NotFound);
    assert_eq!(
        failure.message,
        "LEVEL is defined in app.toml; take it away there, and deploy\nNONE is not set"
    );
    assert!(refusal(&["ONLY"], None).message.contains("ONLY is set for worker only"));
    assert!(
        refusal(&["BOTH"], Some("web"))
            .message
            .contains("BOTH is set for every service, not for web alone")
    );
}
