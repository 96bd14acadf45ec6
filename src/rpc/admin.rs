//! AdminService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::pb;
use super::pb::admin_service_server::AdminService;
use super::translate;
use crate::serving::State;

#[derive(Debug)]
pub(super) struct Service {
    pub(super) state: Arc<State>,
}

#[tonic::async_trait]
impl AdminService for Service {
    async fn get_server_info(
        &self,
        _: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        let ready = self.state.model("")?;
        Ok(Response::new(translate::server_info(&ready.engine, self.state.uptime())))
    }

    async fn get_stats(
        &self,
        _: Request<pb::GetStatsRequest>,
    ) -> Result<Response<pb::GetStatsResponse>, Status> {
        let ready = self.state.model("")?;
        Ok(Response::new(translate::stats(&ready.engine)))
    }
}
