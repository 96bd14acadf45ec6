//! Who may use the daemon that these settings make.

use crate::access::Keys;
use crate::board::{Finding, Verdict};
use crate::config::Settings;

/// `access`: addresses beyond loopback are open to everybody unless clients need a token.
pub(super) fn access(settings: &Settings) -> Finding {
    let list = |beyond_only: bool| {
        let wanted = settings.listen.iter().filter(|a| !beyond_only || !a.ip().to_canonical().is_loopback());
        wanted.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let beyond = list(true);
    if let Some(path) = &settings.token_file {
        return match Keys::load(path) {
            Err(error) => {
                let advice = "pled serve ends at once with this: correct it";
                Finding::with_advice("access", Verdict::Error, error.to_string(), advice)
            }
            Ok(keys) => {
                let names = keys.names().join(", ");
                Finding::ok("access", format!("clients with a token ({names}), at {}", list(false)))
            }
        };
    }
    if beyond.is_empty() {
        return Finding::ok("access", format!("programs on this board only, at {}", list(false)));
    }
    Finding::with_advice(
        "access",
        Verdict::Warning,
        format!("everybody who can reach {beyond} may use the model"),
        "give tokens to clients (docs/securing.md), or listen on 127.0.0.1:50051 and let others in by an SSH tunnel, \
         unless the whole network is trusted",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Field, Fragment, Origin};

    fn settings(pairs: &[(Field, &str)]) -> Settings {
        let mut fragment = Fragment::default();
        for &(field, text) in pairs {
            fragment.set(field, Origin::Flag(field), vec![text.to_owned()]);
        }
        Settings::resolve(fragment).unwrap()
    }

    #[test]
    fn loopback_is_fine_and_the_network_is_not() {
        let alone = access(&settings(&[]));
        assert_eq!((alone.id, alone.verdict), ("access", Verdict::Ok));
        let open =
            access(&settings(&[(Field::Listen, "0.0.0.0:50051"), (Field::AllowUnauthenticatedLan, "true")]));
        assert_eq!(open.verdict, Verdict::Warning);
        assert!(open.found.contains("0.0.0.0:50051"), "{open:?}");
    }

    #[test]
    fn with_tokens_the_network_is_fine_and_a_bad_file_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let settings = settings(&[(Field::Listen, "0.0.0.0:50051"), (Field::TokenFile, path)]);
        let empty = access(&settings);
        assert!(empty.verdict == Verdict::Error && empty.found.contains("has no tokens"), "{empty:?}");
        std::fs::write(path, "kitchen aaaabbbbccccdddd").unwrap();
        let kept = access(&settings);
        assert!(kept.verdict == Verdict::Ok && kept.found.contains("(kitchen)"), "{kept:?}");
    }
}
