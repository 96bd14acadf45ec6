//! An answer as it comes, as the bytes of a body.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use tokio::time::{Instant, Interval, interval_at};
use tokio_stream::Stream;

use super::whole::cut_short;
use crate::serving::{Answering, Piece, Problem};

/// How often a client that waits hears that it is not forgotten, where its dialect has a word for that: the
/// prompt of a long conversation takes minutes on a slow board.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// How a dialect writes the pieces of an answer.
pub(super) trait Words: Send + Unpin + 'static {
    /// What the reader may skip.
    const SIGN_OF_LIFE: &'static [u8];

    /// What comes before all pieces.
    fn begin(&mut self, out: &mut Vec<u8>);
    /// A piece; [`Piece::Failed`] and endings that are none are told by [`failed`](Self::failed).
    fn piece(&mut self, piece: Piece, out: &mut Vec<u8>);
    /// An error after the answer has begun.
    fn failed(&mut self, problem: Problem, out: &mut Vec<u8>);
}

/// The body of an answer. Pieces are taken as the client reads; dropped when it goes away, which cancels the
/// generation.
pub(super) fn body(answering: Answering, words: impl Words) -> Body {
    let alive = interval_at(Instant::now() + SIGN_OF_LIFE, SIGN_OF_LIFE);
    Body::from_stream(Streamed { answering, words, begun: false, alive })
}

struct Streamed<W> {
    answering: Answering,
    words: W,
    begun: bool,
    alive: Interval,
}

impl<W: Words> Stream for Streamed<W> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut out = Vec::new();
        if !std::mem::replace(&mut this.begun, true) {
            this.words.begin(&mut out);
        }
        // Until there is something to write.
        while out.is_empty() {
            match this.answering.poll_next(cx) {
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Piece::Failed(problem))) => this.words.failed(problem, &mut out),
                Poll::Ready(Some(piece)) => {
                    let problem = if let Piece::Done(ending) = &piece { cut_short(ending) } else { None };
                    match problem {
                        Some(problem) => this.words.failed(problem, &mut out),
                        None => this.words.piece(piece, &mut out),
                    }
                }
                Poll::Pending => {
                    if W::SIGN_OF_LIFE.is_empty() || this.alive.poll_tick(cx).is_pending() {
                        return Poll::Pending;
                    }
                    out.extend_from_slice(W::SIGN_OF_LIFE);
                }
            }
        }
        this.alive.reset();
        Poll::Ready(Some(Ok(out.into())))
    }
}
