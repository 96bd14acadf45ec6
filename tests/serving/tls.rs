//! TLS on the port: what is offered, who is let in, and new certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pled::access::{CertificateFiles, Certificates};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{AlertDescription, ClientConfig, Error, RootCertStore};
use tonic::codegen::Bytes;
use tonic::codegen::http::Request;

use super::scripted::*;
use super::server::Server;

/// A certificate and its key, in PEM.
struct Pair {
    cert: String,
    key: String,
}

/// Who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), cert }
    }

    /// A certificate for server and clients alike, good until the first day of `last_year`.
    fn sign(&self, last_year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Pair { cert: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

const FUTURE: i32 = 2200;
const PAST: i32 = 2001;

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn written(folder: &Path, server: &Pair, client_ca: Option<&Authority>) -> CertificateFiles {
    CertificateFiles {
        cert: write(folder, "cert.pem", &server.cert),
        key: write(folder, "key.pem", &server.key),
        client_ca: client_ca.map(|authority| write(folder, "ca.pem", &authority.cert)),
    }
}

/// A connection of a client who trusts `authority` and offers `alpn`.
async fn connect(
    server: &Server,
    authority: &Authority,
    client: Option<&Pair>,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        None => config.with_no_client_auth(),
        Some(Pair { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
            config
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// GET /readyz over HTTP/1.1, whose answer ends so.
async fn ready(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: pled\r\n\r\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nready\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.expect("an answer or the end")?);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    Ok(())
}

async fn serve(files: CertificateFiles) -> (Server, Arc<Certificates>) {
    let certificates = Arc::new(Certificates::load(files).unwrap());
    let engine = start(Script::default(), OPTIONS).engine;
    (Server::encrypted(Arc::clone(&certificates), engine).await, certificates)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_share_the_encrypted_port() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("home");
    let (server, _) = serve(written(folder.path(), &authority.sign(FUTURE), None)).await;
    for alpn in [&["http/1.1"][..], &[]] {
        let mut stream = connect(&server, &authority, None, alpn).await.unwrap();
        ready(&mut stream).await.unwrap();
    }
    let stream = connect(&server, &authority, None, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // A call of gRPC, whose message is empty.
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("https://localhost/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut body) = send.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    let mut answer = answer.await.unwrap().into_body();
    // SERVING is 1, as field 1 of the message.
    assert_eq!(answer.data().await.unwrap().unwrap(), &[0, 0, 0, 0, 2, 8, 1][..]);
    let trailers = answer.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    // Whoever speaks without encryption is not answered in plain text, and nobody else is concerned.
    let mut plain = TcpStream::connect(server.addr).await.unwrap();
    plain.write_all(b"GET /readyz HTTP/1.1\r\nHost: pled\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut heard)).await.expect("the end");
    assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    let mut stream = connect(&server, &authority, None, &[]).await.unwrap();
    ready(&mut stream).await.unwrap();
}

/// What TLS says about a client's certificate. The server looks at it when the client has long begun to talk.
async fn alert(server: &Server, authority: &Authority, client: Option<&Pair>) -> AlertDescription {
    let heard = match connect(server, authority, client, &[]).await {
        Ok(mut stream) => ready(&mut stream).await,
        Err(e) => Err(e),
    };
    let error = heard.expect_err("let in");
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert: {error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_bring_a_certificate_of_the_right_authority_that_is_good_now() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, strangers, forgers) =
        (Authority::new("home"), Authority::new("elsewhere"), Authority::new("home"));
    let (server, _) = serve(written(folder.path(), &authority.sign(FUTURE), Some(&authority))).await;
    let client = authority.sign(FUTURE);
    for _ in 0..2 {
        assert_eq!(alert(&server, &authority, None).await, AlertDescription::CertificateRequired);
        let expired = authority.sign(PAST);
        assert_eq!(alert(&server, &authority, Some(&expired)).await, AlertDescription::CertificateExpired);
        let foreign = strangers.sign(FUTURE);
        assert_eq!(alert(&server, &authority, Some(&foreign)).await, AlertDescription::UnknownCA);
        // Of an authority that only calls itself by the right name.
        let forged = forgers.sign(FUTURE);
        assert_eq!(alert(&server, &authority, Some(&forged)).await, AlertDescription::DecryptError);
        let mut stream = connect(&server, &authority, Some(&client), &[]).await.unwrap();
        ready(&mut stream).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_serve_new_connections_and_bad_ones_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (server, certificates) = serve(written(folder.path(), &old.sign(FUTURE), None)).await;
    let mut before = connect(&server, &old, None, &[]).await.unwrap();
    ready(&mut before).await.unwrap();
    write(folder.path(), "key.pem", "nonsense");
    certificates.reload().unwrap_err();
    connect(&server, &old, None, &[]).await.unwrap();
    written(folder.path(), &new.sign(FUTURE), None);
    certificates.reload().unwrap();
    let mut after = connect(&server, &new, None, &[]).await.unwrap();
    ready(&mut after).await.unwrap();
    connect(&server, &old, None, &[]).await.expect_err("the old certificate is gone");
    // Connections from before go on.
    ready(&mut before).await.unwrap();
}
