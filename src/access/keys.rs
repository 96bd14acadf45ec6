//! The decision whether a call is let in, and the tokens that it is made by.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use subtle::ConstantTimeEq;

use super::token_file::{self, Line};
use super::usage::{Call, Limits, Usage};
use super::{AccessError, Refused, Wants};

/// The tokens of a file, which can be read again.
pub struct Keys {
    path: PathBuf,
    current: RwLock<Vec<Key>>,
}

struct Key {
    name: Arc<str>,
    token: Vec<u8>,
    limits: Limits,
    figures_only: bool,
    usage: Arc<Usage>,
}

/// A call that was let in. Kept until it has ended: so long it counts as one of its token.
#[derive(Debug)]
pub struct Admitted {
    /// Whose call it is.
    pub owner: Owner,
    _call: Option<Call>,
}

/// Whose call it is: the name of its token, and empty for all that need none. Stands among the extensions of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner(pub Arc<str>);

impl Keys {
    /// Reads the tokens of the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, is malformed, or has no token.
    pub fn load(path: &Path) -> Result<Self, AccessError> {
        let keys = Self { path: path.to_owned(), current: RwLock::default() };
        keys.reload()?;
        Ok(keys)
    }

    /// Reads the file again. Calls that run go on, and count as before towards what their token, known by its
    /// name, may.
    ///
    /// # Errors
    /// As [`load`](Self::load); the tokens stay as they were.
    pub fn reload(&self) -> Result<(), AccessError> {
        let lines = token_file::read(&self.path)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let usage =
            |name: &str| current.iter().find(|key| &*key.name == name).map(|key| Arc::clone(&key.usage));
        let new = lines.into_iter().map(|Line { name, token, limits, figures_only }| Key {
            usage: usage(&name).unwrap_or_default(),
            name: name.into(),
            token: token.into_bytes(),
            limits,
            figures_only,
        });
        let new = new.collect();
        *current = new;
        Ok(())
    }

    /// The names of the tokens.
    pub fn names(&self) -> Vec<Arc<str>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.iter().map(|key| Arc::clone(&key.name)).collect()
    }

    /// Decides about a call by the values of its `Authorization` headers.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn admit<'h>(
        &self,
        authorization: impl IntoIterator<Item = &'h [u8]>,
        wants: Wants,
        now: Instant,
    ) -> Result<Admitted, Refused> {
        if wants == Wants::Health {
            return Ok(Admitted { owner: Owner::default(), _call: None });
        }
        let mut values = authorization.into_iter();
        let value = values.next().ok_or(Refused::NoToken)?;
        let given = bearer(value).filter(|_| values.next().is_none()).ok_or(Refused::WrongToken)?;
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let key = find(&current, given).ok_or(Refused::WrongToken)?;
        let call = match wants {
            Wants::Health | Wants::Figures => None,
            Wants::Facts | Wants::Work if key.figures_only => return Err(Refused::FiguresOnly),
            Wants::Facts => None,
            Wants::Work => Some(key.usage.begin(key.limits, now)?),
        };
        Ok(Admitted { owner: Owner(Arc::clone(&key.name)), _call: call })
    }
}

/// The key with this token. How long it takes tells nothing of the tokens that there are but their number and
/// lengths: every byte of each of the same length is compared, and the search goes on when it has found.
fn find<'k>(keys: &'k [Key], given: &[u8]) -> Option<&'k Key> {
    let mut found = None;
    for key in keys {
        if bool::from(key.token.ct_eq(given)) {
            found = Some(key);
        }
    }
    found
}

/// The token of an `Authorization` header, whose scheme may be written in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Without tokens.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).field("names", &self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KITCHEN: &str = "Yq3vTtM0lA5cXW1z";
    const KIOSK: &str = "u8T1sQw7Zb2NfKp0";
    const GRAFANA: &str = "p5Rj9HcD3yGmB6oS";

    fn keys() -> (tempfile::NamedTempFile, Keys) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("kitchen {KITCHEN}\nkiosk {KIOSK} at_a_time=1\ngrafana {GRAFANA} figures_only\n");
        std::fs::write(&file, text).unwrap();
        let keys = Keys::load(file.path()).unwrap();
        (file, keys)
    }

    fn ask(keys: &Keys, value: &str, wants: Wants) -> Result<Admitted, Refused> {
        keys.admit([value.as_bytes()], wants, Instant::now())
    }

    #[test]
    fn a_known_token_is_let_in_and_nothing_else_is() {
        let (_file, keys) = keys();
        for value in [format!("Bearer {KITCHEN}"), format!("bearer  {KITCHEN} "), format!("BEARER {KIOSK}")] {
            ask(&keys, &value, Wants::Work).unwrap();
        }
        for value in [
            "",
            "Bearer",
            "Bearer ",
            KITCHEN,
            "Bearer kitchen",
            &format!("Basic {KITCHEN}"),
            &format!("Bearer {}", &KITCHEN[..15]),
            &format!("Bearer {KITCHEN}x"),
            &format!("Bearer {KITCHEN} {KIOSK}"),
            &format!("Bearer {}", KITCHEN.to_lowercase()),
        ] {
            for wants in [Wants::Figures, Wants::Facts, Wants::Work] {
                assert_eq!(ask(&keys, value, wants).unwrap_err(), Refused::WrongToken, "{value}");
            }
            ask(&keys, value, Wants::Health).unwrap();
        }
        let none = keys.admit([], Wants::Facts, Instant::now());
        assert_eq!(none.unwrap_err(), Refused::NoToken);
        let right = format!("Bearer {KITCHEN}");
        let two = keys.admit([right.as_bytes(), right.as_bytes()], Wants::Facts, Instant::now());
        assert_eq!(two.unwrap_err(), Refused::WrongToken, "which of two holds is not guessed");
    }

    #[test]
    fn a_token_may_what_its_line_says() {
        let (_file, keys) = keys();
        let grafana = format!("Bearer {GRAFANA}");
        ask(&keys, &grafana, Wants::Figures).unwrap();
        for wants in [Wants::Facts, Wants::Work] {
            assert_eq!(ask(&keys, &grafana, wants).unwrap_err(), Refused::FiguresOnly);
        }
        let kiosk = format!("Bearer {KIOSK}");
        let running = ask(&keys, &kiosk, Wants::Work).unwrap();
        assert_eq!(ask(&keys, &kiosk, Wants::Work).unwrap_err(), Refused::TooMany { at_a_time: 1 });
        // Others are not concerned, and neither is what costs nothing.
        ask(&keys, &format!("Bearer {KITCHEN}"), Wants::Work).unwrap();
        ask(&keys, &kiosk, Wants::Facts).unwrap();
        drop(running);
        ask(&keys, &kiosk, Wants::Work).unwrap();
    }

    #[test]
    fn a_new_file_holds_at_once_and_a_bad_one_changes_nothing() {
        let (file, keys) = keys();
        let kiosk = format!("Bearer {KIOSK}");
        let running = ask(&keys, &kiosk, Wants::Work).unwrap();
        std::fs::write(&file, "kitchen\n").unwrap();
        assert!(keys.reload().unwrap_err().to_string().contains(":1: the name has no token"));
        ask(&keys, &format!("Bearer {KITCHEN}"), Wants::Work).unwrap();
        let new = "aaaabbbbccccdddd";
        std::fs::write(&file, format!("kitchen {new}\nkiosk {KIOSK} at_a_time=1")).unwrap();
        keys.reload().unwrap();
        ask(&keys, &format!("Bearer {new}"), Wants::Work).unwrap();
        assert_eq!(ask(&keys, &format!("Bearer {KITCHEN}"), Wants::Work).unwrap_err(), Refused::WrongToken);
        assert!(ask(&keys, &kiosk, Wants::Work).is_err(), "a call that runs still counts");
        drop(running);
        ask(&keys, &kiosk, Wants::Work).unwrap();
    }

    #[test]
    fn tokens_are_not_shown() {
        let (_file, keys) = keys();
        let shown = format!("{keys:?}");
        assert!(shown.contains("kitchen") && !shown.contains(KITCHEN), "{shown}");
    }
}
