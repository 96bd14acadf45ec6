//! Who may use the daemon that these settings make.

use crate::access::{AccessError, Certificates, Keys};
use crate::board::{Finding, Verdict};
use crate::config::Settings;

/// `access`: whether strangers may use the model, or read along.
pub(super) fn access(settings: &Settings) -> Finding {
    let list = |beyond_only: bool| {
        let wanted = settings.listen.iter().filter(|a| !beyond_only || !a.ip().to_canonical().is_loopback());
        wanted.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let (all, beyond) = (list(false), list(true));
    let needs = match needs(settings) {
        Ok(needs) => needs,
        Err(error) => {
            let advice = "pled serve ends at once with this: correct it";
            return Finding::with_advice("access", Verdict::Error, error.to_string(), advice);
        }
    };
    if needs.is_empty() && !beyond.is_empty() {
        return Finding::with_advice(
            "access",
            Verdict::Warning,
            format!("everybody who can reach {beyond} may use the model"),
            "give tokens to clients (docs/securing.md), or listen on 127.0.0.1:50051 and let others in by an SSH \
             tunnel, unless the whole network is trusted",
        );
    }
    if needs.is_empty() {
        return Finding::ok("access", format!("programs on this board only, at {all}"));
    }
    let found = format!("clients with {}, at {all}", needs.join(" and "));
    if beyond.is_empty() || settings.certificates.is_some() {
        return Finding::ok("access", found);
    }
    Finding::with_advice(
        "access",
        Verdict::Notice,
        found,
        "tokens and texts can be read on their way: give tls_cert_file and tls_key_file (docs/securing.md), unless \
         the whole network is trusted",
    )
}

/// What a client has to bring.
fn needs(settings: &Settings) -> Result<Vec<String>, AccessError> {
    let mut needs = Vec::new();
    if let Some(path) = &settings.token_file {
        needs.push(format!("a token ({})", Keys::load(path)?.names().join(", ")));
    }
    if let Some(files) = &settings.certificates {
        Certificates::load(files.clone())?;
        needs.extend(files.client_ca.is_some().then(|| "a certificate".to_owned()));
    }
    Ok(needs)
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
    fn tokens_want_encryption_and_a_bad_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let tokens = write("tokens", "");
        let lan = (Field::Listen, "0.0.0.0:50051");
        let of_tokens = (Field::TokenFile, tokens.as_str());
        let empty = access(&settings(&[lan, of_tokens]));
        assert!(empty.verdict == Verdict::Error && empty.found.contains("has no tokens"), "{empty:?}");
        write("tokens", "kitchen aaaabbbbccccdddd");
        let plain = access(&settings(&[lan, of_tokens]));
        assert!(plain.verdict == Verdict::Notice && plain.found.contains("(kitchen)"), "{plain:?}");
        assert_eq!(access(&settings(&[of_tokens])).verdict, Verdict::Ok);
        let pair = rcgen::generate_simple_self_signed(["pled".to_owned()]).unwrap();
        let (cert, key) = (write("cert", &pair.cert.pem()), write("key", &pair.signing_key.serialize_pem()));
        let tls = [(Field::TlsCertFile, cert.as_str()), (Field::TlsKeyFile, key.as_str())];
        let encrypted = access(&settings(&[lan, of_tokens, tls[0], tls[1]]));
        assert_eq!(encrypted.verdict, Verdict::Ok, "{encrypted:?}");
        let swapped = [(Field::TlsCertFile, key.as_str()), (Field::TlsKeyFile, cert.as_str())];
        assert_eq!(access(&settings(&swapped)).verdict, Verdict::Error);
    }
}
