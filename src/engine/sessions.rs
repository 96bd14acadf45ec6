//! Sessions: names for conversations that go on.
//!
//! What requests have in common is found by their tokens, whoever sends them, so a session changes no answer.
//! It is a name by which what was computed for a conversation is pinned, computed ahead, listed, and given up.
//!
//! Deliberately absent: tokens, and what is kept of them. Those are the worker's (`held`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::request::Violation;

mod record;

/// The longest id of a session. Unit: bytes.
pub const MAX_SESSION_ID_BYTES: usize = 128;
/// The most sessions that there are at a time.
pub const MAX_SESSIONS: usize = 256;
/// How long a session outlives its last use if nobody says otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Bounds of what may be said.
const MIN_TTL: Duration = Duration::from_secs(60);
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a caller says of a session that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionDraft {
    /// Its id: letters, digits and `-._~`.
    pub id: String,
    /// How long it outlives its last use.
    pub ttl: Option<Duration>,
    /// Keep what its last request computed in memory, as far as running sequences can never need the room.
    pub pinned: bool,
}

/// A session as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: SystemTime,
    /// When a request named it last, or when it was made.
    pub last_used: SystemTime,
    /// How long it outlives its last use.
    pub ttl: Duration,
    /// Whether what its last request computed stays in memory.
    pub pinned: bool,
    /// Requests that named it.
    pub n_requests: u64,
    /// Tokens of the last of them that ended, prompt and answer.
    pub n_tokens: usize,
}

/// Why there is no such session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// What was said of it is wrong.
    #[error("{}: {}", .0.field, .0.problem)]
    Field(Violation),
    /// There is one of this id.
    #[error("session \"{0}\" exists")]
    Exists(String),
    /// As many sessions as there may be are in use.
    #[error("there are {MAX_SESSIONS} sessions already, which is the most")]
    TooMany,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    all: BTreeMap<String, Entry>,
    n_made: u64,
    /// Grows when a session is made or goes.
    version: u64,
    /// Grows when anything changes.
    n_changes: u64,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    /// No other session has had it, of this id or another.
    serial: u64,
    expires_at: Instant,
    /// It was made by its first use, so that it may go when others need its place.
    by_use: bool,
}

/// Whether `id` can be that of a session; what is wrong with it.
///
/// # Errors
/// If it is empty, too long, or has other characters than letters, digits and `-._~`.
pub fn check_session_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > MAX_SESSION_ID_BYTES {
        return Err(format!("has {} bytes, from 1 to {MAX_SESSION_ID_BYTES} are possible", id.len()));
    }
    match id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
        true => Ok(()),
        false => Err("has characters other than letters, digits and - . _ ~".to_owned()),
    }
}

impl Sessions {
    /// Makes a session.
    ///
    /// # Errors
    /// If the draft is wrong, there is such a session, or there are too many.
    pub(super) fn create(&self, draft: SessionDraft) -> Result<Session, SessionError> {
        let wrong =
            |field: &str, problem| Err(SessionError::Field(Violation { field: field.to_owned(), problem }));
        if let Err(problem) = check_session_id(&draft.id) {
            return wrong("session_id", problem);
        }
        if let Some(ttl) = draft.ttl.filter(|ttl| !(MIN_TTL..=MAX_TTL).contains(ttl)) {
            let (min, max) = (MIN_TTL.as_secs(), MAX_TTL.as_secs());
            return wrong("ttl", format!("is {} s, from {min} to {max} are possible", ttl.as_secs_f64()));
        }
        self.with(|table, now| match table.all.contains_key(&draft.id) {
            true => Err(SessionError::Exists(draft.id)),
            false => table.make(draft, false, now),
        })
    }

    /// Makes the session unless it exists.
    ///
    /// # Errors
    /// If the id is none, or there are too many sessions.
    pub(super) fn open(&self, id: &str) -> Result<(), SessionError> {
        check_session_id(id)
            .map_err(|problem| SessionError::Field(Violation { field: "session".to_owned(), problem }))?;
        self.with(|table, now| match table.all.contains_key(id) {
            true => Ok(()),
            false => table
                .make(SessionDraft { id: id.to_owned(), ..SessionDraft::default() }, true, now)
                .map(|_| ()),
        })
    }

    /// A session.
    pub fn get(&self, id: &str) -> Option<Session> {
        self.with(|table, _| table.all.get(id).map(|entry| entry.session.clone()))
    }

    /// All sessions, by id.
    pub fn list(&self) -> Vec<Session> {
        self.with(|table, _| table.all.values().map(|entry| entry.session.clone()).collect())
    }

    /// Gives a session up. False if there is none.
    pub(super) fn delete(&self, id: &str) -> bool {
        self.with(|table, _| {
            let is_gone = table.all.remove(id).is_some();
            table.has_changed(is_gone);
            is_gone
        })
    }

    /// Takes note of a request that names the session. False if there is none.
    pub(super) fn admit(&self, id: &str) -> bool {
        self.with(|table, now| table.used(id, now).map(|session| session.n_requests += 1).is_some())
    }

    /// Takes note of what the session's last request amounts to.
    pub(super) fn said(&self, id: &str, n_tokens: usize) {
        self.with(|table, now| {
            if let Some(session) = table.used(id, now) {
                session.n_tokens = n_tokens;
            }
        });
    }

    /// Grows when a session is made or goes.
    pub(super) fn version(&self) -> u64 {
        self.with(|table, _| table.version)
    }

    /// Grows when anything changes.
    pub(super) fn n_changes(&self) -> u64 {
        self.with(|table, _| table.n_changes)
    }

    /// All sessions as bytes, for another process to [`restore`](Self::restore).
    pub(super) fn record(&self) -> Vec<u8> {
        self.with(|table, _| record::encode(table.all.values().map(|entry| (&entry.session, entry.by_use))))
    }

    /// Takes up the sessions of a record that have not expired since, beside those that there are.
    ///
    /// # Errors
    /// If it is no such record; nothing is taken up then.
    pub(super) fn restore(&self, bytes: &[u8]) -> Result<(), &'static str> {
        let sessions = record::decode(bytes)?;
        self.with(|table, now| {
            for (session, by_use) in sessions {
                // A clock that went back says that they were used just now.
                let unused = session.last_used.elapsed().unwrap_or_default();
                let left = session.ttl.saturating_sub(unused);
                if left.is_zero() || table.all.len() >= MAX_SESSIONS || table.all.contains_key(&session.id) {
                    continue;
                }
                table.n_made += 1;
                table.has_changed(true);
                let entry = Entry { serial: table.n_made, expires_at: now + left, by_use, session };
                table.all.insert(entry.session.id.clone(), entry);
            }
        });
        Ok(())
    }

    /// The serial of the session, and whether it is pinned.
    pub(super) fn serial(&self, id: &str) -> Option<(u64, bool)> {
        self.with(|table, _| table.all.get(id).map(|entry| (entry.serial, entry.session.pinned)))
    }

    /// What nobody has used for too long is gone before anybody looks.
    fn with<T>(&self, f: impl FnOnce(&mut Table, Instant) -> T) -> T {
        self.at(Instant::now(), f)
    }

    fn at<T>(&self, now: Instant, f: impl FnOnce(&mut Table, Instant) -> T) -> T {
        // A table stays meaningful whatever happened to a thread that held it.
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n_before = table.all.len();
        table.all.retain(|_, entry| now < entry.expires_at);
        let is_gone = table.all.len() < n_before;
        table.has_changed(is_gone);
        f(&mut table, now)
    }
}

/// The system's time in whole microseconds, as records have it.
fn now_us() -> SystemTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_micros(since.as_micros() as u64)
}

impl Table {
    fn make(&mut self, draft: SessionDraft, by_use: bool, now: Instant) -> Result<Session, SessionError> {
        if self.all.len() >= MAX_SESSIONS {
            let by_use = self.all.iter().filter(|(_, entry)| entry.by_use);
            let oldest = by_use.min_by_key(|(_, entry)| entry.expires_at).map(|(id, _)| id.clone());
            self.all.remove(&oldest.ok_or(SessionError::TooMany)?);
        }
        // Whole seconds, as records have it.
        let ttl = Duration::from_secs(draft.ttl.unwrap_or(DEFAULT_TTL).as_secs());
        let created = now_us();
        let session = Session {
            id: draft.id.clone(),
            created,
            last_used: created,
            ttl,
            pinned: draft.pinned,
            n_requests: 0,
            n_tokens: 0,
        };
        self.n_made += 1;
        self.has_changed(true);
        let entry = Entry { session: session.clone(), serial: self.n_made, expires_at: now + ttl, by_use };
        self.all.insert(draft.id, entry);
        Ok(session)
    }

    /// `version`: whether a session was made or has gone.
    fn has_changed(&mut self, version: bool) {
        self.version += u64::from(version);
        self.n_changes += u64::from(version);
    }

    fn used(&mut self, id: &str, now: Instant) -> Option<&mut Session> {
        let entry = self.all.get_mut(id)?;
        self.n_changes += 1;
        entry.session.last_used = now_us();
        entry.expires_at = now + entry.session.ttl;
        Some(&mut entry.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(id: &str) -> SessionDraft {
        SessionDraft { id: id.to_owned(), ..SessionDraft::default() }
    }

    #[test]
    fn sessions_are_made_once_listed_and_given_up() {
        let sessions = Sessions::default();
        let made = sessions.create(SessionDraft { pinned: true, ..draft("kitchen") }).unwrap();
        assert_eq!((made.ttl, made.pinned, made.n_requests), (DEFAULT_TTL, true, 0));
        assert_eq!(sessions.create(draft("kitchen")), Err(SessionError::Exists("kitchen".to_owned())));
        sessions.open("attic").unwrap();
        sessions.open("attic").unwrap();
        assert_eq!(sessions.list().iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["attic", "kitchen"]);
        let (serial, version) = (sessions.serial("kitchen").unwrap(), sessions.version());
        assert!(sessions.delete("kitchen") && !sessions.delete("kitchen"));
        assert!(sessions.version() > version && sessions.get("kitchen").is_none());
        sessions.create(draft("kitchen")).unwrap();
        assert_ne!(sessions.serial("kitchen").unwrap().0, serial.0, "another session of the same id");
    }

    #[test]
    fn a_session_expires_when_it_was_not_used_for_its_time() {
        let sessions = Sessions::default();
        sessions.create(SessionDraft { ttl: Some(MIN_TTL), ..draft("kitchen") }).unwrap();
        sessions.create(draft("attic")).unwrap();
        let begin = Instant::now();
        let there = |at| sessions.at(begin + at, |table, _| table.all.contains_key("kitchen"));
        assert!(there(MIN_TTL - Duration::from_secs(1)));
        sessions.at(begin + MIN_TTL / 2, |table, now| table.used("kitchen", now).map(|_| ())).unwrap();
        assert!(there(MIN_TTL));
        let version = sessions.version();
        assert!(!there(MIN_TTL * 2));
        assert!(sessions.version() > version && !sessions.admit("kitchen") && sessions.admit("attic"));
    }

    #[test]
    fn sessions_outlast_a_restart() {
        let sessions = Sessions::default();
        sessions.create(SessionDraft { pinned: true, ttl: Some(MIN_TTL), ..draft("kitchen") }).unwrap();
        sessions.open("attic").unwrap();
        assert!(sessions.admit("kitchen"));
        sessions.said("kitchen", 77);
        let record = sessions.record();
        let again = Sessions::default();
        again.restore(&record).unwrap();
        assert_eq!(again.list(), sessions.list());
        assert!(again.version() > 0);
        assert_eq!(again.record(), record);
        // Of those that are there already the newer counts.
        assert!(again.delete("attic"));
        again.restore(&record).unwrap();
        assert_eq!(again.list().len(), 2);
        for n in 0..record.len() {
            let whole = [0, 1 + 5 + 8 * 5 + 2].contains(&n);
            assert_eq!(Sessions::default().restore(&record[..n]).is_ok(), whole, "{n} bytes");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let sessions = Sessions::default();
        for (id, ttl, field) in [
            ("", None, "session_id"),
            ("a/b", None, "session_id"),
            ("é", None, "session_id"),
            (&"x".repeat(129), None, "session_id"),
            ("a", Some(Duration::from_secs(59)), "ttl"),
            ("a", Some(Duration::MAX), "ttl"),
        ] {
            let made = sessions.create(SessionDraft { ttl, ..draft(id) });
            let Err(SessionError::Field(violation)) = made else { panic!("{made:?}") };
            assert_eq!(violation.field, field, "{violation:?}");
        }
        assert!(sessions.open("a b").is_err() && sessions.list().is_empty());
    }

    #[test]
    fn there_are_so_many_and_those_made_by_use_give_way() {
        let sessions = Sessions::default();
        for i in 0..MAX_SESSIONS - 2 {
            sessions.create(draft(&format!("{i}"))).unwrap();
        }
        sessions.open("first").unwrap();
        sessions.open("second").unwrap();
        assert!(sessions.admit("first"));
        sessions.create(draft("more")).unwrap();
        assert!(sessions.get("first").is_some() && sessions.get("second").is_none());
        sessions.open("third").unwrap();
        sessions.create(draft("most")).unwrap();
        assert_eq!(sessions.create(draft("too-many")), Err(SessionError::TooMany));
        assert_eq!(sessions.open("too-many"), Err(SessionError::TooMany));
        assert_eq!(sessions.list().len(), MAX_SESSIONS);
    }
}
