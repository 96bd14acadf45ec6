//! The daemon on the local network: found by multicast DNS while it serves, and no longer.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use mdns_sd::{ServiceDaemon, ServiceEvent};
use pled::config::{Field, Fragment, Origin, Settings};
use pled::daemon;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::scripted::PATIENCE;
use super::support::{fixture, say};

/// Whether a packet to the group comes back from the network, which it does not where there is none, nor under emulation.
fn has_multicast() -> bool {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let returns = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        // Not by the loopback interface, on which nothing is announced.
        let way = UdpSocket::bind("0.0.0.0:0")?;
        way.connect((group, 5353))?;
        let IpAddr::V4(own) = way.local_addr()?.ip() else { return Ok(false) };
        socket.join_multicast_v4(&group, &own)?;
        socket.send_to(b"back", (group, socket.local_addr()?.port()))?;
        std::io::Result::Ok(!own.is_loopback() && socket.recv(&mut [0; 4])? == 4)
    };
    let emulated = std::env::var_os("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER").is_some()
        && cfg!(target_arch = "aarch64");
    let has = !emulated && returns().unwrap_or(false);
    if !has {
        say("skipped: finding the daemon by multicast DNS, there is no network here that carries multicast");
    }
    has
}

#[tokio::test(flavor = "multi_thread")]
async fn who_browses_finds_the_daemon_while_it_serves() {
    if !has_multicast() {
        return;
    }
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&tokens, "kitchen Yq3vTtM0lA5cXW1zJrKd8w\n").unwrap();
    let mut fragment = Fragment::default();
    let model = fixture("gemma4-ple/model-q4_0.gguf");
    for (field, value) in [
        (Field::Model, model.to_str().unwrap()),
        (Field::Listen, "0.0.0.0:0"),
        (Field::TokenFile, tokens.path().to_str().unwrap()),
        (Field::Threads, "1"),
    ] {
        fragment.set(field, Origin::Flag(field), vec![value.to_owned()]);
    }
    let settings = Settings::resolve(fragment).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (bound, addresses) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let stop = async { stopped.await.unwrap_or_default() };
        daemon::run(&settings, stop, |all| bound.send(all.to_vec()).unwrap()).await
    });
    let port = addresses.await.unwrap()[0].port();

    let browser = ServiceDaemon::new().unwrap();
    let events = browser.browse("_pled._tcp.local.").unwrap();
    let next = || events.recv_timeout(PATIENCE).expect("the responder tells of the daemon");
    // Other daemons may be there, of this machine's other tests too.
    let found = loop {
        match next() {
            ServiceEvent::ServiceResolved(service) if service.get_port() == port => break service,
            _ => {}
        }
    };
    assert!(found.get_fullname().starts_with("pled on "), "{}", found.get_fullname());
    assert_eq!(found.get_property_val_str("tls"), Some("0"));
    assert!(
        !found.get_addresses_v4().is_empty() && found.get_addresses_v4().iter().all(|ip| !ip.is_loopback())
    );

    drop(stop);
    timeout(PATIENCE, serving).await.expect("the daemon ends").unwrap().unwrap();
    loop {
        match next() {
            ServiceEvent::ServiceRemoved(_, name) if name == found.get_fullname() => break,
            _ => {}
        }
    }
    browser.shutdown().unwrap();
}
