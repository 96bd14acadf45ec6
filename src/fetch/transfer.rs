//! The bytes: asking for pieces, judging answers, trying again.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinSet;

use super::client::{Answer, Client, Failure};
use super::digest::Sha256Sum;
use super::error::FetchError;
use super::part::PartFile;
use super::{Options, Stage};

/// A try that brings less than this has brought nothing: a server that cuts after each byte ends some time.
const PROGRESS_BYTES: u64 = 4096;
/// Longest pause that a server may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

pub(super) type Progress = Arc<dyn Fn(Stage<'_>) + Send + Sync>;

/// What the server tells of the file.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) length: u64,
    /// A strong one only.
    pub(super) etag: Option<String>,
    pub(super) has_ranges: bool,
    /// The checksum that a hub announces for a large file.
    pub(super) linked_sum: Option<Sha256Sum>,
}

/// How a transfer ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Complete,
    /// The file is another one than at the beginning, or answers contradict each other.
    Changed,
    Failed(FetchError),
}

/// The end of a transfer, and the part.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) how: Outcome,
    pub(super) received: u64,
    pub(super) part: PartFile,
}

/// Why one try ended without the whole piece.
enum Fault {
    Again { problem: String, pause: Option<Duration> },
    Changed,
    Final(FetchError),
}

/// Asks for the first byte, to learn everything about the file.
pub(super) async fn probe(
    client: &Client,
    options: &Options,
    progress: &Progress,
) -> Result<Facts, FetchError> {
    let mut failures = 0;
    loop {
        let fault = match try_probe(client).await {
            Ok(facts) => return Ok(facts),
            Err(fault) => fault,
        };
        failures += 1;
        match fault {
            Fault::Final(error) => return Err(error),
            Fault::Changed => return Err(nonsense(client, "the server does not tell how long the file is")),
            Fault::Again { problem, .. } if failures >= options.attempts => {
                return Err(broken(client, problem));
            }
            Fault::Again { problem, pause } => {
                progress(Stage::Waiting { url: &client.url().to_string(), problem: &problem });
                rest(options, failures, pause).await;
            }
        }
    }
}

async fn try_probe(client: &Client) -> Result<Facts, Fault> {
    let answer = client.get(Some((0, 0)), None).await?;
    refuse_failures(client, &answer)?;
    let (length, has_ranges) = match answer.status.as_u16() {
        206 => match content_range(&answer) {
            Some((0, 0, length)) => (length, true),
            _ => return Err(Fault::Final(nonsense(client, "it answers with bytes that nobody asked for"))),
        },
        200 => (content_length(&answer).ok_or(Fault::Changed)?, false),
        status => return Err(Fault::Final(nonsense(client, &format!("it answers {status}")))),
    };
    if length == 0 {
        return Err(Fault::Final(nonsense(client, "the file is empty")));
    }
    let linked = answer.own_headers.get("x-linked-etag").and_then(|value| value.to_str().ok());
    let linked_sum = linked.and_then(|text| text.trim_matches('"').parse().ok());
    Ok(Facts { length, etag: strong_etag(&answer), has_ranges, linked_sum })
}

/// A transfer that is going on.
struct Transfer {
    client: Client,
    facts: Facts,
    /// Bytes of several answers may be joined.
    can_join: bool,
    options: Options,
    progress: Progress,
    inner: Mutex<Inner>,
}

struct Inner {
    part: PartFile,
    received: u64,
}

/// Brings every byte that `part` lacks.
pub(super) async fn run(
    client: &Client,
    facts: &Facts,
    has_sum: bool,
    part: PartFile,
    options: &Options,
    progress: &Progress,
) -> Ended {
    let n_pieces = part.pieces().len();
    let transfer = Arc::new(Transfer {
        client: client.clone(),
        facts: facts.clone(),
        can_join: facts.has_ranges && (facts.etag.is_some() || has_sum),
        options: options.clone(),
        progress: Arc::clone(progress),
        inner: Mutex::new(Inner { part, received: 0 }),
    });
    let mut tasks = JoinSet::new();
    for i in 0..n_pieces {
        let transfer = Arc::clone(&transfer);
        tasks.spawn(async move { transfer.piece(i).await });
    }
    let mut how = Outcome::Complete;
    while let Some(ended) = tasks.join_next().await {
        let fault = match ended.expect("tasks neither panic nor are aborted before the first fault") {
            Ok(()) => continue,
            Err(fault) => fault,
        };
        how = match fault {
            Fault::Changed => Outcome::Changed,
            Fault::Final(error) => Outcome::Failed(error),
            Fault::Again { problem, .. } => Outcome::Failed(broken(client, problem)),
        };
        // The others end where they are; what they wrote counts.
        tasks.shutdown().await;
    }
    let transfer = Arc::into_inner(transfer).expect("the tasks have ended");
    let Inner { part, received } = transfer.inner.into_inner().expect("no task panicked");
    Ended { how, received, part }
}

impl Transfer {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no task panicked")
    }

    /// Brings piece `i`, however often it takes.
    async fn piece(&self, i: usize) -> Result<(), Fault> {
        let start = self.lock().part.pieces()[i].at;
        let mut failures = 0;
        loop {
            let before = self.lock().part.pieces()[i];
            if before.at == before.end {
                return Ok(());
            }
            let fault = match self.attempt(i).await {
                Ok(()) => continue,
                Err(fault) => fault,
            };
            let Fault::Again { problem, pause } = fault else { return Err(fault) };
            let after = self.lock().part.pieces()[i].at;
            if !self.can_join {
                self.lock().part.rewind(i, start);
                failures += 1;
            } else if after - before.at >= PROGRESS_BYTES {
                failures = 1;
            } else {
                failures += 1;
            }
            if failures >= self.options.attempts {
                return Err(Fault::Again { problem, pause });
            }
            (self.progress)(Stage::Waiting { url: &self.client.url().to_string(), problem: &problem });
            rest(&self.options, failures, pause).await;
        }
    }

    /// One request for what piece `i` lacks.
    async fn attempt(&self, i: usize) -> Result<(), Fault> {
        let piece = self.lock().part.pieces()[i];
        let wanted = piece.end - piece.at;
        let is_whole = wanted == self.facts.length;
        // Without anything to join by, the whole is asked for as if there were no ranges.
        let uses_range = self.facts.has_ranges && (self.can_join || !is_whole);
        let range = uses_range.then_some((piece.at, piece.end - 1));
        let mut answer =
            self.client.get(range, self.facts.etag.as_deref().filter(|_| range.is_some())).await?;
        refuse_failures(&self.client, &answer)?;
        let n = match answer.status.as_u16() {
            206 if range.is_some() => match content_range(&answer) {
                // Fewer bytes than asked for are allowed; the next try asks for the others.
                Some((first, last, length))
                    if first == piece.at && last < piece.end && length == self.facts.length =>
                {
                    last - first + 1
                }
                _ => return Err(Fault::Changed),
            },
            200 if is_whole => self.facts.length,
            // 200 to a range: the file is another one, or the server has no ranges after all. 206 to none: no sense.
            200 | 206 => return Err(Fault::Changed),
            status => return Err(Fault::Final(nonsense(&self.client, &format!("it answers {status}")))),
        };
        let same_etag = match (&self.facts.etag, answer.headers.contains_key("etag")) {
            (Some(etag), true) => strong_etag(&answer).as_ref() == Some(etag),
            _ => true,
        };
        if !same_etag || content_length(&answer).is_some_and(|length| length != n) {
            return Err(Fault::Changed);
        }
        self.body(i, &mut answer, n).await
    }

    /// Writes the `n` bytes of an answer.
    async fn body(&self, i: usize, answer: &mut Answer, n: u64) -> Result<(), Fault> {
        let again = |problem| Fault::Again { problem, pause: None };
        let mut left = n;
        while let Some(bytes) = answer.next().await.map_err(again)? {
            if bytes.len() as u64 > left {
                // Whatever else it says is as doubtful.
                return Err(Fault::Changed);
            }
            left -= bytes.len() as u64;
            let missing = {
                let mut inner = self.lock();
                inner.part.append(i, &bytes, self.options.checkpoint_bytes).map_err(Fault::Final)?;
                inner.received += bytes.len() as u64;
                inner.part.missing()
            };
            let total = self.facts.length;
            (self.progress)(Stage::Receiving { done: total - missing, total });
        }
        match left {
            0 => Ok(()),
            _ => Err(again(format!("the server stopped {left} bytes before the end"))),
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        match failure {
            Failure::Connection(problem) => Fault::Again { problem, pause: None },
            Failure::Final(error) => Fault::Final(error),
        }
    }
}

/// Sorts out answers that bring no bytes.
fn refuse_failures(client: &Client, answer: &Answer) -> Result<(), Fault> {
    let (url, status) = (client.url().to_string(), answer.status.as_u16());
    match status {
        401 | 403 => Err(Fault::Final(FetchError::Forbidden { url, status })),
        404 | 410 => Err(Fault::Final(FetchError::NotFound { url, status })),
        416 => Err(Fault::Changed),
        408 | 425 | 429 | 500..=599 => {
            let pause = answer.header("retry-after").and_then(|text| text.trim().parse().ok());
            let pause = pause.map(|seconds| Duration::from_secs(seconds).min(MAX_PAUSE));
            Err(Fault::Again { problem: format!("the server answers {status}"), pause })
        }
        _ => match answer.header("content-encoding") {
            None | Some("identity") => Ok(()),
            Some(_) => Err(Fault::Final(nonsense(client, "it sends another encoding than the file's own"))),
        },
    }
}

/// `Content-Range: bytes FIRST-LAST/LENGTH`, if it makes sense.
fn content_range(answer: &Answer) -> Option<(u64, u64, u64)> {
    let (range, length) = answer.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, length) = (first.parse().ok()?, last.parse().ok()?, length.parse().ok()?);
    (first <= last && last < length).then_some((first, last, length))
}

fn content_length(answer: &Answer) -> Option<u64> {
    answer.header("content-length")?.parse().ok()
}

/// The ETag, unless it is a weak one, which promises no equal bytes.
fn strong_etag(answer: &Answer) -> Option<String> {
    let etag = answer.header("etag")?;
    (etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')).then(|| etag.to_owned())
}

fn nonsense(client: &Client, problem: &str) -> FetchError {
    FetchError::Protocol { url: client.url().to_string(), problem: problem.to_owned() }
}

fn broken(client: &Client, problem: String) -> FetchError {
    FetchError::Connection { url: client.url().to_string(), problem }
}

/// Waits before the next try: twice as long after each failure, or as the server asks.
async fn rest(options: &Options, failures: u32, pause: Option<Duration>) {
    let own = options.backoff.saturating_mul(1 << (failures - 1).min(6));
    tokio::time::sleep(pause.unwrap_or(own).max(own).min(MAX_PAUSE)).await;
}
