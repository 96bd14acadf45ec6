//! Keeps web pages of strangers out.
//!
//! A browser on this machine, or in this network, lets any page send requests to any address; by giving
//! its own name this server's address (DNS rebinding) a page could even read the answers. Browsers say with
//! `Origin` where a page comes from, other clients say nothing.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::ORIGIN;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

pub(super) async fn refuse_strangers(request: Request, next: Next) -> Response {
    let origin = request.headers().get(ORIGIN);
    if origin.is_none_or(|origin| origin.to_str().is_ok_and(is_local)) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "pages of other machines may not use this server\n").into_response()
}

fn is_local(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    let Some(host) = uri.host() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_are_local() {
        for origin in
            ["http://localhost", "http://localhost:8080", "https://127.0.0.1:3000", "http://[::1]:80"]
        {
            assert!(is_local(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://pled.example",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "file://",
        ] {
            assert!(!is_local(origin), "{origin}");
        }
    }
}
