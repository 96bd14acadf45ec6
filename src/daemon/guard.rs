//! Lets calls in, or refuses them in their dialect before anything of them is read; and tells of those that were
//! refused, here or further in. Of the others the engine tells.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use crate::access::{Admitted, Keys, Refused, Wants};
use crate::port::{Kept, Peer, Unimportant};
use crate::serving::Problem;
use crate::{http, rpc};

/// Strangers are not to fill the log: one refusal is told in this time, with the number of others.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// The longest path that is told. Unit: characters.
const MAX_TOLD: usize = 100;

/// A service that only those may use who have a token, if there are any.
#[derive(Clone, Debug)]
pub(super) struct Guard<S> {
    service: S,
    keys: Option<Arc<Keys>>,
    told: Arc<Mutex<Told>>,
}

impl<S> Guard<S> {
    /// Everybody may use the service.
    pub(super) fn open(service: S) -> Self {
        Self { service, keys: None, told: Arc::default() }
    }

    /// The same for those alone who have one of these tokens.
    pub(super) fn kept_by(self, keys: Arc<Keys>) -> Self {
        Self { keys: Some(keys), ..self }
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S> Service<Request<Incoming>> for Guard<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let wants = wants(&request);
        // Who asks whether the server is well may hear that it is not: that is no refusal.
        let asked = (wants != Wants::Health).then(|| Asked::of(&request));
        let told = Arc::clone(&self.told);
        let tell = move |answer: &Response<Body>| asked.iter().for_each(|asked| asked.tell(answer, &told));
        let admitted = match self.keys.as_ref().map(|keys| admit(keys, wants, &request)).transpose() {
            Ok(admitted) => admitted,
            Err(refused) => {
                let answer = refusal(&request, refused);
                tell(&answer);
                return Box::pin(ready(Ok(answer)));
            }
        };
        // Strangers may ask for health too, and are not to keep others out by listening to it.
        let is_unimportant = admitted.is_some() && wants == Wants::Health;
        if let Some(admitted) = &admitted {
            request.extensions_mut().insert(admitted.owner.clone());
        }
        let answer = self.service.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            tell(&answer);
            if is_unimportant {
                answer.extensions_mut().insert(Unimportant);
            }
            Ok(match admitted {
                None => answer,
                Some(admitted) => answer.map(|body| Body::new(Kept::new(body, admitted))),
            })
        })
    }
}

fn admit<B>(keys: &Keys, wants: Wants, request: &Request<B>) -> Result<Admitted, Refused> {
    let authorization = request.headers().get_all(AUTHORIZATION);
    keys.admit(authorization.into_iter().map(|value| value.as_bytes()), wants, Instant::now())
}

fn wants<B>(request: &Request<B>) -> Wants {
    let path = request.uri().path();
    match rpc::is_grpc(request.headers()) {
        true => rpc::wants(path),
        false => http::wants(request.method(), path),
    }
}

fn refusal<B>(request: &Request<B>, refused: Refused) -> Response<Body> {
    let problem = Problem::from(refused);
    match rpc::is_grpc(request.headers()) {
        true => rpc::refused(problem),
        false => http::refused(request.uri().path(), problem),
    }
}

/// When a refusal was told last, and how many were not told since.
#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    n_untold: u64,
}

impl Told {
    /// Whether to tell one now, and how many were passed over.
    fn turn(&mut self, now: Instant) -> Option<u64> {
        if self.at.is_some_and(|at| now.saturating_duration_since(at) < TELL_EVERY) {
            self.n_untold += 1;
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.n_untold))
    }
}

/// What is told of a call that is refused. Nothing of what it says.
struct Asked {
    peer: String,
    path: String,
    request_id: String,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.to_string());
        let shown = |text: &str| text.chars().take(MAX_TOLD).collect::<String>().escape_debug().to_string();
        let id = request.headers().get("x-request-id");
        Self {
            peer: peer.unwrap_or_default(),
            path: shown(request.uri().path()),
            request_id: id.map(|id| shown(&String::from_utf8_lossy(id.as_bytes()))).unwrap_or_default(),
        }
    }

    fn tell(&self, answer: &Response<Body>, told: &Mutex<Told>) {
        let Some(status) = failure(answer.status().as_u16(), answer.headers()) else { return };
        let turn = told.lock().unwrap_or_else(PoisonError::into_inner).turn(Instant::now());
        let Some(untold) = turn else { return };
        log::info!(
            request_id = self.request_id.as_str(),
            peer = self.peer.as_str(),
            path = self.path.as_str(),
            status = status.as_str(),
            others = untold;
            "request refused"
        );
    }
}

/// The status of an answer that is none. An answer of gRPC has 200 and its own code, at its beginning if there is
/// nothing else.
fn failure(status: u16, headers: &HeaderMap) -> Option<String> {
    match headers.get("grpc-status").and_then(|code| code.to_str().ok()) {
        Some("0") => None,
        Some(code) => Some(format!("grpc {code}")),
        None => (status >= 400).then(|| status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_one_a_second_with_the_number_of_the_others() {
        let mut told = Told::default();
        let begin = Instant::now();
        let mut after = |ms| told.turn(begin + Duration::from_millis(ms));
        assert_eq!(after(0), Some(0));
        assert_eq!((after(1), after(999)), (None, None));
        assert_eq!(after(1000), Some(2));
        assert_eq!(after(5000), Some(0));
    }

    #[test]
    fn what_is_no_answer_is_a_failure() {
        let none = HeaderMap::new();
        let grpc = |code: &'static str| {
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
        };
        assert_eq!(failure(200, &none), None);
        assert_eq!(failure(200, &grpc("0")), None);
        assert_eq!(failure(401, &none).as_deref(), Some("401"));
        assert_eq!(failure(200, &grpc("16")).as_deref(), Some("grpc 16"));
    }
}
