use super::*;

const ADDRESSES: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 5))];

fn service(port: u16) -> Service {
    Service { port, encrypted: true, named_by_port: false }
}

fn kitchen(number: Number) -> Records {
    Records::new("kitchen", &[service(5)], &ADDRESSES, number)
}

/// What `records` answer to a question, as the types of the answers.
fn asked(records: &Records, of: &Name<'static>, qtype: QTYPE) -> Vec<TYPE> {
    let mut query = Packet::new_query(0);
    query.questions.push(Question::new(of.clone(), qtype, QCLASS::CLASS(CLASS::IN), false));
    records.answers(&query).into_iter().map(|i| records.0[i].rdata.type_code()).collect()
}

fn response(records: Vec<ResourceRecord<'static>>) -> Packet<'static> {
    let mut response = Packet::new_reply(0);
    response.answers = records;
    response
}

#[test]
fn questions_and_their_answers() {
    let records = kitchen(Number::FIRST);
    let host = name(["pled-kitchen", "local"]);
    let instance = name(["pled on kitchen", "_pled", "_tcp", "local"]);
    let shouted = name(["PLED-Kitchen", "LOCAL"]);
    for (of, qtype, expected) in [
        (&name(["_services", "_dns-sd", "_udp", "local"]), QTYPE::TYPE(TYPE::PTR), vec![TYPE::PTR]),
        (&name(["_pled", "_tcp", "local"]), QTYPE::TYPE(TYPE::PTR), vec![TYPE::PTR]),
        (&instance, QTYPE::TYPE(TYPE::SRV), vec![TYPE::SRV]),
        (&instance, QTYPE::ANY, vec![TYPE::SRV, TYPE::TXT]),
        (&instance, QTYPE::TYPE(TYPE::A), vec![TYPE::NSEC]),
        (&host, QTYPE::TYPE(TYPE::A), vec![TYPE::A]),
        (&shouted, QTYPE::TYPE(TYPE::A), vec![TYPE::A]),
        (&host, QTYPE::TYPE(TYPE::AAAA), vec![TYPE::NSEC]),
        (&host, QTYPE::AXFR, vec![]),
        (&name(["kitchen", "local"]), QTYPE::ANY, vec![]),
        (&name(["_ipp", "_tcp", "local"]), QTYPE::ANY, vec![]),
    ] {
        assert_eq!(asked(&records, of, qtype), expected, "{of} {qtype:?}");
    }
}

#[test]
fn what_is_known_is_not_told_again_while_it_is_fresh() {
    let records = kitchen(Number::FIRST);
    let mut query = Packet::new_query(0);
    let of = name(["_pled", "_tcp", "local"]);
    query.questions.push(Question::new(of, QTYPE::TYPE(TYPE::PTR), QCLASS::CLASS(CLASS::IN), false));
    let [asked] = records.answers(&query)[..] else { panic!("one answer") };
    query.answers.push(records.0[asked].clone());
    assert!(records.answers(&query).is_empty());
    query.answers[0].ttl = TTL_S / 2 - 1;
    assert_eq!(records.answers(&query), [asked]);
}

#[test]
fn another_with_the_name_is_a_conflict_and_a_copy_is_none() {
    let records = kitchen(Number::FIRST);
    assert!(!records.conflict_with(&response(records.0.clone()), &[]));
    let other = Records::new("kitchen", &[service(6)], &ADDRESSES, Number::FIRST);
    assert!(records.conflict_with(&response(other.0.clone()), &[]));
    assert!(!records.conflict_with(&response(other.goodbye()), &[]), "who leaves has no name");
    assert!(!kitchen(Number::FIRST.next()).conflict_with(&response(other.0), &[]));
    // The same machine at its other link, or another machine.
    let elsewhere: IpAddr = "192.168.1.6".parse().unwrap();
    let other = Records::new("kitchen", &[service(5)], &[elsewhere], Number::FIRST);
    assert!(!records.conflict_with(&response(other.0.clone()), &[ADDRESSES[0], elsewhere]));
    assert!(records.conflict_with(&response(other.0), &ADDRESSES));
}

#[test]
fn what_somebody_else_lets_expire_is_told_again() {
    let records = kitchen(Number::FIRST);
    assert!(records.expiring_in(&response(records.0.clone())).is_empty());
    let kept: Vec<TYPE> = records
        .expiring_in(&response(records.goodbye()))
        .into_iter()
        .map(|i| records.0[i].rdata.type_code())
        .collect();
    assert_eq!(kept, [TYPE::SRV, TYPE::TXT, TYPE::A]);
}

#[test]
fn of_two_who_probe_exactly_one_yields() {
    let low = kitchen(Number::FIRST);
    let high = Records::new("kitchen", &[service(6)], &ADDRESSES, Number::FIRST);
    assert!(low.yields_to(&high.probe()) && !high.yields_to(&low.probe()));
    assert!(!low.yields_to(&low.probe()), "that is a copy, or the own probe heard again");
    assert!(!low.yields_to(&kitchen(Number::FIRST.next()).probe()), "another name");
    // 200 and 60: the bytes are compared, not their writing.
    let by_ip = |last: u8| Records::new("kitchen", &[service(5)], &[[10, 0, 0, last].into()], Number::FIRST);
    assert!(by_ip(60).yields_to(&by_ip(200).probe()) && !by_ip(200).yields_to(&by_ip(60).probe()));
}

#[test]
fn a_goodbye_leaves_the_type_to_others() {
    let records = kitchen(Number::FIRST);
    let goodbye = records.goodbye();
    assert!(goodbye.iter().all(|record| record.ttl == 0));
    let kinds: Vec<TYPE> = goodbye.iter().map(|record| record.rdata.type_code()).collect();
    assert_eq!(kinds, [TYPE::PTR, TYPE::SRV, TYPE::TXT, TYPE::A]);
    assert_eq!(goodbye[0].name, name(["_pled", "_tcp", "local"]));
}

#[test]
fn names_of_hosts_with_domains_and_of_long_ones() {
    let of = |host: &str, number| {
        let service = Service { port: 65535, encrypted: false, named_by_port: true };
        (instance_label(host, &service, number), host_label(host, number))
    };
    let text = |(instance, host): (&str, &str)| (instance.to_owned(), host.to_owned());
    assert_eq!(of("pi.home.arpa", Number::FIRST), text(("pled on pi, port 65535", "pled-pi")));
    assert_eq!(of("pi", Number(2)), text(("pled on pi, port 65535 (2)", "pled-pi-2")));
    // The number stands behind, however long the name is and the number.
    for host in ["ü".repeat(60), "x".repeat(63)] {
        for number in [Number::FIRST, Number(2), Number(MAX_NUMBER)] {
            let (instance, host) = of(&host, number);
            assert!(instance.len() <= LABEL_BYTES && host.len() <= LABEL_BYTES, "{instance} {host}");
            assert!(instance.contains(", port 65535"), "{instance}");
            assert_eq!(number != Number::FIRST, instance.ends_with(')'), "{instance}");
            assert_eq!(number != Number::FIRST, host.contains(&format!("-{}", number.0)), "{host}");
        }
    }
    assert_eq!(Number(MAX_NUMBER).next(), Number::FIRST);
}

#[test]
fn signs_in_a_host_name_mean_nothing() {
    let records = Records::new(r"a\.b", &[service(5)], &ADDRESSES, Number::FIRST);
    let bytes = response(records.0.clone()).build_bytes_vec_compressed().unwrap();
    assert_eq!(Packet::parse(&bytes).unwrap().answers, records.0);
}
