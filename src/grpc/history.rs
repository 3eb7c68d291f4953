//! What became of a partner, and back.

use tonic::{Request, Response, Status};

use super::partners::Partners;
use crate::proto::v1 as pb;

impl Partners {
    pub(super) async fn list_revisions(
        &self,
        _request: Request<pb::ListAllowedPartnerRevisionsRequest>,
    ) -> Result<Response<pb::ListAllowedPartnerRevisionsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    pub(super) async fn rollback(
        &self,
        _request: Request<pb::RollbackAllowedPartnerRequest>,
    ) -> Result<Response<pb::AllowedPartner>, Status> {
        Err(Status::unimplemented(""))
    }
}
