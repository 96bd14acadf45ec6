//! Lets calls in, or refuses them in their dialect before anything of them is read; and tells how each of them ended, and counts
//! those that were refused, here or further in.
//!
//! One line for each call: the engine writes it for what it was asked for, with its times; all others are told here. What asks
//! nothing of the machine (what there is, figures) is told at the level debug, and probes of health not at all. Neither
//! strangers nor a program that went wild are to fill the journal: a line says how many others were not told.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use log::Level;
use tower_service::Service;

use crate::access::{Admitted, Keys, Refused, Wants};
use crate::port::{Kept, Peer, Unimportant};
use crate::serving::{Named, Problem, State, Why};
use crate::{http, rpc};

/// The time for which lines are counted.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Refusals that are told in that time. Strangers can bring them about.
const TELL_REFUSED: u64 = 1;
/// Other calls that are told in that time.
const TELL_ANSWERED: u64 = 50;
/// The longest path or name that is told. Unit: characters.
const MAX_TOLD: usize = 100;

/// A service that only those may use who have a token, if there are any.
#[derive(Clone, Debug)]
pub(super) struct Guard<S> {
    service: S,
    keys: Option<Arc<Keys>>,
    state: Arc<State>,
    journal: Arc<Journal>,
}

/// What was told of late.
#[derive(Debug)]
struct Journal {
    refused: Mutex<Told>,
    answered: Mutex<Told>,
}

impl<S> Guard<S> {
    /// Everybody may use the service.
    pub(super) fn open(service: S, state: Arc<State>) -> Self {
        let told = |most| Mutex::new(Told::new(most));
        let journal = Journal { refused: told(TELL_REFUSED), answered: told(TELL_ANSWERED) };
        Self { service, keys: None, state, journal: Arc::new(journal) }
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
        let named = Named::default();
        let asked = (wants != Wants::Health).then(|| Asked::of(&request, wants, named.clone()));
        request.extensions_mut().insert(named);
        let (state, journal) = (Arc::clone(&self.state), Arc::clone(&self.journal));
        let tell = move |answer: &Response<Body>| {
            asked.iter().for_each(|asked| asked.tell(answer, &state, &journal))
        };
        let admitted = match self.keys.as_ref().map(|keys| admit(keys, wants, &request)).transpose() {
            Ok(admitted) => admitted,
            Err(refused) => {
                if matches!(refused, Refused::TooOften { .. } | Refused::TooMany { .. }) {
                    self.state.count_refusal(Why::RateLimited);
                }
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

/// Since when lines are counted, how many there were, and how many were not told since the last one.
#[derive(Debug)]
struct Told {
    most: u64,
    since: Option<Instant>,
    n_told: u64,
    n_untold: u64,
}

impl Told {
    /// At most so many in a time.
    fn new(most: u64) -> Self {
        Self { most, since: None, n_told: 0, n_untold: 0 }
    }

    /// Whether to tell one now, and how many were passed over.
    fn turn(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= TELL_EVERY) {
            (self.since, self.n_told) = (Some(now), 0);
        }
        if self.n_told == self.most {
            self.n_untold += 1;
            return None;
        }
        self.n_told += 1;
        Some(std::mem::take(&mut self.n_untold))
    }
}

/// What is told of a call. Nothing of what it says.
struct Asked {
    peer: String,
    path: String,
    /// The name that its headers give it.
    request_id: Option<String>,
    /// The name that its message gives it.
    named: Named,
    /// At which level it is told that it was answered, if that is told here.
    level: Option<Level>,
}

impl Asked {
    fn of<B>(request: &Request<B>, wants: Wants, named: Named) -> Self {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.to_string());
        let id = request.headers().get("x-request-id").filter(|id| !id.is_empty());
        let path = request.uri().path();
        let is_told_by_engine = match rpc::is_grpc(request.headers()) {
            true => rpc::is_told_by_engine(path),
            false => http::is_told_by_engine(path),
        };
        let level = if wants == Wants::Work { Level::Info } else { Level::Debug };
        Self {
            peer: peer.unwrap_or_default(),
            path: shown(path),
            request_id: id.map(|id| shown(&String::from_utf8_lossy(id.as_bytes()))),
            named,
            level: (!is_told_by_engine).then_some(level),
        }
    }

    fn tell(&self, answer: &Response<Body>, state: &State, journal: &Journal) {
        let failure = Failure::of(answer.status().as_u16(), answer.headers());
        if let Some(why) = failure.as_ref().and_then(Failure::why) {
            state.count_refusal(why);
        }
        let (level, told, message) = match (&failure, self.level) {
            (Some(_), _) => (Level::Info, &journal.refused, "request refused"),
            (None, Some(level)) => (level, &journal.answered, "request answered"),
            (None, None) => return,
        };
        if !log::log_enabled!(level) {
            return;
        }
        let turn = told.lock().unwrap_or_else(PoisonError::into_inner).turn(Instant::now());
        let Some(untold) = turn else { return };
        let status =
            failure.map_or_else(|| answer.status().as_u16().to_string(), |failure| failure.to_string());
        let request_id = self.request_id.clone().or_else(|| self.named.get().map(shown));
        let request_id = request_id.unwrap_or_else(|| state.unique_name());
        log::log!(
            level,
            request_id = request_id.as_str(),
            peer = self.peer.as_str(),
            path = self.path.as_str(),
            status = status.as_str(),
            others = untold;
            "{message}"
        );
    }
}

/// What strangers say, fit to be shown.
fn shown(text: &str) -> String {
    text.chars().take(MAX_TOLD).collect::<String>().escape_debug().to_string()
}

/// The status of an answer that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    Http(u16),
    Grpc(u16),
}

impl Failure {
    /// An answer of gRPC has 200 and its own code, at its beginning if there is nothing else.
    fn of(status: u16, headers: &HeaderMap) -> Option<Self> {
        match headers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok()) {
            Some(0) => None,
            Some(code) => Some(Self::Grpc(code)),
            None => (status >= 400).then_some(Self::Http(status)),
        }
    }

    /// As what it is counted. What is refused for want of room the engine counts, and a limit of rate whoever lets calls in:
    /// both have the same status.
    fn why(&self) -> Option<Why> {
        match self {
            Self::Http(401) | Self::Grpc(16) => Some(Why::Unauthenticated),
            Self::Http(403) | Self::Grpc(7) => Some(Why::Forbidden),
            // Time ran out.
            Self::Http(408 | 429) => None,
            Self::Http(400..=499) => Some(Why::Invalid),
            // Invalid argument, not found, exists already, failed precondition, out of range, unimplemented.
            Self::Grpc(3 | 5 | 6 | 9 | 11 | 12) => Some(Why::Invalid),
            Self::Http(_) | Self::Grpc(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(f, "{status}"),
            Self::Grpc(code) => write!(f, "grpc {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_one_a_second_with_the_number_of_the_others() {
        let mut told = Told::new(TELL_REFUSED);
        let begin = Instant::now();
        let mut after = |ms| told.turn(begin + Duration::from_millis(ms));
        assert_eq!(after(0), Some(0));
        assert_eq!((after(1), after(999)), (None, None));
        assert_eq!(after(1000), Some(2));
        assert_eq!(after(5000), Some(0));
        let mut told = Told::new(3);
        let turns: Vec<_> =
            [0, 10, 20, 30, 40, 1000].map(|ms| told.turn(begin + Duration::from_millis(ms))).into();
        assert_eq!(turns, [Some(0), Some(0), Some(0), None, None, Some(2)]);
    }

    #[test]
    fn what_is_no_answer_is_a_failure() {
        let none = HeaderMap::new();
        let grpc = |code: &'static str| {
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
        };
        let told =
            |status, headers: &HeaderMap| Failure::of(status, headers).map(|f| (f.to_string(), f.why()));
        assert_eq!(told(200, &none), None);
        assert_eq!(told(200, &grpc("0")), None);
        let cases = [
            (401, &none, "401", Some(Why::Unauthenticated)),
            (200, &grpc("16"), "grpc 16", Some(Why::Unauthenticated)),
            (403, &none, "403", Some(Why::Forbidden)),
            (404, &none, "404", Some(Why::Invalid)),
            (200, &grpc("3"), "grpc 3", Some(Why::Invalid)),
            // The engine counts what finds no room, and what fails.
            (429, &none, "429", None),
            (200, &grpc("8"), "grpc 8", None),
            (503, &none, "503", None),
        ];
        for (status, headers, text, why) in cases {
            assert_eq!(told(status, headers), Some((text.to_owned(), why)));
        }
    }
}
