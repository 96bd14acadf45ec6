//! A server on a loopback port, and its clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pled::access::{Certificates, Keys};
use pled::daemon::{self, Control, Services};
use pled::engine::EngineHandle;
use pled::port;
use pled::rpc::pb;
use pled::rpc::pb::admin_service_client::AdminServiceClient;
use pled::rpc::pb::generate_stream_response::Event;
use pled::rpc::pb::generation_service_client::GenerationServiceClient;
use pled::rpc::pb::model_service_client::ModelServiceClient;
use pled::rpc::pb::session_service_client::SessionServiceClient;
use pled::rpc::pb::tokenizer_service_client::TokenizerServiceClient;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::scripted::PATIENCE;

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) control: Control,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    /// A server that has no model yet.
    pub(crate) async fn loading() -> Self {
        Self::begin(None, |services| services).await
    }

    /// A server for those who have one of these tokens.
    pub(crate) async fn kept_by(keys: Arc<Keys>, engine: EngineHandle) -> Self {
        let server = Self::begin(None, |services| services.kept_by(keys)).await;
        server.control.ready(engine).await;
        server
    }

    /// A server that speaks TLS alone.
    pub(crate) async fn encrypted(certificates: Arc<Certificates>, engine: EngineHandle) -> Self {
        let server = Self::begin(Some(certificates), |services| services).await;
        server.control.ready(engine).await;
        server
    }

    async fn begin(certificates: Option<Arc<Certificates>>, with: impl FnOnce(Services) -> Services) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (services, control) = daemon::services().await;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(port::serve(listener, certificates, with(services), shutdown));
        Self { addr, control, stop, serving }
    }

    pub(crate) async fn over(engine: EngineHandle) -> Self {
        let server = Self::loading().await;
        server.control.ready(engine).await;
        server
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.addr)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn generation(&self) -> GenerationServiceClient<Channel> {
        GenerationServiceClient::new(self.channel().await)
    }

    pub(crate) async fn tokenizer(&self) -> TokenizerServiceClient<Channel> {
        TokenizerServiceClient::new(self.channel().await)
    }

    pub(crate) async fn models(&self) -> ModelServiceClient<Channel> {
        ModelServiceClient::new(self.channel().await)
    }

    pub(crate) async fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel().await)
    }

    pub(crate) async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel().await)
    }

    /// Ends as the daemon does; clients have to be gone.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.serving).await.expect("the server ends").unwrap();
    }
}

/// A greedy request of so many tokens.
pub(crate) fn request(prompt: &[u32], max_tokens: u32) -> pb::GenerateRequest {
    let tokens = pb::PromptTokens { ids: prompt.to_vec() };
    pb::GenerateRequest {
        prompt: Some(pb::generate_request::Prompt::Tokens(tokens)),
        sampling: Some(pb::SamplingParams { temperature: Some(0.0), ..Default::default() }),
        stopping: Some(pb::StoppingCriteria { max_tokens: Some(max_tokens), ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn text_request(text: &str, max_tokens: u32) -> pb::GenerateRequest {
    let prompt = Some(pb::generate_request::Prompt::Text(text.to_owned()));
    pb::GenerateRequest { prompt, ..request(&[], max_tokens) }
}

/// The next event, which has to come.
pub(crate) async fn next(
    stream: &mut Streaming<pb::GenerateStreamResponse>,
) -> Result<Option<Event>, Status> {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("an event or the end");
    Ok(message?.map(|m| m.event.expect("every message has an event")))
}

/// Reads until the first token.
pub(crate) async fn first_token(stream: &mut Streaming<pb::GenerateStreamResponse>) {
    loop {
        match next(stream).await.unwrap().expect("a token comes") {
            Event::Delta(delta) if !delta.token_ids.is_empty() => return,
            Event::Done(done) => panic!("ended before a token: {done:?}"),
            _ => {}
        }
    }
}

/// Reads to the end: token ids and the last event.
pub(crate) async fn drain(
    stream: &mut Streaming<pb::GenerateStreamResponse>,
) -> Result<(Vec<u32>, pb::GenerationDone), Status> {
    let mut ids = Vec::new();
    let mut end = None;
    while let Some(event) = next(stream).await? {
        match event {
            Event::Delta(delta) => ids.extend(delta.token_ids),
            Event::Done(done) => end = Some(done),
            _ => {}
        }
    }
    Ok((ids, end.expect("a stream without a status ends with done")))
}

/// Waits until the statistics say that nothing is held.
pub(crate) async fn await_nothing_held(server: &Server) -> pb::GetStatsResponse {
    let mut admin = server.admin().await;
    for _ in 0..PATIENCE.as_millis() / 2 {
        let stats = admin.get_stats(pb::GetStatsRequest {}).await.unwrap().into_inner();
        if stats.kv_bytes_in_use == 0 && stats.active_sequences == 0 && stats.queue_length == 0 {
            return stats;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("something is held still: {:?}", admin.get_stats(pb::GetStatsRequest {}).await);
}
