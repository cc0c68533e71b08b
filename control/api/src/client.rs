//! The typed client of the control API, over a Unix socket; used by the CLI and by the proxy.

use crate::deploy::{Artifact, Deploy, DeployRequest, RollbackRequest, SentImage};
use crate::ephemeral::{EphemeralDeployed, EphemeralRequest};
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::exec::{ExecRequest, PROTOCOL};
use crate::resource::Page;
use crate::run::{RUN_HEADER, RunRequest};
use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where control listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    Unix(PathBuf),
}

impl Server {
    /// Parses `unix:/path`, the form of `--server` and of `control = …` in settings.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            _ => Err(format!("{text:?} is not a server; write unix:/path/to/control.sock")),
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Unix(path) = self;
        write!(out, "unix:{}", path.display())
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with a refusal.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// Nothing answers there.
    #[error("cannot reach miren-control at {server}: {why}")]
    Unreachable { server: String, why: String },
    /// It answered with something this client does not understand, or broke off.
    #[error("{what}: {why}")]
    Broken {
        what: String,
        why: String,
        /// It broke off: what it was asked may have been done.
        lost: bool,
    },
}

/// How long a connection to the local socket may take.
const CONNECT: Duration = Duration::from_secs(5);

/// One client; cheap to clone, keeps connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    server: Server,
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id, to resume after it; empty if it has none.
    pub id: String,
    pub name: String,
    pub data: String,
}

impl Client {
    pub fn new(server: &Server) -> Result<Self, ClientError> {
        let Server::Unix(path) = server;
        let broken = |error: &dyn std::error::Error| ClientError::Broken {
            what: "setting up the client".into(),
            why: cause(error),
            lost: false,
        };
        let http = reqwest::Client::builder()
            .unix_socket(path.clone())
            .connect_timeout(CONNECT)
            .tls_backend_preconfigured(trusting_nobody().map_err(|error| broken(&error))?)
            .build()
            .map_err(|error| broken(&error))?;
        Ok(Self {
            http,
            server: server.clone(),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://control{path}"))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(refusal(response).await)
        }
    }

    fn failed(&self, error: &reqwest::Error) -> ClientError {
        if error.is_connect() {
            ClientError::Unreachable {
                server: self.server.to_string(),
                why: cause(error),
            }
        } else {
            ClientError::Broken {
                what: format!("talking to {}", self.server),
                why: cause(error),
                lost: true,
            }
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        let path = response.url().path().to_owned();
        response.json().await.map_err(|error| ClientError::Broken {
            what: format!("reading {path}"),
            why: cause(&error),
            lost: !error.is_decode(),
        })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path)).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.json(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::DELETE, path)).await
    }

    /// Every item of a list, page by page.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ClientError> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut page: Page<T> = self.get(path).await?;
        let mut items = std::mem::take(&mut page.items);
        while let Some(after) = page.next {
            page = self.get(&format!("{path}{joint}after={after}")).await?;
            items.append(&mut page.items);
        }
        Ok(items)
    }

    /// Uploads a folder as a tar stream.
    pub async fn upload(&self, tar: reqwest::Body) -> Result<Artifact, ClientError> {
        let request = self
            .request(Method::POST, "/v1/artifacts")
            .header("content-type", "application/x-tar");
        self.json(request.body(tar)).await
    }

    /// Sends an image as an archive.
    pub async fn upload_image(&self, archive: reqwest::Body) -> Result<SentImage, ClientError> {
        let request = self
            .request(Method::POST, "/v1/images")
            .header("content-type", "application/x-tar");
        self.json(request.body(archive)).await
    }

    /// Asks for a deploy; it goes on whether or not anybody watches.
    pub async fn deploy(&self, app: &str, request: &DeployRequest, key: &str) -> Result<Deploy, ClientError> {
        let path = format!("/v1/apps/{app}/deploys");
        self.json(
            self.request(Method::POST, &path)
                .header("idempotency-key", key)
                .json(request),
        )
        .await
    }

    /// Asks for a preview; answers when it can be reached. `GET /v1/progress/KEY` tells meanwhile what happens.
    pub async fn preview(
        &self,
        app: &str,
        request: &EphemeralRequest,
        key: &str,
    ) -> Result<EphemeralDeployed, ClientError> {
        let path = format!("/v1/apps/{app}/ephemeral");
        self.json(
            self.request(Method::POST, &path)
                .header("idempotency-key", key)
                .json(request),
        )
        .await
    }

    /// Asks for an earlier version to serve again; otherwise as [`Self::deploy`].
    pub async fn rollback(&self, app: &str, request: &RollbackRequest, key: &str) -> Result<Deploy, ClientError> {
        let path = format!("/v1/apps/{app}/rollback");
        self.json(
            self.request(Method::POST, &path)
                .header("idempotency-key", key)
                .json(request),
        )
        .await
    }

    /// Asks for new sandboxes of what serves; otherwise as [`Self::deploy`].
    pub async fn restart(&self, app: &str, key: &str) -> Result<Deploy, ClientError> {
        let path = format!("/v1/apps/{app}/restart");
        self.json(
            self.request(Method::POST, &path)
                .header("idempotency-key", key)
                .json(&serde_json::json!({})),
        )
        .await
    }

    /// Runs a command in a sandbox; the connection that is left speaks in frames, see [`crate::exec`]. Dropping it ends
    /// the command.
    pub async fn exec(&self, sandbox: &str, request: &ExecRequest) -> Result<reqwest::Upgraded, ClientError> {
        let response = self.upgrade(&format!("/v1/sandboxes/{sandbox}/exec"), request).await?;
        response.upgrade().await.map_err(|error| self.failed(&error))
    }

    /// Runs a command in a sandbox of its own; otherwise as [`Self::exec`]. With the id of the run.
    pub async fn run(&self, app: &str, request: &RunRequest) -> Result<(String, reqwest::Upgraded), ClientError> {
        let response = self.upgrade(&format!("/v1/apps/{app}/runs"), request).await?;
        let id = response.headers().get(RUN_HEADER).and_then(|id| id.to_str().ok());
        let id = id.unwrap_or_default().to_owned();
        let connection = response.upgrade().await.map_err(|error| self.failed(&error))?;
        Ok((id, connection))
    }

    async fn upgrade(&self, path: &str, request: &impl Serialize) -> Result<Response, ClientError> {
        let request = self.request(Method::POST, path).json(request);
        let request = request.header("connection", "upgrade").header("upgrade", PROTOCOL);
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => Ok(response),
            _ => Err(refusal(response).await),
        }
    }

    /// Follows an event stream. It ends with an error when the connection does; resume with the last id.
    pub async fn events(
        &self,
        path: &str,
        last: Option<&str>,
    ) -> Result<impl Stream<Item = Result<Event, ClientError>> + Send + use<>, ClientError> {
        let mut request = self.request(Method::GET, path).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let stream = self.send(request).await?.bytes_stream().eventsource();
        let what = format!("following {path}");
        Ok(stream.map(move |event| match event {
            Ok(event) => Ok(Event {
                id: event.id,
                name: event.event,
                data: event.data,
            }),
            Err(error) => Err(ClientError::Broken {
                what: what.clone(),
                why: error.to_string(),
                lost: true,
            }),
        }))
    }
}

async fn refusal(response: Response) -> ClientError {
    let status = response.status();
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    match response.json::<ErrorBody>().await {
        Ok(body) => {
            let mut error = body.error;
            error.retry_after = error.retry_after.or(retry_after);
            ClientError::Refused(error)
        }
        Err(_) => ClientError::Refused(ApiError::new(code_of(status), format!("the server answered {status}"))),
    }
}

fn code_of(status: StatusCode) -> ErrorCode {
    match status.as_u16() {
        403 => ErrorCode::Forbidden,
        404 => ErrorCode::NotFound,
        413 => ErrorCode::TooLarge,
        400..=499 => ErrorCode::InvalidRequest,
        _ => ErrorCode::Internal,
    }
}

/// For a client that never speaks TLS. With what it would do by itself, once another crate of the same
/// build fetches over TLS, it reads all certificates of the machine and fails where there are none.
fn trusting_nobody() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let nobody = versions.with_root_certificates(rustls::RootCertStore::empty());
    Ok(nobody.with_no_client_auth())
}

/// The innermost reason of an error: "connection refused" rather than "error sending request".
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_unix_sockets_with_a_whole_path() {
        assert_eq!(
            Server::parse("unix:/run/miren/control.sock"),
            Ok(Server::Unix("/run/miren/control.sock".into()))
        );
        assert!(Server::parse("/run/miren/control.sock").is_err());
        assert!(Server::parse("unix:control.sock").is_err());
    }

    #[tokio::test]
    async fn an_absent_server_is_unreachable_and_named() {
        let client = Client::new(&Server::Unix("/nonexistent/control.sock".into())).unwrap();
        let error = client.get::<serde_json::Value>("/v1/version").await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Unreachable { server, .. } if server.contains("/nonexistent")),
            "{error}"
        );
    }
}
