//! Decides which signal is meant by a name or a number, real-time ones included.

use nix::sys::signal::Signal;
use std::fmt::{self, Display};
use std::str::FromStr;

/// The first and the last real-time signal that C libraries leave to programs, and the largest number there is.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A signal that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalNumber(i32);

impl SignalNumber {
    /// As docker takes it: `SIGQUIT`, `quit`, `3`, `RTMIN+3`, `SIGRTMAX-1`. None: there is no such signal.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<i32>() {
            return (1..=RTMAX).contains(&number).then_some(Self(number));
        }
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let other = match name {
            "CLD" => "CHLD",
            "IOT" => "ABRT",
            "POLL" => "IO",
            _ => name,
        };
        let known = Signal::from_str(&format!("SIG{other}")).ok().map(Self::from);
        known.or_else(|| real_time(name).map(Self))
    }

    pub(crate) fn number(self) -> i32 {
        self.0
    }
}

/// `RTMIN`, `RTMAX`, or so many from one of them.
fn real_time(name: &str) -> Option<i32> {
    let away = |text: &str, sign: char| match text {
        "" => Some(0),
        _ => text.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => RTMIN + away(rest, '+')?,
        (_, Some(rest)) => RTMAX - away(rest, '-')?,
        _ => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

impl From<Signal> for SignalNumber {
    fn from(signal: Signal) -> Self {
        Self(signal as i32)
    }
}

impl Display for SignalNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::try_from(self.0) {
            Ok(signal) => out.write_str(signal.as_str()),
            Err(_) if self.0 < RTMIN => write!(out, "signal {}", self.0),
            Err(_) => write!(out, "SIGRTMIN+{}", self.0 - RTMIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g1_a_signal_is_named_in_all_ways_that_docker_takes() {
        for (text, number, shown) in [
            ("SIGQUIT", 3, "SIGQUIT"),
            ("quit", 3, "SIGQUIT"),
            ("SigWinch", 28, "SIGWINCH"),
            ("15", 15, "SIGTERM"),
            ("KILL", 9, "SIGKILL"),
            ("SIGCLD", 17, "SIGCHLD"),
            ("iot", 6, "SIGABRT"),
            ("POLL", 29, "SIGIO"),
            ("RTMIN", 34, "SIGRTMIN+0"),
            ("SIGRTMIN+3", 37, "SIGRTMIN+3"),
            ("rtmax-30", 34, "SIGRTMIN+0"),
            ("RTMAX", 64, "SIGRTMIN+30"),
            ("37", 37, "SIGRTMIN+3"),
            ("33", 33, "signal 33"),
        ] {
            let signal = SignalNumber::parse(text).expect(text);
            assert_eq!((signal.number(), &*signal.to_string()), (number, shown), "{text}");
        }
        for text in [
            "",
            "SIG",
            "0",
            "-9",
            "65",
            "TERMINATE",
            "SIGSIGTERM",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX-31",
            "RTMIN+",
            "SIG15",
            "TERM ",
        ] {
            assert_eq!(SignalNumber::parse(text), None, "{text}");
        }
    }
}
