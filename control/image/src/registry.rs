//! Decides how a registry is spoken to: names, authorization, and transfers that are bounded, verified and resumed.
//!
//! `oci-client` reads names. It reads whole answers into memory whatever their size and follows them wherever they lead, so
//! what is fetched, tokens too, comes through requests of our own.

mod answer;
mod authorization;
mod challenge;
mod reach;

use crate::auths::Credentials;
use crate::digest::{Digest, Hasher};
use crate::error::Fault;
use crate::limits::Limits;
use crate::manifest::{Descriptor, MEDIA_TYPES};
use crate::reference::Reference;
use authorization::{Asked, Authorization};
use reach::Reach;
use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// How often the same thing is asked for while the registry cannot, or the transfer breaks off.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

/// The full name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(oci_client::Reference);

impl Name {
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let parsed = text.parse();
        parsed
            .map(Self)
            .map_err(|error: oci_client::ParseError| Fault::Invalid(error.to_string()))
    }

    pub(crate) fn registry(&self) -> &str {
        self.0.registry()
    }

    pub(crate) fn repository(&self) -> &str {
        self.0.repository()
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.0.tag()
    }

    pub(crate) fn digest(&self) -> Option<&str> {
        self.0.digest()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One repository of a registry.
pub(crate) struct Registry {
    http: Client,
    /// Where the repository's manifests and blobs are.
    base: String,
    idle: Duration,
    authorization: Authorization,
}

/// A file that a blob is written to.
struct Partial {
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl Registry {
    /// Prepares; nothing is sent yet.
    pub(crate) fn new(reference: &Reference, credentials: Credentials, limits: &Limits) -> Result<Self, Fault> {
        // Fails if the process has one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let is_plain = reference.is_loopback() || limits.plain_http.iter().any(|plain| plain == reference.registry());
        let reach = Reach::new(&limits.registries);
        let http = Client::builder()
            .connect_timeout(limits.idle)
            .read_timeout(limits.idle)
            .redirect(reach.redirects())
            .dns_resolver(reach.clone())
            .user_agent("miren")
            .build();
        let http = http.map_err(|error| answer::failed(&error, limits.idle))?;
        let name = &reference.name.0;
        let scheme = if is_plain { "http" } else { "https" };
        let entrance = format!("{scheme}://{}/v2/", name.resolve_registry());
        let url: Url = entrance
            .parse()
            .map_err(|error| Fault::Invalid(format!("{entrance}: {error}")))?;
        reach
            .check(&url)
            .map_err(|unnamed| Fault::Unauthorized(unnamed.to_string()))?;
        let base = format!("{entrance}{}", name.repository());
        let scope = format!("repository:{}:pull", name.repository());
        let asked = Asked { entrance, scope };
        Ok(Self {
            http: http.clone(),
            base,
            idle: limits.idle,
            authorization: Authorization::new(http, reach, asked, credentials, limits.idle),
        })
    }

    /// A manifest or an index, by its tag or its digest.
    pub(crate) async fn manifest(&self, which: &str, max: u64) -> Result<Vec<u8>, Fault> {
        let url = format!("{}/manifests/{which}", self.base);
        self.small(&url, "the manifest", max).await
    }

    /// A blob that fits into memory, verified.
    pub(crate) async fn blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, Fault> {
        let url = format!("{}/blobs/{digest}", self.base);
        let bytes = self.small(&url, "the image's configuration", max).await?;
        let mut hasher = Hasher::default();
        hasher.update(&bytes);
        hasher.verify(digest)?;
        Ok(bytes)
    }

    async fn small(&self, url: &str, what: &'static str, max: u64) -> Result<Vec<u8>, Fault> {
        let mut tried = 1;
        loop {
            let read = async { answer::read(self.get(url, 0).await?, what, max, self.idle).await };
            match read.await {
                Err(Fault::Unreachable(_)) if tried < TRIES => tokio::time::sleep(PAUSE * tried).await,
                other => return other,
            }
            tried += 1;
        }
    }

    /// Writes a blob to a new file, verified. `told` hears how many bytes there are.
    pub(crate) async fn download(
        &self,
        blob: &Descriptor,
        path: &Path,
        told: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Fault> {
        let mut partial = Partial {
            file: File::create_new(path).await?,
            hasher: Hasher::default(),
            bytes: 0,
        };
        let mut tried = 1;
        while let Err(fault) = self.resume(blob, &mut partial, told).await {
            if tried == TRIES || !matches!(fault, Fault::Unreachable(_)) {
                return Err(fault);
            }
            tokio::time::sleep(PAUSE * tried).await;
            tried += 1;
        }
        partial.file.flush().await?;
        partial.hasher.verify(&blob.digest)
    }

    async fn resume(
        &self,
        blob: &Descriptor,
        partial: &mut Partial,
        told: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Fault> {
        let url = format!("{}/blobs/{}", self.base, blob.digest);
        let mut response = self.get(&url, partial.bytes).await?;
        if partial.bytes > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            partial.restart().await?;
        }
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| answer::failed(&error, self.idle))?
        {
            partial.bytes += chunk.len() as u64;
            if partial.bytes > blob.size {
                return Err(Fault::corrupt(format_args!(
                    "the registry sends more than the {} bytes it should have",
                    blob.size
                )));
            }
            partial.hasher.update(&chunk);
            partial.file.write_all(&chunk).await?;
            told(partial.bytes);
        }
        if partial.bytes < blob.size {
            return Err(Fault::corrupt(format_args!(
                "the registry sends {} bytes of {}",
                partial.bytes, blob.size
            )));
        }
        Ok(())
    }

    /// A successful answer, from `from` bytes on if the registry can.
    async fn get(&self, url: &str, from: u64) -> Result<Response, Fault> {
        let mut shown = self.authorization.now().await;
        loop {
            let mut request = self.http.get(url).header(ACCEPT, MEDIA_TYPES.join(", "));
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let response = shown
                .apply(request)
                .send()
                .await
                .map_err(|error| answer::failed(&error, self.idle))?;
            if response.status() != StatusCode::UNAUTHORIZED || shown.is_fresh {
                return answer::check(response).await;
            }
            // Nothing was shown yet, or it has expired.
            shown = self.authorization.renew(&shown).await?;
        }
    }
}

impl Partial {
    /// The registry begins anew.
    async fn restart(&mut self) -> Result<(), Fault> {
        self.file.flush().await?;
        self.file.set_len(0).await?;
        self.file.rewind().await?;
        self.hasher = Hasher::default();
        self.bytes = 0;
        Ok(())
    }
}
