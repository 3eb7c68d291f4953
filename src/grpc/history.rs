//! What became of a partner, what it was, and back.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    call::begin,
    convert,
    parse::{self, Broken, complete},
    partner_requests::given,
    partners::{Partners, permit, single},
    turns::off_thread,
};
use crate::{
    auth::{
        Caller, Permit,
        permit::{GetPartner, ListRevisions, Purpose, RollbackPartner},
    },
    domain::{AllowedPartner, Revision, audit::Actor},
    proto::v1 as pb,
    registry::{
        Committed, Error, Registry,
        history::{PartnerRevision, RevisionsQuery, Waiting},
        pages::page_size,
    },
};

impl Partners {
    pub(super) async fn list_revisions(
        &self,
        request: Request<pb::ListAllowedPartnerRevisionsRequest>,
    ) -> Result<Response<pb::ListAllowedPartnerRevisionsResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let pb::ListAllowedPartnerRevisionsRequest { name, page_size: wanted, page_token } =
            &begun.message;
        let mut broken = Broken::default();
        let domain = parse::partner_name(name, "name", &mut broken);
        let size = broken.keep(page_size(*wanted));
        let (domain, page_size) = complete(domain.zip(size), broken)?;
        let permit = permit::<ListRevisions>(&self.registry.policy(), &begun.call, domain)?;
        let query = RevisionsQuery { page_size, page_token: page_token.clone() };
        let page = self
            .walk(&begun.call.caller, move |registry, waiting| {
                registry.revisions(&permit, &query, waiting)
            })
            .await?;
        let message = pb::ListAllowedPartnerRevisionsResponse {
            allowed_partner_revisions: page.revisions.into_iter().map(wire_revision).collect(),
            next_page_token: page.next.unwrap_or_default(),
            oldest_revision: page.oldest_revision.as_i64(),
        };
        Ok(begun.response(message, page.revision))
    }

    /// A partner as it was at a revision.
    pub(super) async fn get_at(
        &self,
        caller: &Caller,
        permit: Permit<GetPartner>,
        revision: Revision,
        show_deleted: bool,
    ) -> Result<Committed<Arc<AllowedPartner>>, Status> {
        self.walk(caller, move |registry, waiting| {
            registry.get_at(&permit, revision, show_deleted, waiting)
        })
        .await
    }

    pub(super) async fn rollback(
        &self,
        request: Request<pb::RollbackAllowedPartnerRequest>,
    ) -> Result<Response<pb::AllowedPartner>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let purpose = Purpose::of(message.validate_only);
        let policy = self.registry.policy();
        policy.allow::<RollbackPartner>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let domain = parse::partner_name(&message.name, "name", &mut broken);
        let revision = match message.revision {
            0 => {
                broken.add("revision", "missing; give the revision to go back to");
                None
            }
            number => revision_if_given(number, &mut broken),
        };
        let retry = broken.retry("RollbackAllowedPartner", &message.request_id, message);
        let permit = domain
            .map(|domain| policy.permit_domain::<RollbackPartner>(&begun.call, purpose, domain))
            .transpose()?;
        let (permit, revision) = complete(permit.zip(revision), broken)?;
        let rollback = self
            .walk(&begun.call.caller, move |registry, waiting| {
                registry.prepare_rollback(permit, revision, waiting)
            })
            .await?;
        let written = self.registry.rollback(rollback, given(&message.etag), retry).await?;
        single(&begun, written)
    }

    /// Lets `walk` read the log on a thread for blocking work, when it is its turn. It ends when
    /// nobody waits for it any more, because the deadline has passed or the client is gone.
    async fn walk<T: Send + 'static>(
        &self,
        caller: &Caller,
        walk: impl FnOnce(&Registry, Waiting<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let turn = self.turns.take(caller).await?;
        let registry = Arc::clone(&self.registry);
        Ok(off_thread(turn, move |waiting| walk(&registry, waiting)).await??)
    }
}

/// The revision that a request names; none if it is 0.
pub(super) fn revision_if_given(number: i64, broken: &mut Broken) -> Option<Revision> {
    match u64::try_from(number) {
        Ok(0) => None,
        Ok(number) => Some(Revision::new(number)),
        Err(_) => {
            broken.add("revision", "negative; give a revision that a response has stated");
            None
        }
    }
}

fn wire_revision(revision: PartnerRevision) -> pb::AllowedPartnerRevision {
    let PartnerRevision { time, actor, changed_fields, partner } = revision;
    let Actor { subject, issuer, request_id, reason } = actor;
    pb::AllowedPartnerRevision {
        revision: partner.revision.as_i64(),
        commit_time: Some(convert::timestamp(time)),
        subject: subject.to_string(),
        issuer: issuer.to_string(),
        reason: reason.to_string(),
        request_id: request_id.to_string(),
        changed_fields,
        allowed_partner: Some(convert::partner(&partner)),
    }
}
