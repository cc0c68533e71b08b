//! Decides what a registry is shown with each request, and when it is renewed.

use super::answer;
use crate::auths::Credentials;
use crate::error::Fault;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use reqwest::RequestBuilder;
use std::time::Duration;
use tokio::sync::Mutex;

/// What all requests to one repository share.
pub(super) struct Authorization {
    name: Reference,
    is_plain: bool,
    credentials: Credentials,
    idle: Duration,
    current: Mutex<Shown>,
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
    pub(super) fn new(name: Reference, is_plain: bool, credentials: Credentials, idle: Duration) -> Self {
        Self {
            name,
            is_plain,
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
        let config = ClientConfig {
            protocol: if self.is_plain {
                ClientProtocol::Http
            } else {
                ClientProtocol::Https
            },
            read_timeout: Some(self.idle),
            connect_timeout: Some(self.idle),
            user_agent: "miren",
            ..ClientConfig::default()
        };
        let user = match &self.credentials {
            Credentials::Anonymous => None,
            Credentials::Basic { user, password } => Some((user.clone(), password.clone())),
        };
        let auth = user.clone().map_or(RegistryAuth::Anonymous, |(user, password)| {
            RegistryAuth::Basic(user, password)
        });
        let client = Client::try_from(config).map_err(|error| self.refused(error))?;
        let token = client.auth(&self.name, &auth, RegistryOperation::Pull).await;
        Ok(Shown {
            token: token.map_err(|error| self.refused(error))?,
            // For a registry that wants no token.
            user,
            ..Shown::default()
        })
    }

    fn refused(&self, error: OciDistributionError) -> Fault {
        match error {
            OciDistributionError::RequestError(error) => answer::failed(&error, self.idle),
            error => Fault::Unauthorized(error.to_string().chars().take(300).collect()),
        }
    }
}
