//! What all peers together can make the server hold beside the requests that the engine has taken in.
//!
//! A call takes a place while its message arrives and is made a request; without a free one it waits, and
//! its bytes stay on the wire. So messages take [`MAX_ARRIVING`] times the largest at most. Answers that
//! are large for their request ([`Held`]) keep a place of their own until their peer has taken them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::{BoxError, http};
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tower_service::Service;

/// Messages that arrive, or are made requests, at a time.
const MAX_ARRIVING: usize = 32;
/// Time from the beginning of a call in which its message has to arrive; then its place goes to another. Who waited
/// longer for a place and has his bytes there is heard all the same.
const ARRIVAL: Duration = Duration::from_secs(10);
/// Bytes of an answer that are given out at a time: what has been given out waits in the connection,
/// however slowly the peer takes it.
const PIECE_BYTES: usize = 16 << 10;

/// Stands among the extensions of a request: the place that it has while it is looked at. Its methods
/// keep it until the message is gone.
#[derive(Clone, Debug)]
pub struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Stands among the extensions of an answer: given back when the peer has taken the answer, or is gone.
#[derive(Clone, Debug)]
pub struct Held {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Held {
    /// Holds a place until the answer is gone.
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Arc::new(permit) }
    }
}

/// Keeps the bounds for the calls of a service, over all connections.
#[derive(Clone, Debug)]
pub struct Intake<S> {
    service: S,
    arriving: Arc<Semaphore>,
}

impl<S> Intake<S> {
    /// Bounds around a service, which copies share.
    pub fn new(service: S) -> Self {
        Self { service, arriving: Arc::new(Semaphore::new(MAX_ARRIVING)) }
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B> Service<http::Request<B>> for Intake<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let arriving = Arc::clone(&self.arriving);
        // The one that is ready goes, its copy stays.
        let copy = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, copy);
        let limit = Box::pin(sleep(ARRIVAL));
        Box::pin(async move {
            let permit = arriving.acquire_owned().await.expect("this semaphore is never closed");
            let mut request = request.map(|body| Body::new(Arriving { body, limit }));
            request.extensions_mut().insert(Place { _permit: Arc::new(permit) });
            let mut answer = service.call(request).await?;
            Ok(match answer.extensions_mut().remove::<Held>() {
                None => answer,
                Some(held) => {
                    answer.map(|body| Body::new(Delivery { body, rest: Bytes::new(), _held: held }))
                }
            })
        })
    }
}

/// What reading a message ends with that takes too long to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message did not arrive within {} s", ARRIVAL.as_secs())]
pub struct Late;

/// The bytes of a request, which have to arrive in time.
struct Arriving<B> {
    body: B,
    limit: Pin<Box<Sleep>>,
}

impl<B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin> HttpBody for Arriving<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.limit.as_mut().poll(cx));
        Poll::Ready(Some(Err(Late.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// What is too large is refused before it arrives.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The bytes of an answer, in pieces as the peer takes them.
struct Delivery {
    body: Body,
    rest: Bytes,
    _held: Held,
}

impl HttpBody for Delivery {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                None => return Poll::Ready(None),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Ok(Ok(data))) => self.rest = data,
            }
        }
        let n = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(n)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use super::*;

    /// Frames that are there, then nothing; ends only if told.
    struct Frames {
        frames: VecDeque<&'static [u8]>,
        ends: bool,
    }

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            match self.frames.pop_front() {
                Some(data) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(data))))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    async fn next<B: HttpBody<Data = Bytes> + Unpin>(body: &mut B) -> Option<Result<Bytes, B::Error>> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    #[tokio::test]
    async fn a_message_has_to_arrive_in_time() {
        let body = Frames { frames: [&b"begun"[..]].into(), ends: false };
        let mut body = Arriving { body, limit: Box::pin(sleep(Duration::from_millis(20))) };
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "begun");
        let late = next(&mut body).await.unwrap().unwrap_err();
        assert!(late.is::<Late>(), "{late}");
    }

    #[tokio::test]
    async fn an_answer_is_given_out_in_pieces_and_keeps_its_place_until_its_end() {
        static LARGE: [u8; 2 * PIECE_BYTES + 1] = [7; 2 * PIECE_BYTES + 1];
        let places = Arc::new(Semaphore::new(1));
        let held = Held::new(Arc::clone(&places).try_acquire_owned().unwrap());
        let body = Body::new(Frames { frames: [&LARGE[..], b"end"].into(), ends: true });
        let mut body = Delivery { body, rest: Bytes::new(), _held: held };
        let mut lengths = Vec::new();
        while let Some(piece) = next(&mut body).await {
            lengths.push(piece.unwrap().len());
            assert_eq!(places.available_permits(), 0);
        }
        assert_eq!(lengths, [PIECE_BYTES, PIECE_BYTES, 1, 3]);
        drop(body);
        assert_eq!(places.available_permits(), 1);
    }
}
