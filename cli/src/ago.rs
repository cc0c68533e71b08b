//! How long ago, or until when, in one number and a unit.

use jiff::Timestamp;

/// Seconds in each unit, largest first; a month has 30 days and a year 365.
const UNITS: [(i64, &str); 7] = [
    (31_536_000, "y"),
    (2_592_000, "mo"),
    (604_800, "w"),
    (86_400, "d"),
    (3_600, "h"),
    (60, "m"),
    (1, "s"),
];

/// Units of what is left, each from two of it on: what ends should not seem to have more time than it has.
const UNTIL: [(i64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "m")];

/// `5m ago`. A time that lies in the future is of a clock that was set back since: it has only just been.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - at.as_second();
    match UNITS.iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, name)) => format!("{}{name} ago", seconds / unit),
        None => "0s ago".to_owned(),
    }
}

/// [`ago`], from now; `-` when there is no time.
pub fn since(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| ago(at, Timestamp::now()))
}

/// `in 23 h`, rounded down; `expired` when that time has come.
pub fn until(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.as_second() - now.as_second();
    if at <= now {
        return "expired".to_owned();
    }
    let unit = UNTIL.iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or(&(1, "s"));
    // What was given 24 h is said to have 24 h for its first minute.
    let whole = (seconds + unit.0 / 60) / unit.0;
    format!("in {} {}", whole.max(1), unit.1)
}

/// [`until`], from now; `-` when there is no time.
pub fn left(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| until(at, Timestamp::now()))
}

/// To the second, in RFC 3339.
pub fn exactly(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// How long it took: `1.2 s`, `2m 03s`, `1h 02m`. Clocks may have been set back; that is no time at all.
pub fn between(start: Timestamp, end: Timestamp) -> String {
    let millis = (end.as_millisecond() - start.as_millisecond()).max(0);
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}.{} s", millis % 1000 / 100),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_takes_over_at_its_own_length() {
        let now = Timestamp::from_second(100_000_000).unwrap();
        let table = [
            (0, "0s ago"),
            (12, "12s ago"),
            (59, "59s ago"),
            (60, "1m ago"),
            (3_599, "59m ago"),
            (3_600, "1h ago"),
            (86_400, "1d ago"),
            (604_800, "1w ago"),
            (2_592_000, "1mo ago"),
            (31_536_000, "1y ago"),
            (-1, "0s ago"),
            (-3_600, "0s ago"),
        ];
        for (seconds, text) in table {
            let at = Timestamp::from_second(100_000_000 - seconds).unwrap();
            assert_eq!(ago(at, now), text, "{seconds} seconds");
        }
        assert_eq!(since(None), "-");
    }

    #[test]
    fn e12_what_is_left_is_told_in_two_units_or_more() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let table = [
            (-1_000, "expired"),
            (0, "expired"),
            (400, "in 1 s"),
            (90_000, "in 90 s"),
            (120_000, "in 2 m"),
            (3_599_500, "in 60 m"),
            (5_400_000, "in 90 m"),
            (9_000_000, "in 2 h"),
            (86_398_000, "in 24 h"),
            (84_000_000, "in 23 h"),
            (172_800_000, "in 2 d"),
            (2_591_999_000, "in 30 d"),
        ];
        for (millis, text) in table {
            let at = Timestamp::from_millisecond(1_000_000_000 + millis).unwrap();
            assert_eq!(until(at, now), text, "{millis} ms");
        }
        assert_eq!(left(None), "-");
        assert_eq!(
            exactly("2026-11-23T20:00:01.75Z".parse().unwrap()),
            "2026-11-23T20:00:01Z"
        );
    }

    #[test]
    fn what_took_long_is_told_less_exactly() {
        let start = Timestamp::from_second(1_000_000).unwrap();
        let table = [
            (-5_000, "0.0 s"),
            (99, "0.0 s"),
            (1_290, "1.2 s"),
            (59_999, "59.9 s"),
            (60_000, "1m 00s"),
            (123_000, "2m 03s"),
            (3_720_000, "1h 02m"),
        ];
        for (millis, text) in table {
            let end = Timestamp::from_millisecond(1_000_000_000 + millis).unwrap();
            assert_eq!(between(start, end), text, "{millis} ms");
        }
    }
}
