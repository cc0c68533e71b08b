//! Decides how much of anything an image may have, and how much of it one image has used up.

use crate::error::Fault;
use crate::registries::Registries;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of one pull or import.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest pull.
    pub whole: Duration,
    /// Longest silence of a registry.
    pub idle: Duration,
    /// Bytes of a manifest or an index.
    pub manifest: u64,
    /// Bytes of a configuration.
    pub config: u64,
    pub layers: usize,
    /// Bytes of all layers as they are sent, or of an archive.
    pub compressed: u64,
    /// Bytes of all layers as tar streams, which is about what they take on disk.
    pub unpacked: u64,
    /// Files, folders, links and whiteouts of all layers.
    pub files: u64,
    /// Layers of one image fetched at a time.
    pub at_once: usize,
    /// Registries (`host` or `host:port`) spoken to without TLS, besides those on loopback.
    pub plain_http: Vec<String>,
    /// Those of this machine and its network that may be asked at all.
    pub registries: Registries,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            whole: Duration::from_secs(30 * 60),
            idle: Duration::from_secs(60),
            manifest: 4 << 20,
            config: 8 << 20,
            layers: 127,
            compressed: 16 << 30,
            unpacked: 32 << 30,
            files: 1_000_000,
            at_once: 3,
            plain_http: Vec::new(),
            registries: Registries::default(),
        }
    }
}

/// A bound that several readers use up together.
#[derive(Debug)]
pub(crate) struct Allowance {
    what: &'static str,
    max: u64,
    used: AtomicU64,
}

impl Allowance {
    pub(crate) fn new(what: &'static str, max: u64) -> Self {
        Self {
            what,
            max,
            used: AtomicU64::new(0),
        }
    }

    pub(crate) fn take(&self, amount: u64) -> Result<(), Fault> {
        let before = self.used.fetch_add(amount, Ordering::Relaxed);
        if before.saturating_add(amount) > self.max {
            return Err(Fault::TooLarge {
                what: self.what,
                max: self.max,
            });
        }
        Ok(())
    }

    /// Nothing more may be taken.
    pub(crate) fn exhaust(&self) {
        self.used.store(u64::MAX / 2, Ordering::Relaxed);
    }
}

/// What one image may still unpack.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) bytes: Allowance,
    pub(crate) files: Allowance,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            bytes: Allowance::new("the number of bytes of the unpacked image", limits.unpacked),
            files: Allowance::new("the number of files of the image", limits.files),
        }
    }
}

/// Counts what is read against an allowance.
pub(crate) struct Metered<'a, R> {
    inner: R,
    allowance: &'a Allowance,
    count: u64,
}

impl<'a, R> Metered<'a, R> {
    pub(crate) fn new(inner: R, allowance: &'a Allowance) -> Self {
        Self {
            inner,
            allowance,
            count: 0,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        self.allowance.take(count as u64)?;
        Ok(count)
    }
}
