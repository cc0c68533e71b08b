//! Why a request was not served: one code per reason, with the status and the words a client sees.

use jiff::Timestamp;
use std::borrow::Cow;
use std::fmt;

/// Seconds after which to try again when nobody said otherwise.
const RETRY_SOON: u64 = 1;

/// A reason, in the words of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    BadRequest,
    MethodNotAllowed,
    RequestTimeout,
    ExpectationFailed,
    HeaderTooLarge,
    VersionNotSupported,
    NoRoute,
    NoActiveVersion,
    NoSuchEphemeral,
    /// Control could not find or make what the target runs in.
    LookupFailed,
    /// The route turns requests away.
    Maintenance,
    /// No routing snapshot yet: nothing is known about any host.
    Starting,
    Draining,
    BootFailed,
    Cooldown,
    AtCapacity,
    QueueFull,
    WaitTimeout,
    /// The node cannot start sandboxes: what it lacks is the operator's affair.
    NodeFault,
    UpstreamUnreachable,
    UpstreamClosed,
    UpstreamInvalid,
    UpstreamTimeout,
    DrainDeadline,
    Internal,
}

impl Reason {
    /// Every reason, for the metrics that count them.
    pub const ALL: [Self; 25] = [
        Self::BadRequest,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::ExpectationFailed,
        Self::HeaderTooLarge,
        Self::VersionNotSupported,
        Self::NoRoute,
        Self::NoActiveVersion,
        Self::NoSuchEphemeral,
        Self::LookupFailed,
        Self::Maintenance,
        Self::Starting,
        Self::Draining,
        Self::BootFailed,
        Self::Cooldown,
        Self::AtCapacity,
        Self::QueueFull,
        Self::WaitTimeout,
        Self::NodeFault,
        Self::UpstreamUnreachable,
        Self::UpstreamClosed,
        Self::UpstreamInvalid,
        Self::UpstreamTimeout,
        Self::DrainDeadline,
        Self::Internal,
    ];

    /// Value of `X-Miren-Error`.
    pub fn code(self) -> &'static str {
        self.describe().1
    }

    /// HTTP status of the answer.
    pub fn status(self) -> u16 {
        self.describe().0
    }

    /// What the answer says to people who are told no more.
    pub fn text(self) -> &'static str {
        self.describe().2
    }

    fn describe(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => (400, "bad_request", "The request is malformed."),
            Self::MethodNotAllowed => (405, "method_not_allowed", "This method is not served here."),
            Self::RequestTimeout => (408, "request_timeout", "The request did not arrive in time."),
            Self::ExpectationFailed => (417, "expectation_failed", "What the request expects cannot be done."),
            Self::HeaderTooLarge => (431, "header_too_large", "The head of the request is too large."),
            Self::VersionNotSupported => (505, "version_not_supported", "This version of HTTP is not spoken here."),
            Self::NoRoute => (404, "no_route", "No app is served at this address."),
            Self::NoActiveVersion => (404, "no_active_version", "This app has not been deployed yet."),
            Self::NoSuchEphemeral => (404, "no_such_ephemeral", "This preview does not exist or has expired."),
            Self::LookupFailed => (
                500,
                "lookup_failed",
                "The server could not look up what serves this address.",
            ),
            Self::Maintenance => (
                503,
                "maintenance",
                "This site is down for maintenance. Try again later.",
            ),
            Self::Starting => (503, "starting", "The server is starting. Try again in a moment."),
            Self::Draining => (
                503,
                "draining",
                "The server is going into maintenance. Try again later.",
            ),
            Self::BootFailed => (503, "boot_failed", "The app could not be started."),
            Self::Cooldown => (
                503,
                "cooldown",
                "The app keeps crashing and is being restarted with pauses.",
            ),
            Self::AtCapacity => (
                503,
                "at_capacity",
                "The app is serving as many requests as it may. Try again in a moment.",
            ),
            Self::QueueFull => (
                503,
                "queue_full",
                "Too many requests are waiting for this app. Try again in a moment.",
            ),
            Self::WaitTimeout => (503, "wait_timeout", "The app did not become available in time."),
            Self::NodeFault => (
                503,
                "node_fault",
                "The server cannot start the app at the moment. Try again later.",
            ),
            Self::UpstreamUnreachable => (502, "upstream_unreachable", "The app could not be reached."),
            Self::UpstreamClosed => (
                502,
                "upstream_closed",
                "The app closed the connection before it answered.",
            ),
            Self::UpstreamInvalid => (502, "upstream_invalid", "The app's answer is malformed."),
            Self::UpstreamTimeout => (504, "upstream_timeout", "The app did not answer in time."),
            Self::DrainDeadline => (504, "drain_deadline", "The app was stopped before it answered."),
            Self::Internal => (500, "internal", "Something went wrong in the server."),
        }
    }
}

/// A reason, and when trying again makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// Value of `Retry-After`, in seconds; every 503 has one.
    pub retry_after: Option<u64>,
    /// Since when there is nothing any more.
    pub expired_at: Option<Timestamp>,
}

impl Refusal {
    /// A refusal that may be retried after `seconds`.
    pub fn retry_after(reason: Reason, seconds: Option<u64>) -> Self {
        Self {
            reason,
            retry_after: Some(seconds.unwrap_or(RETRY_SOON).max(1)),
            expired_at: None,
        }
    }

    /// The refusal of a label whose version expired then.
    pub fn expired(at: Timestamp) -> Self {
        Self {
            expired_at: Some(at),
            ..Reason::NoSuchEphemeral.into()
        }
    }

    /// What the answer says to people.
    pub fn text(&self) -> Cow<'static, str> {
        match self.expired_at {
            Some(at) => format!("This preview expired on {}.", at.strftime("%Y-%m-%d at %H:%M:%S UTC")).into(),
            None => self.reason.text().into(),
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            retry_after: (reason.status() == 503).then_some(RETRY_SOON),
            expired_at: None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.reason.code())
    }
}
