//! Tables as people read them: upper-case headers, columns as wide as their content, colour for states only.

use crate::shown;
use comfy_table::{Cell as Drawn, Color, ContentArrangement, presets};

/// What a cell's content means to the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Waiting,
    Bad,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.to_string(),
            tone: Tone::Plain,
        }
    }
}

/// `-` for what is not there.
pub fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), T::to_string)
}

/// Rows under headers.
#[derive(Clone, Debug)]
pub struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// `headers` in any case; they are printed in upper case.
    pub fn new(headers: &[&str]) -> Self {
        Self {
            headers: headers.iter().map(|header| header.to_uppercase()).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, without a line end. Lines fit the terminal when stdout is one.
    pub fn render(self, color: bool) -> String {
        let mut drawn = comfy_table::Table::new();
        drawn
            .load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic);
        if color {
            drawn.enforce_styling();
        }
        drawn.set_header(self.headers);
        for row in self.rows {
            drawn.add_row(row.into_iter().map(|cell| draw(cell, color)));
        }
        for column in drawn.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let lines: Vec<String> = drawn.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

fn draw(cell: Cell, color: bool) -> Drawn {
    let drawn = Drawn::new(shown::line(&cell.text));
    match cell.tone {
        Tone::Good if color => drawn.fg(Color::Green),
        Tone::Waiting if color => drawn.fg(Color::Yellow),
        Tone::Bad if color => drawn.fg(Color::Red),
        _ => drawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["name", "state"]);
        table.row(vec!["shop".into(), Cell::toned("RUNNING", Tone::Good)]);
        table.row(vec!["a-much-longer-name".into(), or_dash(None::<&String>).into()]);
        table
    }

    #[test]
    fn columns_fit_their_content_and_lines_end_without_blanks() {
        assert_eq!(
            sample().render(false),
            "NAME                STATE\nshop                RUNNING\na-much-longer-name  -"
        );
    }

    #[test]
    fn f5_a_cell_is_one_line_and_obeyed_by_no_terminal() {
        let mut table = Table::new(&["name", "reason"]);
        table.row(vec!["shop".into(), Cell::toned("\x1b[2Jgone\nshop2  fine", Tone::Bad)]);
        let drawn = table.render(true);
        assert!(drawn.contains(r"\x1b[2Jgone\nshop2  fine"), "{drawn:?}");
        assert_eq!(drawn.lines().count(), 2);
    }

    #[test]
    fn colour_appears_only_when_asked_for() {
        assert!(!sample().render(false).contains('\x1b'));
        assert!(sample().render(true).contains('\x1b'));
    }
}
