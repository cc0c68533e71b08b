//! How variables are set, kept, taken away and told.

use super::*;
use miren_api::app_file;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn changes(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
    let owned = |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
    pairs.iter().map(owned).collect()
}

fn services() -> BTreeMap<String, Service> {
    let text = "[services.web]\ncommand = \"w\"\n[[services.web.env]]\nkey = \"COLOR\"\nvalue = \"red\"\n\
                [services.worker]\ncommand = \"x\"\n[[env]]\nkey = \"REGION\"\nvalue = \"here\"\n";
    app_file::parse(Some(text), None).unwrap().services
}

#[test]
fn what_was_set_is_kept_and_null_takes_it_away() {
    let first = Variables::default().with(&DeployRequest {
        env: changes(&[("A", Some("1")), ("B", Some("2"))]),
        service_env: BTreeMap::from([("web".to_owned(), changes(&[("A", Some("web"))]))]),
        ..DeployRequest::default()
    });
    let second = first.with(&DeployRequest {
        env: changes(&[("B", None), ("C", Some("3"))]),
        service_env: BTreeMap::from([("web".to_owned(), changes(&[("A", None)]))]),
        ..DeployRequest::default()
    });
    assert_eq!(first.services["web"], map(&[("A", "web")]));
    assert_eq!(second.all, map(&[("A", "1"), ("C", "3")]));
    assert!(second.services.is_empty());
}

#[test]
fn a_services_own_wins_over_all_and_both_over_the_settings() {
    let variables = Variables {
        all: map(&[("COLOR", "green"), ("A", "all")]),
        services: BTreeMap::from([("web".to_owned(), map(&[("A", "web")]))]),
    };
    let mut env = services()["web"].env.clone();
    variables.apply("web", &mut env);
    assert_eq!(env, map(&[("A", "web"), ("COLOR", "green"), ("REGION", "here")]));
}

#[test]
fn the_list_tells_who_set_what_for_which_service() {
    let variables = Variables {
        all: map(&[("A", "all")]),
        services: BTreeMap::from([("worker".to_owned(), map(&[("REGION", "there")]))]),
    };
    let told: Vec<_> = variables
        .list(&services())
        .into_iter()
        .map(|variable| (variable.name, variable.value, variable.service, variable.source))
        .collect();
    let expected = [
        ("A", "all", None, VariableSource::Manual),
        ("REGION", "there", Some("worker"), VariableSource::Manual),
        ("COLOR", "red", Some("web"), VariableSource::Config),
        ("REGION", "here", Some("web"), VariableSource::Config),
    ];
    let expected = expected
        .map(|(name, value, service, source)| (name.to_owned(), value.to_owned(), service.map(str::to_owned), source));
    assert_eq!(told, expected);
}

#[test]
fn reserved_names_and_unknown_services_are_refused_with_their_field() {
    let reserved = DeployRequest {
        env: changes(&[("PORT", Some("1"))]),
        ..DeployRequest::default()
    };
    let error = check(&reserved, &services()).unwrap_err();
    assert_eq!(
        (error.code, error.field.as_deref()),
        (ErrorCode::InvalidValue, Some("env"))
    );
    let unknown = DeployRequest {
        service_env: BTreeMap::from([("wbe".to_owned(), changes(&[("A", None)]))]),
        ..DeployRequest::default()
    };
    let error = check(&unknown, &services()).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("service_env.wbe"));
    assert!(error.message.contains("web, worker"), "{error}");
}
