//! How single TOML values become typed ones, and what is said when they do not.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::de::DeValue;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0 {
            n if n >= 1 << 30 && n % (1 << 30) == 0 => (n >> 30, "GiB"),
            n if n >= 1 << 20 && n % (1 << 20) == 0 => (n >> 20, "MiB"),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => (n >> 10, "KiB"),
            n => (n, "B"),
        };
        write!(out, "{number}{unit}")
    }
}

/// Parses `"64KiB"`, `"500MB"`, `"1024"`; binary and decimal units, whole numbers.
pub fn parse_bytes(text: &str) -> Result<Bytes, String> {
    let wrong = || format!("{text:?} is not a size; write it like \"64KiB\", \"10MB\" or \"1GiB\"");
    let text_ = text.trim();
    let split = text_.find(|c: char| !c.is_ascii_digit()).unwrap_or(text_.len());
    let number: u64 = text_[..split].parse().map_err(|_| wrong())?;
    let factor: u64 = match text_[split..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(factor)
        .map(Bytes)
        .ok_or_else(|| format!("{text:?} is too large"))
}

/// Parses `"10s"`, `"1m 30s"`, `"250ms"`, `"0s"`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a duration; write it like \"10s\", \"250ms\" or \"1m 30s\""))
}

/// A duration as [`parse_duration`] reads it.
pub fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    match value {
        DeValue::String(text) => Ok(text.as_ref()),
        other => Err(format!("is {}, not a string", kind(other))),
    }
}

pub(super) fn integer(value: &DeValue<'_>, range: &RangeInclusive<i64>) -> Result<i64, String> {
    let DeValue::Integer(number) = value else {
        return Err(format!("is {}, not an integer", kind(value)));
    };
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("is {number}, outside {} to {}", range.start(), range.end())),
    }
}

pub(super) fn number(value: &DeValue<'_>, range: &RangeInclusive<f64>) -> Result<f64, String> {
    let (shown, number) = match value {
        DeValue::Integer(number) => {
            let whole = i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX);
            (number.to_string(), whole as f64)
        }
        DeValue::Float(number) => (number.to_string(), number.as_str().parse().unwrap_or(f64::NAN)),
        other => return Err(format!("is {}, not a number", kind(other))),
    };
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("is {shown}, outside {} to {}", range.start(), range.end()))
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(on) => Ok(*on),
        other => Err(format!("is {}, not true or false", kind(other))),
    }
}
