//! G8: which bytes a request target and a header may have, and that they pass as they are.

use super::{REFUSED, ROOM, get, plain, serves_on, wrong};
use crate::echo::{Echo, Step};
use crate::stage::HOST;
use crate::wire::{exchange, headers, told, values};

/// Bytes that are neither refused in a target nor worth a word: all but control characters and the blank.
fn passes_in_a_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

/// The same in a header's value, where blanks and tabs are usual.
fn passes_in_a_value(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_each_byte_of_a_path_or_query_passes_as_it_is_or_is_refused() {
    let (app, stage) = plain("").await;
    let mut wrong = Vec::new();
    for byte in 0..=255_u8 {
        for target in [
            [b"/a", &[byte][..], b"z"].concat(),
            [b"/a?b=", &[byte][..], b"z"].concat(),
            [b"/a", &[byte][..]].concat(),
        ] {
            let before = app.requests();
            let status = exchange(stage.address(), get(&target))
                .await
                .map(|answer| answer.status());
            let arrived = (app.requests() > before).then(|| app.last().target().to_vec());
            let (wanted, kept) = match passes_in_a_target(byte) {
                true => (200, Some(target.clone())),
                false => (400, None),
            };
            if (status, &arrived) != (Some(wanted), &kept) {
                let arrived = arrived.map(|target| target.escape_ascii().to_string());
                wrong.push(format!(
                    "{}: {status:?}, the app got {arrived:?}",
                    target.escape_ascii()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of 768:\n{}", wrong.len(), wrong.join("\n"));
    serves_on(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_what_looks_odd_in_a_target_is_the_apps_affair() {
    let (app, stage) = plain("").await;
    let mut wrong = Vec::new();
    for target in [
        r#"/?f={"a":1}"#,
        "/<script>alert('x')</script>",
        "/?q=`id`&w=^|\\",
        "/\\..\\windows",
        "/a#b",
        "/?a#b?c",
        "/%zz",
        "/%",
        "/%00",
        "/%2e%2e/%2F",
        "//",
        "//other.example.com/x",
        "///a//b",
        "/../../etc/passwd",
        "/./a/..;/b;c=d",
        "/?",
        "/??",
        "/?=&&",
        "/:80",
        "/http://other.example.com/",
        "/*",
        "/@x",
        "/[::1]",
        "/a+b%20c",
        "/caf\u{e9}/\u{65e5}\u{672c}?\u{1f600}",
    ] {
        let before = app.requests();
        let found = told(stage.address(), get(target.as_bytes())).await;
        let arrived = (app.requests() > before).then(|| app.last().target().to_vec());
        let arrived = String::from_utf8_lossy(&arrived.unwrap_or_default()).into_owned();
        if (found.as_str(), arrived.as_str()) != (&format!("200 {target}"), target) {
            wrong.push(format!("{target}: {found}, the app got {arrived}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The one that is not in UTF-8.
    assert_eq!(exchange(stage.address(), get(b"/caf\xe9")).await.unwrap().status(), 200);
    assert_eq!(app.last().target(), b"/caf\xe9");
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_what_is_no_target_is_refused_and_reaches_no_app() {
    let (app, stage) = plain("").await;
    let line = |line: &str| format!("{line}\r\nHost: {HOST}\r\n\r\n").into_bytes();
    let cases = [
        ("no target", line("GET  HTTP/1.1"), REFUSED),
        ("no path", line("GET a HTTP/1.1"), REFUSED),
        ("a query alone", line("GET ?a HTTP/1.1"), REFUSED),
        ("a host alone", line(&format!("GET {HOST} HTTP/1.1")), REFUSED),
        ("* for GET", line("GET * HTTP/1.1"), REFUSED),
        ("* and more", line("OPTIONS *x HTTP/1.1"), REFUSED),
        ("a blank in a path", line("GET /a b HTTP/1.1"), REFUSED),
        ("two blanks before", line("GET  / HTTP/1.1"), REFUSED),
        ("two blanks behind", line("GET /  HTTP/1.1"), REFUSED),
        ("a tab between", line("GET\t/\tHTTP/1.1"), REFUSED),
        ("a blank at the end", line("GET / HTTP/1.1 "), REFUSED),
        ("no version", line("GET /"), REFUSED),
        ("half a version", line("GET / HTTP/1"), REFUSED),
        ("a version in small letters", line("GET / http/1.1"), REFUSED),
        ("a method of a bracket", line("GE(T / HTTP/1.1"), REFUSED),
        ("a blank before the method", line(" GET / HTTP/1.1"), REFUSED),
    ];
    assert_eq!(wrong(&stage, &cases).await, [""; 0]);
    assert_eq!(app.requests(), 0);
    serves_on(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_options_for_the_server_as_a_whole_passes_as_it_is() {
    let (app, stage) = plain("").await;
    let request = format!("OPTIONS * HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_eq!(told(stage.address(), request).await, "200 *");
    assert_eq!(app.last().line(), b"OPTIONS * HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_methods_pass_as_they_are() {
    let (app, stage) = plain("").await;
    for method in ["PROPFIND", "M-SEARCH", "PATCH", "QUERY", "get", "X!#$%&'*+.^_`|~1"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        assert_eq!(told(stage.address(), request).await, "200 /", "{method}");
        assert_eq!(app.last().line(), format!("{method} / HTTP/1.1").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_target_may_be_as_long_as_a_head_may_be() {
    let (app, stage) = plain("limits.header_bytes = \"64KiB\"").await;
    let rest = get(b"/?").len();
    let target = |length: usize| [b"/?", "q\"".repeat(length / 2).as_bytes()].concat();
    let longest = target(64 * 1024 - rest - 256);
    assert_eq!(exchange(stage.address(), get(&longest)).await.unwrap().status(), 200);
    assert!(
        app.last().target() == longest,
        "{} bytes arrived",
        app.last().target().len()
    );
    let too_long = target(64 * 1024 + 2);
    assert_eq!(told(stage.address(), get(&too_long)).await, "431");
    assert_eq!(app.requests(), 1);
}

/// One that says a header's value back.
async fn says_back() -> Echo {
    Echo::start(|asked| {
        let value = asked.values("x-odd").concat();
        let head = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Odd: ",
            value.as_slice(),
            b"\r\n\r\n",
        ];
        vec![Step::Send(head.concat())]
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_each_byte_of_a_headers_value_passes_both_ways_or_is_refused() {
    let app = says_back().await;
    let stage = app.on_stage("", ROOM).await;
    let mut wrong = Vec::new();
    for byte in 0..=255_u8 {
        let value = [b"a", &[byte][..], b"z"].concat();
        let host = HOST.as_bytes();
        let request = [b"GET / HTTP/1.1\r\nHost: ", host, b"\r\nX-Odd: ", &value, b"\r\n\r\n"].concat();
        let before = app.requests();
        let answer = exchange(stage.address(), request).await;
        let found = answer.map(|answer| (answer.status(), answer.values("x-odd").concat()));
        let arrived = (app.requests() > before).then(|| app.last().values("x-odd").concat());
        let wanted = match passes_in_a_value(byte) {
            true => (Some((200, value.clone())), Some(value)),
            false => (Some((400, Vec::new())), None),
        };
        if (&found, &arrived) != (&wanted.0, &wanted.1) {
            let text = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
            let (found, arrived) = (found.map(|(status, value)| (status, text(value))), arrived.map(text));
            wrong.push(format!("{byte:#04x}: the client got {found:?}, the app {arrived:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of 256:\n{}", wrong.len(), wrong.join("\n"));
}

/// Of a head, what was written of these names: name by name, and of each in order. Between names the order says nothing.
fn written(head: &[u8], names: &[&str]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all: Vec<_> = headers(head)
        .into_iter()
        .map(|(name, value)| (text(&name), text(&value)))
        .collect();
    let lines_of = |wanted: &&str| {
        let meant = all.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let lines: Vec<_> = meant.map(|(name, value)| format!("{name}: {value}")).collect();
        lines
    };
    names.iter().flat_map(lines_of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_headers_keep_their_letters_their_number_and_the_order_of_each_name() {
    let said = "SET-Cookie: a=1; Path=/\r\nx-lower: 1\r\nset-cookie: b=2\r\nX-MiXeD: a,b\r\nSet-Cookie: a=1; Path=/\r\n\
                x-lower: 0\r\nX-Empty:\r\nX-Blanks: a  b";
    let asked = "cookie: a=1\r\nX-MiXeD: one\r\nCOOKIE: b=\"2\"; c\r\naccept-LANGUAGE: de\r\nx-mixed: two\r\nX-Empty:\r\n\
                 X-Blanks:  \t a  b \t\r\nX-Tight:a:b";
    let answer = format!("HTTP/1.1 200 OK\r\n{said}\r\nContent-Length: 0\r\n\r\n");
    let app = Echo::start(move |_| vec![Step::Send(answer.clone().into_bytes())]).await;
    let stage = app.on_stage("", ROOM).await;
    let request = format!("GET / HTTP/1.1\r\nHOST: {HOST}\r\n{asked}\r\n\r\n");
    let answer = exchange(stage.address(), request).await.unwrap();
    let names = ["cookie", "x-mixed", "accept-language", "x-empty", "x-blanks", "x-tight"];
    assert_eq!(
        written(&app.last().head, &names),
        [
            "cookie: a=1",
            "COOKIE: b=\"2\"; c",
            "X-MiXeD: one",
            "x-mixed: two",
            "accept-LANGUAGE: de",
            "X-Empty: ",
            "X-Blanks: a  b",
            "X-Tight: a:b",
        ]
    );
    assert_eq!(values(&app.last().head, "host"), [HOST.as_bytes()]);
    assert_eq!(
        written(
            &answer.head,
            &["set-cookie", "x-lower", "x-mixed", "x-empty", "x-blanks"]
        ),
        [
            "SET-Cookie: a=1; Path=/",
            "set-cookie: b=2",
            "Set-Cookie: a=1; Path=/",
            "x-lower: 1",
            "x-lower: 0",
            "X-MiXeD: a,b",
            "X-Empty: ",
            "X-Blanks: a  b",
        ]
    );
}
