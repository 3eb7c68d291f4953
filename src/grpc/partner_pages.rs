//! ListAllowedPartners: a page is found, then written, and neither keeps other calls waiting.

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{
    call::begin,
    convert,
    parse::{Broken, complete},
    partner_bytes,
    partner_requests::list_query,
    partners::Partners,
    read_mask::ReadMask,
    status,
    turns::off_thread,
};
use crate::{
    auth::permit::{ListPartners, Purpose},
    proto::v1 as pb,
    registry::{Error, listing::Page},
};

/// A listing that looks at more partners than this leaves the thread that serves other calls.
const SCAN_IN_PLACE: usize = 2_000;

/// A page that is heavier than this is written elsewhere, too: some 200 small partners, or one that
/// has its thousand domains.
const WRITE_IN_PLACE: usize = 128 << 10;

impl Partners {
    pub(super) async fn list(
        &self,
        request: Request<pb::ListAllowedPartnersRequest>,
    ) -> Result<Response<pb::ListAllowedPartnersResponse>, Status> {
        let mut begun = begin(&self.registry, request).await?;
        let permit = self.registry.policy().permit::<ListPartners>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let shown = ReadMask::parse(begun.message.read_mask.as_ref(), &mut broken);
        let query = list_query(std::mem::take(&mut begun.message), &mut broken);
        let query = complete(query, broken)?;
        let scans = !query.filter.is_empty() || !query.order.is_by_name();
        let (message, revision) = if scans && self.registry.scan_length() > SCAN_IN_PLACE {
            let turn = self.turns.take(&begun.call.caller).await?;
            let registry = Arc::clone(&self.registry);
            let found = off_thread(turn, move |_| {
                let page = registry.list(&permit, &query)?;
                Ok::<_, Error>((written(&page, &shown), page.revision))
            });
            found.await??
        } else {
            let page = self.registry.list(&permit, &query)?;
            let revision = page.revision;
            let message = if page.weight <= WRITE_IN_PLACE {
                written(&page, &shown)
            } else {
                let turn = self.pages.clone().acquire_owned().await;
                let turn = turn.map_err(|_| status::draining())?;
                off_thread(turn, move |_| written(&page, &shown)).await?
            };
            (message, revision)
        };
        Ok(begun.response(message, revision))
    }
}

/// The response, with its partners ready to be sent.
fn written(page: &Page, shown: &ReadMask) -> pb::ListAllowedPartnersResponse {
    let mut ready = Vec::with_capacity(page.weight);
    let mut one = Vec::new();
    for partner in &page.partners {
        one.clear();
        match shown {
            ReadMask::All => partner_bytes::write(partner, &mut one),
            ReadMask::Some { .. } => shown.apply(convert::partner(partner)).encode_raw(&mut one),
        }
        pb::ListAllowedPartnersResponse::put(&mut ready, &one);
    }
    pb::ListAllowedPartnersResponse {
        allowed_partners: Vec::new(),
        ready: ready.into(),
        next_page_token: page.next.clone().unwrap_or_default(),
        total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
        revision: page.revision.as_i64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::methods::DESCRIPTORS;

    #[test]
    fn the_response_has_the_fields_of_the_descriptor() {
        let name = "xmpp.federation.v1.ListAllowedPartnersResponse";
        let descriptor = DESCRIPTORS.get_message_by_name(name).unwrap();
        let mut ready = Vec::new();
        let partner = pb::AllowedPartner { name: "one".into(), ..Default::default() };
        pb::ListAllowedPartnersResponse::put(&mut ready, &partner.encode_to_vec());
        let message = pb::ListAllowedPartnersResponse {
            allowed_partners: vec![pb::AllowedPartner { name: "two".into(), ..Default::default() }],
            ready: ready.into(),
            next_page_token: "next".into(),
            total_size: 3,
            revision: 4,
        };
        let bytes = message.encode_to_vec();
        assert_eq!(bytes.len(), message.encoded_len());
        let dynamic = prost_reflect::DynamicMessage::decode(descriptor, &*bytes).unwrap();
        assert_eq!(dynamic.unknown_fields().count(), 0);
        let read = serde_json::to_value(&dynamic).unwrap();
        let expected = serde_json::json!({
            "allowedPartners": [{ "name": "one" }, { "name": "two" }],
            "nextPageToken": "next",
            "totalSize": 3,
            "revision": "4",
        });
        assert_eq!(read, expected);
        let received = pb::ListAllowedPartnersResponse::decode(&*bytes).unwrap();
        let names: Vec<_> = received.allowed_partners.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["one", "two"]);
        let rest = (received.ready.len(), &*received.next_page_token, received.total_size);
        assert_eq!((rest, received.revision), ((0, "next", 3), 4));
    }
}
