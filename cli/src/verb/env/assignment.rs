//! Where the value of a variable comes from: the command line, a file, or whoever sits at the terminal.

use crate::failure::Failure;
use crate::prompt;
use miren_api::app_file;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// One `KEY=…` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    name: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    File(PathBuf),
    /// Not in the list of processes, nor in the shell's history.
    Asked,
}

/// `KEY=VALUE`, `KEY=@FILE`, `KEY=@@TEXT` for a value that begins with `@`, or `KEY`.
pub fn parse(text: &str) -> Result<Assignment, String> {
    let (name, value) = match text.split_once('=') {
        None => (text, Value::Asked),
        Some((name, value)) => (name, read_as(value)?),
    };
    let name = app_file::check_variable(name)?;
    Ok(Assignment { name, value })
}

fn read_as(value: &str) -> Result<Value, String> {
    match value.strip_prefix('@') {
        None => Ok(Value::Text(value.to_owned())),
        Some("") => Err("@ names no file; write KEY=@FILE, or KEY=@@ for @ itself".to_owned()),
        Some(literal) if literal.starts_with('@') => Ok(Value::Text(literal.to_owned())),
        Some(path) => Ok(Value::File(PathBuf::from(path))),
    }
}

/// The value of each variable. Files are read whole; what is not given is asked for.
pub async fn values(given: Vec<Assignment>) -> Result<BTreeMap<String, String>, Failure> {
    let mut values = BTreeMap::new();
    for Assignment { name, value } in given {
        if values.contains_key(&name) {
            return Err(Failure::usage(format!("{name} is given twice")).remedy("each variable once"));
        }
        let value = match value {
            Value::Text(text) => text,
            Value::File(path) => content(&name, &path)?,
            Value::Asked => asked(&name).await?,
        };
        values.insert(name, value);
    }
    Ok(values)
}

fn content(name: &str, path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let wrong = |why: String| {
        Failure::usage(format!("reading the value of {name} from {shown}: {why}")).remedy(format!(
            "{name}=@FILE with a text file, or {name}=@@{shown} if @{shown} is the value"
        ))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    if text.contains('\0') {
        return Err(wrong("it has a zero byte, which no variable can".to_owned()));
    }
    Ok(text)
}

async fn asked(name: &str) -> Result<String, Failure> {
    let remedy = format!("{name}=VALUE, or {name}=@FILE");
    prompt::attended(&format!("{name} has no value"), &remedy)?;
    let answer = prompt::hidden(&format!("Value of {name}: ")).await?;
    answer.ok_or_else(|| Failure::usage(format!("{name} has no value")).remedy(remedy))
}
