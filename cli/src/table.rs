//! Tables as people read them: upper-case headers, one line a row, columns as wide as their content, colour for states only.

use crate::shown;
use fit::Wanted;

mod fit;
#[cfg(test)]
mod tests;

/// Blanks between two columns.
const GAP: usize = 2;

/// What a cell's content means to the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Waiting,
    Bad,
}

impl Tone {
    /// What a terminal is told before the text.
    fn color(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("\x1b[32m"),
            Self::Waiting => Some("\x1b[33m"),
            Self::Bad => Some("\x1b[31m"),
        }
    }
}

/// One cell: a line that no terminal obeys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        // A tab is as wide as the terminal thinks.
        let text = shown::line(text.as_ref()).replace('\t', " ");
        Self { text, tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text.to_string(), Tone::Plain)
    }
}

/// `-` for what is not there.
pub fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), T::to_string)
}

/// One column: its header, and how it gives way where the terminal is narrow.
#[derive(Clone, Debug)]
struct Column {
    header: String,
    /// Its rank among those that are cut, the first to be cut being 0.
    cut: Option<usize>,
    /// Its rank among those that are left out.
    leaves: Option<usize>,
    /// It is cut between two of its things only.
    is_list: bool,
}

/// Rows under headers.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A table as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Without a line end.
    pub text: String,
    /// Headers of the columns that the terminal has no room for.
    pub left_out: Vec<String>,
}

impl Table {
    /// `headers` in any case; they are printed in upper case. None gives way unless that is said.
    pub fn new(headers: &[&str]) -> Self {
        let column = |header: &&str| Column {
            header: header.to_uppercase(),
            cut: None,
            leaves: None,
            is_list: false,
        };
        Self {
            columns: headers.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Columns of prose, which are cut where a terminal is too narrow, the first of them first. Ids are no prose.
    #[must_use]
    pub fn cut(mut self, headers: &[&str]) -> Self {
        for column in &mut self.columns {
            column.cut = rank(headers, &column.header);
        }
        self
    }

    /// Columns of things with `, ` between them: of one that is cut, each thing that is there is whole.
    #[must_use]
    pub fn lists(mut self, headers: &[&str]) -> Self {
        for column in &mut self.columns {
            column.is_list = rank(headers, &column.header).is_some();
        }
        self
    }

    /// Columns that are left out where cutting is not enough, the first of them first.
    #[must_use]
    pub fn leave(mut self, headers: &[&str]) -> Self {
        for column in &mut self.columns {
            column.leaves = rank(headers, &column.header);
        }
        self
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// `width`: columns of the terminal that it goes to; whole rows where it goes to none.
    pub fn draw(&self, color: bool, width: Option<usize>) -> Drawn {
        let wanted: Vec<Wanted> = (0..self.columns.len()).map(|index| self.wanted(index)).collect();
        let widths = match width {
            Some(width) => fit::within(&wanted, width, GAP),
            None => wanted.iter().map(|column| Some(column.width)).collect(),
        };
        let headers: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| Cell::from(column.header.as_str()))
            .collect();
        let lines: Vec<String> = std::iter::once(&headers)
            .chain(&self.rows)
            .map(|cells| self.line(cells, &widths, color))
            .collect();
        let absent = |(column, width): (&Column, &Option<usize>)| width.is_none().then(|| column.header.clone());
        Drawn {
            text: lines.join("\n"),
            left_out: self.columns.iter().zip(&widths).filter_map(absent).collect(),
        }
    }

    fn wanted(&self, index: usize) -> Wanted {
        let column = &self.columns[index];
        let header = shown::width(&column.header);
        let cells = self.rows.iter().filter_map(|row| row.get(index));
        Wanted {
            width: cells.map(|cell| shown::width(&cell.text)).fold(header, usize::max),
            header,
            cut: column.cut,
            leaves: column.leaves,
        }
    }

    /// One row, without blanks at its end.
    fn line(&self, cells: &[Cell], widths: &[Option<usize>], color: bool) -> String {
        let mut line = String::new();
        // Blanks that are due if anything follows.
        let mut due = 0;
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(widths) {
            let Some(width) = *width else { continue };
            let text = match column.is_list {
                true => shown::cut_list(&cell.text, width),
                false => shown::cut(&cell.text, width),
            };
            if !text.is_empty() {
                line.extend(std::iter::repeat_n(' ', due));
                due = 0;
                match cell.tone.color().filter(|_| color) {
                    Some(begin) => line.extend([begin, &text, "\x1b[0m"]),
                    None => line.push_str(&text),
                }
            }
            due += width - shown::width(&text) + GAP;
        }
        line
    }
}

fn rank(headers: &[&str], header: &str) -> Option<usize> {
    headers.iter().position(|one| one.to_uppercase() == header)
}
