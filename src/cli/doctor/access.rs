//! Who may use the daemon that these settings make.

use crate::access::{AccessError, Certificates, Keys, Validity};
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

/// Within how many days a certificate's end is told before it comes.
const SOON_DAYS: u64 = 14;

/// `certificate`: whether clients find the server's certificate valid now, and in the days to come. Nothing without
/// encryption, and where [`access`] says what is wrong with the files.
pub(super) fn certificate(settings: &Settings, unix_s: u64) -> Option<Finding> {
    const DAY_S: u64 = 24 * 60 * 60;
    let files = settings.certificates.clone()?;
    let path = files.cert.display().to_string();
    let certificates = Certificates::load(files).ok()?;
    let renew = "renew it, then systemctl restart pled (docs/securing.md)";
    let told = certificates
        .validity(unix_s)
        .and_then(|now| Ok((now, certificates.validity(unix_s + SOON_DAYS * DAY_S)?)));
    let (now, soon) = match told {
        Ok(told) => told,
        Err(e) => {
            let advice = "put the server's certificate there, and those that lead to its root, in PEM";
            return Some(Finding::with_advice("certificate", Verdict::Error, e.to_string(), advice));
        }
    };
    Some(match now {
        Validity::Expired { until_unix_s } => {
            let days = unix_s.saturating_sub(until_unix_s) / DAY_S;
            let found = format!("{path} expired {days} days ago: clients refuse to talk to the server");
            Finding::with_advice("certificate", Verdict::Error, found, renew)
        }
        Validity::NotYet { from_unix_s } => {
            let days = from_unix_s.saturating_sub(unix_s).div_ceil(DAY_S);
            let found = format!("{path} becomes valid in {days} days: clients refuse it until then");
            let advice = "see whether the clock of this board is right (date), or issue it anew";
            Finding::with_advice("certificate", Verdict::Warning, found, advice)
        }
        Validity::Valid => match soon {
            Validity::Expired { until_unix_s } => {
                let days = until_unix_s.saturating_sub(unix_s) / DAY_S;
                let found = format!("{path} expires in {days} days");
                Finding::with_advice("certificate", Verdict::Warning, found, renew)
            }
            Validity::Valid | Validity::NotYet { .. } => {
                Finding::ok("certificate", format!("valid for more than {SOON_DAYS} days"))
            }
        },
    })
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

    #[test]
    fn days_of_the_certificate_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["pled".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        std::fs::write(path("cert"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        let settings = settings(&[(Field::TlsCertFile, &path("cert")), (Field::TlsKeyFile, &path("key"))]);
        let (begin_s, end_s, day_s) = (1_577_836_800, 1_893_456_000, 86_400);
        for (unix_s, verdict, part) in [
            (begin_s - 2 * day_s, Verdict::Warning, "valid in 2 days"),
            (begin_s + day_s, Verdict::Ok, "more than 14 days"),
            (end_s - 3 * day_s, Verdict::Warning, "expires in 3 days"),
            (end_s + 5 * day_s, Verdict::Error, "expired 5 days ago"),
        ] {
            let finding = certificate(&settings, unix_s).unwrap();
            assert_eq!((finding.id, finding.verdict), ("certificate", verdict));
            assert!(finding.found.contains(part), "{finding:?}");
        }
        assert_eq!(certificate(&self::settings(&[]), end_s), None);

        // What is no certificate behind the server's own is taken as it is when the file is loaded.
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let text = std::fs::read_to_string(path("cert")).unwrap() + no_certificate;
        std::fs::write(path("cert"), text).unwrap();
        let finding = certificate(&settings, begin_s + day_s).unwrap();
        assert_eq!(finding.verdict, Verdict::Error);
        assert!(finding.found.contains("certificate 2"), "{finding:?}");
    }
}
