//! ModelService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::pb;
use super::pb::model_service_server::ModelService;
use super::translate;
use crate::serving::State;

#[derive(Debug)]
pub(super) struct Service {
    pub(super) state: Arc<State>,
}

#[tonic::async_trait]
impl ModelService for Service {
    async fn list_models(
        &self,
        _: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let ready = self.state.model("")?;
        Ok(Response::new(pb::ListModelsResponse { models: vec![translate::model(&ready.engine)] }))
    }

    async fn get_model(
        &self,
        request: Request<pb::GetModelRequest>,
    ) -> Result<Response<pb::GetModelResponse>, Status> {
        let ready = self.state.model(&request.get_ref().model)?;
        Ok(Response::new(pb::GetModelResponse { model: Some(translate::model(&ready.engine)) }))
    }
}
