//! Telling the local network where the daemon is: `_pled._tcp` by multicast DNS (RFC 6762, RFC 6763).
//!
//! Announced are the addresses beyond loopback that `listen` names, under the machine's name, once the model is there; the
//! records are taken back when the daemon ends. The machine has a host name of its own in these records
//! ("pled-kitchen.local"), so that nothing is claimed that another responder on it, as Avahi, already answers for.
//! Each interface that is listened on has a `link`; at all others there is not even a socket. What strangers send is heard
//! by these alone, and they keep nothing of it.
//!
//! A network on which this fails is no reason to serve nobody: what went wrong is logged.
//!
//! Deliberately absent: whether to announce at all, which `config` decides, and finding other services.

mod link;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use if_addrs::{IfAddr, Interface};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, timeout};

use link::Link;
use records::Service;

/// How often the machine's addresses are looked at: one comes and goes with a cable or a lease.
const ADDRESSES_EVERY: Duration = Duration::from_secs(30);
/// Problems that are told in the life of the daemon.
const MAX_PROBLEMS: usize = 32;
/// How long taking the records back may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// Records on the network, until they are taken back.
pub(super) struct Announcement {
    stop: watch::Sender<bool>,
    links: JoinHandle<()>,
}

impl Announcement {
    /// Announces what listens at `addresses`; `encrypted` says whether clients have to speak TLS. Nothing where no address is
    /// beyond loopback.
    pub(super) fn start(addresses: &[SocketAddr], encrypted: bool) -> Option<Announcement> {
        let ports = ports(addresses);
        if ports.is_empty() {
            return None;
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (stop, stopped) = watch::channel(false);
        let links = tokio::spawn(keep_links(ports, encrypted, host, stopped));
        Some(Announcement { stop, links })
    }

    /// Tells the network that the service ends.
    pub(super) async fn withdraw(self) {
        self.stop.send_replace(true);
        // What is not said within the limit is lost, and the records expire.
        let _ = timeout(GOODBYE_LIMIT, self.links).await;
    }
}

/// The ports beyond loopback with the addresses at which each is served.
type Ports = BTreeMap<u16, Vec<IpAddr>>;

fn ports(addresses: &[SocketAddr]) -> Ports {
    let mut ports = Ports::new();
    for address in addresses {
        let ip = address.ip().to_canonical();
        if !ip.is_loopback() {
            ports.entry(address.port()).or_default().push(ip);
        }
    }
    ports
}

/// Has a task for each link there is, until `stop` says so.
async fn keep_links(ports: Ports, encrypted: bool, host: String, mut stop: watch::Receiver<bool>) {
    let (mine, my_addresses) = watch::channel(Vec::new());
    let mut there: Vec<(Link, watch::Sender<bool>)> = Vec::new();
    let mut tasks = JoinSet::new();
    let mut problems = Problems::default();
    let mut look = interval(ADDRESSES_EVERY);
    loop {
        tokio::select! {
            // An error means that whoever could say so is gone.
            _ = stop.wait_for(|stop| *stop) => break,
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => problems.tell(problem),
                Err(panic) => problems.tell(panic.to_string()),
            },
            _ = look.tick() => {
                let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
                    problems.tell(format!("the addresses of this machine cannot be read: {error}"));
                    Vec::new()
                });
                let links = links(&interfaces, &ports, encrypted);
                if links.is_empty() {
                    problems.tell("no interface that is listened on has an address of IPv4".to_owned());
                }
                mine.send_replace(interfaces.iter().map(Interface::ip).collect());
                there.retain(|(link, stop)| {
                    // A task that failed is gone too, and begins anew.
                    let stays = links.contains(link) && !stop.is_closed();
                    stop.send_replace(!stays);
                    stays
                });
                for link in links {
                    if there.iter().any(|(known, _)| *known == link) {
                        continue;
                    }
                    let (stop, stopped) = watch::channel(false);
                    there.push((link.clone(), stop));
                    let (host, mine) = (host.clone(), my_addresses.clone());
                    tasks.spawn(async move {
                        let name = link.name.clone();
                        link::answer(link, host, mine, stopped).await.map_err(|error| format!("at {name}: {error}"))
                    });
                }
            }
        }
    }
    for (_, stop) in there {
        stop.send_replace(true);
    }
    while tasks.join_next().await.is_some() {}
}

/// What went wrong and is in the log: what lasts is told once.
#[derive(Default)]
struct Problems(BTreeSet<String>);

impl Problems {
    fn tell(&mut self, problem: String) {
        if self.0.len() < MAX_PROBLEMS && !self.0.contains(&problem) {
            log::warn!(problem = problem.as_str(); "clients may not find the daemon by multicast DNS");
            self.0.insert(problem);
        }
    }
}

/// The links at which something is listened on. One has to have an address of IPv4, over which is spoken; those of IPv6 are told.
fn links(interfaces: &[Interface], ports: &Ports, encrypted: bool) -> Vec<Link> {
    let mut by_index: BTreeMap<u32, Vec<&Interface>> = BTreeMap::new();
    for interface in interfaces {
        // One without a carrier is as good as gone: what is announced when the cable is back is heard.
        if let (Some(index), false, true) = (interface.index, interface.is_loopback(), interface.is_oper_up())
        {
            by_index.entry(index).or_default().push(interface);
        }
    }
    let link = |(index, of_link): (u32, Vec<&Interface>)| {
        let networks: Vec<_> = of_link.iter().filter_map(|interface| network(interface)).collect();
        let reached = |ip: &IpAddr| ports.values().any(|listened| is_reached(*ip, listened));
        let mut addresses: Vec<IpAddr> =
            of_link.iter().map(|interface| interface.ip()).filter(|ip| reached(ip) && is_told(ip)).collect();
        addresses.sort_unstable();
        let services: Vec<Service> = ports
            .iter()
            .filter(|(_, listened)| addresses.iter().any(|ip| is_reached(*ip, listened)))
            .map(|(&port, _)| Service { port, encrypted, named_by_port: ports.len() > 1 })
            .collect();
        let source = networks.first()?.0;
        let name = of_link.first()?.name.clone();
        (!services.is_empty()).then_some(Link { name, index, source, networks, addresses, services })
    };
    by_index.into_iter().filter_map(link).collect()
}

/// Address and mask of IPv4.
fn network(interface: &Interface) -> Option<(Ipv4Addr, Ipv4Addr)> {
    match &interface.addr {
        IfAddr::V4(v4) => Some((v4.ip, v4.netmask)),
        IfAddr::V6(_) => None,
    }
}

/// An address that is worth nothing without the interface cannot be told over IPv4.
fn is_told(ip: &IpAddr) -> bool {
    !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Whether who comes to `ip`, an address of this machine, comes to one of those that are `listened` on. That is itself,
/// or "any address": `0.0.0.0` of IPv4, `[::]` of both.
fn is_reached(ip: IpAddr, listened: &[IpAddr]) -> bool {
    let by = |listened: &IpAddr| match listened {
        IpAddr::V4(any) if any.is_unspecified() => ip.is_ipv4(),
        IpAddr::V6(any) if any.is_unspecified() => true,
        one => *one == ip,
    };
    listened.iter().any(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::Ipv6Addr;

    use if_addrs::{IfOperStatus, Ifv4Addr, Ifv6Addr};

    fn interface(index: u32, ip: &str) -> Interface {
        let addr = match ip.parse().unwrap() {
            IpAddr::V4(ip) => {
                let netmask = Ipv4Addr::new(255, 255, 255, 0);
                IfAddr::V4(Ifv4Addr { ip, netmask, prefixlen: 24, broadcast: None })
            }
            IpAddr::V6(ip) => {
                let netmask = Ipv6Addr::from(u128::MAX << 64);
                IfAddr::V6(Ifv6Addr { ip, netmask, prefixlen: 64, broadcast: None })
            }
        };
        let name = format!("eth{index}");
        Interface { name, addr, index: Some(index), oper_status: IfOperStatus::Up, is_p2p: false }
    }

    /// For each link its index, the addresses that are told and the ports.
    fn at(listen: &[&str]) -> Vec<(u32, Vec<String>, Vec<u16>)> {
        let mut down = interface(4, "192.168.4.5");
        down.oper_status = IfOperStatus::Down;
        let interfaces = [
            interface(1, "127.0.0.1"),
            interface(2, "192.168.1.5"),
            interface(2, "fd00::5"),
            interface(2, "fe80::5"),
            interface(3, "10.0.0.5"),
            down,
            interface(5, "fd05::5"),
        ];
        let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
        let links = links(&interfaces, &ports(&listen), true);
        let shown = |link: Link| {
            let addresses = link.addresses.iter().map(ToString::to_string).collect();
            (link.index, addresses, link.services.iter().map(|service| service.port).collect())
        };
        links.into_iter().map(shown).collect()
    }

    fn link(index: u32, addresses: &[&str], ports: &[u16]) -> (u32, Vec<String>, Vec<u16>) {
        (index, addresses.iter().map(ToString::to_string).collect(), ports.to_vec())
    }

    #[test]
    fn a_link_for_each_interface_that_is_listened_on() {
        assert_eq!(at(&["127.0.0.1:1", "[::1]:2", "[::ffff:127.0.0.1]:3"]), []);
        let both = [link(2, &["192.168.1.5"], &[9]), link(3, &["10.0.0.5"], &[9])];
        assert_eq!(at(&["127.0.0.1:1", "0.0.0.0:9"]), both);
        let both = [link(2, &["192.168.1.5", "fd00::5"], &[9]), link(3, &["10.0.0.5"], &[9])];
        assert_eq!(at(&["[::]:9"]), both);
        assert_eq!(at(&["192.168.1.5:9"]), [link(2, &["192.168.1.5"], &[9])]);
        assert_eq!(at(&["[fd00::5]:9"]), [link(2, &["fd00::5"], &[9])]);
        assert_eq!(at(&["192.168.7.7:9"]), []);
    }

    #[test]
    fn a_port_is_told_where_it_is_served() {
        let two = [link(2, &["192.168.1.5", "fd00::5"], &[7, 8]), link(3, &["10.0.0.5"], &[7])];
        assert_eq!(at(&["[fd00::5]:8", "0.0.0.0:7"]), two);
    }
}
