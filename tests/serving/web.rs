//! A client of HTTP/1.1 on a bare socket, so that tests can be as rude as peers are.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::scripted::PATIENCE;

/// An answer's head, and its body as it comes.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    socket: BufReader<TcpStream>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The next piece of a body that comes in pieces; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Option<String> {
        assert_eq!(self.header("transfer-encoding"), Some("chunked"));
        let n = usize::from_str_radix(&line(&mut self.socket).await, 16).expect("a length");
        let mut bytes = vec![0; n + 2];
        timeout(PATIENCE, self.socket.read_exact(&mut bytes)).await.expect("a piece").unwrap();
        bytes.truncate(n);
        (n > 0).then(|| String::from_utf8(bytes).unwrap())
    }

    /// The whole body.
    pub(crate) async fn text(mut self) -> String {
        if let Some(n) = self.header("content-length") {
            let mut bytes = vec![0; n.parse().unwrap()];
            timeout(PATIENCE, self.socket.read_exact(&mut bytes)).await.expect("a body").unwrap();
            return String::from_utf8(bytes).unwrap();
        }
        let mut all = String::new();
        while let Some(piece) = self.piece().await {
            all.push_str(&piece);
        }
        all
    }

    pub(crate) async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

async fn line(socket: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    timeout(PATIENCE, socket.read_line(&mut line)).await.expect("a line").unwrap();
    line.trim_end().to_owned()
}

/// Sends bytes as they are and reads the head of what comes back.
pub(crate) async fn raw(addr: SocketAddr, bytes: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut socket = BufReader::new(socket);
    let status = line(&mut socket).await;
    let status = status.split(' ').nth(1).and_then(|s| s.parse().ok());
    let mut headers = Vec::new();
    loop {
        let line = line(&mut socket).await;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    Answer { status: status.expect("a status"), headers, socket }
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> Answer {
    raw(addr, format!("GET {path} HTTP/1.1\r\nHost: pled\r\n\r\n").as_bytes()).await
}

pub(crate) async fn post(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    raw(addr, request(path, &body.to_string()).as_bytes()).await
}

/// The bytes of a request.
pub(crate) fn request(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: pled\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The objects of a body of server-sent events, whose last is `[DONE]`.
pub(crate) fn events(text: &str) -> Vec<Value> {
    let mut all: Vec<&str> = text.split_terminator("\n\n").collect();
    assert_eq!(all.pop(), Some("data: [DONE]"), "{text}");
    let object = |event: &str| serde_json::from_str(event.strip_prefix("data: ").expect("an event")).unwrap();
    all.into_iter().map(object).collect()
}

/// The objects of a body with one on each line.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
