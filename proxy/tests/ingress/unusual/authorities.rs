//! G10: whom a request is for when its target says so, and what the app gets of that.

use super::{REFUSED, plain, serves_on, wrong};
use crate::app::App;
use crate::stage::{HOST, Stage};
use crate::wire::{Wire, exchange, told};

fn absolute(target: &str, host: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// Host and port as they are compared: without the port of the scheme, in small letters.
fn compared(host: &[u8]) -> String {
    let text = String::from_utf8_lossy(host).to_ascii_lowercase();
    text.strip_suffix(":80").unwrap_or(&text).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_a_target_in_absolute_form_reaches_the_app_in_origin_form() {
    let (app, stage) = plain("").await;
    let mut wrong = Vec::new();
    for (before, target, after) in [
        ("http://shop.example.com", "/x?y=1", "/x?y=1"),
        ("HTTP://SHOP.Example.com", "/", "/"),
        ("hTTp://shop.example.com:80", "/", "/"),
        ("http://shop.example.com", "", "/"),
        ("http://shop.example.com", "?a=/b", "/?a=/b"),
        ("http://shop.example.com:80", "?", "/?"),
        ("http://shop.example.com", "//x//", "//x//"),
        ("http://shop.example.com", "/../a", "/../a"),
        (
            "http://shop.example.com",
            "/?u=http://other.example.com/",
            "/?u=http://other.example.com/",
        ),
        ("http://shop.example.com", "/a@b:c", "/a@b:c"),
        ("http://shop.example.com", r#"/?f={"a":<1>}"#, r#"/?f={"a":<1>}"#),
    ] {
        for host in [HOST, "Shop.Example.COM", "shop.example.com:80"] {
            let sent = format!("{before}{target}");
            let found = told(stage.address(), absolute(&sent, host)).await;
            let last = (app.requests() > 0).then(|| app.last());
            let arrived = last.map(|asked| (asked.target().to_vec(), asked.values("host")));
            let is_right = arrived.as_ref().is_some_and(|(target, hosts)| {
                target == after.as_bytes() && matches!(&hosts[..], [host] if compared(host) == HOST)
            });
            if found != format!("200 {after}") || !is_right {
                wrong.push(format!("{sent} for {host}: {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_the_authority_of_a_target_wins_over_host() {
    let (app, stage) = plain("").await;
    for (target, host, told_to_app) in [
        ("http://shop.example.com/", "nowhere.example.net", "shop.example.com"),
        ("http://Shop.example.com/", "empty.example.com", "Shop.example.com"),
        ("http://shop.example.com:8080/", HOST, "shop.example.com:8080"),
        ("http://shop.example.com/", "shop.example.com:8080", "shop.example.com"),
    ] {
        assert_eq!(told(stage.address(), absolute(target, host)).await, "200 /", "{target}");
        let hosts = app.last().values("host");
        assert_eq!(hosts, [told_to_app.as_bytes()], "{target} for {host}");
        let forwarded = app.last().values("x-forwarded-host");
        assert_eq!(forwarded, [told_to_app.as_bytes()], "{target} for {host}");
    }
    let before = app.requests();
    let astray = exchange(stage.address(), absolute("http://nowhere.example.net/", HOST)).await;
    assert_eq!(astray.unwrap().values("x-miren-error"), [b"no_route"]);
    assert_eq!(app.requests(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_an_http_1_0_client_needs_no_host_beside_an_authority() {
    let (app, stage) = plain("").await;
    let request = "GET http://shop.example.com/a HTTP/1.0\r\n\r\n";
    assert_eq!(told(stage.address(), request).await, "200 /a");
    assert_eq!(app.last().values("host"), [HOST.as_bytes()]);
    let request = "GET http://shop.example.com/b HTTP/1.0\r\nHost: nowhere.example.net\r\n\r\n";
    assert_eq!(told(stage.address(), request).await, "200 /b");
    assert_eq!(app.last().values("host"), [HOST.as_bytes()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_options_for_a_whole_host_in_absolute_form_is_a_star() {
    let (app, stage) = plain("").await;
    for (target, wanted) in [
        ("http://shop.example.com", "*"),
        ("http://shop.example.com:80", "*"),
        ("http://shop.example.com/", "/"),
        ("http://shop.example.com?a", "/?a"),
    ] {
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        assert_eq!(
            told(stage.address(), request).await,
            format!("200 {wanted}"),
            "{target}"
        );
        assert_eq!(app.last().target(), wanted.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_what_is_no_authority_or_not_served_here_is_refused() {
    let (app, stage) = plain("").await;
    let refused = |target: &'static str| (target, absolute(target, HOST), REFUSED);
    let mut cases: Vec<_> = [
        "https://shop.example.com/",
        "ftp://shop.example.com/",
        "ws://shop.example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "://shop.example.com/",
        "http:shop.example.com/",
        "http:/shop.example.com/",
        "http:///x",
        "http://",
        "http://?a",
        "http://user@shop.example.com/",
        "http://user:pass@shop.example.com/",
        "http://@shop.example.com/",
        "http://shop.example.com:99999/",
        "http://shop.example.com:-1/",
        "http://shop.example.com:80:80/",
        "http://shop.example.com:8o/",
        "http://shop..example.com/",
        "http://[::1/",
        "http://[shop.example.com]/",
        "http://shop%2eexample.com/",
        "http://shop\\.example.com/",
        "http://caf\u{e9}.example.com/",
        "http://shop.example.com\\x",
        "shop.example.com:80",
    ]
    .map(refused)
    .into();
    let without = |what, head: &str| (what, format!("{head}\r\n\r\n").into_bytes(), REFUSED);
    let target = "GET http://shop.example.com/ HTTP/1.1";
    cases.push(without("no Host", target));
    cases.push(without(
        "two Hosts",
        &format!("{target}\r\nHost: {HOST}\r\nHost: {HOST}"),
    ));
    cases.push(without("a Host that is none", &format!("{target}\r\nHost: a b")));
    let found = wrong(&stage, &cases).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(app.requests(), 0);
    serves_on(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_the_host_of_a_target_in_origin_form_is_told_as_it_was_sent() {
    let (app, stage) = plain("").await;
    for host in [
        "shop.example.com",
        "SHOP.example.COM",
        "shop.example.com:80",
        "Shop.Example.com:8080",
    ] {
        assert_eq!(told(stage.address(), absolute("/", host)).await, "200 /", "{host}");
        assert_eq!(app.last().values("host"), [host.as_bytes()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_a_websocket_is_reached_in_absolute_form_too() {
    let stage = Stage::new("").await;
    let app = App::start("app").await;
    stage.grant("shop-v1", &app, 1);
    let mut wire = Wire::connect(stage.address()).await;
    wire.send(
        "GET http://shop.example.com/socket HTTP/1.1\r\nHost: shop.example.com:80\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    assert_eq!(wire.answer().await.unwrap().status(), 101);
    wire.send("hello").await;
    assert!(wire.read_past(b"hello").await);
}
