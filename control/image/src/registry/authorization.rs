//! Decides what a registry is shown with each request, and when it is renewed.

use super::answer;
use super::challenge::Challenge;
use super::reach::Reach;
use crate::auths::Credentials;
use crate::error::Fault;
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::Mutex;

/// Longest answer that has a token in it, bytes.
const TOKEN_MAX: u64 = 256 << 10;

/// What all requests to one repository share.
pub(super) struct Authorization {
    http: Client,
    reach: Reach,
    asked: Asked,
    credentials: Credentials,
    idle: Duration,
    current: Mutex<Shown>,
}

/// What leave is asked for.
pub(super) struct Asked {
    /// Where the registry says what it wants to be shown.
    pub(super) entrance: String,
    /// What is to be done, as a token server is told.
    pub(super) scope: String,
}

/// The answer of a token server. Both names are in use.
#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "access_token")]
    token: Option<String>,
}

/// What goes with a request.
#[derive(Clone, Default)]
pub(super) struct Shown {
    token: Option<String>,
    user: Option<(String, String)>,
    /// Whether it was got for this very request, so that another one would not help.
    pub(super) is_fresh: bool,
    /// Counts renewals.
    number: u64,
}

impl Shown {
    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match (&self.token, &self.user) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some((user, password))) => request.basic_auth(user, Some(password)),
            (None, None) => request,
        }
    }
}

impl Authorization {
    pub(super) fn new(http: Client, reach: Reach, asked: Asked, credentials: Credentials, idle: Duration) -> Self {
        Self {
            http,
            reach,
            asked,
            credentials,
            idle,
            current: Mutex::default(),
        }
    }

    pub(super) async fn now(&self) -> Shown {
        self.current.lock().await.clone()
    }

    /// Instead of one that was refused. Requests that are refused together renew it once.
    pub(super) async fn renew(&self, refused: &Shown) -> Result<Shown, Fault> {
        let mut current = self.current.lock().await;
        if current.number == refused.number {
            *current = Shown {
                number: refused.number + 1,
                ..self.ask().await?
            };
        }
        Ok(Shown {
            is_fresh: true,
            ..current.clone()
        })
    }

    async fn ask(&self) -> Result<Shown, Fault> {
        let user = match &self.credentials {
            Credentials::Anonymous => None,
            Credentials::Basic { user, password } => Some((user.clone(), password.clone())),
        };
        let answer = self.send(self.http.get(&self.asked.entrance)).await?;
        let is_secure = answer.url().scheme() == "https";
        let token = match Challenge::of(answer.headers()) {
            Some(challenge) => Some(self.token(challenge, is_secure, &user).await?),
            // It wants to be shown the user itself, or nothing.
            None => None,
        };
        Ok(Shown {
            token,
            user,
            ..Shown::default()
        })
    }

    async fn token(
        &self,
        challenge: Challenge,
        is_secure: bool,
        user: &Option<(String, String)>,
    ) -> Result<String, Fault> {
        let refused = |why: String| Fault::Unauthorized(format!("the registry sends for a token to {why}"));
        let mut realm: Url = challenge
            .realm
            .parse()
            .map_err(|error| refused(format!("{:?}: {error}", challenge.realm)))?;
        if is_secure && realm.scheme() != "https" {
            return Err(refused(format!("{realm}, from https to http")));
        }
        self.reach
            .check(&realm)
            .map_err(|unnamed| refused(unnamed.to_string()))?;
        realm.query_pairs_mut().append_pair("scope", &self.asked.scope);
        if let Some(service) = &challenge.service {
            realm.query_pairs_mut().append_pair("service", service);
        }
        let mut request = self.http.get(realm);
        if let Some((user, password)) = user {
            request = request.basic_auth(user, Some(password));
        }
        let answer = answer::check(self.send(request).await?).await?;
        let answer = answer::read(answer, "the answer with a token", TOKEN_MAX, self.idle).await?;
        let answer: Option<Answer> = serde_json::from_slice(&answer).ok();
        let token = answer.and_then(|answer| answer.token);
        token.ok_or_else(|| Fault::corrupt("what should have a token in it has none"))
    }

    async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response, Fault> {
        let sent = request.send().await;
        sent.map_err(|error| answer::failed(&error, self.idle))
    }
}
