//! One row is one line: what is too long for the terminal is cut or left out, and never an id.

use super::*;

fn sample() -> Table {
    let mut table = Table::new(&["name", "state"]);
    table.row(vec!["shop".into(), Cell::toned("RUNNING", Tone::Good)]);
    table.row(vec!["a-much-longer-name".into(), or_dash(None::<&String>).into()]);
    table
}

fn sandboxes(reason: &str) -> Table {
    let mut table = Table::new(&["id", "pool", "state", "reason"])
        .cut(&["reason"])
        .leave(&["pool", "reason"]);
    let id = "sb-0123456789";
    table.row(vec![id.into(), "pool-0123456789".into(), "DEAD".into(), reason.into()]);
    table
}

#[test]
fn columns_fit_their_content_and_lines_end_without_blanks() {
    assert_eq!(
        sample().draw(false, None).text,
        "NAME                STATE\nshop                RUNNING\na-much-longer-name  -"
    );
}

#[test]
fn f5_a_cell_is_one_line_and_obeyed_by_no_terminal() {
    let mut table = Table::new(&["name", "reason"]);
    table.row(vec![
        "shop".into(),
        Cell::toned("\x1b[2Jgone\n\tshop2  fine", Tone::Bad),
    ]);
    let drawn = table.draw(true, None).text;
    assert!(drawn.contains(r"\x1b[2Jgone\n shop2  fine"), "{drawn:?}");
    assert_eq!(drawn.lines().count(), 2);
}

#[test]
fn colour_appears_only_when_asked_for_and_takes_no_room() {
    assert!(!sample().draw(false, None).text.contains('\x1b'));
    let drawn = sample().draw(true, Some(25)).text;
    assert!(
        drawn.contains("shop                \x1b[32mRUNNING\x1b[0m"),
        "{drawn:?}"
    );
}

#[test]
fn g14_prose_is_cut_to_the_width_and_ids_are_not() {
    let drawn = sandboxes("exited with code 1: no such file").draw(false, Some(60));
    assert_eq!(
        drawn.text,
        "ID             POOL             STATE  REASON\nsb-0123456789  pool-0123456789  DEAD   exited with code 1:…"
    );
    assert_eq!(drawn.left_out, [""; 0]);
}

#[test]
fn g14_a_column_is_left_out_before_an_id_is_cut() {
    let drawn = sandboxes("exited with code 1: no such file").draw(false, Some(40));
    assert_eq!(
        drawn.text,
        "ID             STATE  REASON\nsb-0123456789  DEAD   exited with code…"
    );
    assert_eq!(drawn.left_out, ["POOL"]);
    let drawn = sandboxes("exited with code 1").draw(false, Some(10));
    assert_eq!(drawn.text, "ID             STATE\nsb-0123456789  DEAD");
}

#[test]
fn g14_a_list_is_cut_between_its_things() {
    let mut table = Table::new(&["id", "versions"]).cut(&["versions"]).lists(&["versions"]);
    table.row(vec!["pool-1".into(), "shop-v0123456789, shop-v9876543210".into()]);
    let drawn = |width| table.draw(false, Some(width)).text.lines().last().map(str::to_owned);
    assert_eq!(drawn(42).as_deref(), Some("pool-1  shop-v0123456789, shop-v9876543210"));
    assert_eq!(drawn(41).as_deref(), Some("pool-1  shop-v0123456789, …"));
    assert_eq!(drawn(22).as_deref(), Some("pool-1  …"));
}

#[test]
fn g14_without_a_terminal_nothing_is_cut() {
    let long = "x".repeat(5_000);
    let drawn = sandboxes(&long).draw(false, None);
    assert!(drawn.text.ends_with(&long) && drawn.left_out.is_empty());
}

#[test]
fn g14_wide_letters_take_two_columns_and_marks_none() {
    let mut table = Table::new(&["value", "source"]).cut(&["value"]);
    for value in ["部署失敗部署失敗部署失敗", "e\u{301}e\u{301}", "ok"] {
        table.row(vec![value.into(), "manual".into()]);
    }
    assert_eq!(
        table.draw(false, Some(21)).text,
        "VALUE          SOURCE\n部署失敗部署…  manual\ne\u{301}e\u{301}             manual\nok             manual"
    );
}

#[test]
fn g14_every_width_gives_one_line_a_row_and_no_more_than_fits() {
    let table = sandboxes("what went wrong, said 長く and at length");
    for width in 20..200 {
        let drawn = table.draw(true, Some(width)).text;
        let plain = drawn.replace("\x1b[0m", "");
        assert_eq!(plain.lines().count(), 2, "{plain}");
        assert!(
            plain.lines().all(|line| shown::width(line) <= width),
            "{width}: {plain}"
        );
        assert!(plain.contains("sb-0123456789"), "{width}: {plain}");
    }
}
