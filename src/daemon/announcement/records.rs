//! What is told: the records of the services at one link (RFC 6763), and how they compare with what others say.
//!
//! Deliberately absent: sockets and time, which `link` has.

use std::cmp::Ordering;
use std::net::IpAddr;

use simple_dns::rdata::{A, AAAA, NSEC, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Label, Name, Packet, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

/// How long others may keep what has a host's name in it, and everything else. Unit: seconds (RFC 6762, 10).
const HOST_TTL_S: u32 = 120;
const TTL_S: u32 = 4500;
/// How long resolvers that know nothing of multicast may keep an answer. Unit: seconds (RFC 6762, 6.7).
const UNICAST_TTL_S: u32 = 10;
/// Bytes of the longest label of a name in DNS.
const LABEL_BYTES: usize = 63;
/// Bytes that are kept free in a label for the number of a name that was taken: " (9999)".
const NUMBER_BYTES: usize = 8;
const MAX_NUMBER: u32 = 9999;

/// A port on which the daemon serves, and what is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) port: u16,
    pub(super) encrypted: bool,
    /// Whether the port has to stand in the name, since there are several.
    pub(super) named_by_port: bool,
}

/// Which try a name is: the first has no number in it, later ones do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(u32);

impl Number {
    pub(super) const FIRST: Number = Number(1);

    pub(super) fn next(self) -> Number {
        Number(self.0 % MAX_NUMBER + 1)
    }
}

/// The records of a link. Those whose `cache_flush` is set are of names that nobody else may have.
#[derive(Clone, Debug)]
pub(super) struct Records(pub(super) Vec<ResourceRecord<'static>>);

impl Records {
    /// Of `services` on the machine `host`, which has `addresses` at the link.
    pub(super) fn new(host: &str, services: &[Service], addresses: &[IpAddr], number: Number) -> Records {
        let service_type = name(["_pled", "_tcp", "local"]);
        let host_name = name([&*host_label(host, number), "local"]);
        let shared = |name: &Name<'static>, to: &Name<'static>| {
            ResourceRecord::new(name.clone(), CLASS::IN, TTL_S, RData::PTR(PTR(to.clone())))
        };
        let unique = |name: &Name<'static>, ttl_s, data| {
            ResourceRecord::new(name.clone(), CLASS::IN, ttl_s, data).with_cache_flush(true)
        };
        let nothing_but = |name: &Name<'static>, ttl_s, types: &[TYPE]| {
            unique(name, ttl_s, RData::NSEC(NSEC::from_types(name.clone(), types)))
        };
        let all_types = name(["_services", "_dns-sd", "_udp", "local"]);
        let mut records = vec![shared(&all_types, &service_type)];
        for service in services {
            let instance = name([&*instance_label(host, service, number), "_pled", "_tcp", "local"]);
            let target = SRV { priority: 0, weight: 0, port: service.port, target: host_name.clone() };
            records.push(shared(&service_type, &instance));
            records.push(unique(&instance, HOST_TTL_S, RData::SRV(target)));
            records.push(unique(&instance, TTL_S, RData::TXT(text(service))));
            records.push(nothing_but(&instance, TTL_S, &[TYPE::SRV, TYPE::TXT]));
        }
        for address in addresses {
            let data = match *address {
                IpAddr::V4(ip) => RData::A(A::from(ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA::from(ip)),
            };
            records.push(unique(&host_name, HOST_TTL_S, data));
        }
        let types: Vec<TYPE> =
            addresses.iter().map(|ip| if ip.is_ipv4() { TYPE::A } else { TYPE::AAAA }).collect();
        records.push(nothing_but(&host_name, HOST_TTL_S, &types));
        Records(records)
    }

    /// Full names and ports of the services, for the log.
    pub(super) fn services(&self) -> impl Iterator<Item = (String, u16)> {
        self.0.iter().filter_map(|record| match &record.rdata {
            RData::SRV(service) => Some((record.name.to_string(), service.port)),
            _ => None,
        })
    }

    /// The places of the records that answer a query and that who asks does not know already.
    pub(super) fn answers(&self, query: &Packet) -> Vec<usize> {
        let is_known = |own: &ResourceRecord| {
            query
                .answers
                .iter()
                .any(|known| known.name == own.name && known.rdata == own.rdata && known.ttl >= own.ttl / 2)
        };
        let is_asked = |own: &&ResourceRecord| query.questions.iter().any(|question| answers(own, question));
        let places = self.0.iter().enumerate();
        places.filter(|(_, own)| is_asked(own) && !is_known(own)).map(|(i, _)| i).collect()
    }

    /// What is told without being asked: all but what there is not.
    pub(super) fn announced(&self) -> Vec<ResourceRecord<'static>> {
        self.0.iter().filter(|record| !matches!(record.rdata, RData::NSEC(_))).cloned().collect()
    }

    /// What others are to forget. That services of this type exist may be true of others.
    pub(super) fn goodbye(&self) -> Vec<ResourceRecord<'static>> {
        let mut own = self.announced();
        own.retain(|record| !matches!(&record.rdata, RData::PTR(to) if to.0.get_labels().len() == 3));
        own.iter_mut().for_each(|record| record.ttl = 0);
        own
    }

    /// The answer to a resolver that speaks plain DNS: its question and its number again, nothing of multicast's own.
    pub(super) fn plain_reply<'a>(&self, query: &Packet<'a>, places: &[usize]) -> Packet<'a> {
        let mut reply = Packet::new_reply(query.id());
        reply.questions.clone_from(&query.questions);
        let there = places.iter().map(|&i| &self.0[i]).filter(|own| !matches!(own.rdata, RData::NSEC(_)));
        reply.answers = there.map(|own| own.clone().with_cache_flush(false)).collect();
        reply.answers.iter_mut().for_each(|record| record.ttl = record.ttl.min(UNICAST_TTL_S));
        reply
    }

    /// Whether a response gives a name of ours to something else. `mine` are the addresses of this machine at all of its
    /// links: two that lead to the same network hear each other.
    pub(super) fn conflict_with(&self, response: &Packet, mine: &[IpAddr]) -> bool {
        response.answers.iter().chain(&response.additional_records).any(|theirs| {
            theirs.ttl > 0
                && address(&theirs.rdata).is_none_or(|ip| !mine.contains(&ip))
                && self.of_kind(theirs).next().is_some()
                && self.of_kind(theirs).all(|own| own.rdata != theirs.rdata)
        })
    }

    /// The places of the records that somebody who has the same lets expire before their time: others are to keep them.
    pub(super) fn expiring_in(&self, response: &Packet) -> Vec<usize> {
        let expires = |own: &ResourceRecord| {
            response.answers.iter().any(|theirs| {
                theirs.name == own.name && theirs.rdata == own.rdata && theirs.ttl < own.ttl / 2
            })
        };
        let places = self.0.iter().enumerate();
        places.filter(|(_, own)| own.cache_flush && expires(own)).map(|(i, _)| i).collect()
    }

    /// Own records of unique names with the name, the type and the class of another.
    fn of_kind(&self, theirs: &ResourceRecord) -> impl Iterator<Item = &ResourceRecord<'static>> {
        let kind = theirs.rdata.type_code();
        self.0.iter().filter(move |own| {
            own.cache_flush
                && kind != TYPE::NSEC
                && own.name == theirs.name
                && own.class == theirs.class
                && own.rdata.type_code() == kind
        })
    }

    /// A query that asks who has the names, and says what is meant to be told of them.
    pub(super) fn probe(&self) -> Packet<'static> {
        let mut probe = Packet::new_query(0);
        probe.name_servers = self.0.iter().filter(|record| is_proposed(record)).cloned().collect();
        for record in &mut probe.name_servers {
            // Only of what is known to be true may others forget the rest.
            record.cache_flush = false;
            if probe.questions.iter().all(|question: &Question| question.qname != record.name) {
                let name = record.name.clone();
                probe.questions.push(Question::new(name, QTYPE::ANY, QCLASS::CLASS(CLASS::IN), false));
            }
        }
        probe
    }

    /// Whether somebody who probes for the same name at the same time comes first: whose data are the later in order.
    pub(super) fn yields_to(&self, probe: &Packet) -> bool {
        let own_probe = self.probe();
        own_probe.questions.iter().any(|question| {
            let ranks = |records: &[ResourceRecord]| {
                let mut ranks: Vec<_> =
                    records.iter().filter(|record| record.name == question.qname).filter_map(rank).collect();
                ranks.sort_unstable();
                ranks
            };
            let theirs = ranks(&probe.name_servers);
            !theirs.is_empty() && ranks(&own_probe.name_servers).cmp(&theirs) == Ordering::Less
        })
    }
}

fn is_proposed(record: &ResourceRecord) -> bool {
    record.cache_flush && !matches!(record.rdata, RData::NSEC(_))
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        RData::AAAA(a) => Some(IpAddr::V6(a.address.into())),
        _ => None,
    }
}

/// Whether a record answers a question: it is of what is asked, or says that there is nothing of it.
fn answers(own: &ResourceRecord, question: &Question) -> bool {
    let kind_fits = match (question.qtype, &own.rdata) {
        (QTYPE::ANY, RData::NSEC(_)) => false,
        (QTYPE::ANY, _) => true,
        (QTYPE::TYPE(kind), RData::NSEC(there)) => !there.contains(kind),
        (QTYPE::TYPE(kind), data) => data.type_code() == kind,
        _ => false,
    };
    kind_fits && own.name == question.qname && own.match_qclass(question.qclass)
}

/// Type and data of a record, in the order in which RFC 6762, 8.2 compares them. Nothing if it cannot be written.
fn rank(record: &ResourceRecord) -> Option<(u16, Vec<u8>)> {
    /// Header, the name of the root, type, class, time to live, and the number of bytes that follow.
    const BEFORE_DATA: usize = 12 + 1 + 2 + 2 + 4 + 2;
    let root = Name::new_with_labels(&[]);
    let mut alone = Packet::new_reply(0);
    alone.answers.push(ResourceRecord::new(root, CLASS::IN, 0, record.rdata.clone()));
    let bytes = alone.build_bytes_vec().ok()?;
    Some((record.rdata.type_code().into(), bytes.get(BEFORE_DATA..)?.to_vec()))
}

fn text(service: &Service) -> TXT<'static> {
    let mut text = TXT::new();
    let encrypted = if service.encrypted { "tls=1" } else { "tls=0" };
    for pair in [encrypted, concat!("version=", env!("CARGO_PKG_VERSION"))] {
        text.add_string(pair).expect("shorter than 256 bytes");
    }
    text
}

/// A name whose labels hold what they are given: no sign in them has a meaning.
fn name<'a>(labels: impl IntoIterator<Item = &'a str>) -> Name<'static> {
    let labels: Vec<Label<'static>> =
        labels.into_iter().map(|label| Label::new_unchecked(label.as_bytes().to_vec())).collect();
    Name::new_with_labels(&labels)
}

fn instance_label(host: &str, service: &Service, number: Number) -> String {
    let port = if service.named_by_port { format!(", port {}", service.port) } else { String::new() };
    let number = if number == Number::FIRST { String::new() } else { format!(" ({})", number.0) };
    let before = "pled on ";
    format!("{before}{}{port}{number}", short(host, before.len() + port.len()))
}

fn host_label(host: &str, number: Number) -> String {
    let number = if number == Number::FIRST { String::new() } else { format!("-{}", number.0) };
    format!("pled-{}{number}", short(host, "pled-".len()))
}

/// The machine's own name without its domain, as much of it as a label holds beside `others` bytes and a number.
fn short(host: &str, others: usize) -> &str {
    let host = host.split('.').next().unwrap_or_default();
    &host[..host.floor_char_boundary(LABEL_BYTES - NUMBER_BYTES - others)]
}

#[cfg(test)]
mod tests;
