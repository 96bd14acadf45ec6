//! The server's certificate, and those that clients have to bring.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::AccessError;
use super::validity::{Validity, validity};

/// The largest file that is read. Unit: bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, followed by those that lead to its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificates of which one must have signed a client's, if clients have to bring one.
    pub client_ca: Option<PathBuf>,
}

/// The server's side of TLS, which can be read again.
#[derive(Debug)]
pub struct Certificates {
    files: CertificateFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read or is malformed, or if the key is not the certificate's.
    pub fn load(files: CertificateFiles) -> Result<Self, AccessError> {
        let current = RwLock::new(Arc::new(read(&files)?));
        Ok(Self { files, current })
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// As [`load`](Self::load); everything stays as it was.
    pub fn reload(&self) -> Result<(), AccessError> {
        let new = Arc::new(read(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Whether the server's certificate, and those that lead to its root, are within their days at some moment.
    /// Unit: seconds since 1970. The file is read for it, as it is now.
    ///
    /// # Errors
    /// If it cannot be read or is malformed.
    pub fn validity(&self, unix_s: u64) -> Result<Validity, AccessError> {
        let path = &self.files.cert;
        validity(&certificates(path)?, unix_s).map_err(|problem| wrong(path, problem))
    }

    /// What a new connection is served with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(files: &CertificateFiles) -> Result<ServerConfig, AccessError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?)
        .map_err(|e| wrong(&files.key, format!("has no private key in PEM: {e}")))?;
    let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&files.cert, e.to_string()))?;
    let clients = match &files.client_ca {
        None => versions.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|e| wrong(path, format!("has an unusable certificate: {e}")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            versions.with_client_cert_verifier(verifier.map_err(|e| wrong(path, e.to_string()))?)
        }
    };
    let mut config = clients
        .with_single_cert(chain, key)
        .map_err(|e| wrong(&files.cert, format!("cannot be used with {}: {e}", files.key.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// All certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let bytes = bytes(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|e| wrong(path, format!("is no PEM: {e}")))?;
    if all.is_empty() {
        return Err(wrong(path, "has no certificate in PEM".to_owned()));
    }
    Ok(all)
}

fn bytes(path: &Path) -> Result<Vec<u8>, AccessError> {
    let unreadable = |source| AccessError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(
            path,
            format!("has more than {MAX_FILE_BYTES} bytes, which no file of certificates has"),
        ));
    }
    Ok(bytes)
}

fn wrong(path: &Path, problem: String) -> AccessError {
    AccessError::File { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair, date_time_ymd,
        generate_simple_self_signed,
    };

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn files(&self) -> CertificateFiles {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["pled".to_owned()]).unwrap();
            let (cert, key) =
                (self.write("cert.pem", &cert.pem()), self.write("key.pem", &signing_key.serialize_pem()));
            CertificateFiles { client_ca: Some(cert.clone()), cert, key }
        }
    }

    #[test]
    fn both_protocols_are_offered() {
        let gone = Folder::new().files();
        assert!(Certificates::load(gone).is_err(), "the folder is gone");
        let folder = Folder::new();
        let certificates = Certificates::load(folder.files()).unwrap();
        assert_eq!(certificates.current().alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    }

    #[test]
    fn days_are_those_of_every_certificate_of_the_file() {
        let days = |from: i32, until: i32| {
            let mut params = CertificateParams::new(["pled".to_owned()]).unwrap();
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
            params
        };
        let key = KeyPair::generate().unwrap();
        let folder = Folder::new();
        let [now, past, future] = [(2000, 2100), (2000, 2010), (2090, 2100)]
            .map(|(from, until)| days(from, until).self_signed(&key).unwrap().pem());
        let mut authority = days(2000, 2010);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = authority.self_signed(&key).unwrap().pem();
        // 1 January of 2010, 2026 and 2090.
        let [end_of_past, today, beginning_of_future] = [1_262_304_000, 1_767_225_600, 3_786_912_000];
        for (text, expected) in [
            (now.clone(), Validity::Valid),
            (past.clone(), Validity::Expired { until_unix_s: end_of_past }),
            (future, Validity::NotYet { from_unix_s: beginning_of_future }),
            (now.clone() + &authority, Validity::Expired { until_unix_s: end_of_past }),
        ] {
            folder.write("cert.pem", &text);
            folder.write("key.pem", &key.serialize_pem());
            let files = CertificateFiles {
                cert: folder.0.path().join("cert.pem"),
                key: folder.0.path().join("key.pem"),
                client_ca: None,
            };
            assert_eq!(Certificates::load(files).unwrap().validity(today).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_file_and_changes_nothing() {
        let folder = Folder::new();
        let files = folder.files();
        let certificates = Certificates::load(files.clone()).unwrap();
        let before = certificates.current();
        let [cert, key] = [&files.cert, &files.key].map(|path| std::fs::read_to_string(path).unwrap());
        let CertifiedKey { signing_key, .. } = generate_simple_self_signed(["other".to_owned()]).unwrap();
        for (name, text, part) in [
            ("cert.pem", "", "has no certificate"),
            ("cert.pem", "-----BEGIN CERTIFICATE-----\n!", "PEM"),
            ("cert.pem", &key, "has no certificate"),
            ("key.pem", "", "has no private key"),
            ("key.pem", &cert, "has no private key"),
            ("key.pem", &signing_key.serialize_pem(), "cannot be used with"),
        ] {
            folder.write("cert.pem", &cert);
            folder.write("key.pem", &key);
            folder.write(name, text);
            let error = certificates.reload().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(".pem"), "{name}: {error}");
            assert!(Arc::ptr_eq(&before, &certificates.current()));
        }
        folder.write("cert.pem", &cert);
        folder.write("key.pem", &key);
        certificates.reload().unwrap();
        assert!(!Arc::ptr_eq(&before, &certificates.current()));
        std::fs::remove_file(&files.key).unwrap();
        assert!(certificates.reload().unwrap_err().to_string().contains("key.pem: cannot be read"));
    }
}
