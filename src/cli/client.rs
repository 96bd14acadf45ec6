//! What the commands that talk to a daemon share: its address, messages, and how a refusal reads.

use tonic::transport::Endpoint;

use super::exit::UsageError;
use crate::rpc::pb;

/// The daemon at the `--server` that was given.
pub(super) fn endpoint(url: &str) -> Result<Endpoint, UsageError> {
    let refuse = |why: &str| UsageError(format!("--server {url}: {why}, as in http://127.0.0.1:50051"));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| refuse("give a URL"))?;
    match endpoint.uri().scheme_str() {
        Some("http") => Ok(endpoint),
        _ => Err(refuse("give a URL that begins with http://")),
    }
}

/// The daemon would not answer a call; another may go well.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

impl From<tonic::Status> for Refused {
    fn from(status: tonic::Status) -> Refused {
        Refused(format!("the daemon refuses: {}", status.message()))
    }
}

/// A message of one text, or of none.
pub(super) fn message(role: pb::ChatRole, text: impl Into<String>) -> pb::ChatMessage {
    let text = text.into();
    let parts = match text.is_empty() {
        true => Vec::new(),
        false => vec![pb::ChatPart { part: Some(pb::chat_part::Part::Text(text)) }],
    };
    pb::ChatMessage { role: role.into(), parts, ..Default::default() }
}
