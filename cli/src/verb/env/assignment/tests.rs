//! The forms of an assignment, and where their values come from.

use super::*;
use crate::failure::Exit;

async fn values_of(texts: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
    values(texts.iter().map(|text| parse(text).unwrap()).collect()).await
}

#[tokio::test]
async fn a_value_is_taken_literally_or_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cert");
    std::fs::write(&path, "line 1\nline 2\n").unwrap();
    let file = format!("CERT=@{}", path.display());
    let values = values_of(&["A=b=c", "EMPTY=", "AT=@@home", &file]).await.unwrap();
    let expected = [
        ("A", "b=c"),
        ("AT", "@home"),
        ("CERT", "line 1\nline 2\n"),
        ("EMPTY", ""),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(values, BTreeMap::from(expected));
}

#[test]
fn names_are_checked_in_every_form() {
    for wrong in ["PORT=1", "MIREN_X", "1A=@f", "=x", "A=@"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_a_value_is_wrong_usage_with_a_way_out() {
    let failure = values_of(&["A=@/nonexistent/file"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(
        failure.message.contains("A from /nonexistent/file"),
        "{}",
        failure.message
    );
    assert!(failure.remedy.contains("A=@@/nonexistent/file"), "{}", failure.remedy);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    for bytes in [b"a\0b".as_slice(), b"\xff\xfe"] {
        std::fs::write(&path, bytes).unwrap();
        let file = format!("A=@{}", path.display());
        assert_eq!(values_of(&[&file]).await.unwrap_err().exit, Exit::Usage);
    }
}

#[tokio::test]
async fn one_name_has_one_value() {
    let failure = values_of(&["A=1", "B=1", "A=2"]).await.unwrap_err();
    assert_eq!(
        (failure.exit, failure.message.as_str()),
        (Exit::Usage, "A is given twice")
    );
}
