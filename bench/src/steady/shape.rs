//! Decides what is asked: the four shapes of requests whose prices differ.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::target::Target;
use crate::load::Options;

/// Bytes of a large answer, and of a body that is sent.
const LARGE: usize = 64 << 10;
const POSTED: usize = 16 << 10;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An answer of some 200 bytes over a connection that is kept.
    Small,
    /// An answer of 64 KiB.
    Large,
    /// A body of 16 KiB, and a small answer.
    Post,
    /// A small answer, and a connection for each.
    NewConnection,
}

impl Shape {
    pub const ALL: [Self; 4] = [Self::Small, Self::Large, Self::Post, Self::NewConnection];

    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "64 KiB",
            Self::Post => "POST 16 KiB",
            Self::NewConnection => "new connection",
        }
    }

    pub fn load(self, target: &Target, rate: f64) -> anyhow::Result<Options> {
        let path = match self {
            Self::Large => format!("/big?bytes={LARGE}"),
            Self::Small | Self::Post | Self::NewConnection => "/info".to_owned(),
        };
        let mut options = Options::get(&format!("http://{}{path}", target.http), rate)?;
        options.host = Some(target.host.clone());
        match self {
            Self::Post => {
                options.method = Method::POST;
                options.body = Bytes::from(vec![b'x'; POSTED]);
            }
            Self::NewConnection => {
                let close = HeaderValue::from_static("close");
                options.headers.push((HeaderName::from_static("connection"), close));
            }
            Self::Small | Self::Large => {}
        }
        Ok(options)
    }
}
