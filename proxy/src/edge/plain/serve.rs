//! One request of a client connection: from its head to what becomes of the connection.

use super::attempt::{After, Attempt};
use super::client::{Client, NoRequest};
use super::gone::gone;
use super::rate;
use super::upload::{Unheld, Upload};
use crate::lease::{Ended, Permit, Tried};
use crate::life::gate::Class;
use crate::listen::{Place, Seldom};
use crate::request::account::{Account, Protocol};
use crate::request::admission::{Admission, Way};
use crate::request::attempt::{self, Facts, Failure, Next};
use crate::request::forward::Sender;
use crate::request::framing::Framing;
use crate::request::head::Head;
use crate::request::id::RequestId;
use crate::request::own::{self, Reader};
use crate::request::refusal::{Reason, Refusal};
use crate::request::{HEALTH_PATH, Parts, Rules};
use miren_loader::State;
use tokio::time::Instant;

/// What a connection's requests are served with.
#[derive(Debug)]
pub struct Server<'s> {
    pub parts: &'s Parts,
    pub rules: &'s Rules,
    /// Clients that took their answers too slowly.
    pub slow_readers: &'s Seldom,
}

/// A request that is served.
struct Request<'r> {
    head: &'r Head,
    place: &'r Place,
    trusted: bool,
    tried: Tried,
}

/// Why nobody lets a request in.
enum Unadmitted {
    Refused(Refusal),
    Gone,
}

impl Server<'_> {
    /// Reads the next request, whose head has to be there at `deadline`, and answers it.
    pub async fn serve(&self, client: &mut Client<'_>, place: &Place, deadline: Instant) -> After {
        let head = tokio::select! {
            biased;
            head = client.read_head(self.rules.limits.header_bytes.0, deadline, place) => head,
            // Whoever takes its time with a head gives way to others.
            () = place.needed() => return After::Drop,
            // Whatever comes of it from now on is too late.
            () = place.cut() => return After::Close { unread: true },
        };
        match head {
            Ok(head) => {
                place.begins();
                let after = self.serve_one(client, &head, place).await;
                place.ends();
                after
            }
            Err(NoRequest::Gone) => After::Drop,
            Err(NoRequest::Refuse(reason)) => self.refuse_unread(client, reason).await,
        }
    }

    async fn serve_one(&self, client: &mut Client<'_>, head: &Head, place: &Place) -> After {
        let _counted = self.parts.gate.enter(Class::Request);
        self.parts.metrics.requests_in_flight.inc();
        let trusted = self.rules.trusts(client.peer);
        let protocol = if head.is_http_11 {
            Protocol::Http11
        } else {
            Protocol::Http10
        };
        let mut account = Account::begin(RequestId::of(&head.fields, trusted), protocol);
        account.method = head.method.clone();
        account.host = head.host.clone();
        account.target_bytes = head.target.len();
        let mut request = Request {
            head,
            place,
            trusted,
            tried: Tried {
                hedge: head.is_hedged(),
                ..Tried::default()
            },
        };
        let after = self.answer(client, &mut request, &mut account).await;
        self.parts.metrics.requests_in_flight.dec();
        account.close(&self.parts.metrics);
        after
    }

    async fn answer(&self, client: &mut Client<'_>, request: &mut Request<'_>, account: &mut Account) -> After {
        let mut upload = Upload::new(request.head.body, rate::Limits::of_request(self.rules));
        if request.head.target == HEALTH_PATH {
            account.status = 200;
            let reader = self.reader(request, &upload, &account.id);
            return say(client, &reader, Own::Text("ok\n")).await;
        }
        let outcome = self.attempts(client, request, &mut upload, account).await;
        account.bytes_in += upload.bytes;
        match outcome {
            Ok(after) => after,
            Err(Unadmitted::Gone) => After::Drop,
            Err(Unadmitted::Refused(refusal)) => {
                account.refuse(refusal);
                say(
                    client,
                    &self.reader(request, &upload, &account.id),
                    Own::Refusal(refusal),
                )
                .await
            }
        }
    }

    /// Tries one sandbox after the other, as long as that may help.
    async fn attempts(
        &self,
        client: &mut Client<'_>,
        request: &mut Request<'_>,
        upload: &mut Upload,
        account: &mut Account,
    ) -> Result<After, Unadmitted> {
        self.receive(client, request, upload).await?;
        loop {
            account.attempts += 1;
            if account.attempts > 1 {
                self.parts.metrics.retries.inc();
            }
            let begun = Instant::now();
            let (permit, way) = self.permit(client, request, upload, account).await?;
            if upload.waited(begun.elapsed()) {
                return Err(Unadmitted::Refused(Reason::RequestTimeout.into()));
            }
            let attempt = Attempt {
                parts: self.parts,
                rules: self.rules,
                place: request.place,
                head: request.head,
                sender: Sender {
                    address: client.peer,
                    trusted: request.trusted,
                    id: &account.id.clone(),
                },
                permit: &permit,
                first_byte: way.first_byte,
                fresh: request.tried.any.contains(&permit.lease().key),
                movable: account.attempts == 1 && request.tried.hedge,
            };
            let failure = match attempt.run(client, upload, account).await {
                Ok(after) => return Ok(after),
                Err(failure) => failure,
            };
            match judge(failure, request, upload, &permit, account).await {
                Next::Again | Next::AgainOnce => {
                    account.retried.push(failure.name());
                    // Nobody was shown it.
                    account.status = 0;
                    permit.give_up();
                    tokio::time::sleep(attempt::pause(failure, account.attempts)).await;
                }
                Next::Refuse(reason) => return Err(Unadmitted::Refused(reason.into())),
                Next::Cut => {
                    self.cut(failure, &permit, account);
                    return Ok(After::Reset);
                }
            }
        }
    }

    /// Counts and tells why an answer breaks off.
    fn cut(&self, failure: Failure, permit: &Permit, account: &mut Account) {
        account.cut = Some(failure.name());
        if !matches!(failure, Failure::ClientSlow { .. }) {
            return;
        }
        self.parts.metrics.cuts.slow_readers.inc();
        if let Some(times) = self.slow_readers.happened(Instant::now().into_std()) {
            let app = &permit.pool().target.app;
            tracing::warn!(%app, times, "clients were cut that took their answers too slowly");
        }
    }

    /// Reads what has to be here before a sandbox is asked for, of a request whose host leads somewhere.
    async fn receive(
        &self,
        client: &mut Client<'_>,
        request: &Request<'_>,
        upload: &mut Upload,
    ) -> Result<(), Unadmitted> {
        if request.head.body == Framing::None {
            return Ok(());
        }
        if let Err(refusal) = self.admission(request.head, 0).way() {
            upload.drop_what_is_there(client);
            return Err(Unadmitted::Refused(refusal));
        }
        if request.head.expects_continue {
            let said = client.write(&[b"HTTP/1.1 100 Continue\r\n\r\n"]).await;
            said.map_err(|_| Unadmitted::Gone)?;
        }
        let held = tokio::select! {
            biased;
            held = upload.hold(client, request.head.bytes, request.place) => held,
            () = request.place.cut() => return Err(Unadmitted::Refused(Reason::DrainDeadline.into())),
        };
        held.map_err(|unheld| match unheld {
            Unheld::Full => Unadmitted::Refused(Reason::QueueFull.into()),
            Unheld::Failed(Failure::ClientSlow { .. }) => Unadmitted::Refused(Reason::RequestTimeout.into()),
            Unheld::Failed(Failure::ClientWrong { .. }) => Unadmitted::Refused(Reason::BadRequest.into()),
            Unheld::Failed(_) => Unadmitted::Gone,
        })
    }

    fn admission<'h>(&'h self, head: &'h Head, held: u64) -> Admission<'h> {
        Admission {
            parts: self.parts,
            rules: self.rules,
            host: head.host_text(),
            bytes: head.bytes + held,
        }
    }

    async fn permit(
        &self,
        client: &Client<'_>,
        request: &Request<'_>,
        upload: &Upload,
        account: &mut Account,
    ) -> Result<(Permit, Way), Unadmitted> {
        let admission = self.admission(request.head, upload.held_bytes());
        match admission.at_once(&request.tried, account) {
            Ok(Some(admitted)) => return Ok(admitted),
            Ok(None) => {}
            Err(refusal) => return Err(Unadmitted::Refused(refusal)),
        }
        tokio::select! {
            biased;
            admitted = admission.wait(&request.tried, account) => admitted.map_err(Unadmitted::Refused),
            () = gone(client.stream, request.head.is_http_11) => Err(Unadmitted::Gone),
            () = request.place.cut() => Err(Unadmitted::Refused(Reason::DrainDeadline.into())),
        }
    }

    /// Who is answered in the place of an app. The connection is kept where the next request begins behind this one.
    fn reader<'r>(&self, request: &'r Request<'_>, upload: &Upload, id: &'r RequestId) -> Reader<'r> {
        Reader {
            id,
            fields: Some(&request.head.fields),
            is_http_11: request.head.is_http_11,
            head_only: request.head.method == http::Method::HEAD,
            keeps: request.head.keeps && upload.is_read() && !self.parts.gate.is_closing(),
        }
    }

    /// Answers what was no request.
    async fn refuse_unread(&self, client: &Client<'_>, reason: Reason) -> After {
        self.parts.metrics.refused(reason);
        let reader = Reader {
            id: &RequestId::new(),
            fields: None,
            is_http_11: true,
            head_only: false,
            keeps: false,
        };
        say(client, &reader, Own::Refusal(reason.into())).await
    }
}

/// What the proxy says itself.
enum Own {
    Text(&'static str),
    Refusal(Refusal),
}

/// Answers in the place of an app.
async fn say(client: &Client<'_>, reader: &Reader<'_>, own: Own) -> After {
    let mut out = Vec::with_capacity(512);
    match own {
        Own::Text(text) => own::text(&mut out, text, reader),
        Own::Refusal(refusal) => own::refuse(&mut out, &refusal, reader),
    }
    match client.write(&[&out]).await {
        Ok(()) if reader.keeps => After::Keep,
        // Nothing is known of a head that was not understood, or of a body that nobody has read.
        Ok(()) => After::Close { unread: true },
        Err(_) => After::Reset,
    }
}

/// What a failure leads to; what was learnt of the sandbox is noted.
async fn judge(
    failure: Failure,
    request: &mut Request<'_>,
    upload: &Upload,
    permit: &Permit,
    account: &Account,
) -> Next {
    let key = permit.lease().key;
    if let Failure::NotConnected { here } = failure {
        if here {
            // It may be descriptors that are missing.
            request.place.make_room();
        }
        request.tried.any.push(key);
        if !here {
            request.tried.refused.push(key);
            permit.pool().drop_lease(permit.lease());
        }
    }
    // What became of a sandbox is looked at only where something depends on it: that may take a moment.
    let ended = match failure {
        Failure::Broke { answered: false } => permit.ended().await,
        _ => Ended::Runs,
    };
    let Tried { any, refused, .. } = &request.tried;
    // Those that nobody answered at had ended before.
    let before = any.iter().filter(|other| **other != key && !refused.contains(other));
    request.tried.took_one_down |= permit.has_ended(before);
    let facts = Facts {
        failure,
        ended,
        was_stopped: matches!(permit.state(), Some(State::Stopping | State::Stopped)),
        attempts: account.attempts,
        idempotent: request.head.method.is_idempotent(),
        whole: upload.is_whole(),
        took_one_down: request.tried.took_one_down,
    };
    let next = attempt::next(&facts, || permit.pay_for_loss());
    request.tried.took_one_down |= next == Next::AgainOnce;
    if matches!(next, Next::Again | Next::AgainOnce) && matches!(failure, Failure::Broke { .. }) {
        request.tried.any.push(key);
    }
    next
}
