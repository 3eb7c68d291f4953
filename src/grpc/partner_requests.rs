//! What the messages of AllowedPartnerService ask for: wire to what the registry takes.

use std::collections::HashSet;

use tonic::Status;

use super::{
    parse::{self, Broken, join},
    status,
};
use crate::{
    auth::{
        Call, Denial, Policy,
        permit::{PartnerFields, Purpose},
    },
    domain::{
        DomainName, Violation,
        filter::{Filter, OrderBy},
        mask::{DomainEdits, Mask, TermField},
        partner::TermsChange,
    },
    proto::v1 as pb,
    registry::{listing::ListQuery, pages::page_size, partners::UpdateItem},
};

/// An update as the caller sent it, understood.
pub struct Update {
    target: Option<PartnerFields>,
    change: TermsChange,
    allow_missing: bool,
    etag: Option<String>,
    path: String,
}

impl Update {
    pub fn parse(
        message: &pb::UpdateAllowedPartnerRequest,
        path: &str,
        broken: &mut Broken,
    ) -> Self {
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
    pub fn permitted(
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
        // The creation first: to be refused that is a denial, whether there is a partner or not.
        let if_missing = match self.allow_missing {
            true => Some(policy.permit_domain(call, purpose, domain).map_err(refuse)?),
            false => None,
        };
        let permit = policy.permit_update(call, purpose, target).map_err(refuse)?;
        let Self { change, etag, path, .. } = self;
        Ok(Some(UpdateItem { permit, if_missing, change, etag, path }))
    }
}

/// The domain of a partner to be created: its id, or else its name. Both must say the same.
pub fn new_domain(id: &str, name: &str, broken: &mut Broken) -> Option<DomainName> {
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

/// What a listing is asked for.
pub fn list_query(
    message: pb::ListAllowedPartnersRequest,
    broken: &mut Broken,
) -> Option<ListQuery> {
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

/// What a request says as a member of a batch.
#[derive(Clone, Copy, Default)]
pub struct Member<'a> {
    name: &'a str,
    validate_only: bool,
    request_id: &'a str,
}

impl<'a> Member<'a> {
    /// An update in a batch of updates.
    pub fn update(request: &'a pb::UpdateAllowedPartnerRequest) -> Self {
        Self {
            name: request.allowed_partner.as_ref().map_or("", |partner| &partner.name),
            validate_only: request.validate_only,
            request_id: &request.request_id,
        }
    }

    /// A deletion in a batch of deletions.
    pub fn delete(request: &'a pb::DeleteAllowedPartnerRequest) -> Self {
        Self {
            name: &request.name,
            validate_only: request.validate_only,
            request_id: &request.request_id,
        }
    }

    /// One of several partners to get.
    pub fn get(name: &'a String) -> Self {
        Self { name, ..Self::default() }
    }
}

/// Notes what is named twice, and what says otherwise than the batch (AIP-234).
///
/// # Errors
/// INVALID_ARGUMENT at once if there are no members, or more than `most`.
pub fn check_batch(
    path: &str,
    members: &[Member<'_>],
    batch: Member<'_>,
    most: usize,
    broken: &mut Broken,
) -> Result<(), Status> {
    if members.is_empty() || members.len() > most {
        let text = format!("{} items; give 1 to {most}", members.len());
        return Err(status::invalid(vec![Violation::new(path, text)]));
    }
    let mut seen = HashSet::new();
    for (index, member) in members.iter().enumerate() {
        let path = format!("{path}[{index}]");
        // Names that differ only in how they are written mean the same partner.
        let domain = member.name.strip_prefix("allowedPartners/").map(DomainName::parse);
        if let Some(Ok(domain)) = domain
            && !seen.insert(domain)
        {
            broken.add(&path, format!("{} is in the batch twice", member.name));
        }
        if member.validate_only && !batch.validate_only {
            broken.add(join(&path, "validate_only"), "set it on the batch, not on its members");
        }
        if !member.request_id.is_empty() && member.request_id != batch.request_id {
            broken.add(join(&path, "request_id"), "set it on the batch, not on its members");
        }
    }
    Ok(())
}

/// The batch itself, which its members must not contradict.
pub const fn batch(validate_only: bool, request_id: &str) -> Member<'_> {
    Member { name: "", validate_only, request_id }
}

/// The text, unless it is empty.
pub fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
