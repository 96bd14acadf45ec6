//! Over real sockets, on the loopback interface: the group reaches everybody there.

use super::*;

use std::io::Write;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, QCLASS, QTYPE, Question, TYPE};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// The loopback interface as a link; nothing, and a word about it, where groups do not work there.
fn loopback() -> Option<Link> {
    let plain = || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST)?;
        socket.send_to(&[], (GROUP, 9))
    };
    let emulated = std::env::var_os("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER").is_some()
        && cfg!(target_arch = "aarch64");
    if emulated || plain().is_err() {
        // Past the capture of output: a test that passes over has to be seen.
        let _ = writeln!(
            io::stderr(),
            "skipped: the responder's sockets, there is no multicast on loopback here"
        );
        return None;
    }
    let interfaces = if_addrs::get_if_addrs().unwrap();
    let lo = interfaces.iter().find(|interface| interface.ip() == Ipv4Addr::LOCALHOST).unwrap();
    Some(Link {
        name: lo.name.clone(),
        index: lo.index.unwrap(),
        source: Ipv4Addr::LOCALHOST,
        networks: vec![(Ipv4Addr::LOCALHOST, Ipv4Addr::new(255, 0, 0, 0))],
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        services: vec![Service { port: 4242, encrypted: false, named_by_port: false }],
    })
}

/// Somebody else at the link.
struct Neighbour(UdpSocket);

impl Neighbour {
    fn new(link: &Link) -> Neighbour {
        Neighbour(link.socket().unwrap())
    }

    /// The next message that `wanted` makes something of.
    async fn hears<T>(&self, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        let mut buffer = [0; 9000];
        let heard = async {
            loop {
                let (n_bytes, _) = self.0.recv_from(&mut buffer).await.unwrap();
                if let Some(found) = Packet::parse(&buffer[..n_bytes]).ok().as_ref().and_then(&wanted) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, heard).await.expect("something like that is heard")
    }

    async fn says(&self, packet: &Packet<'_>) {
        self.0.send_to(&packet.build_bytes_vec().unwrap(), (GROUP, PORT)).await.unwrap();
    }
}

fn start(link: &Link, host: &str) -> (watch::Sender<bool>, JoinHandle<io::Result<()>>) {
    let (stop, stopped) = watch::channel(false);
    let mine = watch::channel(vec![Ipv4Addr::LOCALHOST.into()]).1;
    (stop, tokio::spawn(answer(link.clone(), host.to_owned(), mine, stopped)))
}

fn browse() -> Packet<'static> {
    let mut query = Packet::new_query(7);
    let of = Name::new("_pled._tcp.local").unwrap();
    query.questions.push(Question::new(of, QTYPE::TYPE(TYPE::PTR), QCLASS::CLASS(CLASS::IN), false));
    query
}

/// The time to live of the service that is on `host`, if a message has it among its answers.
fn ttl_of(packet: &Packet, host: &str) -> Option<u32> {
    let instance = format!("pled on {host}._pled._tcp.local");
    let is_it =
        |record: &&ResourceRecord| matches!(&record.rdata, RData::PTR(to) if to.0.to_string() == instance);
    packet.answers.iter().find(is_it).map(|record| record.ttl)
}

#[tokio::test]
async fn announced_found_and_gone() {
    let Some(link) = loopback() else { return };
    let neighbour = Neighbour::new(&link);
    let (stop, answering) = start(&link, "lo-found");
    let probes = |packet: &Packet| {
        let of_us = |question: &Question| question.qname.to_string() == "pled-lo-found.local";
        (!packet.has_flags(PacketFlag::RESPONSE) && packet.questions.iter().any(of_us)).then_some(())
    };
    for _ in 0..N_PROBES {
        neighbour.hears(probes).await;
    }
    for _ in 0..N_ANNOUNCEMENTS {
        assert!(neighbour.hears(|packet| ttl_of(packet, "lo-found")).await > 0);
    }
    neighbour.says(&browse()).await;
    let told = |packet: &Packet| {
        let kinds = packet.additional_records.iter().map(|record| record.rdata.type_code());
        ttl_of(packet, "lo-found").map(|_| kinds.collect::<Vec<_>>())
    };
    assert_eq!(neighbour.hears(told).await, [TYPE::SRV, TYPE::TXT, TYPE::NSEC, TYPE::A, TYPE::NSEC]);
    stop.send_replace(true);
    neighbour.hears(|packet| ttl_of(packet, "lo-found").filter(|&ttl| ttl == 0)).await;
    answering.await.unwrap().unwrap();
}

#[tokio::test]
async fn plain_dns_is_answered_by_unicast() {
    let Some(link) = loopback() else { return };
    let neighbour = Neighbour::new(&link);
    let (_stop, _answering) = start(&link, "lo-plain");
    neighbour.hears(|packet| ttl_of(packet, "lo-plain")).await;
    let plain = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    plain.send_to(&browse().build_bytes_vec().unwrap(), (GROUP, PORT)).await.unwrap();
    // Other tests answer too.
    let mut buffer = [0; 9000];
    let reply = async {
        loop {
            let (n_bytes, _) = plain.recv_from(&mut buffer).await.unwrap();
            let reply = Packet::parse(&buffer[..n_bytes]).unwrap();
            if let Some(ttl) = ttl_of(&reply, "lo-plain") {
                assert_eq!((reply.id(), reply.questions.len(), reply.additional_records.len()), (7, 1, 0));
                assert!(ttl <= 10 && !reply.answers[0].cache_flush);
                break;
            }
        }
    };
    timeout(PATIENCE, reply).await.expect("an answer");
}

#[tokio::test]
async fn a_name_that_somebody_has_is_left_to_him() {
    let Some(link) = loopback() else { return };
    let neighbour = Neighbour::new(&link);
    let taken = Service { port: 1, ..link.services[0].clone() };
    let his = Records::new("lo-taken", &[taken], &[[127, 0, 0, 9].into()], Number::FIRST);
    let mut response = Packet::new_reply(0);
    response.answers = his.announced();
    let (_stop, _answering) = start(&link, "lo-taken");
    let asks = |packet: &Packet| {
        let of_his = |question: &Question| question.qname.to_string() == "pled-lo-taken.local";
        packet.questions.iter().any(of_his).then_some(())
    };
    neighbour.hears(asks).await;
    neighbour.says(&response).await;
    let ported = |packet: &Packet| {
        packet.answers.iter().find_map(|record| match &record.rdata {
            RData::SRV(service) if service.port == 4242 && record.name.to_string().contains("lo-taken") => {
                Some((record.name.to_string(), service.target.to_string()))
            }
            _ => None,
        })
    };
    let (instance, host) = neighbour.hears(ported).await;
    assert_eq!(instance, "pled on lo-taken (2)._pled._tcp.local");
    assert_eq!(host, "pled-lo-taken-2.local");
}

/// A responder whose names are its own, which hears what a test gives it.
macro_rules! settled {
    ($responder:ident) => {
        let Some(link) = loopback() else { return };
        let socket = link.socket().unwrap();
        let mine = watch::channel(link.addresses.clone()).1;
        let mut $responder = Responder::new(&link, "lo-heard", mine, &socket);
        $responder.phase = Phase::Settled;
    };
}

#[tokio::test]
async fn who_is_not_on_the_link_is_not_heard() {
    settled!(responder);
    let query = browse().build_bytes_vec().unwrap();
    for stranger in ["10.0.0.1:5353", "192.168.1.5:5353", "[::1]:5353"] {
        responder.hear(&query, stranger.parse().unwrap()).await;
        assert_eq!(responder.due.iter().flatten().count(), 0, "{stranger}");
    }
    responder.hear(&query, "127.0.0.5:5353".parse().unwrap()).await;
    assert_eq!(responder.due.iter().flatten().count(), 1);
    // Responses come from the port, or are forged.
    let mut response = Packet::new_reply(0);
    let other = Service { port: 1, ..responder.link.services[0].clone() };
    response.answers = Records::new("lo-heard", &[other], &[], Number::FIRST).announced();
    let response = response.build_bytes_vec().unwrap();
    responder.hear(&response, "127.0.0.5:1024".parse().unwrap()).await;
    assert_eq!(responder.phase, Phase::Settled);
    responder.hear(&response, "127.0.0.5:5353".parse().unwrap()).await;
    assert!(matches!(responder.phase, Phase::Probing { n_sent: 0, .. }));
}

#[tokio::test]
async fn asked_often_each_record_is_told_once_a_second() {
    settled!(responder);
    let query = browse().build_bytes_vec().unwrap();
    let from = "127.0.0.5:5353".parse().unwrap();
    responder.hear(&query, from).await;
    let first = responder.due[1].unwrap();
    responder.hear(&query, from).await;
    assert!(responder.due[1].unwrap() <= first && responder.due.iter().flatten().count() == 1);
    responder.due[1] = Some(Instant::now());
    responder.act().await.unwrap();
    let told = responder.told[1].unwrap();
    assert_eq!(responder.due[1], None);
    responder.hear(&query, from).await;
    assert!(responder.due[1].unwrap() >= told + SECOND);
}

#[tokio::test]
async fn conflicts_without_end_are_answered_slowly() {
    settled!(responder);
    for _ in 0..HASTY_CONFLICTS {
        responder.give_way();
    }
    let Phase::Probing { n_sent: 0, at } = responder.phase else { panic!("{:?}", responder.phase) };
    assert!(at > Instant::now() + 2 * BETWEEN_PROBES);
    assert_eq!(responder.due.len(), responder.records.0.len());
}

#[test]
fn no_more_than_the_limit_in_a_second() {
    let mut bound = PerSecond::new(3);
    for _ in 0..3 {
        assert!(bound.open_at() <= Instant::now());
        bound.take();
    }
    assert_eq!(bound.open_at(), bound.since + SECOND);
    bound.since -= SECOND;
    assert!(bound.open_at() <= Instant::now());
    bound.take();
    assert!(bound.open_at() <= Instant::now());
}

#[tokio::test]
async fn no_message_harms() {
    settled!(responder);
    let from: SocketAddr = "127.0.0.5:5353".parse().unwrap();
    let mut response = Packet::new_reply(0);
    response.answers = responder.records.0.clone();
    let sound = [
        browse().build_bytes_vec().unwrap(),
        response.build_bytes_vec_compressed().unwrap(),
        responder.records.probe().build_bytes_vec_compressed().unwrap(),
    ];
    for bytes in &sound {
        for i in 0..bytes.len() {
            responder.hear(&bytes[..i], from).await;
            for value in [0, 1, 0x3f, 0xc0, 0xff, bytes[i] ^ 1, bytes[i] ^ 0x80] {
                let mut damaged = bytes.clone();
                damaged[i] = value;
                responder.hear(&damaged, from).await;
                assert_eq!(responder.due.len(), responder.records.0.len());
            }
        }
    }
}

#[test]
fn counts_are_not_believed() {
    let mut header = vec![0; 12];
    assert!(is_plausible(&header) && !is_plausible(&header[..11]) && !is_plausible(&[]));
    header[7] = 1;
    assert!(!is_plausible(&header));
    header.extend([0; QUESTION_BYTES]);
    assert!(is_plausible(&header));
    header[4..12].fill(0xff);
    assert!(!is_plausible(&header));
}
