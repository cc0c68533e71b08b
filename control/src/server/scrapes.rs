//! Decides who is connected to the metrics: a few at a time, of whom those who have asked for nothing for longest give way to new ones, so
//! that silent connections keep nobody out and cost nothing that grows.

use axum::Router;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Connections at once. Those who scrape have one each.
const PLACES: usize = 64;
/// Time for a request's head, and between two requests: longer than the usual minute of a scraper.
const PATIENCE: Duration = Duration::from_secs(90);
/// Largest head, and what is buffered of an answer at once.
const BUFFER: usize = 16 << 10;
/// How long nobody is let in when the system has nothing left for a connection.
const SHORTAGE: Duration = Duration::from_secs(1);
/// How long answers under way get when the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Serves `pages` until `ending`.
pub(super) async fn serve(listener: TcpListener, pages: Router, ending: CancellationToken) {
    let places = Arc::new(Places::default());
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let place = Place::take(&places);
                    let served = answer(stream, place, pages.clone(), ending.clone());
                    open.push(miren_log::caught("a connection to the metrics", served));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection to the metrics can be accepted");
                    tokio::time::sleep(SHORTAGE).await;
                }
            },
            // The panic of one was told, and is its own.
            Some(_) = open.next() => {}
            () = ending.cancelled() => break,
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(LAST_ANSWERS, open.for_each(|_| async {})).await;
}

async fn answer(stream: TcpStream, place: Place, pages: Router, ending: CancellationToken) {
    let pages = TowerToHyperService::new(pages);
    let asked = hyper::service::service_fn(|request| {
        place.asked();
        pages.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), asked);
    let mut served = pin!(served);
    let outcome = tokio::select! {
        outcome = &mut served => outcome,
        // A page takes no time: whoever has asked for nothing for longest is silent, or does not read.
        () = place.needed.cancelled() => return,
        () = ending.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection to the metrics broke off");
    }
}

/// Who is connected, those first who have asked for nothing for longest.
#[derive(Debug, Default)]
struct Places(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    order: VecDeque<(u64, CancellationToken)>,
    taken: u64,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    number: u64,
    /// Cancelled when another one needs it.
    needed: CancellationToken,
}

impl Place {
    /// Takes one; where there is none, the first in order is told to leave.
    fn take(places: &Arc<Places>) -> Self {
        let mut open = places.0.lock();
        if open.order.len() >= PLACES
            && let Some((_, first)) = open.order.pop_front()
        {
            first.cancel();
        }
        open.taken += 1;
        let (number, needed) = (open.taken, CancellationToken::new());
        open.order.push_back((number, needed.clone()));
        drop(open);
        Self {
            places: Arc::clone(places),
            number,
            needed,
        }
    }

    /// A request has come: it is the last in order again.
    fn asked(&self) {
        let mut open = self.places.0.lock();
        if let Some(own) = open.take_out(self.number) {
            open.order.push_back(own);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().take_out(self.number);
    }
}

impl Open {
    fn take_out(&mut self, number: u64) -> Option<(u64, CancellationToken)> {
        let at = self.order.iter().position(|(other, _)| *other == number)?;
        self.order.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_asked_for_nothing_for_longest_gives_way() {
        let places = Arc::new(Places::default());
        let all: Vec<Place> = (0..PLACES).map(|_| Place::take(&places)).collect();
        all[0].asked();
        let more = [Place::take(&places), Place::take(&places)];
        let gone: Vec<usize> = (0..PLACES).filter(|at| all[*at].needed.is_cancelled()).collect();
        assert_eq!(gone, [1, 2]);
        drop(more);
        assert_eq!(places.0.lock().order.len(), PLACES - 2);
        // One that had to leave, and asks while it does, takes no place again.
        all[1].asked();
        drop(all);
        assert!(places.0.lock().order.is_empty());
    }
}
