//! Whether certificates are within their days.
//!
//! The verifier that clients have too says so: it looks at a certificate's days before it looks at who signed it, so each
//! is verified against itself, and only what that says about days counts. What else is wrong with it is no matter of time.

use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

/// How a file of certificates stands at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// All are within their days.
    Valid,
    /// One is not valid yet.
    NotYet {
        /// From when on it is. Unit: seconds since 1970.
        from_unix_s: u64,
    },
    /// One has expired.
    Expired {
        /// Until when it was valid. Unit: seconds since 1970.
        until_unix_s: u64,
    },
}

/// The first certificate that is not within its days decides.
///
/// # Errors
/// If one before that cannot be read: nobody looked at any but the server's own when the file was loaded.
pub(super) fn validity(certificates: &[CertificateDer<'_>], unix_s: u64) -> Result<Validity, String> {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(unix_s));
    for (i, certificate) in certificates.iter().enumerate() {
        let validity = validity_of(certificate, at).map_err(|e| format!("certificate {}: {e}", i + 1))?;
        if validity != Validity::Valid {
            return Ok(validity);
        }
    }
    Ok(Validity::Valid)
}

fn validity_of(certificate: &CertificateDer<'_>, at: UnixTime) -> Result<Validity, String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).map_err(|e| e.to_string())?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|e| e.to_string())?;
    let name = ServerName::try_from("pled").map_err(|e| e.to_string())?;
    Ok(match verifier.verify_server_cert(certificate, &[], &name, &[], at) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Validity::Expired { until_unix_s: not_after.as_secs() }
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            Validity::NotYet { from_unix_s: not_before.as_secs() }
        }
        _ => Validity::Valid,
    })
}
