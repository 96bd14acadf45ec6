//! The bytes of a request to a checked shape.
//!
//! A message is bounded in bytes and in values: a list of millions of empty objects is small on the wire and
//! large in memory.

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::refusal::Refusal;
use crate::access::Owner;
use crate::engine::Priority;
use crate::port::{Late, MAX_MESSAGE_BYTES, Place};
use crate::serving::{PRIORITY, Problem, priority};

/// The most values of a message, names of fields not counted.
const MAX_VALUES: usize = 1 << 16;

/// A request that was read.
#[derive(Debug)]
pub(super) struct Message<T> {
    pub(super) body: T,
    /// The caller's name for the request; empty if it gave none.
    pub(super) request_id: String,
    /// How urgent it is; what is wrong with that concerns only what is computed.
    pub(super) priority: Result<Priority, Problem>,
    /// Whose sessions it may name.
    pub(super) owner: Owner,
    /// To be kept until the engine has its own place for the request.
    pub(super) place: Option<Place>,
}

/// Reads a request whose body is JSON, whatever its content type says: many clients say nothing useful.
pub(super) async fn read<T: DeserializeOwned>(request: Request) -> Result<Message<T>, Refusal> {
    let (parts, body) = request.into_parts();
    let place = parts.extensions.get::<Place>().cloned();
    let owner = parts.extensions.get::<Owner>().cloned().unwrap_or_default();
    let id = parts.headers.get("x-request-id").map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let priority = priority(parts.headers.get(PRIORITY).map(|said| said.as_bytes()));
    let body = parse(&bytes(body).await?)?;
    Ok(Message { body, request_id: id.unwrap_or_default(), priority, owner, place })
}

async fn bytes(body: Body) -> Result<axum::body::Bytes, Refusal> {
    let too_large = || {
        let message = format!("the request has more than {MAX_MESSAGE_BYTES} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    // Who says so beforehand need not send it.
    if HttpBody::size_hint(&body).lower() > MAX_MESSAGE_BYTES as u64 {
        return Err(too_large());
    }
    // The largest message and not a byte more: a message of exactly that size is read to its end.
    match to_bytes(body, MAX_MESSAGE_BYTES).await {
        Ok(bytes) => Ok(bytes),
        Err(e) if is::<Late>(&e) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, Late.to_string())),
        Err(e) if is::<http_body_util::LengthLimitError>(&e) => Err(too_large()),
        Err(e) => Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the request did not arrive: {e}"))),
    }
}

/// Whether an error is, or comes from, one of type `E`.
fn is<E: std::error::Error + 'static>(e: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(e), |e| e.source()).any(|e| e.is::<E>())
}

/// Reads the body of a request.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    if n_values(bytes) > MAX_VALUES {
        return Err(bad(format!("the request has more than {MAX_VALUES} values")));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed: T = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        let problem = e.inner().to_string();
        if e.inner().is_data() && path != "." {
            // Where in the bytes it stands helps nobody who knows the field.
            let problem = problem.split(" at line ").next().unwrap_or_default();
            Refusal { field: Some(path.clone()), ..bad(format!("{path}: {problem}")) }
        } else {
            bad(format!("the request is no JSON of the expected shape: {problem}"))
        }
    })?;
    json.end().map_err(|e| bad(format!("the request is no JSON: {e}")))?;
    Ok(parsed)
}

/// At least as many as there are values in a JSON text: each but the first follows a comma or an opening bracket.
fn n_values(json: &[u8]) -> usize {
    let (mut n, mut in_string, mut escaped) = (1, false, false);
    for &byte in json {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            in_string = byte == b'"';
            n += usize::from(matches!(byte, b',' | b'[' | b'{'));
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Shape {
        #[expect(dead_code)]
        list: Vec<u32>,
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        let refused = |json: &str| parse::<Shape>(json.as_bytes()).unwrap_err();
        let wrong = refused(r#"{"list": [1, "a"]}"#);
        assert_eq!(wrong.field.as_deref(), Some("list[1]"));
        assert_eq!(wrong.message, r#"list[1]: invalid type: string "a", expected u32"#);
        for (json, part) in
            [("{}", "missing field `list`"), ("{", "EOF"), ("", "EOF"), ("{\"list\": []} x", "trailing")]
        {
            let wrong = refused(json);
            assert!(wrong.message.contains(part), "{json}: {wrong:?}");
            assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        }
        let many = format!(r#"{{"list": [{}1]}}"#, "1,".repeat(MAX_VALUES));
        assert!(refused(&many).message.contains("values"));
    }

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (json, n) in [("1", 1), ("[]", 2), (r#"{"a": [1, "x,[{\",", 2]}"#, 5), (r#""\\",,"#, 3)] {
            assert_eq!(n_values(json.as_bytes()), n, "{json}");
        }
    }
}
