//! Exit codes and the two forms of an error.

use super::*;

#[test]
fn refusals_map_to_the_documented_exit_codes() {
    let table = [
        (ErrorCode::NotFound, 3),
        (ErrorCode::NoSuchVersion, 3),
        (ErrorCode::Conflict, 4),
        (ErrorCode::Superseded, 4),
        (ErrorCode::Ambiguous, 4),
        (ErrorCode::InvalidValue, 2),
        (ErrorCode::InvalidConfig, 1),
        (ErrorCode::Forbidden, 1),
        (ErrorCode::BootFailed, 1),
        (ErrorCode::Internal, 1),
    ];
    for (code, exit) in table {
        assert_eq!(exit_of(code).code(), exit, "{code}");
    }
    assert_eq!(Failure::interrupted().exit.code(), 130);
    assert_eq!(Failure::output_closed().exit.code(), 0);
}

#[test]
fn an_unreachable_server_is_5_and_names_the_server_and_the_way_out() {
    let error = ClientError::Unreachable {
        server: "unix:/nowhere.sock".into(),
        why: "No such file".into(),
    };
    let failure = Failure::from(error).doing("listing apps");
    assert_eq!(failure.exit.code(), 5);
    assert_eq!(
        failure.in_words(),
        "error: listing apps: cannot reach miren-control at unix:/nowhere.sock: No such file\n  \
         try: start it with \"miren dev --dir DIR\", or name the right one with --server or MIREN_SERVER"
    );
}

#[test]
fn the_servers_own_remedy_is_kept() {
    let refusal = ApiError::new(ErrorCode::NotFound, "no app \"shop\"").remedy("miren app list");
    let failure = Failure::from(refusal).doing("showing shop");
    assert_eq!(
        failure.as_json(),
        r#"{"error":{"code":"not_found","message":"showing shop: no app \"shop\"","remedy":"miren app list"}}"#
    );
}

#[test]
fn the_field_that_is_wrong_is_told_to_scripts() {
    let refusal = ApiError::new(ErrorCode::InvalidValue, "ttl \"soon\" is none").field("ttl");
    assert_eq!(
        Failure::from(refusal).as_json(),
        r#"{"error":{"code":"invalid_value","message":"ttl \"soon\" is none","remedy":"","field":"ttl"}}"#
    );
}

#[test]
fn several_lines_stay_together_and_no_remedy_prints_none() {
    assert_eq!(Failure::failed("a\nb").in_words(), "error: a\n  b");
}
