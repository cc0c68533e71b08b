//! How routes are named, limited and shown.

use super::*;
use crate::args::Arguments;
use crate::verb::Verb;
use clap::Parser;
use miren_api::AppName;

fn route(host: &str) -> Route {
    Route {
        host: host.into(),
        app: AppName::parse("shop").unwrap(),
        service: "web".into(),
        default: host == "(default)",
        wildcard: host.starts_with('*'),
        derived: false,
        timeout_ms: None,
        maintenance: None,
    }
}

fn parsed(line: &str) -> Result<RouteVerb, clap::Error> {
    match Arguments::try_parse_from(line.split(' '))?.verb {
        Verb::Route(verb) => Ok(verb),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_default_route_is_named_by_its_flag_or_by_what_lists_show_of_it() {
    for line in [
        "miren route show --default",
        "miren route show (default)",
        "miren route up --default",
        "miren route timeout clear --default",
        "miren route timeout set --default 5s",
    ] {
        let target = match parsed(line).unwrap() {
            RouteVerb::Show(target) | RouteVerb::Up(target) => target,
            RouteVerb::Timeout(TimeoutVerb::Clear(target) | TimeoutVerb::Set { target, .. }) => target,
            other => panic!("{other:?}"),
        };
        assert!(target.is_default(), "{line}");
        assert_eq!(target.path().unwrap(), "/v1/routes/%28default%29", "{line}");
    }
    for line in [
        "miren route show",
        "miren route up a.example --default",
        "miren route timeout set a.example",
        "miren route timeout set --default",
        "miren route timeout set a.example soon",
        "miren route timeout a.example 5s",
        "miren route down a.example --retry-after 0s",
        "miren route down a.example --retry-after 500ms",
        "miren route down a.example --retry-after 25h",
    ] {
        assert!(parsed(line).is_err(), "{line}");
    }
}

#[test]
fn e2_a_host_is_sent_as_it_was_typed_if_it_can_be_one() {
    let RouteVerb::Timeout(TimeoutVerb::Set { target, timeout }) =
        parsed("miren route timeout set bücher.example 5s").unwrap()
    else {
        panic!();
    };
    assert_eq!((target.host(), timeout.as_str()), ("bücher.example", "5s"));
    assert_eq!(target.path().unwrap(), "/v1/routes/b%C3%BCcher.example");
    let failure = target::path_of("shop.example:80").unwrap_err();
    assert_eq!(failure.exit.code(), 2);
    assert!(failure.message.contains("\"shop.example:80\""), "{}", failure.message);
}

#[test]
fn clients_are_told_whole_seconds() {
    let RouteVerb::Down { retry_after, force, .. } = parsed("miren route down a.example --retry-after 2m -f").unwrap()
    else {
        panic!();
    };
    assert_eq!((retry_after, force), (Some(Maintenance { retry_after: 120 }), true));
    let without = parsed("miren route down a.example").unwrap();
    assert!(matches!(
        without,
        RouteVerb::Down {
            retry_after: None,
            force: false,
            ..
        }
    ));
}

#[test]
fn lists_tell_what_requests_may_expect() {
    let mut slow = route("*.example.com");
    slow.timeout_ms = Some(2_500);
    slow.maintenance = Some(Maintenance { retry_after: 120 });
    let text = table(&[route("(default)"), slow.clone()]).draw(false, None).text;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows[0],
        [
            "HOST", "APP", "SERVICE", "DEFAULT", "WILDCARD", "BY", "NAME", "TIMEOUT", "STATE"
        ]
    );
    assert_eq!(rows[1], ["(default)", "shop", "web", "✓", "-", "up"]);
    assert_eq!(
        rows[2],
        [
            "*.example.com",
            "shop",
            "web",
            "✓",
            "2s",
            "500ms",
            "down,",
            "retry",
            "after",
            "2m"
        ]
    );
    let fields = fields(&slow);
    assert!(fields.contains(&("Timeout", "2s 500ms".into())), "{fields:?}");
    assert!(fields.contains(&("State", "down, retry after 2m".into())), "{fields:?}");
}
