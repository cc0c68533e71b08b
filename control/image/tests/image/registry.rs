//! Decides how the registry of these tests answers, rightly or wrongly, and counts what it is asked.

use super::build::Built;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use futures_util::StreamExt;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What goes wrong with one path.
#[derive(Clone)]
pub enum Wrong {
    /// This is sent instead.
    Content(Vec<u8>),
    /// The first answer breaks off in the middle, given a permit; later ones are whole, or from where they are wanted.
    BreaksOnce(Arc<Semaphore>),
    /// Every answer breaks off in the middle, wherever it is wanted from.
    Breaks,
    /// Nothing comes after the first half.
    Stalls,
    /// It never ends.
    Endless,
    Status(u16),
    /// It is elsewhere.
    Redirect(String),
    /// Answered once there is a permit.
    Waits(Arc<Semaphore>),
}

/// Who may ask.
#[derive(Clone, Debug, Default)]
pub enum Access {
    #[default]
    Everyone,
    /// With this header.
    Basic(String),
    /// With a token, which the header is traded for; a token is good for so many requests.
    Token { basic: Option<String>, uses: usize },
}

#[derive(Default)]
struct Content {
    manifests: HashMap<String, Vec<u8>>,
    blobs: HashMap<String, Vec<u8>>,
    wrong: HashMap<String, Wrong>,
    access: Access,
    /// Where tokens are to be had, if not here.
    tokens: Option<SocketAddr>,
    /// Uses left of the only token that counts.
    token: (usize, usize),
    asked: Vec<(String, HeaderMap)>,
}

#[derive(Clone)]
pub struct Registry {
    pub address: SocketAddr,
    content: Arc<Mutex<Content>>,
}

impl Registry {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self {
            address: listener.local_addr().unwrap(),
            content: Arc::default(),
        };
        let app = Router::new().fallback(answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        registry
    }

    /// Has an image under `app:tag`; says its full name.
    pub fn add(&self, tag: &str, image: &Built) -> String {
        let mut content = self.content.lock();
        for name in [tag.to_owned(), image.digest.to_string()] {
            content.manifests.insert(name, image.manifest.clone());
        }
        content.blobs.extend(image.contents());
        self.name(tag)
    }

    pub fn name(&self, tag: &str) -> String {
        format!("{}/app:{tag}", self.address)
    }

    pub fn manifest(&self, name: &str, text: Vec<u8>) {
        self.content.lock().manifests.insert(name.into(), text);
    }

    pub fn access(&self, access: Access) {
        self.content.lock().access = access;
    }

    /// Says that another one has the tokens.
    pub fn tokens_at(&self, other: &Self) {
        self.content.lock().tokens = Some(other.address);
    }

    /// For the path that ends so.
    pub fn wrong(&self, end: &str, wrong: Wrong) {
        self.content.lock().wrong.insert(end.into(), wrong);
    }

    pub fn right(&self) {
        self.content.lock().wrong.clear();
    }

    /// How often a path was asked for that ends so.
    pub fn asked(&self, end: &str) -> usize {
        self.content
            .lock()
            .asked
            .iter()
            .filter(|(path, _)| path.ends_with(end))
            .count()
    }

    pub fn headers(&self, end: &str) -> Vec<HeaderMap> {
        let content = self.content.lock();
        let asked = content.asked.iter().filter(|(path, _)| path.ends_with(end));
        asked.map(|(_, headers)| headers.clone()).collect()
    }
}

async fn answer(State(registry): State<Registry>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    let (refused, wrong, found) = {
        let mut content = registry.content.lock();
        content.asked.push((path.clone(), headers.clone()));
        let asked = content.asked.iter().filter(|(other, _)| *other == path).count();
        let wrong = content.wrong.iter().find(|(end, _)| path.ends_with(end.as_str()));
        let wrong = wrong.map(|(_, wrong)| wrong.clone());
        let wrong = wrong.filter(|wrong| !matches!(wrong, Wrong::BreaksOnce(_)) || asked == 1);
        let refused = content.refuse(&path, &headers, registry.address);
        (refused, wrong, content.find(&path))
    };
    if let Some(refused) = refused {
        return refused;
    }
    let Some(found) = found else {
        let why = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        return plain(StatusCode::NOT_FOUND, why.into());
    };
    match wrong {
        None => part(&found, &headers),
        Some(wrong) => wrongly(wrong, found, &headers).await,
    }
}

async fn wrongly(wrong: Wrong, found: Vec<u8>, headers: &HeaderMap) -> Response<Body> {
    let half = Bytes::copy_from_slice(&found[..found.len() / 2]);
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(half)]);
    let sized = |body| {
        let builder = Response::builder().header(header::CONTENT_LENGTH, found.len());
        builder.body(body).unwrap()
    };
    match wrong {
        Wrong::Content(content) => plain(StatusCode::OK, content),
        Wrong::BreaksOnce(permits) => {
            let end = futures_util::stream::once(async move {
                permits.acquire().await.unwrap().forget();
                Err(std::io::Error::other("broken off"))
            });
            sized(Body::from_stream(first.chain(end)))
        }
        Wrong::Breaks => {
            let end = futures_util::stream::iter([Err(std::io::Error::other("broken off"))]);
            sized(Body::from_stream(first.chain(end)))
        }
        Wrong::Stalls => sized(Body::from_stream(first.chain(futures_util::stream::pending()))),
        Wrong::Endless => {
            let block = Bytes::from(vec![b' '; 1 << 16]);
            Response::new(Body::from_stream(futures_util::stream::repeat_with(move || {
                Ok::<_, std::io::Error>(block.clone())
            })))
        }
        Wrong::Status(status) => plain(StatusCode::from_u16(status).unwrap(), Vec::new()),
        Wrong::Redirect(to) => {
            let builder = Response::builder().status(307).header(header::LOCATION, to);
            builder.body(Body::empty()).unwrap()
        }
        Wrong::Waits(permits) => {
            permits.acquire().await.unwrap().forget();
            part(&found, headers)
        }
    }
}

fn plain(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    Response::builder().status(status).body(body.into()).unwrap()
}

/// From the byte on that is wanted.
fn part(found: &[u8], headers: &HeaderMap) -> Response<Body> {
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        None => plain(StatusCode::OK, found.to_vec()),
        Some(from) => plain(StatusCode::PARTIAL_CONTENT, found[from..].to_vec()),
    }
}

impl Content {
    fn find(&self, path: &str) -> Option<Vec<u8>> {
        let last = path.rsplit('/').next()?;
        if path == "/v2/" || path == "/token" {
            return Some(format!(r#"{{"token":"token-{}"}}"#, self.token.0).into_bytes());
        }
        let known = if path.contains("/manifests/") {
            &self.manifests
        } else {
            &self.blobs
        };
        known.get(last).cloned()
    }

    fn refuse(&mut self, path: &str, headers: &HeaderMap, address: SocketAddr) -> Option<Response<Body>> {
        let shown = headers.get(header::AUTHORIZATION).and_then(|shown| shown.to_str().ok());
        let challenge = match self.access.clone() {
            Access::Everyone => return None,
            Access::Basic(wanted) if shown == Some(&wanted) => return None,
            Access::Basic(_) => r#"Basic realm="test""#.to_owned(),
            Access::Token { basic, uses } if path == "/token" => {
                if basic.is_none() || shown == basic.as_deref() {
                    self.token = (self.token.0 + 1, uses);
                    return None;
                }
                return Some(plain(StatusCode::UNAUTHORIZED, b"who is that?".to_vec()));
            }
            Access::Token { .. } => {
                let wanted = format!("Bearer token-{}", self.token.0);
                if self.token.1 > 0 && shown == Some(&wanted) {
                    self.token.1 -= 1;
                    return None;
                }
                let at = self.tokens.unwrap_or(address);
                format!(r#"Bearer realm="http://{at}/token",service="test""#)
            }
        };
        let builder = Response::builder()
            .status(401)
            .header(header::WWW_AUTHENTICATE, challenge);
        Some(builder.body(Body::empty()).unwrap())
    }
}
