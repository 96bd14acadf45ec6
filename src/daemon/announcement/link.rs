//! One link of the machine: the socket there, and what a responder does in time (RFC 6762): it asks whether the names are free,
//! announces them, answers, and says goodbye.
//!
//! Whatever arrives, nothing of it is kept. So many messages a second are read and no more, each record is told once a second
//! at the most, and only who is on the link is answered: a message from elsewhere, or with a sender who is elsewhere, is none.
//! The socket is bound to the group and to the link: what is sent to the port otherwise, it does not get, nor does it take
//! from Avahi what is sent to that.
//!
//! Deliberately absent: IPv6 between responders (its addresses are told over IPv4), answers by unicast to who speaks
//! multicast, messages larger than a packet of Ethernet, and waiting for what a querier knows beyond its first message. All of
//! that is optional.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use simple_dns::{OPCODE, Packet, PacketFlag, ResourceRecord};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::records::{Number, Records, Service};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;
/// The time to live by which others know that a packet was not forwarded.
const TTL: u32 = 255;
/// The longest message that is read, and the longest that is sent.
const READ_BYTES: usize = 1500;
const SENT_BYTES: usize = 1400;
const HEADER_BYTES: usize = 12;
/// What a question takes at the least: the name of the root, type and class.
const QUESTION_BYTES: usize = 5;

const SECOND: Duration = Duration::from_secs(1);
const BETWEEN_PROBES: Duration = Duration::from_millis(250);
const N_PROBES: u32 = 3;
const N_ANNOUNCEMENTS: u32 = 2;
/// How long an answer that others give too may wait, so that not all are sent at once: at least, and what chance adds.
const SHARED_DELAY_MS: (u64, u64) = (20, 100);
/// Messages that are read in a second: busy networks have some dozens. The processor belongs to the model.
const READ_PER_S: u32 = 250;
/// Answers in a second to who speaks plain DNS, whose senders can be made up.
const PLAIN_PER_S: u32 = 10;
/// After so many conflicts in a row the next name is tried later.
const HASTY_CONFLICTS: u32 = 15;
const AFTER_MANY_CONFLICTS: Duration = Duration::from_secs(5);

/// An interface with at least one address of IPv4 that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) index: u32,
    /// The address that is sent from.
    pub(super) source: Ipv4Addr,
    /// Its networks, each as an address and a mask: who is in none of them is not on the link.
    pub(super) networks: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Addresses that are told, which are those that are listened on.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) services: Vec<Service>,
}

impl Link {
    /// Whether who has this address is a neighbour.
    fn has(&self, ip: Ipv4Addr) -> bool {
        let is_in = |(address, mask): &(Ipv4Addr, Ipv4Addr)| *address & *mask == ip & *mask;
        self.networks.iter().any(is_in)
    }

    fn socket(&self) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // Others of this machine answer at the same port.
        socket.set_reuse_address(true)?;
        // Of the groups of this machine only that of this link.
        socket.set_multicast_all_v4(false)?;
        socket.bind(&SocketAddr::from((GROUP, PORT)).into())?;
        socket.join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(self.index))?;
        socket.set_multicast_if_v4(&self.source)?;
        socket.set_multicast_ttl_v4(TTL)?;
        socket.set_ttl_v4(TTL)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket.into())
    }
}

/// Answers at a link until `stop` says so. `mine` are the addresses of the machine.
///
/// # Errors
/// If the socket cannot be had, or fails.
pub(super) async fn answer(
    link: Link,
    host: String,
    mine: watch::Receiver<Vec<IpAddr>>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let socket = link.socket()?;
    let mut responder = Responder::new(&link, &host, mine, &socket);
    let mut read = PerSecond::new(READ_PER_S);
    let mut buffer = [0; READ_BYTES];
    loop {
        // What comes before its time waits in the socket's own memory, which is bounded, and is lost there.
        let heard = async {
            sleep_until(read.open_at()).await;
            socket.recv_from(&mut buffer).await
        };
        let stopped = async {
            // An error means that whoever could say so is gone.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            () = stopped => break,
            () = sleep_until(responder.next_act()) => responder.act().await?,
            heard = heard => {
                let (n_bytes, from) = heard?;
                read.take();
                responder.hear(&buffer[..n_bytes], from).await;
            }
        }
    }
    responder.say_goodbye().await
}

/// Bounds how often something is done in a second.
struct PerSecond {
    limit: u32,
    n_taken: u32,
    since: Instant,
}

impl PerSecond {
    fn new(limit: u32) -> PerSecond {
        PerSecond { limit, n_taken: 0, since: Instant::now() }
    }

    /// When the next may be taken.
    fn open_at(&self) -> Instant {
        if self.n_taken < self.limit { self.since } else { self.since + SECOND }
    }

    fn take(&mut self) {
        if self.since.elapsed() >= SECOND {
            (self.n_taken, self.since) = (0, Instant::now());
        }
        self.n_taken += 1;
    }
}

/// How far the names are; `at` is when the next message of the phase is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Probing { n_sent: u32, at: Instant },
    Announcing { n_sent: u32, at: Instant },
    Settled,
}

struct Responder<'a> {
    link: &'a Link,
    host: &'a str,
    mine: watch::Receiver<Vec<IpAddr>>,
    socket: &'a UdpSocket,
    number: Number,
    logged: Option<Number>,
    records: Records,
    phase: Phase,
    /// For each record when it is to be told, if it is, and when it was last.
    due: Vec<Option<Instant>>,
    told: Vec<Option<Instant>>,
    n_conflicts: u32,
    last_conflict: Instant,
    plain: PerSecond,
}

impl<'a> Responder<'a> {
    fn new(
        link: &'a Link,
        host: &'a str,
        mine: watch::Receiver<Vec<IpAddr>>,
        socket: &'a UdpSocket,
    ) -> Responder<'a> {
        let records = Records::new(host, &link.services, &link.addresses, Number::FIRST);
        let now = Instant::now();
        Responder {
            link,
            host,
            mine,
            socket,
            number: Number::FIRST,
            logged: None,
            due: vec![None; records.0.len()],
            told: vec![None; records.0.len()],
            records,
            // Machines that got their power back together do not ask at once.
            phase: Phase::Probing { n_sent: 0, at: now + chance(BETWEEN_PROBES) },
            n_conflicts: 0,
            last_conflict: now,
            plain: PerSecond::new(PLAIN_PER_S),
        }
    }

    /// When there is something to send.
    fn next_act(&self) -> Instant {
        let of_phase = match self.phase {
            Phase::Probing { at, .. } | Phase::Announcing { at, .. } => Some(at),
            Phase::Settled => None,
        };
        let due = self.due.iter().flatten().copied();
        due.chain(of_phase).min().unwrap_or_else(|| Instant::now() + 3600 * SECOND)
    }

    async fn act(&mut self) -> io::Result<()> {
        let now = Instant::now();
        match self.phase {
            Phase::Probing { n_sent, at } if at <= now && n_sent < N_PROBES => {
                let bytes = self.records.probe().build_bytes_vec_compressed().map_err(io::Error::other)?;
                self.socket.send_to(&bytes, (GROUP, PORT)).await?;
                self.phase = Phase::Probing { n_sent: n_sent + 1, at: now + BETWEEN_PROBES };
            }
            Phase::Probing { at, .. } if at <= now => {
                self.log_names();
                self.phase = Phase::Announcing { n_sent: 0, at: now };
            }
            Phase::Announcing { n_sent, at } if at <= now => {
                self.multicast(self.records.announced(), Vec::new()).await?;
                let n_sent = n_sent + 1;
                self.phase = if n_sent < N_ANNOUNCEMENTS {
                    Phase::Announcing { n_sent, at: now + SECOND }
                } else {
                    Phase::Settled
                };
            }
            _ => self.tell_what_is_due(now).await?,
        }
        Ok(())
    }

    async fn tell_what_is_due(&mut self, now: Instant) -> io::Result<()> {
        let (mut answers, mut additional) = (Vec::new(), Vec::new());
        for (i, record) in self.records.0.iter().enumerate() {
            if self.due[i].is_some_and(|at| at <= now) {
                (self.due[i], self.told[i]) = (None, Some(now));
                answers.push(record.clone());
            } else if record.cache_flush {
                additional.push(record.clone());
            }
        }
        self.multicast(answers, additional).await
    }

    async fn say_goodbye(self) -> io::Result<()> {
        if let Phase::Probing { .. } = self.phase {
            // The names may be another's, whose records these words would take away.
            return Ok(());
        }
        self.multicast(self.records.goodbye(), Vec::new()).await
    }

    /// Sends answers in as many messages as they take, with what else is good to know if it has room.
    async fn multicast(
        &self,
        answers: Vec<ResourceRecord<'static>>,
        additional: Vec<ResourceRecord<'static>>,
    ) -> io::Result<()> {
        let mut waiting = vec![(answers, additional)];
        while let Some((mut answers, additional)) = waiting.pop() {
            let mut response = Packet::new_reply(0);
            response.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
            response.answers.clone_from(&answers);
            response.additional_records.clone_from(&additional);
            match response.build_bytes_vec_compressed() {
                Ok(bytes) if bytes.len() <= SENT_BYTES || answers.len() == 1 && additional.is_empty() => {
                    self.socket.send_to(&bytes, (GROUP, PORT)).await?;
                }
                _ if !additional.is_empty() => waiting.push((answers, Vec::new())),
                _ if answers.len() > 1 => {
                    waiting.push((answers.split_off(answers.len() / 2), Vec::new()));
                    waiting.push((answers, Vec::new()));
                }
                Err(error) => return Err(io::Error::other(error)),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    async fn hear(&mut self, bytes: &[u8], from: SocketAddr) {
        let SocketAddr::V4(from) = from else { return };
        if !self.link.has(*from.ip()) || !is_plausible(bytes) {
            return;
        }
        let Ok(packet) = Packet::parse(bytes) else { return };
        if packet.opcode() != OPCODE::StandardQuery {
            return;
        }
        if packet.has_flags(PacketFlag::RESPONSE) {
            if from.port() == PORT {
                self.hear_response(&packet);
            }
        } else {
            self.hear_query(&packet, from).await;
        }
    }

    fn hear_response(&mut self, response: &Packet) {
        if self.records.conflict_with(response, &self.mine.borrow()) {
            self.give_way();
        } else if !matches!(self.phase, Phase::Probing { .. }) {
            let expiring = self.records.expiring_in(response);
            self.schedule(&expiring, Duration::ZERO, SECOND);
        }
    }

    async fn hear_query(&mut self, query: &Packet<'_>, from: SocketAddrV4) {
        if let Phase::Probing { n_sent, .. } = self.phase {
            if n_sent > 0 && self.records.yields_to(query) {
                self.phase = Phase::Probing { n_sent: 0, at: Instant::now() + SECOND };
            }
            return;
        }
        let answers = self.records.answers(query);
        if answers.is_empty() {
            return;
        }
        if from.port() != PORT {
            let reply = self.records.plain_reply(query, &answers);
            if let Ok(bytes) = reply.build_bytes_vec_compressed()
                && !reply.answers.is_empty()
                && self.plain.open_at() <= Instant::now()
            {
                self.plain.take();
                // An address that cannot be sent to is the sender's own matter.
                let _ = self.socket.send_to(&bytes, from).await;
            }
            return;
        }
        // Who probes does not wait longer than that.
        let gap = if query.name_servers.is_empty() { SECOND } else { BETWEEN_PROBES };
        let (shared, own): (Vec<usize>, Vec<usize>) =
            answers.iter().partition(|&&i| !self.records.0[i].cache_flush);
        let (least_ms, more_ms) = SHARED_DELAY_MS;
        let delay = Duration::from_millis(least_ms) + chance(Duration::from_millis(more_ms));
        self.schedule(&shared, delay, gap);
        self.schedule(&own, Duration::ZERO, gap);
    }

    /// Has records told after `delay`, each `gap` after it was told last.
    fn schedule(&mut self, places: &[usize], delay: Duration, gap: Duration) {
        let soon = Instant::now() + delay;
        for &i in places {
            let at = self.told[i].map_or(soon, |told| soon.max(told + gap));
            self.due[i] = Some(self.due[i].map_or(at, |due| due.min(at)));
        }
    }

    /// Somebody else has a name. Who was there first is found by asking; while that is asked, the name is theirs.
    fn give_way(&mut self) {
        let now = Instant::now();
        if now - self.last_conflict > 60 * SECOND {
            self.n_conflicts = 0;
        }
        self.n_conflicts += 1;
        self.last_conflict = now;
        if let Phase::Probing { .. } = self.phase {
            self.number = self.number.next();
            self.records = Records::new(self.host, &self.link.services, &self.link.addresses, self.number);
        }
        if self.n_conflicts == HASTY_CONFLICTS {
            log::warn!(interface = self.link.name.as_str(); "every name is taken: clients may not find the daemon");
        }
        let delay =
            if self.n_conflicts < HASTY_CONFLICTS { chance(BETWEEN_PROBES) } else { AFTER_MANY_CONFLICTS };
        self.phase = Phase::Probing { n_sent: 0, at: now + delay };
        self.due.fill(None);
    }

    fn log_names(&mut self) {
        if self.logged == Some(self.number) {
            return;
        }
        self.logged = Some(self.number);
        let (level, how) = if self.number == Number::FIRST {
            (log::Level::Info, "announced on the local network")
        } else {
            (log::Level::Warn, "announced on the local network under another name: the first is taken")
        };
        for (name, port) in self.records.services() {
            log::log!(level, name = name.as_str(), port, interface = self.link.name.as_str(); "{how}");
        }
    }
}

/// Whether a message can hold as much as it says it does. It is not believed, since room is made for that.
fn is_plausible(bytes: &[u8]) -> bool {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else { return false };
    let counts = header[4..].chunks_exact(2);
    let n_said: usize = counts.map(|of| usize::from(u16::from_be_bytes([of[0], of[1]]))).sum();
    n_said * QUESTION_BYTES <= body.len()
}

/// Some part of `most`. It need not be good chance: it is to differ between machines.
fn chance(most: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    most * (nanos / 1000 % 1000) / 1000
}

#[cfg(test)]
mod tests;
