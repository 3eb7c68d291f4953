//! What the messages of AllowedPartnerService ask for: wire to what the registry takes.

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
        DomainName,
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
        let permit = policy.permit_update(call, purpose, target).map_err(refuse)?;
        let if_missing = match self.allow_missing {
            true => Some(policy.permit_domain(call, purpose, domain).map_err(refuse)?),
            false => None,
        };
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

/// The name of the partner that an update means, empty if it names none.
pub fn name_of_update(request: &pb::UpdateAllowedPartnerRequest) -> &str {
    request.allowed_partner.as_ref().map_or("", |partner| &partner.name)
}

/// The members of a batch must not say otherwise than the batch (AIP-234).
pub fn check_member(path: &str, own: (bool, &str), batch: (bool, &str), broken: &mut Broken) {
    if own.0 && !batch.0 {
        broken.add(join(path, "validate_only"), "set it on the batch, not on its members");
    }
    if !own.1.is_empty() && own.1 != batch.1 {
        broken.add(join(path, "request_id"), "set it on the batch, not on its members");
    }
}

/// The text, unless it is empty.
pub fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
