//! What is let in as a field, and what its name means.

use super::*;

fn parse(text: &'static str) -> Result<Vec<(Name, String, String)>, Malformed> {
    let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = Fields::parse(Bytes::from_static(text.as_bytes()))?;
    Ok(fields
        .iter()
        .map(|field| (field.name, text_of(field.key), text_of(field.value)))
        .collect())
}

#[test]
fn fields_keep_their_order_and_letter_case_and_lose_the_blanks_around_them() {
    let fields = parse("HOST: a\r\nx-One:\t 1 2 \t\r\nEmpty:\r\nBlank: \r\nX-One:3\r\n\r\n").unwrap();
    let expected = [
        (Name::Host, "HOST", "a"),
        (Name::Other, "x-One", "1 2"),
        (Name::Other, "Empty", ""),
        (Name::Other, "Blank", ""),
        (Name::Other, "X-One", "3"),
    ];
    let expected = expected.map(|(name, key, value)| (name, key.to_owned(), value.to_owned()));
    assert_eq!(fields, expected);
}

#[test]
fn f17_what_two_readers_could_take_for_two_things_is_no_field() {
    for text in [
        "a: b\n\r\n",
        "a: b\r\n\n",
        "a: b\r\n",
        "a: b\rc: d\r\n\r\n",
        "a: b\r\n c\r\n\r\n",
        "a : b\r\n\r\n",
        " a: b\r\n\r\n",
        ": b\r\n\r\n",
        "a\r\n\r\n",
        "a\u{7f}: b\r\n\r\n",
        "a: b\0\r\n\r\n",
        "a: \u{1b}[1m\r\n\r\n",
        "a(: b\r\n\r\n",
        "\u{e4}: b\r\n\r\n",
    ] {
        assert_eq!(parse(text), Err(Malformed::Grammar), "{text:?}");
    }
    assert_eq!(
        parse("a: \u{e4}\tb\r\n\r\n").unwrap()[0].2,
        "\u{e4}\tb",
        "bytes above 127 pass"
    );
}

#[test]
fn f17_names_that_say_who_a_client_is_are_known_in_every_letter_case() {
    for (key, name) in [
        ("X_Forwarded_For", Name::Identity),
        ("x_anything", Name::Identity),
        ("X-Real-IP", Name::Identity),
        ("TRUE-CLIENT-IP", Name::Identity),
        ("CF-Connecting-IP", Name::Identity),
        ("X-Cluster-Client-Ip", Name::Identity),
        ("X-Forwarded-Port", Name::Identity),
        ("x-forwarded-for", Name::ForwardedFor),
        ("Forwarded", Name::Identity),
        ("Proxy", Name::Hop),
        ("X-Forward", Name::Other),
    ] {
        assert_eq!(name_of(key.as_bytes()), name, "{key}");
    }
}

#[test]
fn the_number_of_fields_is_bounded() {
    let text = |count: usize| Bytes::from(format!("{}\r\n", "a:\r\n".repeat(count)));
    assert!(Fields::parse(text(MOST_FIELDS)).is_ok());
    assert_eq!(Fields::parse(text(MOST_FIELDS + 1)).unwrap_err(), Malformed::TooMany);
}

#[test]
fn each_known_name_stands_at_its_length() {
    for (length, names) in KNOWN.iter().enumerate() {
        for (text, name) in *names {
            assert_eq!((text.len(), name_of(text.as_bytes())), (length, *name), "{text}");
        }
    }
}
