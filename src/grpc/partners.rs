//! AllowedPartnerService.

use std::{collections::HashSet, sync::Arc};

use tonic::{Request, Response, Status};

use super::{
    Limits,
    call::{Begun, begin},
    convert,
    parse::{self, Broken, complete, join},
    read_mask::ReadMask,
    status,
};
use crate::{
    auth::{
        Call, Denial, Permit, Policy,
        permit::{
            Action, CreatePartner, DeletePartner, GetPartner, ListPartners, PartnerFields, Purpose,
            ResolveDomain, UndeletePartner, UpdatePartner,
        },
    },
    domain::{
        AllowedPartner, DomainName,
        filter::{Filter, OrderBy},
        mask::{DomainEdits, Mask, TermField},
        partner::TermsChange,
    },
    proto::v1::{self as pb, allowed_partner_service_server::AllowedPartnerService},
    registry::{
        Registry,
        pages::page_size,
        partners::{DeleteItem, ListQuery, Page, UpdateItem, Written},
    },
};

/// A listing that looks at more partners than this leaves the thread that serves other calls.
const SCAN_IN_PLACE: usize = 2_000;

/// The handlers of AllowedPartnerService.
#[derive(Debug)]
pub struct Partners {
    registry: Arc<Registry>,
    limits: Limits,
}

impl Partners {
    /// The handlers on `registry`.
    pub const fn new(registry: Arc<Registry>, limits: Limits) -> Self {
        Self { registry, limits }
    }

    async fn list(&self, permit: Permit<ListPartners>, query: ListQuery) -> Result<Page, Status> {
        let scans = !query.filter.is_empty() || !query.order.is_by_name();
        if !scans || self.registry.snapshot().partner_count() <= SCAN_IN_PLACE {
            return Ok(self.registry.list(&permit, &query)?);
        }
        let registry = Arc::clone(&self.registry);
        let page = tokio::task::spawn_blocking(move || registry.list(&permit, &query)).await;
        Ok(page.map_err(|error| status::internal(&error.to_string()))??)
    }

    fn check_batch(&self, path: &str, names: &[&str], broken: &mut Broken) {
        let most = self.limits.max_batch_items;
        if names.is_empty() || names.len() > most {
            broken.add(path, format!("{} items; give 1 to {most}", names.len()));
        }
        let mut seen = HashSet::new();
        for (index, name) in names.iter().enumerate() {
            // Names that differ only in how they are written mean the same partner.
            let domain = name.strip_prefix("allowedPartners/").map(DomainName::parse);
            if let Some(Ok(domain)) = domain
                && !seen.insert(domain)
            {
                broken.add(format!("{path}[{index}]"), format!("{name} is in the batch twice"));
            }
        }
    }
}

#[tonic::async_trait]
impl AllowedPartnerService for Partners {
    async fn get_allowed_partner(
        &self,
        request: Request<pb::GetAllowedPartnerRequest>,
    ) -> Result<Response<pb::AllowedPartner>, Status> {
        let begun = begin(&self.registry, request).await?;
        let pb::GetAllowedPartnerRequest { name, show_deleted, read_mask } = &begun.message;
        let mut broken = Broken::default();
        let domain = parse::partner_name(name, "name", &mut broken);
        let shown = ReadMask::parse(read_mask.as_ref(), &mut broken);
        let domain = complete(domain, broken)?;
        let permit = permit::<GetPartner>(&self.registry.policy(), &begun.call, domain)?;
        let revision = self.registry.snapshot().revision();
        let partner = self.registry.get(&permit, *show_deleted)?;
        Ok(begun.response(shown.apply(convert::partner(&partner)), revision))
    }

    async fn list_allowed_partners(
        &self,
        request: Request<pb::ListAllowedPartnersRequest>,
    ) -> Result<Response<pb::ListAllowedPartnersResponse>, Status> {
        let mut begun = begin(&self.registry, request).await?;
        let permit = self.registry.policy().permit::<ListPartners>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let shown = ReadMask::parse(begun.message.read_mask.as_ref(), &mut broken);
        let query = list_query(std::mem::take(&mut begun.message), &mut broken);
        let page = self.list(permit, complete(query, broken)?).await?;
        let message = pb::ListAllowedPartnersResponse {
            allowed_partners: page
                .partners
                .iter()
                .map(|partner| shown.apply(convert::partner(partner)))
                .collect(),
            next_page_token: page.next.unwrap_or_default(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
            revision: page.revision.as_i64(),
        };
        Ok(begun.response(message, page.revision))
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
        let most = self.limits.max_batch_items;
        if names.is_empty() || names.len() > most {
            broken.add("names", format!("{} names; give 1 to {most}", names.len()));
        }
        let shown = ReadMask::parse(read_mask.as_ref(), &mut broken);
        let domains: Vec<_> = names
            .iter()
            .enumerate()
            .filter_map(|(at, name)| {
                parse::partner_name(name, &format!("names[{at}]"), &mut broken)
            })
            .collect();
        broken.refuse().map_err(status::invalid)?;
        let policy = self.registry.policy();
        let permits = domains
            .into_iter()
            .map(|domain| permit::<GetPartner>(&policy, &begun.call, domain))
            .collect::<Result<Vec<_>, _>>()?;
        let found = self.registry.batch_get(&permits)?;
        let message = pb::BatchGetAllowedPartnersResponse {
            allowed_partners: found
                .result
                .iter()
                .map(|partner| shown.apply(convert::partner(partner)))
                .collect(),
            revision: found.revision.as_i64(),
        };
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
        let names: Vec<_> = message.requests.iter().map(name_of_update).collect();
        self.check_batch("requests", &names, &mut broken);
        let policy = self.registry.policy();
        let mut items = Vec::with_capacity(message.requests.len());
        for (index, one) in message.requests.iter().enumerate() {
            let path = format!("requests[{index}]");
            check_member(
                &path,
                (one.validate_only, &one.request_id),
                (message.validate_only, &message.request_id),
                &mut broken,
            );
            let update = Update::parse(one, &path, &mut broken);
            items.extend(update.permitted(&policy, &begun.call, purpose, Some(index))?);
        }
        let retry = broken.retry("BatchUpdateAllowedPartners", &message.request_id, message);
        broken.refuse().map_err(status::invalid)?;
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
        let names: Vec<_> = message.requests.iter().map(|one| one.name.as_str()).collect();
        self.check_batch("requests", &names, &mut broken);
        let policy = self.registry.policy();
        let mut items = Vec::with_capacity(message.requests.len());
        for (index, one) in message.requests.iter().enumerate() {
            let path = format!("requests[{index}]");
            check_member(
                &path,
                (one.validate_only, &one.request_id),
                (message.validate_only, &message.request_id),
                &mut broken,
            );
            let domain = parse::partner_name(&one.name, &join(&path, "name"), &mut broken);
            items.extend(delete_item(&policy, &begun.call, purpose, domain, one)?);
        }
        let retry = broken.retry("BatchDeleteAllowedPartners", &message.request_id, message);
        broken.refuse().map_err(status::invalid)?;
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
}

/// An update as the caller sent it, understood.
struct Update {
    target: Option<PartnerFields>,
    change: TermsChange,
    allow_missing: bool,
    etag: Option<String>,
    path: String,
}

impl Update {
    fn parse(message: &pb::UpdateAllowedPartnerRequest, path: &str, broken: &mut Broken) -> Self {
        let pb::UpdateAllowedPartnerRequest {
            allowed_partner,
            update_mask,
            allow_missing,
            validate_only: _,
            request_id: _,
            add_additional_domains,
            remove_additional_domains,
        } = message;
        let absent = pb::AllowedPartner::default();
        let partner = allowed_partner.as_ref().unwrap_or(&absent);
        let partner_path = join(path, "allowed_partner");
        let domain = parse::partner_name(&partner.name, &join(&partner_path, "name"), broken);
        let mask = parse::mask(update_mask.as_ref(), &join(path, "update_mask"), broken)
            .unwrap_or_else(|| Mask::of(parse::populated_terms(partner)));
        let edits = DomainEdits {
            add: parse::domains(
                add_additional_domains,
                &join(path, "add_additional_domains"),
                broken,
            ),
            remove: parse::domains(
                remove_additional_domains,
                &join(path, "remove_additional_domains"),
                broken,
            ),
        };
        if !edits.is_empty() && mask.names(TermField::AdditionalDomains) {
            let text = "names additional_domains, and the request adds or removes some too; do one \
                        or the other";
            broken.add(join(path, "update_mask"), text);
        }
        let wanted = if *allow_missing { Mask::all().fields() } else { mask.fields() };
        let values = parse::terms(partner, wanted, &partner_path, broken);
        let mut fields = wanted;
        if !edits.is_empty() {
            fields |= TermField::AdditionalDomains;
        }
        Self {
            target: domain.map(|domain| PartnerFields { domain, fields }),
            change: TermsChange { values, mask, edits },
            allow_missing: *allow_missing,
            etag: given(&partner.etag),
            path: partner_path,
        }
    }

    /// The update with leave to do it; `None` if what it is about is not understood.
    fn permitted(
        self,
        policy: &Policy,
        call: &Call,
        purpose: Purpose,
        index: Option<usize>,
    ) -> Result<Option<UpdateItem>, Status> {
        let Some(target) = self.target else { return Ok(None) };
        let refuse = |denial: Denial| {
            status::denied(denial, index.map(|index| ("index", index.to_string())))
        };
        let domain = target.domain.clone();
        let permit = policy.permit_update(call, purpose, target).map_err(refuse)?;
        let if_missing = match self.allow_missing {
            true => Some(policy.permit_domain(call, purpose, domain).map_err(refuse)?),
            false => None,
        };
        let Self { change, etag, path, .. } = self;
        Ok(Some(UpdateItem { permit, if_missing, change, etag, path }))
    }
}

fn permit<A: Action<Target = DomainName>>(
    policy: &Policy,
    call: &Call,
    domain: DomainName,
) -> Result<Permit<A>, Status> {
    policy
        .permit_domain(call, Purpose::Commit, domain)
        .map_err(|denial| status::denied(denial, None))
}

fn permit_if_known<A: Action<Target = DomainName>>(
    policy: &Policy,
    call: &Call,
    purpose: Purpose,
    domain: Option<DomainName>,
) -> Result<Option<Permit<A>>, Status> {
    Ok(domain.map(|domain| policy.permit_domain(call, purpose, domain)).transpose()?)
}

fn delete_item(
    policy: &Policy,
    call: &Call,
    purpose: Purpose,
    domain: Option<DomainName>,
    message: &pb::DeleteAllowedPartnerRequest,
) -> Result<Option<DeleteItem>, Status> {
    let permit = permit_if_known::<DeletePartner>(policy, call, purpose, domain)?;
    Ok(permit.map(|permit| DeleteItem {
        permit,
        etag: given(&message.etag),
        allow_missing: message.allow_missing,
    }))
}

/// The domain of a partner to be created: its id, or else its name. Both must say the same.
fn new_domain(id: &str, name: &str, broken: &mut Broken) -> Option<DomainName> {
    let from_name = match name {
        "" => None,
        name => parse::partner_name(name, "allowed_partner.name", broken),
    };
    let from_id = match id {
        "" if name.is_empty() => {
            broken.add("allowed_partner_id", "the primary domain is missing; give it here");
            None
        }
        "" => return from_name,
        id => broken.take("allowed_partner_id", DomainName::parse(id)),
    };
    if from_name.is_some() && from_id.is_some() && from_name != from_id {
        broken
            .add("allowed_partner.name", "differs from allowed_partner_id; leave one of them out");
    }
    from_id
}

fn list_query(message: pb::ListAllowedPartnersRequest, broken: &mut Broken) -> Option<ListQuery> {
    let pb::ListAllowedPartnersRequest {
        page_size: wanted,
        page_token,
        filter,
        order_by,
        show_deleted,
        read_mask: _,
    } = message;
    let filter = broken.keep(Filter::parse(&filter));
    let order = broken.keep(OrderBy::parse(&order_by));
    let page_size = broken.keep(page_size(wanted));
    Some(ListQuery {
        filter: filter?,
        order: order?,
        show_deleted,
        page_size: page_size?,
        page_token,
    })
}

fn name_of_update(request: &pb::UpdateAllowedPartnerRequest) -> &str {
    request.allowed_partner.as_ref().map_or("", |partner| &partner.name)
}

/// The members of a batch must not say otherwise than the batch (AIP-234).
fn check_member(path: &str, own: (bool, &str), batch: (bool, &str), broken: &mut Broken) {
    if own.0 && !batch.0 {
        broken.add(join(path, "validate_only"), "set it on the batch, not on its members");
    }
    if !own.1.is_empty() && own.1 != batch.1 {
        broken.add(join(path, "request_id"), "set it on the batch, not on its members");
    }
}

fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn single<T>(begun: &Begun<T>, written: Written) -> Result<Response<pb::AllowedPartner>, Status> {
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
