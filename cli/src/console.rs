//! Where output goes: results to stdout in the chosen format, everything else to stderr, colour only where it is seen.

use crate::failure::{Exit, Failure};
use crate::moving::Moving;
use crate::options::{ColorChoice, Format, Global};
use crate::shown;
use crate::table::Table;
use serde::Serialize;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

type Sink = Box<dyn Write + Send>;

/// The way to stderr; cheap to clone, so that several tasks may speak.
#[derive(Clone)]
pub struct Notes {
    sink: Arc<Mutex<Sink>>,
    color: bool,
    moving: Moving,
}

impl Notes {
    /// One or more whole lines, with what a terminal would obey spelt out. There is nobody to tell when stderr is closed.
    pub fn line(&self, text: &str) {
        self.write(&shown::text(text));
    }

    fn write(&self, text: &str) {
        self.moving.aside(|| {
            let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
            // In one piece: what is dropped is dropped whole.
            let _ = sink.write_all(format!("{text}\n").as_bytes());
            let _ = sink.flush();
        });
    }

    /// How far the step is that the moving line tells; false where there is none.
    pub fn detail(&self, detail: &str) -> bool {
        self.moving.detail(detail)
    }

    fn failure(&self, failure: &Failure) {
        let text = failure.in_words();
        let text = shown::text(&text);
        match text.strip_prefix("error:") {
            Some(rest) if self.color => self.write(&format!("\x1b[1;31merror:\x1b[0m{rest}")),
            _ => self.write(&text),
        }
    }
}

/// Both outputs of one command.
pub struct Console {
    out: Sink,
    notes: Notes,
    pub format: Format,
    color: bool,
    /// Columns of the terminal that results go to, if they go to one.
    width: Option<usize>,
    verbose: u8,
    /// Its notes go to stderr itself.
    is_standard: bool,
    /// Whether progress may be drawn on stderr.
    pub progress: bool,
    /// What was told of what was done, or would have been in JSON.
    recorded: Option<Value>,
}

/// Columns of the terminal; none where it is no terminal, or one that does not say.
fn width_of(output: impl AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(output).map(|(terminal_size::Width(columns), _)| usize::from(columns))
}

impl Console {
    /// The process's own stdout and stderr.
    pub fn standard(global: &Global) -> Self {
        let color = |terminal: bool| match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let err_terminal = io::stderr().is_terminal();
        let draws = std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb");
        let sink: Sink = Box::new(io::stderr());
        Self {
            out: Box::new(io::stdout()),
            notes: Notes {
                sink: Arc::new(Mutex::new(sink)),
                color: color(err_terminal),
                moving: Moving::default(),
            },
            format: global.format,
            color: color(io::stdout().is_terminal()),
            width: width_of(io::stdout()),
            verbose: global.verbose,
            is_standard: true,
            progress: err_terminal && draws,
            recorded: None,
        }
    }

    /// Any two sinks, without colour or progress: for embedding and tests.
    pub fn plain(out: Sink, err: Sink, format: Format) -> Self {
        let notes = Notes {
            sink: Arc::new(Mutex::new(err)),
            color: false,
            moving: Moving::default(),
        };
        Self {
            out,
            notes,
            format,
            color: false,
            width: None,
            verbose: 0,
            is_standard: false,
            progress: false,
            recorded: None,
        }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// How often `-v` was given.
    pub fn verbosity(&self) -> u8 {
        self.verbose
    }

    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// For what goes on for long: whoever reads stderr and stands still holds nobody up from now on.
    pub fn never_wait_for_notes(&self) -> io::Result<()> {
        if self.is_standard {
            let patient = miren_log::stderr_on_thread("miren")?;
            *self.notes.sink.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(patient);
        }
        Ok(())
    }

    /// Begins something that takes long: one line that moves, unless lines are wanted, or nobody would see it.
    pub fn begin(&self, step: &str) {
        if self.progress && self.verbose == 0 {
            self.notes.moving.begin(step);
        }
    }

    /// What is being done now, in `words` where one line moves; `line` is said elsewhere.
    pub fn step(&self, words: &str, line: &str) {
        if !self.notes.moving.step(words) {
            self.note(line);
        }
    }

    /// The same where nothing is said elsewhere.
    pub fn step_if_moving(&self, words: &str) {
        self.notes.moving.step(words);
    }

    /// How far that is; `line` is said where no line moves.
    pub fn step_detail(&self, detail: &str, line: &str) {
        if !self.notes.moving.detail(detail) {
            self.note(line);
        }
    }

    /// Whether one line moves now.
    pub fn is_moving(&self) -> bool {
        self.notes.moving.is_there()
    }

    /// Keeps what is told of what was done, whatever form it is printed in.
    pub fn record(&mut self, told: &impl Serialize) {
        self.recorded = serde_json::to_value(told).ok();
    }

    pub fn recorded(&self) -> Option<&Value> {
        self.recorded.as_ref()
    }

    /// Something worth knowing that is not the result.
    pub fn note(&self, text: &str) {
        self.notes.line(text);
    }

    /// Something worth knowing with `-v`.
    pub fn detail(&self, text: &str) {
        if self.verbose > 0 {
            self.notes.line(text);
        }
    }

    /// A line of the result, or several, with what a terminal would obey spelt out.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.verbatim(&shown::text(text))
    }

    /// A line of the result as it is: what was asked for to the letter, or has colours of its own.
    pub fn verbatim(&mut self, text: &str) -> Result<(), Failure> {
        self.write(format_args!("{text}\n"))
    }

    /// The result as one indented JSON document.
    pub fn document(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::failed(error.to_string()))?;
        self.verbatim(&shown::json(&text))
    }

    /// One JSON document on one line: for streams.
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::failed(error.to_string()))?;
        self.verbatim(&shown::json(&text))
    }

    /// A list: all of it as JSON, or a table; "No <things> found" on stderr when there is none.
    pub fn list<T: Serialize>(&mut self, items: &[T], things: &str, table: Table) -> Result<(), Failure> {
        if self.is_json() {
            return self.document(&items);
        }
        if items.is_empty() {
            self.note(&format!("No {things} found"));
            return Ok(());
        }
        self.table("", &table)
    }

    /// Draws a table after `before`, and says what of it there is no room for.
    fn table(&mut self, before: &str, table: &Table) -> Result<(), Failure> {
        let drawn = table.draw(self.color, self.width);
        self.verbatim(&format!("{before}{}", drawn.text))?;
        if !drawn.left_out.is_empty() {
            let left_out = drawn.left_out.join(", ");
            self.note(&format!("No room for {left_out}; --format json has all of it"));
        }
        Ok(())
    }

    /// One thing: as JSON, or its fields one a line.
    pub fn thing<T: Serialize>(&mut self, thing: &T, fields: &[(&str, String)]) -> Result<(), Failure> {
        if self.is_json() {
            return self.document(thing);
        }
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 2;
        for (name, value) in fields {
            let name = format!("{name}:");
            let value = value.replace('\n', &format!("\n{:width$}", ""));
            self.line(format!("{name:width$}{value}").trim_end())?;
        }
        Ok(())
    }

    /// What belongs to a thing, under a heading; nothing when there is none, or when the thing is printed as JSON.
    pub fn section(&mut self, heading: &str, table: Table) -> Result<(), Failure> {
        if self.is_json() || table.is_empty() {
            return Ok(());
        }
        self.table(&format!("\n{heading}\n"), &table)
    }

    /// The result of something that was done: a JSON document, or a sentence.
    pub fn done<T: Serialize>(&mut self, document: &T, sentence: &str) -> Result<(), Failure> {
        if self.is_json() {
            self.document(document)
        } else {
            self.line(sentence)
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
        self.notes.moving.end();
        match self.out.write_fmt(text).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::output_closed()),
            other => Ok(other?),
        }
    }

    /// Reports a failure, if there is one, and says how the process shall end.
    pub fn conclude(&mut self, outcome: Result<Exit, Failure>) -> Exit {
        self.notes.moving.end();
        let failure = match outcome {
            Ok(exit) => return exit,
            Err(failure) => failure,
        };
        if failure.message.is_empty() {
            return failure.exit;
        }
        if self.is_json() {
            // A reader that has gone cannot be told that something failed; the exit code still says so.
            let _ = self.verbatim(&shown::json(&failure.as_json()));
        } else {
            self.notes.failure(&failure);
        }
        failure.exit
    }
}
