//! Sessions as bytes. Little-endian: of each the length of its owner's name in a byte, the name; its id likewise; when
//! it was made and last used, in microseconds since 1970, its time to live in seconds, its requests and tokens, 64 bits
//! each; whether it is pinned and whether it was made by use, a byte each. That the bytes are whole is proven where
//! they are kept.

use std::time::{Duration, UNIX_EPOCH};

use super::{MAX_SESSIONS, MAX_TTL, Session, SessionKey, check_session_id};

const NUMBERS: usize = 5;

pub(super) fn encode<'a>(sessions: impl Iterator<Item = (&'a Session, bool)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (session, by_use) in sessions {
        for name in [&session.key.owner, session.key.id.as_str()] {
            out.push(u8::try_from(name.len()).expect("names of tokens and ids are at most 128 bytes"));
            out.extend(name.as_bytes());
        }
        let since = |time: std::time::SystemTime| {
            time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
        };
        let numbers: [u64; NUMBERS] = [
            since(session.created),
            since(session.last_used),
            session.ttl.as_secs(),
            session.n_requests,
            session.n_tokens as u64,
        ];
        out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        out.extend([u8::from(session.pinned), u8::from(by_use)]);
    }
    out
}

/// The sessions, and whether each was made by use.
pub(super) fn decode(mut bytes: &[u8]) -> Result<Vec<(Session, bool)>, &'static str> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let ends = "the record ends within a session";
        let (owner, rest) = name(bytes).ok_or(ends)?;
        let (id, rest) = name(rest).ok_or(ends)?;
        let (numbers, rest) = rest.split_at_checked(8 * NUMBERS).ok_or(ends)?;
        let (flags, rest) = rest.split_at_checked(2).ok_or(ends)?;
        bytes = rest;
        let text = |name| std::str::from_utf8(name).map_err(|_| "a name is no text");
        let (owner, id) = (text(owner)?, text(id)?);
        check_session_id(id).map_err(|_| "an id is none")?;
        let number =
            |i: usize| u64::from_le_bytes(numbers[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        let time = |i| UNIX_EPOCH.checked_add(Duration::from_micros(number(i))).ok_or("a time cannot be");
        let session = Session {
            key: SessionKey { owner: owner.into(), id: id.to_owned() },
            created: time(0)?,
            last_used: time(1)?,
            ttl: Duration::from_secs(number(2)).min(MAX_TTL),
            pinned: flags[0] != 0,
            n_requests: number(3),
            n_tokens: number(4) as usize,
        };
        all.push((session, flags[1] != 0));
        if all.len() > MAX_SESSIONS {
            return Err("it has more sessions than there may be");
        }
    }
    Ok(all)
}

/// A name with its length before it, and what follows.
fn name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&n, rest) = bytes.split_first()?;
    rest.split_at_checked(n.into())
}
