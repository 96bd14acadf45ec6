//! Probes, metrics, and peers that behave badly, over HTTP/1.1 and over HTTP/2 on the same port.

use std::time::Duration;

use pled::engine::EngineOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::scripted::*;
use super::server::{self, Server, drain, first_token};
use super::web::{get, raw, request};

/// Three tokens for a prompt, or what becomes of them.
async fn run(f: &Fixture, prompt: &[u32]) {
    let mut generation = f.submit(draft(prompt, 3));
    while generation.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_follow_the_life_of_the_server() {
    let server = Server::loading().await;
    assert!(get(server.addr, "/").await.text().await.starts_with("pled "));
    let status = async |path: &str| get(server.addr, path).await.status;
    assert_eq!(
        (status("/healthz").await, status("/readyz").await, status("/metrics").await),
        (200, 503, 200)
    );
    let f = start(Script { panic_at: Some(330), ..Script::default() }, OPTIONS);
    server.control.ready(f.engine.clone()).await;
    assert_eq!((status("/healthz").await, status("/readyz").await), (200, 200));
    server.control.draining().await;
    assert_eq!((status("/healthz").await, status("/readyz").await), (200, 503));

    let server = Server::over(f.engine.clone()).await;
    run(&f, &[BOS, 330]).await;
    f.engine.ended().await;
    let status = async |path: &str| get(server.addr, path).await.status;
    assert_eq!((status("/healthz").await, status("/readyz").await), (503, 503));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_those_of_the_engine() {
    let f = start(Script::default(), OPTIONS);
    let server = Server::over(f.engine.clone()).await;
    let value = async |name: &str| {
        let page = get(server.addr, "/metrics").await;
        assert!(page.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
        let page = page.text().await;
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let of_several = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_several = |name: &&str| {
                ["histogram", "summary"].iter().any(|kind| page.contains(&format!("# TYPE {name} {kind}")))
            };
            let name = of_several.filter(is_several).unwrap_or(name);
            assert!(value.parse::<f64>().is_ok() && page.contains(&format!("# TYPE {name} ")), "{line}");
        }
        let found =
            page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
        found.unwrap_or_else(|| panic!("no {name} in {page}"))
    };
    assert_eq!(value("pled_completion_tokens_total").await, "0");
    run(&f, &[BOS, 320]).await;
    f.await_nothing_left();
    assert_eq!(value("pled_completion_tokens_total").await, "3");
    assert_eq!(value("pled_prompt_tokens_total").await, "2");
    assert_eq!(value("pled_requests_total{outcome=\"finished\"}").await, "1");
    // One first token, and two that followed another.
    assert_eq!(value("pled_time_to_first_token_seconds_count").await, "1");
    assert_eq!(value("pled_time_per_token_seconds_bucket{le=\"+Inf\"}").await, "2");
    assert_eq!(value("pled_queue_wait_seconds_count").await, "1");
    assert_eq!(value("pled_kv_bytes").await, "0");
    let refused = async |why: &str| value(&format!("pled_requests_total{{outcome=\"refused_{why}\"}}")).await;
    assert_eq!(refused("invalid").await, "0");
    get(server.addr, "/v1/nothing").await;
    server.generation().await.generate(server::request(&[], 1)).await.unwrap_err();
    assert_eq!((refused("invalid").await.as_str(), refused("forbidden").await.as_str()), ("2", "0"));
    let page = get(server.addr, "/metrics").await.text().await;
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names {
        assert!(include_str!("../../docs/metrics.md").contains(&format!("`{name}`")), "{name}");
    }
    assert_eq!(value("pled_info{version=\"0.1.0\",model=\"scripted\",isa=\"scripted\"}").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_goes_over_http2_too() {
    let f = start(Script::default(), OPTIONS);
    let server = Server::over(f.engine.clone()).await;
    let socket = TcpStream::connect(server.addr).await.unwrap();
    let (mut send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let asked = tonic::codegen::http::Request::get("http://pled/readyz").body(()).unwrap();
    let (answer, _) = send.send_request(asked, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "ready\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_strangers_are_kept_out() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    for (origin, status) in [("http://evil.example", 403), ("http://localhost:3000", 200)] {
        let asked = format!("GET /v1/models HTTP/1.1\r\nHost: pled\r\nOrigin: {origin}\r\n\r\n");
        assert_eq!(raw(server.addr, asked.as_bytes()).await.status, status, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_refused_before_it_is_sent() {
    let server = Server::over(start(Script::default(), OPTIONS).engine).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: pled\r\nContent-Length: 4194305\r\n\r\n{";
    assert_eq!(raw(server.addr, head.as_bytes()).await.status, 413);
    // And one that does not say how large it is.
    let mut body =
        "POST /v1/completions HTTP/1.1\r\nHost: pled\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    let mut peer = TcpStream::connect(server.addr).await.unwrap();
    body.push_str("10000\r\n");
    body.push_str(&" ".repeat(0x10000));
    peer.write_all(body.as_bytes()).await.unwrap();
    let (mut from, mut to) = peer.into_split();
    let endless = tokio::spawn(async move {
        let piece = format!("\r\n10000\r\n{}", " ".repeat(0x10000));
        while to.write_all(piece.as_bytes()).await.is_ok() {}
    });
    let mut status = [0; 12];
    timeout(PATIENCE, from.read_exact(&mut status)).await.expect("an answer").unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
    endless.abort();
}

/// Silent, half-open and slow peers, all at once: they are told so or closed, and the service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_peers_lose_their_places() {
    let f = start(Script::default(), EngineOptions { n_ctx: 2000, ..OPTIONS });
    let server = Server::over(f.engine.clone()).await;
    let whole = request("/v1/completions", r#"{"prompt": "a", "max_tokens": 1}"#);
    let mut slow = Vec::new();
    for _ in 0..30 {
        let mut peer = TcpStream::connect(server.addr).await.unwrap();
        peer.write_all(&whole.as_bytes()[..whole.len() - 1]).await.unwrap();
        slow.push(peer);
    }
    let mut idle = Vec::new();
    for _ in 0..90 {
        idle.push(TcpStream::connect(server.addr).await.unwrap());
    }
    // While they wait there are places for others.
    assert_eq!(raw(server.addr, whole.as_bytes()).await.status, 200);
    // More than there are places: those that have been silent longest are closed.
    for _ in 0..300 {
        idle.push(TcpStream::connect(server.addr).await.unwrap());
    }
    for mut peer in slow {
        let mut status = [0; 12];
        timeout(PATIENCE, peer.read_exact(&mut status)).await.expect("an answer").unwrap();
        assert_eq!(&status, b"HTTP/1.1 408");
    }
    for mut peer in idle {
        let end = timeout(PATIENCE, peer.read(&mut [0])).await.expect("the end");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    // A place that was given back may take a moment to be free.
    let again = async {
        loop {
            let mut peer = TcpStream::connect(server.addr).await.unwrap();
            let _ = peer.write_all(whole.as_bytes()).await;
            let mut status = [0; 12];
            if peer.read_exact(&mut status).await.is_ok() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(&timeout(PATIENCE, again).await.expect("a place"), b"HTTP/1.1 200");
}

/// A thousand peers that say nothing, or half of something. They take each other's places and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_peers_keep_nobody_out() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    // Both ends of all connections are in this process.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
    let script = Script { step_time: Duration::from_millis(2), ..Script::default() };
    let f = start(script, EngineOptions { n_ctx: 4000, ..OPTIONS });
    let server = Server::over(f.engine.clone()).await;
    let mut client = server.generation().await;
    let mut running = client.generate_stream(server::request(&[BOS, 320], 3000)).await.unwrap().into_inner();
    first_token(&mut running).await;
    let mut idle = Vec::new();
    for i in 0..1000 {
        let mut peer = TcpStream::connect(server.addr).await.unwrap();
        let said: &[u8] = match i % 3 {
            0 => b"",
            1 => b"POST /v1/completions HTTP/1.1\r\nHost:",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        };
        // It may have been closed already.
        let _ = peer.write_all(said).await;
        idle.push(peer);
    }
    // New peers are served, and who was being served goes on.
    assert_eq!(get(server.addr, "/readyz").await.status, 200);
    let whole = request("/v1/completions", r#"{"prompt": "a", "max_tokens": 1}"#);
    assert_eq!(raw(server.addr, whole.as_bytes()).await.status, 200);
    let mut other = server.generation().await;
    let ids = other.generate(server::request(&[BOS, 320], 3)).await.unwrap().into_inner().token_ids;
    assert_eq!(ids, answer(&[BOS, 320], 3));
    assert_eq!(drain(&mut running).await.unwrap().0.len(), 2999);
    // The first of the thousand are gone.
    for peer in &mut idle[..500] {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, peer.read_to_end(&mut rest)).await.expect("the end");
    }
}
