//! Sessions: names for conversations that go on.
//!
//! What requests have in common is found by their tokens, whoever sends them, so a session changes no answer.
//! It is a name by which what was computed for a conversation is pinned, computed ahead, listed, and given up.
//! A name belongs to whoever made it: nobody else's call can use, see or end the session, or tell that it exists.
//!
//! Deliberately absent: tokens, and what is kept of them. Those are the worker's (`held`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::request::Violation;

mod record;
#[cfg(test)]
mod tests;

/// The longest id of a session. Unit: bytes.
pub const MAX_SESSION_ID_BYTES: usize = 128;
/// The most sessions that there are at a time.
pub const MAX_SESSIONS: usize = 256;
/// The most that one owner has of them; those who have no name share all.
pub const MAX_SESSIONS_OF_ONE: usize = 64;
/// How long a session outlives its last use if nobody says otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// As many that gave way are remembered: there are more only where nobody asks.
const MAX_GAVE_WAY: usize = 4 * MAX_SESSIONS;
/// Bounds of what may be said.
const MIN_TTL: Duration = Duration::from_secs(60);
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Which session is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey {
    /// The name of the token that made it; empty for all who have none.
    pub owner: Arc<str>,
    /// Its id, which another owner's session may have too.
    pub id: String,
}

impl SessionKey {
    /// A session of those who have no token.
    pub fn unowned(id: &str) -> Self {
        Self { owner: Arc::default(), id: id.to_owned() }
    }
}

/// What a caller says of a session that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionDraft {
    /// The name of the caller's token; empty if it has none.
    pub owner: Arc<str>,
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
    /// Which it is.
    pub key: SessionKey,
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
    #[error("there are {0} sessions already, which is the most")]
    TooMany(usize),
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    all: BTreeMap<SessionKey, Entry>,
    n_made: u64,
    /// Grows when a session is made or goes.
    version: u64,
    /// Grows when anything changes.
    n_changes: u64,
    /// Serials of sessions that made room for others, until the worker asks for them.
    gave_way: BTreeSet<u64>,
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
        let SessionDraft { owner, id, ttl, pinned } = draft;
        let key = SessionKey { owner, id };
        self.with(|table, now| match table.all.contains_key(&key) {
            true => Err(SessionError::Exists(key.id)),
            false => Ok(table.make(key, ttl, pinned, now)?.session.clone()),
        })
    }

    /// Makes the session unless it exists.
    ///
    /// # Errors
    /// If the id is none, or there are too many sessions.
    pub(super) fn open(&self, key: &SessionKey) -> Result<(), SessionError> {
        check_session_id(&key.id)
            .map_err(|problem| SessionError::Field(Violation { field: "session".to_owned(), problem }))?;
        self.with(|table, now| {
            if !table.all.contains_key(key) {
                table.make(key.clone(), None, false, now)?.by_use = true;
            }
            Ok(())
        })
    }

    /// A session.
    pub fn get(&self, key: &SessionKey) -> Option<Session> {
        self.with(|table, _| table.all.get(key).map(|entry| entry.session.clone()))
    }

    /// All sessions of one owner, by id.
    pub fn list(&self, owner: &str) -> Vec<Session> {
        self.with(|table, _| {
            let sessions = table.all.values().map(|entry| &entry.session);
            sessions.filter(|session| &*session.key.owner == owner).cloned().collect()
        })
    }

    /// Gives a session up. False if there is none.
    pub(super) fn delete(&self, key: &SessionKey) -> bool {
        self.with(|table, _| {
            let is_gone = table.all.remove(key).is_some();
            table.has_changed(is_gone);
            is_gone
        })
    }

    /// Takes note of a request that names the session. False if there is none.
    pub(super) fn admit(&self, key: &SessionKey) -> bool {
        self.with(|table, now| table.used(key, now).map(|session| session.n_requests += 1).is_some())
    }

    /// Takes note of what the session's last request amounts to.
    pub(super) fn said(&self, key: &SessionKey, n_tokens: usize) {
        self.with(|table, now| {
            if let Some(session) = table.used(key, now) {
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
                if left.is_zero() || table.all.len() >= MAX_SESSIONS || table.all.contains_key(&session.key) {
                    continue;
                }
                table.n_made += 1;
                table.has_changed(true);
                let entry = Entry { serial: table.n_made, expires_at: now + left, by_use, session };
                table.all.insert(entry.session.key.clone(), entry);
            }
        });
        Ok(())
    }

    /// The serial of the session, and whether it is pinned.
    pub(super) fn serial(&self, key: &SessionKey) -> Option<(u64, bool)> {
        self.with(|table, _| table.all.get(key).map(|entry| (entry.serial, entry.session.pinned)))
    }

    /// Whether the session of this serial, which is gone, only made room for another; nobody wanted it forgotten. Says so once.
    pub(super) fn gave_way(&self, serial: u64) -> bool {
        self.with(|table, _| table.gave_way.remove(&serial))
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
    fn make(
        &mut self,
        key: SessionKey,
        ttl: Option<Duration>,
        pinned: bool,
        now: Instant,
    ) -> Result<&mut Entry, SessionError> {
        self.make_room(&key.owner)?;
        // Whole seconds, as records have it.
        let ttl = Duration::from_secs(ttl.unwrap_or(DEFAULT_TTL).as_secs());
        let (created, id) = (now_us(), key.clone());
        let session = Session { key, created, last_used: created, ttl, pinned, n_requests: 0, n_tokens: 0 };
        self.n_made += 1;
        self.has_changed(true);
        let entry = Entry { session, serial: self.n_made, expires_at: now + ttl, by_use: false };
        Ok(self.all.entry(id).insert_entry(entry).into_mut())
    }

    /// A place for one more session of an owner. Those made by use give way; of an owner who has all that one may
    /// have, his own.
    fn make_room(&mut self, owner: &str) -> Result<(), SessionError> {
        let is_his = |key: &SessionKey| !owner.is_empty() && &*key.owner == owner;
        let of_his_alone = self.all.keys().filter(|key| is_his(key)).count() >= MAX_SESSIONS_OF_ONE;
        if !of_his_alone && self.all.len() < MAX_SESSIONS {
            return Ok(());
        }
        let may_go = |key: &SessionKey, entry: &Entry| entry.by_use && (!of_his_alone || is_his(key));
        let going = self.all.iter().filter(|(key, entry)| may_go(key, entry));
        let oldest = going.min_by_key(|(_, entry)| entry.expires_at).map(|(key, _)| key.clone());
        let most = if of_his_alone { MAX_SESSIONS_OF_ONE } else { MAX_SESSIONS };
        let gone = self.all.remove(&oldest.ok_or(SessionError::TooMany(most))?);
        // Of one that said nothing nothing is held.
        self.gave_way.extend(gone.filter(|entry| entry.session.n_tokens > 0).map(|entry| entry.serial));
        if self.gave_way.len() > MAX_GAVE_WAY {
            self.gave_way.pop_first();
        }
        Ok(())
    }

    /// `version`: whether a session was made or has gone.
    fn has_changed(&mut self, version: bool) {
        self.version += u64::from(version);
        self.n_changes += u64::from(version);
    }

    fn used(&mut self, key: &SessionKey, now: Instant) -> Option<&mut Session> {
        let entry = self.all.get_mut(key)?;
        self.n_changes += 1;
        entry.session.last_used = now_us();
        entry.expires_at = now + entry.session.ttl;
        Some(&mut entry.session)
    }
}
