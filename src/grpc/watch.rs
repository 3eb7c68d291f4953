//! The watch stream.

use std::pin::Pin;

use tonic::{Request, Response, Status};

use super::partners::Partners;
use crate::proto::{v1 as pb, watch::WatchAllowedPartnersResponse};

/// The messages of one watch.
pub type WatchStream =
    Pin<Box<dyn futures_util::Stream<Item = Result<WatchAllowedPartnersResponse, Status>> + Send>>;

impl Partners {
    pub(super) async fn watch(
        &self,
        _request: Request<pb::WatchAllowedPartnersRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        Err(Status::unimplemented(""))
    }
}
