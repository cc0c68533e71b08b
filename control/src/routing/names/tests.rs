//! An app has one host by its name, whatever it is called, and no other host is taken for one.

use super::*;

fn app(name: &str) -> AppName {
    AppName::from_text(name)
}

#[test]
fn g15_an_app_is_below_the_domain_by_its_name_and_by_nothing_else() {
    let names = Names::new(Some("edge.apps.example.com"), Some("apps.example.com"));
    assert_eq!(names.host_of(&app("shop")).as_deref(), Some("shop.apps.example.com"));
    assert_eq!(names.host_of(&app("edge")), None, "the ingress's own name is no app's");
    assert_eq!(names.app_at("shop.apps.example.com"), Some(app("shop")));
    for host in [
        "apps.example.com",
        ".apps.example.com",
        "shopapps.example.com",
        "*.apps.example.com",
        "pr1.shop.apps.example.com",
        "shop.apps.example.com.evil.test",
        "(default)",
        "",
    ] {
        assert_eq!(names.app_at(host), None, "{host}");
    }
    let none = Names::new(Some("localhost"), None);
    assert_eq!(
        (none.host_of(&app("shop")), none.app_at("shop.localhost")),
        (None, None)
    );
}

#[test]
fn g15_every_name_of_an_app_makes_a_host_that_routes_can_have() {
    let names = Names::new(None, Some("localhost"));
    let longest = "a".repeat(63);
    for name in ["a", "0", "a--b", "xn--bcher-kva", &longest] {
        let name = AppName::parse(name).unwrap();
        let host = names.host_of(&name).unwrap();
        assert_eq!(miren_api::host::parse_route_host(&host), Ok(host.clone()));
        assert_eq!(names.app_at(&host), Some(name));
    }
    for name in ["b.a", "B", "", "a_b", "-a"] {
        assert!(AppName::parse(name).is_err(), "{name:?} is no app's name");
    }
}
