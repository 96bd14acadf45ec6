//! One request at a time over a connection of its own: redirects, the token, patience.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST, HeaderMap, IF_RANGE, LOCATION, RANGE, USER_AGENT,
};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::error::FetchError;
use super::url::Url;

/// Redirects that are followed; a hub needs two.
const MAX_REDIRECTS: usize = 6;

/// Asks for one URL.
#[derive(Debug, Clone)]
pub(super) struct Client {
    url: Url,
    token: Option<String>,
    patience: Duration,
}

/// The head of an answer, and its body to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Headers of the last answer of the host that was asked, and not of one that it redirects to.
    pub(super) own_headers: HeaderMap,
    body: Incoming,
    patience: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// May go better another time.
    Connection(String),
    /// Will not.
    Final(FetchError),
}

impl Client {
    pub(super) fn new(url: Url, token: Option<String>, patience: Duration) -> Client {
        Client { url, token, patience }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Asks for the whole, or for the bytes from `range.0` up to and with `range.1`, if the file still has the
    /// ETag `if_range`.
    pub(super) async fn get(
        &self,
        range: Option<(u64, u64)>,
        if_range: Option<&str>,
    ) -> Result<Answer, Failure> {
        if self.token.is_some() && !self.url.is_private() {
            return Err(Failure::Final(FetchError::Protocol {
                url: self.url.to_string(),
                problem: "the token would be readable on the way: give an https:// endpoint".to_owned(),
            }));
        }
        let mut url = self.url.clone();
        let mut own_headers = HeaderMap::new();
        for _ in 0..=MAX_REDIRECTS {
            let (status, headers, body) =
                match timeout(2 * self.patience, self.ask(&url, range, if_range)).await {
                    Ok(answer) => answer?,
                    Err(_) => return Err(Failure::Connection("the server does not answer".to_owned())),
                };
            if url.same_origin(&self.url) {
                own_headers.clone_from(&headers);
            }
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { status, headers, own_headers, body, patience: self.patience });
            }
            let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| self.nonsense("it redirects to nowhere"))?;
            // Not told where: it may hold a signature.
            let next =
                url.join(location).map_err(|_| self.nonsense("it redirects to what is no web address"))?;
            if url.is_tls() && !next.is_tls() {
                return Err(self.nonsense("it redirects from https to http"));
            }
            url = next;
        }
        Err(self.nonsense("it redirects without end"))
    }

    fn nonsense(&self, problem: &str) -> Failure {
        Failure::Final(FetchError::Protocol { url: self.url.to_string(), problem: problem.to_owned() })
    }

    async fn ask(
        &self,
        url: &Url,
        range: Option<(u64, u64)>,
        if_range: Option<&str>,
    ) -> Result<(StatusCode, HeaderMap, Incoming), Failure> {
        let mut request = Request::get(url.target())
            .header(HOST, url.authority())
            .header(USER_AGENT, concat!("pled/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT_ENCODING, "identity")
            .header(CONNECTION, "close");
        if let Some((first, last)) = range {
            request = request.header(RANGE, format!("bytes={first}-{last}"));
        }
        if let Some(etag) = if_range {
            request = request.header(IF_RANGE, etag);
        }
        if let Some(token) = self.token.as_ref().filter(|_| url.same_origin(&self.url)) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|error| self.nonsense(&error.to_string()))?;
        let failed =
            |what: &str, error: &dyn std::fmt::Display| Failure::Connection(format!("{what}: {error}"));
        let socket = TcpStream::connect((url.host(), url.port()))
            .await
            .map_err(|error| failed(&format!("cannot connect to {}", url.authority()), &error))?;
        if !url.is_tls() {
            return exchange(socket, request).await;
        }
        let name = ServerName::try_from(url.host().to_owned())
            .map_err(|_| self.nonsense("the host's name cannot be in a certificate"))?;
        let connector = TlsConnector::from(tls_config());
        let socket = connector.connect(name, socket).await.map_err(|error| {
            failed(&format!("no TLS with {} (is the clock right?)", url.authority()), &error)
        })?;
        exchange(socket, request).await
    }
}

async fn exchange(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, HeaderMap, Incoming), Failure> {
    let broken =
        |error: hyper::Error| Failure::Connection(format!("the answer is broken: {}", causes(&error)));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(broken)?;
    // Ends when the body is read or dropped. What breaks shows in the body, or in the answer's failing.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    Ok((head.status, head.headers, body))
}

/// An error with its causes: the library's outermost one says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn tls_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    };
    Arc::clone(CONFIG.get_or_init(make))
}

impl Answer {
    /// The header's text, if it has one.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next bytes of the body; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match timeout(self.patience, self.body.frame()).await {
                Err(_) => return Err("the server has stopped sending".to_owned()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(format!("the connection broke: {}", causes(&error))),
                // Anything else is a trailer.
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}
