//! Settings files are read strictly: each mistake is found, all in one go, each at its line.

use super::*;
use std::time::Duration;

/// Name, header timeout, and size of each disk.
type Example = (String, Duration, Vec<(String, i64)>);

fn parse(text: &str) -> Result<Example, Problems> {
    read(Path::new("x.toml"), text, |root| {
        let name = root.string("name", "miren", "Name.");
        let header = root.table("timeouts", |table| {
            table.duration("header", "10s", "Time for a request head.")
        });
        let sizes = root.named_tables("disks", "<name>", 3, |_, table| {
            table.integer("size_gb", 1, 1..=100, "Size.")
        });
        (name, header, sizes)
    })
}

#[test]
fn defaults_fill_what_the_file_lacks() {
    assert_eq!(parse("").unwrap(), ("miren".into(), Duration::from_secs(10), vec![]));
    let full = parse("name = \"a\"\n[timeouts]\nheader = \"2s\"\n[disks.data]\nsize_gb = 20\n").unwrap();
    assert_eq!(full, ("a".into(), Duration::from_secs(2), vec![("data".into(), 20)]));
}

#[test]
fn b1_an_unknown_key_is_refused_with_its_line_and_the_nearest_known_key() {
    let problems = parse("[disks.data]\nsize = 20\n").unwrap_err();
    assert_eq!(
        problems.to_string(),
        "x.toml:2: disks.data.size: unknown key \"size\"; did you mean \"size_gb\"?"
    );
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let problems = parse("nam = 1\nname = 2\n[timeouts]\nheader = \"soon\"\n[disks]\ndata = 3\n").unwrap_err();
    let lines: Vec<(usize, &str)> = problems.0.iter().map(|p| (p.line, p.key.as_str())).collect();
    assert_eq!(
        lines,
        [(1, "nam"), (2, "name"), (4, "timeouts.header"), (6, "disks.data")]
    );
}

#[test]
fn a_syntax_error_names_its_line() {
    let problems = parse("name = \"a\"\n[timeouts\n").unwrap_err();
    assert_eq!(problems.0[0].line, 2, "{problems}");
}

#[test]
fn numbers_outside_their_range_are_refused() {
    assert!(
        parse("[disks.a]\nsize_gb = 0\n")
            .unwrap_err()
            .to_string()
            .contains("outside 1 to 100")
    );
}

#[test]
fn sizes_and_durations_have_units() {
    assert_eq!(parse_bytes("64KiB"), Ok(Bytes(65536)));
    assert_eq!(parse_bytes("10MB"), Ok(Bytes(10_000_000)));
    assert!(parse_bytes("ten").is_err() && parse_bytes("1XB").is_err() && parse_bytes("99999999999GiB").is_err());
    assert_eq!(Bytes(65536).to_string(), "64KiB");
    assert!(parse_duration("5").is_err());
}

#[test]
fn the_reference_lists_every_key_with_its_default() {
    let keys = describe(|root| root.named_tables("disks", "<name>", 3, |_, t| t.integer("size_gb", 1, 1..=9, "Size.")));
    assert_eq!(keys[0].path, "disks.<name>.size_gb");
    assert_eq!((keys[0].default.as_str(), keys[0].doc), ("1", "Size."));
}
