//! Telling the local network where the daemon is: `_pled._tcp` by multicast DNS (RFC 6762, RFC 6763).
//!
//! Announced are the addresses beyond loopback that `listen` names, under the machine's name, once the model is there; the
//! records are taken back when the daemon begins to drain. The machine has a host name of its own in these records
//! ("pled-kitchen.local"), so that nothing is claimed that another responder on it, as Avahi, already answers for.
//!
//! A network on which this fails is no reason to serve nobody: what went wrong is logged.
//!
//! Deliberately absent: whether to announce at all, which `config` decides.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mdns_sd::{IfKind, IfPredicate, ServiceDaemon, ServiceInfo};

const SERVICE_TYPE: &str = "_pled._tcp.local.";
/// How often the machine's addresses are looked at, seconds: an address comes and goes with a cable or a lease.
const ADDRESSES_EVERY_S: u32 = 30;
/// How long taking the records back may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);
/// Bytes of the longest label of a name in DNS.
const LABEL_BYTES: usize = 63;

/// Records on the network, until they are taken back.
pub(super) struct Announcement(ServiceDaemon);

impl Announcement {
    /// Announces what listens at `addresses`; `encrypted` says whether clients have to speak TLS. Nothing where no address is
    /// beyond loopback, or if it cannot be done.
    pub(super) fn start(addresses: &[SocketAddr], encrypted: bool) -> Option<Announcement> {
        let services =
            services(addresses, encrypted, rustix::system::uname().nodename().to_string_lossy().as_ref());
        if services.is_empty() {
            return None;
        }
        let announced = ServiceDaemon::new().and_then(|responder| {
            responder.set_ip_check_interval(ADDRESSES_EVERY_S)?;
            for service in services {
                let name = service.get_fullname().to_owned();
                let port = service.get_port();
                responder.register(service)?;
                log::info!(name = name.as_str(), port; "announced on the local network");
            }
            Ok(Announcement(responder))
        });
        announced
            .inspect_err(|error| log::warn!(error:display; "clients cannot find the daemon by multicast DNS"))
            .ok()
    }

    /// Tells the network that the service ends.
    pub(super) async fn withdraw(self) {
        let ended = tokio::task::spawn_blocking(move || {
            // An error means that the responder has ended already, or does not within the limit: the records expire then.
            let _ = self.0.shutdown().map(|ended| ended.recv_timeout(GOODBYE_LIMIT));
        });
        // Nothing in it panics, and what is lost with it is a courtesy.
        let _ = ended.await;
    }
}

/// A service for each port: a port with several addresses is one service that can be reached at all of them.
fn services(addresses: &[SocketAddr], encrypted: bool, host: &str) -> Vec<ServiceInfo> {
    let mut by_port: BTreeMap<u16, Vec<IpAddr>> = BTreeMap::new();
    for address in addresses {
        let ip = address.ip().to_canonical();
        if !ip.is_loopback() {
            by_port.entry(address.port()).or_default().push(ip);
        }
    }
    let host = label(host);
    let several = by_port.len() > 1;
    let service = |(port, ips): (u16, Vec<IpAddr>)| {
        let name = if several { format!("pled on {host}, port {port}") } else { format!("pled on {host}") };
        let properties = [("tls", if encrypted { "1" } else { "0" }), ("version", env!("CARGO_PKG_VERSION"))];
        let host_name = format!("{}.local.", label(&format!("pled-{host}")));
        // The responder finds the addresses of the interfaces, of which some are listened on.
        let service = ServiceInfo::new(SERVICE_TYPE, label(&name), &host_name, (), port, &properties[..]);
        let mut service =
            service.inspect_err(|error| log::warn!(error:display; "no service to announce")).ok()?;
        service = service.enable_addr_auto();
        let reached =
            IfPredicate::new(move |interface| is_reached(interface.ip(), interface.is_loopback(), &ips));
        service.set_interfaces(vec![IfKind::Predicate(reached)]);
        Some(service)
    };
    by_port.into_iter().filter_map(service).collect()
}

/// Whether who comes to `interface`, an address of this machine, comes to one of those that are `listened` on. That is itself,
/// or "any address": `0.0.0.0` of IPv4, `[::]` of both.
fn is_reached(interface: IpAddr, is_loopback: bool, listened: &[IpAddr]) -> bool {
    let by = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => interface.is_ipv4(),
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        ip => *ip == interface,
    };
    !is_loopback && listened.iter().any(by)
}

/// As much of a text as a label of DNS can hold.
fn label(text: &str) -> &str {
    &text[..text.floor_char_boundary(LABEL_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(addresses: &[&str], host: &str) -> Vec<(String, u16)> {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let services = services(&addresses, true, host);
        services.iter().map(|service| (service.get_fullname().to_owned(), service.get_port())).collect()
    }

    #[test]
    fn a_service_for_each_port_beyond_loopback() {
        let name = |text: &str| format!("{text}._pled._tcp.local.");
        assert_eq!(announced(&["127.0.0.1:1", "[::1]:2", "[::ffff:127.0.0.1]:3"], "kitchen"), []);
        let one = [(name("pled on kitchen"), 50051)];
        assert_eq!(announced(&["127.0.0.1:9", "192.168.1.5:50051", "[fd00::5]:50051"], "kitchen"), one);
        let two = [(name("pled on kitchen, port 7"), 7), (name("pled on kitchen, port 8"), 8)];
        assert_eq!(announced(&["0.0.0.0:8", "[::]:7"], "kitchen"), two);
    }

    #[test]
    fn what_is_told_of_a_service() {
        let services = services(&["0.0.0.0:5".parse().unwrap()], true, "kitchen");
        assert_eq!(services[0].get_hostname(), "pled-kitchen.local.");
        assert_eq!(services[0].get_property_val_str("tls"), Some("1"));
        assert_eq!(services[0].get_property_val_str("version"), Some(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn names_that_are_too_long_are_cut_between_characters() {
        let long = "ü".repeat(60);
        let [(name, 1)] = &announced(&["0.0.0.0:1"], &long)[..] else { panic!("one service") };
        let (label, _) = name.split_once("._pled").unwrap();
        assert!(label.len() <= LABEL_BYTES && label.starts_with("pled on ü"), "{label}");
    }

    #[test]
    fn addresses_that_lead_to_a_listener() {
        let is = |interface: &str, listened: &[&str]| {
            let listened: Vec<IpAddr> = listened.iter().map(|text| text.parse().unwrap()).collect();
            is_reached(interface.parse().unwrap(), false, &listened)
        };
        assert!(is("192.168.1.5", &["0.0.0.0"]) && !is("fd00::5", &["0.0.0.0"]));
        assert!(is("192.168.1.5", &["::"]) && is("fd00::5", &["::"]));
        assert!(
            is("192.168.1.5", &["10.0.0.1", "192.168.1.5"])
                && !is("192.168.1.6", &["10.0.0.1", "192.168.1.5"])
        );
        assert!(!is_reached("127.0.0.1".parse().unwrap(), true, &["::".parse().unwrap()]));
    }
}
