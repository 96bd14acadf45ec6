//! Who may use the daemon that these settings make.

use crate::board::{Finding, Verdict};
use crate::config::Settings;

/// `access`: addresses beyond loopback are open to everybody, because clients cannot prove who they are.
pub(super) fn access(settings: &Settings) -> Finding {
    let list = |beyond_only: bool| {
        let wanted = settings.listen.iter().filter(|a| !beyond_only || !a.ip().to_canonical().is_loopback());
        wanted.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let beyond = list(true);
    if beyond.is_empty() {
        return Finding::ok("access", format!("programs on this board only, at {}", list(false)));
    }
    Finding::with_advice(
        "access",
        Verdict::Warning,
        format!("everybody who can reach {beyond} may use the model"),
        "listen on 127.0.0.1:50051 and let others in by an SSH tunnel or a proxy that knows its users, \
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
}
