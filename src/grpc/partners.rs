//! AllowedPartnerService.

use std::{num::NonZeroUsize, sync::Arc};

use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status};

use super::{
    Limits,
    call::{Begun, begin},
    convert,
    history::revision_if_given,
    parse::{self, Broken, complete, join},
    partner_requests::{Member, Update, batch, check_batch, given, new_domain},
    read_mask::ReadMask,
    status,
    turns::Turns,
    watch::{Streams, WatchStream},
};
use crate::{
    auth::{
        Call, Denial, Permit, Policy,
        permit::{
            Action, CreatePartner, DeletePartner, GetPartner, Purpose, ResolveDomain,
            UndeletePartner, UpdatePartner,
        },
    },
    domain::{
        AllowedPartner, DomainName,
        mask::{Mask, TermField},
    },
    proto::v1::{self as pb, allowed_partner_service_server::AllowedPartnerService},
    registry::{
        Registry,
        partners::{DeleteItem, Written},
    },
};

/// gRPC clients take responses of 4 MiB unless they are told otherwise.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// The handlers of AllowedPartnerService.
#[derive(Debug)]
pub struct Partners {
    pub(super) registry: Arc<Registry>,
    limits: Limits,
    pub(super) streams: Arc<Streams>,
    pub(super) turns: Turns,
    /// So many large pages are written at a time, and do not wait for scans.
    pub(super) pages: Arc<Semaphore>,
}

impl Partners {
    /// The handlers on `registry`, which open their streams among `streams`.
    pub fn new(registry: Arc<Registry>, limits: Limits, streams: Arc<Streams>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let turns = Turns::new(limits.max_scans_per_subject, limits.max_scan_wait);
        Self { registry, limits, streams, turns, pages: Arc::new(Semaphore::new(cores)) }
    }
}

#[tonic::async_trait]
impl AllowedPartnerService for Partners {
    async fn get_allowed_partner(
        &self,
        request: Request<pb::GetAllowedPartnerRequest>,
    ) -> Result<Response<pb::AllowedPartner>, Status> {
        let begun = begin(&self.registry, request).await?;
        let pb::GetAllowedPartnerRequest { name, show_deleted, read_mask, revision } =
            &begun.message;
        let mut broken = Broken::default();
        let domain = parse::partner_name(name, "name", &mut broken);
        let shown = ReadMask::parse(read_mask.as_ref(), &mut broken);
        let then = revision_if_given(*revision, &mut broken);
        let domain = complete(domain, broken)?;
        let permit = permit::<GetPartner>(&self.registry.policy(), &begun.call, domain)?;
        let found = match then {
            Some(then) => self.get_at(&begun.call.caller, permit, then, *show_deleted).await?,
            None => self.registry.get(&permit, *show_deleted)?,
        };
        Ok(begun.response(shown.apply(convert::partner(&found.result)), found.revision))
    }

    async fn list_allowed_partners(
        &self,
        request: Request<pb::ListAllowedPartnersRequest>,
    ) -> Result<Response<pb::ListAllowedPartnersResponse>, Status> {
        self.list(request).await
    }

    async fn create_allowed_partner(
        &self,
        request: Request<pb::CreateAllowedPartnerRequest>,
    ) -> Result<Response<pb::AllowedPartner>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let purpose = Purpose::of(message.validate_only);
        self.registry.policy().allow::<CreatePartner>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let absent = pb::AllowedPartner::default();
        let partner = message.allowed_partner.as_ref().unwrap_or(&absent);
        let domain = new_domain(&message.allowed_partner_id, &partner.name, &mut broken);
        let wanted = Mask::<TermField>::all().fields();
        let terms = parse::terms(partner, wanted, "allowed_partner", &mut broken);
        let retry = broken.retry("CreateAllowedPartner", &message.request_id, message);
        let permit = permit_if_known::<CreatePartner>(
            &self.registry.policy(),
            &begun.call,
            purpose,
            domain,
        )?;
        let permit = complete(permit, broken)?;
        let written = self.registry.create(permit, terms, "allowed_partner".into(), retry).await?;
        single(&begun, written)
    }

    async fn update_allowed_partner(
        &self,
        request: Request<pb::UpdateAllowedPartnerRequest>,
    ) -> Result<Response<pb::AllowedPartner>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let purpose = Purpose::of(message.validate_only);
        self.registry.policy().allow::<UpdatePartner>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let update = Update::parse(message, "", &mut broken);
        let retry = broken.retry("UpdateAllowedPartner", &message.request_id, message);
        let item = update.permitted(&self.registry.policy(), &begun.call, purpose, None)?;
        let written = self.registry.update(vec![complete(item, broken)?], retry).await?;
        single(&begun, written)
    }

    async fn delete_allowed_partner(
        &self,
        request: Request<pb::DeleteAllowedPartnerRequest>,
    ) -> Result<Response<pb::AllowedPartner>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let purpose = Purpose::of(message.validate_only);
        self.registry.policy().allow::<DeletePartner>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let domain = parse::partner_name(&message.name, "name", &mut broken);
        let retry = broken.retry("DeleteAllowedPartner", &message.request_id, message);
        let item = delete_item(&self.registry.policy(), &begun.call, purpose, domain, message)?;
        let written = self.registry.delete(vec![complete(item, broken)?], retry).await?;
        single(&begun, written)
    }

    async fn undelete_allowed_partner(
        &self,
        request: Request<pb::UndeleteAllowedPartnerRequest>,
    ) -> Result<Response<pb::AllowedPartner>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let purpose = Purpose::of(message.validate_only);
        self.registry.policy().allow::<UndeletePartner>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let domain = parse::partner_name(&message.name, "name", &mut broken);
        let retry = broken.retry("UndeleteAllowedPartner", &message.request_id, message);
        let permit = permit_if_known::<UndeletePartner>(
            &self.registry.policy(),
            &begun.call,
            purpose,
            domain,
        )?;
        let permit = complete(permit, broken)?;
        let written = self.registry.undelete(permit, given(&message.etag), retry).await?;
        single(&begun, written)
    }

    async fn batch_get_allowed_partners(
        &self,
        request: Request<pb::BatchGetAllowedPartnersRequest>,
    ) -> Result<Response<pb::BatchGetAllowedPartnersResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let pb::BatchGetAllowedPartnersRequest { names, read_mask } = &begun.message;
        let mut broken = Broken::default();
        let members: Vec<_> = names.iter().map(Member::get).collect();
        let most = self.limits.max_batch_items;
        check_batch("names", &members, Member::default(), most, &mut broken)?;
        let shown = ReadMask::parse(read_mask.as_ref(), &mut broken);
        let domains: Vec<_> = names
            .iter()
            .enumerate()
            .filter_map(|(at, name)| {
                parse::partner_name(name, &format!("names[{at}]"), &mut broken)
            })
            .collect();
        broken.refuse()?;
        let policy = self.registry.policy();
        let permits = domains
            .into_iter()
            .enumerate()
            .map(|(index, domain)| {
                let permit =
                    policy.permit_domain::<GetPartner>(&begun.call, Purpose::Commit, domain);
                permit.map_err(|denial| status::denied(denial, Some(("index", index.to_string()))))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let found = self.registry.batch_get(&permits)?;
        let mut allowed_partners = Vec::with_capacity(found.result.len());
        let mut bytes = 0;
        for partner in &found.result {
            let partner = shown.apply(convert::partner(partner));
            bytes += partner.encoded_len();
            if bytes > MAX_RESPONSE_BYTES {
                return Err(response_too_large());
            }
            allowed_partners.push(partner);
        }
        let revision = found.revision.as_i64();
        let message = pb::BatchGetAllowedPartnersResponse { allowed_partners, revision };
        Ok(begun.response(message, found.revision))
    }

    async fn batch_update_allowed_partners(
        &self,
        request: Request<pb::BatchUpdateAllowedPartnersRequest>,
    ) -> Result<Response<pb::BatchUpdateAllowedPartnersResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let purpose = Purpose::of(message.validate_only);
        self.registry.policy().allow::<UpdatePartner>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let members: Vec<_> = message.requests.iter().map(Member::update).collect();
        let whole = batch(message.validate_only, &message.request_id);
        check_batch("requests", &members, whole, self.limits.max_batch_items, &mut broken)?;
        let policy = self.registry.policy();
        let mut items = Vec::with_capacity(message.requests.len());
        for (index, one) in message.requests.iter().enumerate() {
            let path = format!("requests[{index}]");
            let update = Update::parse(one, &path, &mut broken);
            items.extend(update.permitted(&policy, &begun.call, purpose, Some(index))?);
        }
        let retry = broken.retry("BatchUpdateAllowedPartners", &message.request_id, message);
        broken.refuse()?;
        let written = self.registry.update(items, retry).await?;
        let revision = written.revision;
        let message = pb::BatchUpdateAllowedPartnersResponse {
            allowed_partners: wire_partners(written),
            revision: revision.as_i64(),
        };
        Ok(begun.response(message, revision))
    }

    async fn batch_delete_allowed_partners(
        &self,
        request: Request<pb::BatchDeleteAllowedPartnersRequest>,
    ) -> Result<Response<pb::BatchDeleteAllowedPartnersResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let purpose = Purpose::of(message.validate_only);
        self.registry.policy().allow::<DeletePartner>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let members: Vec<_> = message.requests.iter().map(Member::delete).collect();
        let whole = batch(message.validate_only, &message.request_id);
        check_batch("requests", &members, whole, self.limits.max_batch_items, &mut broken)?;
        let policy = self.registry.policy();
        let mut items = Vec::with_capacity(message.requests.len());
        for (index, one) in message.requests.iter().enumerate() {
            let path = format!("requests[{index}]");
            let domain = parse::partner_name(&one.name, &join(&path, "name"), &mut broken);
            let item = delete_item(&policy, &begun.call, purpose, domain, one);
            items.extend(
                item.map_err(|denial| status::denied(denial, Some(("index", index.to_string()))))?,
            );
        }
        let retry = broken.retry("BatchDeleteAllowedPartners", &message.request_id, message);
        broken.refuse()?;
        let written = self.registry.delete(items, retry).await?;
        let revision = written.revision;
        let message = pb::BatchDeleteAllowedPartnersResponse {
            allowed_partners: wire_partners(written),
            revision: revision.as_i64(),
        };
        Ok(begun.response(message, revision))
    }

    async fn resolve_domain(
        &self,
        request: Request<pb::ResolveDomainRequest>,
    ) -> Result<Response<pb::ResolveDomainResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let mut broken = Broken::default();
        let domain = broken.take("domain", DomainName::parse(&begun.message.domain));
        let domain = complete(domain, broken)?;
        let permit = permit::<ResolveDomain>(&self.registry.policy(), &begun.call, domain)?;
        let decision = self.registry.resolve(&permit);
        let revision = decision.revision;
        Ok(begun.response(convert::decision(permit.target().to_string(), &decision), revision))
    }

    type WatchAllowedPartnersStream = WatchStream;

    async fn watch_allowed_partners(
        &self,
        request: Request<pb::WatchAllowedPartnersRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        self.watch(request).await
    }

    async fn list_allowed_partner_revisions(
        &self,
        request: Request<pb::ListAllowedPartnerRevisionsRequest>,
    ) -> Result<Response<pb::ListAllowedPartnerRevisionsResponse>, Status> {
        self.list_revisions(request).await
    }

    async fn rollback_allowed_partner(
        &self,
        request: Request<pb::RollbackAllowedPartnerRequest>,
    ) -> Result<Response<pb::AllowedPartner>, Status> {
        self.rollback(request).await
    }
}

fn response_too_large() -> Status {
    status::status(
        Code::ResourceExhausted,
        "RESPONSE_TOO_LARGE",
        "these partners do not fit into one response; ask for fewer, or give a read mask",
    )
}

pub(super) fn permit<A: Action<Target = DomainName>>(
    policy: &Policy,
    call: &Call,
    domain: DomainName,
) -> Result<Permit<A>, Status> {
    Ok(policy.permit_domain(call, Purpose::Commit, domain)?)
}

fn permit_if_known<A: Action<Target = DomainName>>(
    policy: &Policy,
    call: &Call,
    purpose: Purpose,
    domain: Option<DomainName>,
) -> Result<Option<Permit<A>>, Status> {
    Ok(domain.map(|domain| policy.permit_domain(call, purpose, domain)).transpose()?)
}

/// The deletion with leave to do it; `None` if what it is about is not understood.
fn delete_item(
    policy: &Policy,
    call: &Call,
    purpose: Purpose,
    domain: Option<DomainName>,
    message: &pb::DeleteAllowedPartnerRequest,
) -> Result<Option<DeleteItem>, Denial> {
    let Some(domain) = domain else { return Ok(None) };
    let permit = policy.permit_domain::<DeletePartner>(call, purpose, domain)?;
    let etag = given(&message.etag);
    Ok(Some(DeleteItem { permit, etag, allow_missing: message.allow_missing }))
}

pub(super) fn single<T>(
    begun: &Begun<T>,
    written: Written,
) -> Result<Response<pb::AllowedPartner>, Status> {
    let revision = written.revision;
    let partner = wire_partners(written).pop().unwrap_or_default();
    Ok(begun.response(partner, revision))
}

/// The partners of an answer; an empty one for each that was not there to be deleted.
fn wire_partners(written: Written) -> Vec<pb::AllowedPartner> {
    let wire = |partner: Option<Arc<AllowedPartner>>| {
        partner.map_or_else(pb::AllowedPartner::default, |partner| convert::partner(&partner))
    };
    written.result.into_iter().map(wire).collect()
}
