//! A web server that does what a script tells it, for good or ill: one thread for each connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Path and query.
    pub(crate) path: String,
    /// First and last byte of the range that was asked for.
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) if_range: Option<String>,
    pub(crate) authorization: Option<String>,
    /// How many requests came before this one.
    pub(crate) number: usize,
}

/// What the server does for an answer, step by step; then it closes.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Bytes of the file.
    Body(Vec<u8>),
    Wait(Duration),
    /// Closes at once.
    Close,
}

pub(crate) type Script = dyn Fn(&Ask) -> Vec<Step> + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asks: Arc<Mutex<Vec<Ask>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(script: Arc<Script>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (asks, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let server = Server { address, asks: Arc::clone(&asks), stop: Arc::clone(&stop) };
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let script = Arc::clone(&script);
                let (asks, count) = (Arc::clone(&asks), Arc::clone(&count));
                std::thread::spawn(move || {
                    let socket = socket.unwrap();
                    let Some(ask) = read_ask(&socket, &count) else { return };
                    asks.lock().unwrap().push(ask.clone());
                    play(socket, &script(&ask));
                });
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn asks(&self) -> Vec<Ask> {
        self.asks.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that listens.
        let _ = TcpStream::connect(self.address);
    }
}

fn read_ask(socket: &TcpStream, count: &AtomicUsize) -> Option<Ask> {
    let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut ask = Ask { path, range: None, if_range: None, authorization: None, number: 0 };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                ask.range = Some((first.parse().ok()?, last.parse().ok()?));
            }
            "if-range" => ask.if_range = Some(value.to_owned()),
            "authorization" => ask.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    ask.number = count.fetch_add(1, Ordering::SeqCst);
    Some(ask)
}

fn play(mut socket: TcpStream, steps: &[Step]) {
    for step in steps {
        // A client that has gone has its reasons.
        let sent = match step {
            Step::Send(bytes) | Step::Body(bytes) => socket.write_all(bytes),
            Step::Wait(time) => {
                std::thread::sleep(*time);
                Ok(())
            }
            Step::Close => socket.shutdown(Shutdown::Both),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The head of an answer.
pub(crate) fn head(status: u16, headers: &[(&str, String)]) -> Step {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    Step::Send((text + "\r\n").into_bytes())
}
