//! RevocationService.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    call::begin,
    convert,
    parse::{self, Broken, complete},
};
use crate::{
    auth::permit::{DeleteRevocation, GetRevocation, ListRevocations, Purpose},
    domain::{filter::Filter, revocation::Target},
    proto::v1::{self as pb, revocation_service_server::RevocationService},
    registry::{
        Registry,
        pages::page_size,
        revocations::{NewRevocation, RevocationQuery},
    },
};

const PATH: &str = "revocation";

/// The handlers of RevocationService.
#[derive(Debug)]
pub struct RevocationHandlers {
    registry: Arc<Registry>,
}

impl RevocationHandlers {
    /// The handlers on `registry`.
    pub const fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

#[tonic::async_trait]
impl RevocationService for RevocationHandlers {
    async fn get_revocation(
        &self,
        request: Request<pb::GetRevocationRequest>,
    ) -> Result<Response<pb::Revocation>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        let permit = policy.permit::<GetRevocation>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let id = revocation_id(&begun.message.name, &mut broken);
        let found = self.registry.revocation(&permit, complete(id, broken)?)?;
        Ok(begun.response(convert::revocation(&found.result), found.revision))
    }

    async fn list_revocations(
        &self,
        request: Request<pb::ListRevocationsRequest>,
    ) -> Result<Response<pb::ListRevocationsResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        let permit = policy.permit::<ListRevocations>(&begun.call, Purpose::Commit)?;
        let pb::ListRevocationsRequest { page_size: wanted, page_token, filter } = &begun.message;
        let mut broken = Broken::default();
        let filter = broken.keep(Filter::parse(filter));
        let size = broken.keep(page_size(*wanted));
        let (filter, page_size) = complete(filter.zip(size), broken)?;
        let query = RevocationQuery { filter, page_size, page_token: page_token.clone() };
        let page = self.registry.revocations(&permit, &query)?;
        let message = pb::ListRevocationsResponse {
            revocations: page.revocations.iter().map(|it| convert::revocation(it)).collect(),
            next_page_token: page.next.unwrap_or_default(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
        };
        Ok(begun.response(message, page.revision))
    }

    async fn create_revocation(
        &self,
        request: Request<pb::CreateRevocationRequest>,
    ) -> Result<Response<pb::Revocation>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let policy = self.registry.policy();
        let purpose = Purpose::of(message.validate_only);
        let permit = policy.permit_revocation(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let new = new_revocation(message, &mut broken);
        let retry = broken.retry("CreateRevocation", &message.request_id, message);
        let new = complete(new, broken)?;
        let committed = self.registry.create_revocation(permit, new, retry).await?;
        Ok(begun.response(convert::revocation(&committed.result), committed.revision))
    }

    async fn delete_revocation(
        &self,
        request: Request<pb::DeleteRevocationRequest>,
    ) -> Result<Response<()>, Status> {
        let begun = begin(&self.registry, request).await?;
        let message = &begun.message;
        let policy = self.registry.policy();
        let purpose = Purpose::of(message.validate_only);
        let permit = policy.permit::<DeleteRevocation>(&begun.call, purpose)?;
        let mut broken = Broken::default();
        let id = revocation_id(&message.name, &mut broken);
        let retry = broken.retry("DeleteRevocation", &message.request_id, message);
        let id = complete(id, broken)?;
        let missing = message.allow_missing;
        let committed = self.registry.delete_revocation(permit, id, missing, retry).await?;
        Ok(begun.response((), committed.revision))
    }
}

fn revocation_id(name: &str, broken: &mut Broken) -> Option<Uuid> {
    let id = name.strip_prefix("revocations/").and_then(|id| Uuid::parse_str(id).ok());
    if id.is_none() {
        broken.add("name", "not a revocation's name; write revocations/ and its UUID");
    }
    id
}

fn new_revocation(
    message: &pb::CreateRevocationRequest,
    broken: &mut Broken,
) -> Option<NewRevocation> {
    let Some(revocation) = &message.revocation else {
        broken.add(PATH, "the revocation is missing; say what to revoke");
        return None;
    };
    let target = target(revocation, PATH, broken);
    let expire_time = parse::moment(revocation.expire_time, "revocation.expire_time", broken);
    Some(NewRevocation {
        target: target?,
        reason: revocation.reason.as_str().into(),
        expire_time,
        force: message.force,
        path: PATH.into(),
    })
}

/// What a revocation is about.
pub fn target(revocation: &pb::Revocation, path: &str, broken: &mut Broken) -> Option<Target> {
    use pb::revocation::Target as Wire;
    let issuer: Arc<str> = revocation.issuer.as_str().into();
    match &revocation.target {
        Some(Wire::TokenId(id)) => Some(Target::Token { issuer, token_id: id.as_str().into() }),
        Some(Wire::Subject(id)) => Some(Target::Subject { issuer, subject: id.as_str().into() }),
        Some(Wire::KeyId(id)) => Some(Target::Key { issuer, key_id: id.as_str().into() }),
        None => {
            broken.add(path, "nothing is named; give token_id, subject or key_id");
            None
        }
    }
}
