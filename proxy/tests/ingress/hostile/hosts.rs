//! Which host a request is for: one name with an optional port, and of two places that name it the target counts.

use super::{BAD, BOUNDED, Bench, Fate, Open, Refused, Served};
use crate::client::{Client, Response};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};

async fn check(hosts: &[(&str, Fate)]) {
    let mut bench = Bench::new().await;
    for (host, fate) in hosts {
        let sent = format!("GET /case HTTP/1.1\r\nHost: {host}\r\n\r\n");
        bench.case(sent.as_bytes(), *fate).await;
    }
    bench.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_host_is_a_name_and_a_port_and_no_more() {
    check(&[
        (HOST, Served("")),
        ("Shop.EXAMPLE.com", Served("")),
        ("shop.example.com:80", Served("")),
        ("shop.example.com:8080", Served("")),
        ("shop.example.com:65535", Served("")),
        (" \tshop.example.com\t ", Served("")),
        // RFC 3986 §3.2.3: a port may be empty. A dot at the end is the root.
        ("shop.example.com:", Served("")),
        ("shop.example.com.", Served("")),
        ("shop.example.com.:80", Served("")),
        ("shop.example.com:00080", Open(&[400], "")),
        ("shop.example.com:0", Open(&[400], "")),
        ("shop.example.com:80:80", BAD),
        ("shop.example.com::80", BAD),
        ("shop.example.com:99999", BAD),
        ("shop.example.com:65536", BAD),
        ("shop.example.com:18446744073709551696", BAD),
        ("shop.example.com:+80", BAD),
        ("shop.example.com:-80", BAD),
        ("shop.example.com:80a", BAD),
        ("shop.example.com:http", BAD),
        ("shop.example.com:8 0", BAD),
        ("shop.example.com: 80", BAD),
        ("shop.example.com :80", BAD),
        ("shop..example.com", BAD),
        (".shop.example.com", BAD),
        ("shop.example.com..", BAD),
        ("shop.example.com..:80", BAD),
        ("user@shop.example.com", BAD),
        ("user:word@shop.example.com", BAD),
        ("shop.example.com@evil", BAD),
        ("shop.example.com evil", BAD),
        ("shop.example.com,evil", BAD),
        ("shop.example.com, shop.example.com", BAD),
        ("shop.example.com/", BAD),
        ("shop.example.com/x", BAD),
        ("shop.example.com?x", BAD),
        ("shop.example.com#x", BAD),
        ("shop.example.com\\x", BAD),
        ("http://shop.example.com", BAD),
        ("shop%2Eexample.com", BAD),
        ("%73hop.example.com", BAD),
        ("shop.example.com%00", BAD),
        ("shop.example.com\u{0}", BAD),
        ("sh\u{f6}p.example.com", BAD),
        ("shop.example.com\u{3002}", BAD),
        ("*.example.com", BAD),
        ("(shop.example.com)", BAD),
        ("\"shop.example.com\"", BAD),
        ("shop.example.com;", BAD),
        ("shop.example.com\u{7f}", BAD),
        ("[shop.example.com]", BAD),
        ("[shop.example.com", BAD),
        ("shop.example.com]", BAD),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_hosts_that_nobody_has_are_404_and_what_is_none_is_400() {
    // A host that could be one, and has no route, is not found: that shows that it was understood.
    let unknown = Refused(&[404]);
    let long = format!("{}.example.com", "a.".repeat(140));
    let longest = format!("{}.example.com", "a".repeat(63));
    let longer = format!("{}.example.com", "a".repeat(300));
    let mut bench = Bench::new().await;
    for (host, fate) in [
        ("a", unknown),
        ("a.", unknown),
        ("a:", unknown),
        ("a:80", unknown),
        ("under_score.example.com", unknown),
        ("_dmarc.example.com", unknown),
        ("xn--bcher-kva.example.com", unknown),
        ("127.0.0.1", unknown),
        ("127.0.0.1:8080", unknown),
        ("[::1]", unknown),
        ("[::1]:80", unknown),
        ("[2001:DB8::1]:8080", unknown),
        ("[::ffff:127.0.0.1]", unknown),
        (longest.as_str(), unknown),
        (".", BAD),
        ("..", BAD),
        ("x..y", BAD),
        (":", BAD),
        (":80", BAD),
        ("a:80:80", BAD),
        ("a:99999", BAD),
        ("[a", BAD),
        ("[::1", BAD),
        ("::1]", BAD),
        ("::1", BAD),
        ("[]", BAD),
        ("[]:80", BAD),
        ("[::g]", BAD),
        ("[::1::1]", BAD),
        ("[1:2:3:4:5:6:7:8:9]", BAD),
        ("[::1]x", BAD),
        ("[::1]80", BAD),
        ("[::1]:80:80", BAD),
        ("[::1]:99999", BAD),
        ("[[::1]]", BAD),
        ("[::1%25lo]", BAD),
        ("[::1%lo]", BAD),
        ("[127.0.0.1]", BAD),
        ("a[::1]", BAD),
        ("", BAD),
        ("  ", BAD),
        ("-", Refused(&[400, 404])),
        (long.as_str(), BAD),
        (longer.as_str(), BAD),
    ] {
        bench.understood(host, fate).await;
    }
    bench.done();
}

impl Bench {
    /// As [`Bench::case`], for a host that leads nowhere: not found is no end of a connection.
    async fn understood(&mut self, host: &str, fate: Fate) {
        let Refused(statuses) = fate else {
            unreachable!("nobody serves it")
        };
        let sent = format!("GET /case HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut client = self.stage.client().await;
        client.push(sent.as_bytes()).await;
        let status = client.answer().await.map_or(0, |answer| answer.status);
        if !statuses.contains(&status) {
            self.blame(
                sent.as_bytes(),
                &format!("was answered {status}, not one of {statuses:?}"),
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_there_is_one_host() {
    let mut bench = Bench::new().await;
    for lines in [
        "",
        "Host: shop.example.com\r\nHost: evil.example.com\r\n",
        "Host: evil.example.com\r\nHost: shop.example.com\r\n",
        "Host: shop.example.com\r\nHost: shop.example.com\r\n",
        "Host: shop.example.com\r\nhost: shop.example.com\r\n",
        "Host: shop.example.com\r\nHost:\r\n",
        "Host:\r\nHost: shop.example.com\r\n",
        "Host: shop.example.com\r\n folded\r\n",
        "Host:\r\n shop.example.com\r\n",
    ] {
        for version in ["1.0", "1.1"] {
            if lines.is_empty() && version == "1.0" {
                continue;
            }
            let sent = format!("GET /case HTTP/{version}\r\n{lines}\r\n");
            bench.case(sent.as_bytes(), BAD).await;
        }
    }
    bench.done();
}

/// Asks for a target; the answer, and the host that the app was told if it was asked.
async fn target(stage: &Stage, app: &RawApp, line: &str, lines: &str) -> (Option<Response>, Option<String>) {
    let before = app.seen().len();
    let mut client = Client::connect(stage.address()).await;
    client.push(format!("{line}\r\n{lines}\r\n").as_bytes()).await;
    let answer = client.answer().await;
    let seen = app.seen().split_off(before);
    let host = seen.first().map(|request| {
        let host = request.all("host").join(" and ");
        assert_eq!(request.all("x-forwarded-host"), [&host], "{line}");
        host
    });
    (answer, host)
}

/// RFC 9112 §3.2.2: a server ignores Host where the target is absolute, and who passes it on puts the target's in its place.
#[tokio::test(flavor = "multi_thread")]
async fn f17_the_authority_of_a_target_wins_and_its_host_reaches_the_app() {
    let stage = Stage::new(BOUNDED).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 100);
    for (line, lines) in [
        (
            "GET http://shop.example.com/case HTTP/1.0",
            "Host: evil.example.com\r\n",
        ),
        (
            "GET http://shop.example.com/case HTTP/1.0",
            "Host: empty.example.com\r\n",
        ),
        ("GET http://shop.example.com/case HTTP/1.0", ""),
        (
            "GET http://Shop.Example.com/case HTTP/1.0",
            "Host: shop.example.com\r\n",
        ),
        (
            "GET http://shop.example.com/case HTTP/1.1",
            "Host: shop.example.com\r\n",
        ),
    ] {
        let (answer, host) = target(&stage, &app, line, lines).await;
        assert_eq!(answer.map(|answer| answer.status), Some(200), "{line} {lines}");
        let host = host.expect("the app was asked");
        assert!(host.eq_ignore_ascii_case(HOST), "{line} {lines}: {host}");
    }
    // Two hosts in HTTP/1.1: the target's, or a refusal.
    for other in ["evil.example.com", "empty.example.com", "shop.example.com:8080"] {
        let line = "GET http://shop.example.com/case HTTP/1.1";
        let (answer, host) = target(&stage, &app, line, &format!("Host: {other}\r\n")).await;
        match (answer.map(|answer| answer.status), host) {
            (Some(400), None) => {}
            (Some(200), Some(host)) => assert_eq!(host, HOST, "{other}"),
            wrong => panic!("{other}: {wrong:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_host_cannot_take_a_request_away_from_the_target_it_was_for() {
    let stage = Stage::new(BOUNDED).await;
    let app = RawApp::strict().await;
    app.granted(&stage, 100);
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        for authority in ["nowhere.net", "empty.example.com", "shop.example.com.evil.net"] {
            let line = format!("GET http://{authority}/case {version}");
            let (answer, host) = target(&stage, &app, &line, &format!("Host: {HOST}\r\n")).await;
            let status = answer.map(|answer| answer.status);
            assert!(matches!(status, Some(400 | 404)), "{line}: {status:?}");
            assert_eq!(host, None, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_an_authority_is_held_to_the_grammar_of_a_host() {
    let mut bench = Bench::new().await;
    for authority in [
        "",
        ":80",
        "a:80:80",
        "shop.example.com:99999",
        "shop..example.com",
        "[a",
        "[::1",
        ".",
        "user@shop.example.com",
        "user:word@shop.example.com",
        "shop.example.com@",
        "shop%2eexample.com",
        "shop.example.com\\evil",
    ] {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let sent = format!("GET http://{authority}/case {version}\r\nHost: {HOST}\r\n\r\n");
            bench.case(sent.as_bytes(), BAD).await;
        }
    }
    for line in [
        "GET http:/case HTTP/1.1",
        "GET http:case HTTP/1.1",
        "GET ://shop.example.com/case HTTP/1.1",
        "GET shop.example.com/case HTTP/1.1",
        "GET shop.example.com:80 HTTP/1.1",
        "GET ftp://shop.example.com/case HTTP/1.1",
        "GET gopher://shop.example.com/case HTTP/1.1",
    ] {
        bench
            .case(format!("{line}\r\nHost: {HOST}\r\n\r\n").as_bytes(), BAD)
            .await;
    }
    // RFC 9112 §3.2: no Host in HTTP/1.1 is 400, also where the target has one.
    let alone = format!("GET http://{HOST}/case HTTP/1.1\r\n\r\n");
    bench.case(alone.as_bytes(), BAD).await;
    bench.done();
}
