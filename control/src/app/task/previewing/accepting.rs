//! Decides which requests for previews are taken: those whose every mistake can be told now are refused before anything is made.

use super::{Making, Preparation, PreviewOrder, Previews, Reply};
use crate::app::preview::Stage;
use crate::drain::Work;
use crate::record::{Asked, Source, Stored, size};
use miren_api::app_file::{self, Service, WEB};
use miren_api::ephemeral::EphemeralDeployed;
use miren_api::{ApiError, ErrorCode};
use miren_gate::Permit;
use std::collections::BTreeMap;
use std::time::Duration;

/// Previews of one app that are made at a time.
const AT_ONCE: usize = 8;
/// Answers remembered for those who ask again with the same key.
const RECENT: usize = 32;

/// The services that a preview has: none with a disk, which one version has at a time. Each starts with its first request.
pub(super) fn previewed(
    services: BTreeMap<String, Service>,
    previews: &app_file::Previews,
) -> impl Iterator<Item = (String, Service)> {
    let own = services.into_iter().filter(|(_, service)| service.disks.is_empty());
    own.map(|(name, mut service)| {
        service.concurrency = previews.concurrency(&service.concurrency);
        (name, service)
    })
}

impl Making {
    /// Answers an order that came before under the same key, now or with the one that is being made; gives back who asks if it
    /// is a new one. One that failed is forgotten: its key may try again.
    fn repeated(&mut self, order: &PreviewOrder, reply: Reply) -> Option<Reply> {
        if order.key.is_none() {
            return Some(reply);
        }
        let mut being_made = self.of.values_mut();
        if let Some(known) = being_made.find(|known| known.order.key == order.key) {
            match order.repeats(&known.order) {
                Ok(()) => known.join(reply),
                Err(error) => drop(reply.send(Err(error))),
            }
            return None;
        }
        let mut made = self.recent.iter();
        let Some((known, made)) = made.find(|(known, _)| known.key == order.key) else {
            return Some(reply);
        };
        // Who asked may be gone.
        let _ = reply.send(order.repeats(known).map(|()| made.clone()));
        None
    }
}

impl Preparation {
    /// One more who waits for it. Those who have gone need no answer.
    fn join(&mut self, reply: Reply) {
        self.replies.retain(|reply| !reply.is_closed());
        self.replies.push(reply);
    }
}

impl PreviewOrder {
    fn repeats(&self, known: &Self) -> Result<(), ApiError> {
        if self.request == known.request {
            return Ok(());
        }
        Err(used_for_another())
    }

    pub(super) fn asked(&self) -> Option<Asked> {
        Some(Asked::preview(self.key.clone()?, &self.request))
    }
}

fn used_for_another() -> ApiError {
    let message = "this Idempotency-Key was used for another preview of the app";
    ApiError::new(ErrorCode::Conflict, message).remedy("send a new key")
}

impl Previews<'_> {
    /// Begins to make a preview; the answer comes when it can be reached, or with why it cannot.
    pub async fn order(&mut self, mut order: PreviewOrder, reply: Reply) {
        let Some(reply) = self.making.repeated(&order, reply) else {
            return;
        };
        if let Some(made) = self.made_earlier(&order).transpose() {
            return drop(reply.send(made));
        }
        let permit = match self.book.admission.admit(Work::Preview) {
            Ok(permit) => permit,
            Err(error) => return drop(reply.send(Err(error))),
        };
        match self.accept_preview(&mut order).await {
            Ok(source) => self.begin_preview(order, source, (reply, permit)).await,
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// What the same key made in an earlier process, if it still has its label.
    fn made_earlier(&self, order: &PreviewOrder) -> Result<Option<EphemeralDeployed>, ApiError> {
        let Some(asked) = order.asked() else { return Ok(None) };
        let mut kept = self.book.state.previews.values();
        let known = kept.find_map(|version| {
            let preview = version.preview.as_ref()?;
            let known = preview.asked.as_ref().filter(|known| known.asked.key == asked.key)?;
            let shown = self.shown_label(&preview.label).ok()?;
            (shown.version == version.id).then_some((shown, known))
        });
        let Some((ephemeral, known)) = known else {
            return Ok(None);
        };
        if known.asked.digest != asked.digest {
            return Err(used_for_another());
        }
        Ok(Some(EphemeralDeployed {
            ephemeral,
            replaced: known.replaced.clone(),
            evicted: known.evicted.clone(),
            reused: known.reused,
        }))
    }

    pub(super) fn remember_preview(&mut self, order: PreviewOrder, made: EphemeralDeployed) {
        if order.key.is_some() {
            self.making.recent.truncate(RECENT - 1);
            self.making.recent.push_front((order, made));
        }
    }

    async fn accept_preview(&self, order: &mut PreviewOrder) -> Result<Source, ApiError> {
        if self.making.of.len() >= AT_ONCE {
            let message = format!("{AT_ONCE} previews of {} are being made already", self.book.name());
            return Err(ApiError::new(ErrorCode::Conflict, message).remedy("try again when one of them is there"));
        }
        let (mut source, services) = self
            .sources()
            .content(&order.request.content(), order.read.take())
            .await?;
        refuse_disks(&services)?;
        // All are kept with its version.
        size::check(&(&source, &services))?;
        // A clone, whatever it is made from (E7).
        source.version = None;
        Ok(source)
    }

    /// From here on it goes on whether or not anybody waits for it. An older one for the same label is given up.
    async fn begin_preview(&mut self, order: PreviewOrder, source: Source, (reply, permit): (Reply, Permit<Work>)) {
        if !self.book.exists {
            self.book.ledger.put(&self.book.state.app);
            if !self.book.commit().await {
                self.book.ledger.delete(self.book.state.app.key());
                let message = "saving the app failed; nothing has changed";
                return drop(reply.send(Err(ApiError::new(ErrorCode::Internal, message))));
            }
        }
        let seq = self.making.number(self.book.now());
        self.book.exists = true;
        let same = |preparation: &&Preparation| {
            preparation.order.label == order.label && preparation.stage != Stage::Announced
        };
        let older = self.making.of.iter().filter(|(_, older)| same(older));
        for older in older.map(|(seq, _)| *seq).collect::<Vec<_>>() {
            let message = format!("a newer preview {} was asked for", order.label);
            self.fail(older, ApiError::new(ErrorCode::Superseded, message));
        }
        let preparation = Preparation {
            order,
            source,
            replies: vec![reply],
            stage: Stage::Accepted,
            version: None,
            pools: Vec::new(),
            patience: Duration::ZERO,
            reused: false,
            replaced: None,
            evicted: Vec::new(),
        };
        self.making.of.insert(seq, preparation);
        self.book.held.begin(seq, permit);
    }
}

/// A preview without the service that requests come to would be none.
fn refuse_disks(services: &BTreeMap<String, Service>) -> Result<(), ApiError> {
    let main = services.get_key_value(WEB).or_else(|| services.iter().next());
    let Some((name, disk)) = main.and_then(|(name, service)| Some((name, service.disks.first()?))) else {
        return Ok(());
    };
    let message = format!(
        "service {name:?} mounts disk {:?}, which one version has at a time: a preview of it would take it away",
        disk.name
    );
    let remedy = "keep what has to last in a service of its own: a preview has the services without disks";
    Err(ApiError::new(ErrorCode::InvalidConfig, message).remedy(remedy))
}
