//! Decides what is asked of a node is done, in which order, and what is refused.

use super::{Answer, Ask, Keeper, limit_of};
use crate::app::Event;
use crate::clock::{later, since};
use crate::drain::phase::{Drain, Step};
use crate::record::DrainRecord;
use crate::store::StoreError;
use miren_api::node::DrainRequest;
use miren_api::{ApiError, ErrorCode};
use miren_fault::Point;
use std::time::Duration;

impl Keeper<'_> {
    /// Does what is asked, and answers. Who asked may be gone: that changes nothing.
    pub(super) async fn answer(&mut self, ask: Ask, reply: Answer) {
        let answer = match ask {
            Ask::Cordon(cordoned) => self.cordon(cordoned).await,
            Ask::Drain(request) => self.drain(request).await,
            Ask::Undrain => self.undrain().await,
            Ask::Stop { limit, is_patient } => {
                self.stop(limit, is_patient);
                Ok(())
            }
        };
        let _ = reply.send(answer);
    }

    async fn cordon(&mut self, cordoned: bool) -> Result<(), ApiError> {
        let node = &self.world().node;
        if !cordoned && self.progress.drain.is_some() {
            let message = format!("node {node} drains: that it is not cordoned would change nothing");
            return Err(ApiError::new(ErrorCode::Conflict, message).remedy("miren node undrain"));
        }
        let kept = self.world().nodes.cordon(cordoned).await;
        let changed = kept.map_err(|error| {
            let message = format!("keeping whether node {node} is cordoned: {error}");
            ApiError::new(ErrorCode::Internal, message).remedy("again in a moment; nothing has changed")
        })?;
        if changed {
            tracing::info!(node, cordoned, "whether the node takes new placements has changed");
        }
        Ok(())
    }

    async fn drain(&mut self, request: DrainRequest) -> Result<(), ApiError> {
        let limit = limit_of(&request, self.world().policy.drain.node_timeout)?;
        if self.progress.drain.is_none() {
            self.check_new(&request)?;
            self.begin(limit).await?;
        } else if request.timeout.is_some() {
            self.shorten(limit).await;
        }
        let now = self.world().clock.steady();
        if request.force
            && let Some(drain) = &mut self.progress.drain
            && drain.force(now)
        {
            let drain = drain.clone();
            self.note_phase(&drain);
        }
        self.tell();
        Ok(())
    }

    /// What a drain that does not go on yet has to say.
    fn check_new(&self, request: &DrainRequest) -> Result<(), ApiError> {
        let node = &self.world().node;
        if request.allow_outage {
            return Ok(());
        }
        if request.force {
            let message = format!("node {node} does not drain: there is nothing to force");
            let error = ApiError::new(ErrorCode::InvalidValue, message).field("force");
            return Err(error.remedy("miren node drain --allow-outage, and --force with it or after it"));
        }
        let message = format!("node {node} is the only one: to drain it takes everything down that it serves");
        let error = ApiError::new(ErrorCode::InvalidValue, message).field("allow_outage");
        Err(error.remedy("miren node drain --allow-outage"))
    }

    /// Kept first, so that nothing has changed where that fails; then the gate is closed, and then it is told.
    async fn begin(&mut self, limit: Duration) -> Result<(), ApiError> {
        let now = self.world().clock.steady();
        let drain = Drain::begin(now, limit, true);
        let record = self.record(&drain);
        let kept = self.keep_as(Some(record), Point::DrainKeep).await;
        kept.map_err(|error| {
            let message = format!("keeping that node {} drains: {error}", self.world().node);
            ApiError::new(ErrorCode::Internal, message).remedy("again in a moment; nothing has changed")
        })?;
        miren_fault::pass(Point::DrainKept);
        self.set(drain);
        Ok(())
    }

    fn set(&mut self, drain: Drain) {
        let closed = self.admission().close_api();
        let (node, epoch) = (&self.world().node, self.admission().epoch());
        tracing::info!(node, epoch, admitted = closed.counts().total(), deadline = ?drain.deadline,
            "the node drains: nothing new is let in, what was let in goes on");
        miren_fault::pass(Point::DrainClosed);
        self.progress.drain = Some(drain);
        self.progress.errors.clear();
        self.cadence = Default::default();
        self.was_drained = false;
        self.tell();
    }

    async fn shorten(&mut self, limit: Duration) {
        let now = self.world().clock.steady();
        if let Some(drain) = &mut self.progress.drain {
            drain.shorten(now, limit);
        }
        self.keep(Point::DrainKeep).await;
    }

    /// The daemon ends: the drain there is goes on, or one begins. Its successor knows nothing of that, nor of the time that is left here.
    fn stop(&mut self, limit: Duration, is_patient: bool) {
        let now = self.world().clock.steady();
        (self.is_stopping, self.is_kept) = (true, false);
        match &mut self.progress.drain {
            Some(drain) => {
                drain.shorten(now, limit);
                drain.is_patient &= is_patient;
                self.tell();
            }
            None => self.set(Drain::begin(now, limit, is_patient)),
        }
    }

    /// New gates take work again; the old ones stay closed, and what was told to drain does so.
    async fn undrain(&mut self) -> Result<(), ApiError> {
        let Some(drain) = &self.progress.drain else {
            return Ok(());
        };
        if self.is_stopping {
            let message = format!("control of node {} ends: its drain goes on", self.world().node);
            return Err(ApiError::new(ErrorCode::Draining, message).remedy("miren node undrain, once control is back"));
        }
        drain.undo(self.world().clock.steady())?;
        let kept = self.keep_as(None, Point::DrainUndo).await;
        kept.map_err(|error| {
            let message = format!("keeping that node {} does not drain: {error}", self.world().node);
            ApiError::new(ErrorCode::Internal, message).remedy("again in a moment; it drains still")
        })?;
        self.admission().open();
        self.progress = Default::default();
        self.tell();
        self.node.apps.tell_all(|| Event::NodeOpens);
        tracing::info!(
            node = self.world().node,
            generation = self.admission().seen().generation,
            "the node takes work again"
        );
        Ok(())
    }

    /// Keeps how far it is for the next daemon. Where that fails, that one begins a step earlier.
    pub(super) async fn keep(&mut self, point: Point) {
        let Some(drain) = self.progress.drain.as_ref().filter(|_| self.is_kept) else {
            return;
        };
        let record = self.record(drain);
        if let Err(error) = self.keep_as(Some(record), point).await {
            tracing::error!(%error, "keeping how far the drain of the node is failed; a restart would begin it again");
        }
    }

    async fn keep_as(&self, record: Option<DrainRecord>, point: Point) -> Result<bool, StoreError> {
        miren_fault::at(point).await?;
        self.world().nodes.keep_drain(record).await
    }

    fn record(&self, drain: &Drain) -> DrainRecord {
        let clock = &self.world().clock;
        let (now, steady) = (clock.now(), clock.steady());
        DrainRecord {
            boot: crate::drain::boot().unwrap_or_default(),
            deadline: drain.deadline.map(|at| later(now, since(at, steady))),
            starts_closed: drain.step >= Step::Starts,
        }
    }
}
