//! Decides when the server is asked once more: what can be asked twice and is done once, and its answer was lost with a server that ended.

use crate::console::Console;
use miren_api::{ClientError, ErrorCode};
use std::time::{Duration, Instant};

/// The server may be away this long: its supervisor starts it again.
const AWAY: Duration = Duration::from_secs(30);
/// Wait between two attempts to reach it.
const AGAIN: Duration = Duration::from_millis(250);

/// The answer to `ask`, which must mean the same however often it is asked.
///
/// # Errors
/// Those of `ask`. A server that has not been there at all is not waited for.
pub async fn asked<T, A: Future<Output = Result<T, ClientError>>>(
    ask: impl Fn() -> A,
    console: &Console,
) -> Result<T, ClientError> {
    let mut lost: Option<Instant> = None;
    loop {
        let error = match ask().await {
            Err(error) if is_away(&error, lost.is_some()) => error,
            answer => return answer,
        };
        if lost.get_or_insert_with(Instant::now).elapsed() > AWAY {
            return Err(error);
        }
        console.detail(&format!("asking again: {error}"));
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether it has gone with the answer, or is not back from that.
fn is_away(error: &ClientError, was_lost: bool) -> bool {
    match error {
        ClientError::Broken { lost, .. } => *lost,
        ClientError::Unreachable { .. } => was_lost,
        ClientError::Refused(error) => was_lost && error.code == ErrorCode::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miren_api::ApiError;

    #[test]
    fn i7_a_lost_answer_is_asked_for_again_until_the_server_is_back_and_nothing_else_is() {
        let broken = |lost| ClientError::Broken {
            what: "talking".into(),
            why: "closed".into(),
            lost,
        };
        let unreachable = ClientError::Unreachable {
            server: "unix:/x".into(),
            why: "refused".into(),
        };
        let refused = |code| ClientError::Refused(ApiError::new(code, "no"));
        assert!(is_away(&broken(true), false) && is_away(&broken(true), true));
        assert!(is_away(&unreachable, true) && is_away(&refused(ErrorCode::Starting), true));
        assert!(!is_away(&broken(false), true), "it does not get better");
        assert!(!is_away(&unreachable, false) && !is_away(&refused(ErrorCode::Starting), false));
        assert!(!is_away(&refused(ErrorCode::Draining), true) && !is_away(&refused(ErrorCode::Internal), true));
    }
}
