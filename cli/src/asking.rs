//! Decides what is said of a change that was asked for: once more, where its answer was lost with a server that ended; and what
//! whoever goes before the answer is told.

use crate::console::Console;
use crate::failure::{Doing, Failure};
use miren_api::{ClientError, ErrorCode};
use std::time::{Duration, Instant};

/// The server may be away this long: its supervisor starts it again.
const AWAY: Duration = Duration::from_secs(30);
/// Wait between two attempts to reach it.
const AGAIN: Duration = Duration::from_millis(250);

/// A change that is asked for.
pub struct Change<'c> {
    /// In the words of a failure: `deploying shop`.
    pub doing: &'c str,
    /// The command that tells what became of it.
    pub look: &'c str,
}

impl Change<'_> {
    /// The answer to `ask`, which must mean the same however often it is asked.
    ///
    /// # Errors
    /// Those of `ask`, a server that has not been there at all, and Ctrl-C: the change may go on.
    pub async fn asked<T, A: Future<Output = Result<T, ClientError>>>(
        &self,
        ask: impl Fn() -> A,
        console: &Console,
    ) -> Result<T, Failure> {
        self.unless(tokio::signal::ctrl_c(), answer(ask, console)).await
    }

    async fn unless<T>(
        &self,
        gone: impl Future,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            // Heard from before it is asked.
            biased;
            _ = gone => {
                let message = format!("{} was asked for and not answered yet: it may go on", self.doing);
                Err(Failure::interrupted_while(message).remedy(self.look))
            }
            answer = answer => answer.doing(|| self.doing.to_owned()),
        }
    }
}

async fn answer<T, A: Future<Output = Result<T, ClientError>>>(
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
    use std::future::{pending, ready};

    #[tokio::test]
    async fn whoever_goes_before_the_answer_is_told_that_the_change_may_go_on() {
        let change = Change {
            doing: "draining the node",
            look: "miren node status",
        };
        let told = change.unless::<()>(ready(()), pending()).await.unwrap_err();
        assert_eq!((told.exit.code(), told.code.as_str()), (130, "interrupted"));
        assert_eq!(
            told.message,
            "draining the node was asked for and not answered yet: it may go on"
        );
        assert_eq!(told.remedy, "miren node status");
        assert_eq!(change.unless(pending::<()>(), ready(Ok(7))).await, Ok(7));
    }

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
