//! The addresses of the control API that the CLI asks.

use std::fmt::Write;

pub const APPS: &str = "/v1/apps";
pub const ROUTES: &str = "/v1/routes";
pub const DEPLOYS: &str = "/v1/deploys";
pub const POOLS: &str = "/v1/pools";
pub const SANDBOXES: &str = "/v1/sandboxes";
pub const DISKS: &str = "/v1/disks";
pub const LOGS: &str = "/v1/logs";
pub const NODE: &str = "/v1/node";
pub const NODE_EVENTS: &str = "/v1/node/events";
pub const FAST_PATH: &str = "/v1/fastpath";
pub const FAST_PATH_EVENTS: &str = "/v1/fastpath/events";
pub const VERSION: &str = "/v1/version";
/// What happens to a request, by its idempotency key.
pub const PROGRESS: &str = "/v1/progress";
/// The route that takes what no other route matches.
pub const DEFAULT_ROUTE: &str = "/v1/default-route";

/// `collection/name`, with the name in the form a path can carry.
pub fn of(collection: &str, name: &str) -> String {
    format!("{collection}/{}", encode(name))
}

/// `/v1/apps/NAME/part`.
pub fn of_app(name: &str, part: &str) -> String {
    format!("{}/{part}", of(APPS, name))
}

/// `/v1/apps/APP/ephemeral/LABEL`.
pub fn of_ephemeral(app: &str, label: &str) -> String {
    of(&of_app(app, "ephemeral"), label)
}

/// `/v1/disks/APP/NAME`.
pub fn of_disk(app: &str, name: &str) -> String {
    of(&of(DISKS, app), name)
}

/// `path?key=value&…`, leaving out what has no value.
pub fn with_query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut text = path.to_owned();
    let present = pairs.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    for (index, (key, value)) in present.enumerate() {
        let joint = if index == 0 { '?' } else { '&' };
        // Writing to a String cannot fail.
        let _ = write!(text, "{joint}{key}={}", encode(value));
    }
    text
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_the_path() {
        assert_eq!(of(APPS, "shop"), "/v1/apps/shop");
        assert_eq!(of(ROUTES, "*.example.com"), "/v1/routes/%2A.example.com");
        assert_eq!(of(APPS, "../x?y"), "/v1/apps/..%2Fx%3Fy");
    }

    #[test]
    fn absent_parameters_leave_no_trace() {
        assert_eq!(with_query("/a", &[("x", None), ("y", None)]), "/a");
        assert_eq!(
            with_query("/a", &[("x", None), ("y", Some("1 2".into())), ("z", Some("3".into()))]),
            "/a?y=1%202&z=3"
        );
    }
}
