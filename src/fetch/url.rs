//! URLs of files, as far as downloading needs them.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

use super::error::FetchError;

/// An absolute http or https URL without user and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    is_tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// Path and query, beginning with a slash.
    path: String,
}

impl Url {
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as a request has them.
    pub(super) fn target(&self) -> &str {
        &self.path
    }

    /// Host and port, as the header `Host` has them.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Whether both have scheme, host and port in common.
    pub(super) fn same_origin(&self, other: &Url) -> bool {
        (self.is_tls, self.port) == (other.is_tls, other.port) && self.host.eq_ignore_ascii_case(&other.host)
    }

    /// Whether what is sent there cannot be read on the way.
    pub(super) fn is_private(&self) -> bool {
        let is_loopback = self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.is_tls || is_loopback || self.host.eq_ignore_ascii_case("localhost")
    }

    /// The last part of the path, decoded; `None` if it cannot be a file's name.
    pub fn file_name(&self) -> Option<String> {
        let path = self.path.split('?').next().unwrap_or_default();
        let name = decoded(path.rsplit('/').next()?)?;
        let is_plain = !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']);
        (is_plain && !name.chars().any(char::is_control)).then_some(name)
    }

    /// This URL with another path, whose parts are encoded where they must be.
    pub(super) fn with_path<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let base = self.path.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        let path = parts.into_iter().fold(base, |path, part| path + "/" + &encoded(part));
        Url { path, ..self.clone() }
    }

    /// This URL with a query.
    pub(super) fn with_query(mut self, query: &str) -> Url {
        self.path = format!("{}?{query}", self.path);
        self
    }

    /// Where a `Location` header of an answer from here leads.
    pub(super) fn join(&self, location: &str) -> Result<Url, FetchError> {
        if location.contains("://") {
            return location.parse();
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.is_tls { "https" } else { "http" };
            return format!("{scheme}://{rest}").parse();
        }
        let scheme = if self.is_tls { "https" } else { "http" };
        let folder = self.path.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(f, _)| f);
        let path =
            if location.starts_with('/') { location.to_owned() } else { format!("{folder}/{location}") };
        format!("{scheme}://{}{path}", self.authority()).parse()
    }
}

impl FromStr for Url {
    type Err = FetchError;

    fn from_str(text: &str) -> Result<Self, FetchError> {
        let wrong = |problem| FetchError::Url { text: text.to_owned(), problem };
        let uri: Uri = text.parse().map_err(|_| wrong("not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("neither http:// nor https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("users and passwords do not belong into URLs"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("no host"));
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { is_tls, host, port, path })
    }
}

/// Without the query: it may hold a signature.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path.split('?').next().unwrap_or_default())
    }
}

/// Percent-encodes what is not unreserved in a part of a path.
fn encoded(part: &str) -> String {
    let mut text = String::new();
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Percent-decodes; `None` if the result is no text.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn only_plain_web_urls_are_taken() {
        for text in ["", "x", "ftp://h/x", "http:///x", "https://user:word@h/x", "/x", "file:///etc/passwd"] {
            text.parse::<Url>().unwrap_err();
        }
        let address = url("http://[::1]:8080/a?b=c");
        assert_eq!((address.host(), address.port(), address.target()), ("::1", 8080, "/a?b=c"));
        assert_eq!(address.authority(), "[::1]:8080");
        assert_eq!(address.to_string(), "http://[::1]:8080/a");
        assert_eq!(url("https://h").target(), "/");
    }

    #[test]
    fn locations_are_joined_as_browsers_do() {
        let base = url("https://h/a/b?c");
        for (location, joined) in [
            ("https://other/x", "https://other/x"),
            ("//other/x", "https://other/x"),
            ("/x", "https://h/x"),
            ("x", "https://h/a/x"),
        ] {
            assert_eq!(base.join(location).unwrap(), url(joined), "{location}");
        }
        base.join("javascript:alert(1)://").unwrap_err();
    }

    #[test]
    fn a_token_may_go_to_the_same_origin_over_a_private_way() {
        assert!(url("https://H/x").same_origin(&url("https://h:443/y")));
        for other in ["http://h/x", "https://h:444/x", "https://h.evil/x"] {
            assert!(!url("https://h/x").same_origin(&url(other)), "{other}");
        }
        assert!(url("http://127.0.0.1:1/").is_private() && !url("http://192.168.1.1/").is_private());
    }

    #[test]
    fn names_of_files_come_from_the_path_and_stay_in_the_folder() {
        assert_eq!(url("https://h/a/m%20x.gguf?sig=/y").file_name().unwrap(), "m x.gguf");
        for text in [
            "https://h/",
            "https://h/a/..",
            "https://h/a%2f..%2fb",
            "https://h/%2e%2e",
            "https://h/a%00",
            "https://h/a%1b",
            "https://h/%ff",
            "https://h/%2",
        ] {
            assert_eq!(url(text).file_name(), None, "{text}");
        }
        assert_eq!(url("https://h/b/").with_path(["o", "a b/c"]).target(), "/b/o/a%20b%2Fc");
    }
}
