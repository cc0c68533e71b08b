//! What heads mean, and which are refused.

use super::*;

fn parse(text: &str) -> Result<Head, Reason> {
    Head::parse(Bytes::from(text.to_owned()))
}

/// A head with this request line and these further lines.
fn with(line: &str, lines: &str) -> Result<Head, Reason> {
    parse(&format!("{line}\r\nHost: a.test\r\n{lines}\r\n"))
}

#[test]
fn f17_a_request_line_has_one_meaning() {
    for line in [
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1\r",
        "GET /a b HTTP/1.1",
        "GET /",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/1",
        "G(T / HTTP/1.1",
        "/ HTTP/1.1",
        "",
    ] {
        assert_eq!(with(line, "").unwrap_err(), Reason::BadRequest, "{line:?}");
    }
    for version in ["HTTP/0.9", "HTTP/2.0", "HTTP/3.0"] {
        let line = format!("GET / {version}");
        assert_eq!(with(&line, "").unwrap_err(), Reason::VersionNotSupported, "{version}");
    }
    assert!(with("GET / HTTP/1.2", "").unwrap().is_http_11);
    assert_eq!(
        with("CONNECT a.test:443 HTTP/1.1", "").unwrap_err(),
        Reason::MethodNotAllowed
    );
}

#[test]
fn f17_the_host_is_the_authority_of_the_target_else_the_only_host_field() {
    for (text, host) in [
        (
            "GET / HTTP/1.1\r\nHost: Shop.Example.com:8080\r\n\r\n",
            "Shop.Example.com:8080",
        ),
        ("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "b.test"),
        ("GET http://b.test/ HTTP/1.0\r\nHost: a.test\r\n\r\n", "b.test"),
        ("GET http://b.test/ HTTP/1.0\r\n\r\n", "b.test"),
        ("GET / HTTP/1.0\r\n\r\n", ""),
    ] {
        assert_eq!(parse(text).unwrap().host, host, "{text:?}");
    }
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://b.test/ HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n",
        "GET http://b.test/ HTTP/1.1\r\nHost: [a\r\n\r\n",
    ] {
        assert_eq!(parse(text).unwrap_err(), Reason::BadRequest, "{text:?}");
    }
}

#[test]
fn a_connection_is_kept_as_its_client_says() {
    for (version, connection, keeps) in [
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "Connection: Close, x\r\n", false),
        ("HTTP/1.1", "Connection: x\r\nConnection: CLOSE\r\n", false),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = with(&format!("GET / {version}"), connection).unwrap();
        assert_eq!(head.keeps, keeps, "{version} {connection:?}");
    }
}

#[test]
fn f17_an_upgrade_needs_its_connection_option() {
    let both = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
    assert!(with("GET / HTTP/1.1", both).unwrap().upgrade);
    for (line, lines) in [
        ("GET / HTTP/1.1", "Upgrade: websocket\r\n"),
        ("GET / HTTP/1.1", "Connection: upgrade\r\n"),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n"),
        ("GET / HTTP/1.0", both),
        ("POST / HTTP/1.1", both),
        (
            "GET / HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
        ),
    ] {
        assert!(!with(line, lines).unwrap().upgrade, "{line} {lines:?}");
    }
}

#[test]
fn f17_the_fields_a_connection_names_are_bounded() {
    let names = |count: usize| format!("Connection: {}\r\n", "a,".repeat(count));
    assert!(with("GET / HTTP/1.1", &names(64)).is_ok());
    assert_eq!(with("GET / HTTP/1.1", &names(65)).unwrap_err(), Reason::BadRequest);
}

#[test]
fn only_what_can_be_done_is_expected() {
    let body = "Content-Length: 3\r\n";
    assert!(
        with("POST / HTTP/1.1", &format!("Expect: 100-Continue\r\n{body}"))
            .unwrap()
            .expects_continue
    );
    assert!(
        !with("POST / HTTP/1.1", "Expect: 100-continue\r\n")
            .unwrap()
            .expects_continue
    );
    assert!(
        !with("POST / HTTP/1.0", &format!("Expect: 100-continue\r\n{body}"))
            .unwrap()
            .expects_continue
    );
    let other = with("POST / HTTP/1.1", &format!("Expect: tea\r\n{body}"));
    assert_eq!(other.unwrap_err(), Reason::ExpectationFailed);
}

#[test]
fn f16_only_what_reads_and_has_no_body_is_asked_of_two() {
    for (line, lines, hedged) in [
        ("GET / HTTP/1.1", "", true),
        ("HEAD / HTTP/1.1", "", true),
        ("OPTIONS * HTTP/1.1", "", true),
        ("DELETE / HTTP/1.1", "", false),
        ("PUT / HTTP/1.1", "", false),
        ("POST / HTTP/1.1", "", false),
        ("PUT / HTTP/1.1", "Content-Length: 1\r\n", false),
        ("GET / HTTP/1.1", "Transfer-Encoding: chunked\r\n", false),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket\r\n", false),
    ] {
        assert_eq!(with(line, lines).unwrap().is_hedged(), hedged, "{line} {lines:?}");
    }
}
