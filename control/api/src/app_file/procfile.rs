//! `Procfile`: one process type a line, `name: command`.

use super::limits::{self, SERVICES_MAX};
use super::{PROCFILE, source_of};
use crate::id::check_label;
use crate::settings::{Problems, Source, quoted};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The commands by process type, and everything wrong with the other lines.
pub(super) fn parse(text: Option<&str>) -> (BTreeMap<String, String>, Problems) {
    let text = match source_of(PROCFILE, text) {
        Ok(text) => text,
        Err(problem) => return (BTreeMap::new(), Problems(vec![problem])),
    };
    let mut source = Source::new(PROCFILE.as_ref(), text);
    let mut processes = BTreeMap::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim();
        if !content.is_empty() && !content.starts_with('#') {
            read_line(content, &mut processes).unwrap_or_else(|(key, why)| source.report(Some(offset), key, why));
        }
        offset += line.len();
    }
    if processes.len() > SERVICES_MAX {
        let why = format!("has {} process types, more than {SERVICES_MAX}", processes.len());
        source.report(None, String::new(), why);
    }
    (processes, source.into_problems())
}

/// The name, if there is one, and what is wrong.
fn read_line(line: &str, processes: &mut BTreeMap<String, String>) -> Result<(), (String, String)> {
    let Some((name, command)) = line.split_once(':') else {
        return Err((String::new(), format!("{line:?} is not \"name: command\"")));
    };
    let name = name.trim();
    let wrong = |why: String| (quoted(name), why);
    check_label(name).map_err(|why| wrong(format!("the name {why}")))?;
    let command = limits::command(command).map_err(|why| wrong(format!("the command {why}")))?;
    match processes.entry(name.to_owned()) {
        Entry::Occupied(_) => Err(wrong("is named a second time".to_owned())),
        Entry::Vacant(free) => {
            free.insert(command);
            Ok(())
        }
    }
}
