use super::*;

fn key(id: &str) -> SessionKey {
    SessionKey::unowned(id)
}

fn draft(id: &str) -> SessionDraft {
    SessionDraft { id: id.to_owned(), ..SessionDraft::default() }
}

#[test]
fn sessions_are_made_once_listed_and_given_up() {
    let sessions = Sessions::default();
    let made = sessions.create(SessionDraft { pinned: true, ..draft("kitchen") }).unwrap();
    assert_eq!((made.ttl, made.pinned, made.n_requests), (DEFAULT_TTL, true, 0));
    assert_eq!(sessions.create(draft("kitchen")), Err(SessionError::Exists("kitchen".to_owned())));
    sessions.open(&key("attic")).unwrap();
    sessions.open(&key("attic")).unwrap();
    assert_eq!(sessions.list("").iter().map(|s| s.key.id.as_str()).collect::<Vec<_>>(), ["attic", "kitchen"]);
    let (serial, version) = (sessions.serial(&key("kitchen")).unwrap(), sessions.version());
    assert!(sessions.delete(&key("kitchen")) && !sessions.delete(&key("kitchen")));
    assert!(sessions.version() > version && sessions.get(&key("kitchen")).is_none());
    sessions.create(draft("kitchen")).unwrap();
    assert_ne!(sessions.serial(&key("kitchen")).unwrap().0, serial.0, "another session of the same id");
}

#[test]
fn a_session_expires_when_it_was_not_used_for_its_time() {
    let sessions = Sessions::default();
    sessions.create(SessionDraft { ttl: Some(MIN_TTL), ..draft("kitchen") }).unwrap();
    sessions.create(draft("attic")).unwrap();
    let begin = Instant::now();
    let there = |at| sessions.at(begin + at, |table, _| table.all.contains_key(&key("kitchen")));
    assert!(there(MIN_TTL - Duration::from_secs(1)));
    sessions.at(begin + MIN_TTL / 2, |table, now| table.used(&key("kitchen"), now).map(|_| ())).unwrap();
    assert!(there(MIN_TTL));
    let version = sessions.version();
    assert!(!there(MIN_TTL * 2));
    assert!(
        sessions.version() > version && !sessions.admit(&key("kitchen")) && sessions.admit(&key("attic"))
    );
}

#[test]
fn sessions_outlast_a_restart() {
    let sessions = Sessions::default();
    sessions.create(SessionDraft { pinned: true, ttl: Some(MIN_TTL), ..draft("kitchen") }).unwrap();
    sessions.open(&key("attic")).unwrap();
    assert!(sessions.admit(&key("kitchen")));
    sessions.said(&key("kitchen"), 77);
    let record = sessions.record();
    let again = Sessions::default();
    again.restore(&record).unwrap();
    assert_eq!(again.list(""), sessions.list(""));
    assert!(again.version() > 0);
    assert_eq!(again.record(), record);
    // Of those that are there already the newer counts.
    assert!(again.delete(&key("attic")));
    again.restore(&record).unwrap();
    assert_eq!(again.list("").len(), 2);
    for n in 0..record.len() {
        let whole = [0, 2 + 5 + 8 * 5 + 2].contains(&n);
        assert_eq!(Sessions::default().restore(&record[..n]).is_ok(), whole, "{n} bytes");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let sessions = Sessions::default();
    for (id, ttl, field) in [
        ("", None, "session_id"),
        ("a/b", None, "session_id"),
        ("é", None, "session_id"),
        (&"x".repeat(129), None, "session_id"),
        ("a", Some(Duration::from_secs(59)), "ttl"),
        ("a", Some(Duration::MAX), "ttl"),
    ] {
        let made = sessions.create(SessionDraft { ttl, ..draft(id) });
        let Err(SessionError::Field(violation)) = made else { panic!("{made:?}") };
        assert_eq!(violation.field, field, "{violation:?}");
    }
    assert!(sessions.open(&key("a b")).is_err() && sessions.list("").is_empty());
}

#[test]
fn there_are_so_many_and_those_made_by_use_give_way() {
    let sessions = Sessions::default();
    for i in 0..MAX_SESSIONS - 2 {
        sessions.create(draft(&format!("{i}"))).unwrap();
    }
    sessions.open(&key("first")).unwrap();
    sessions.open(&key("second")).unwrap();
    assert!(sessions.admit(&key("first")));
    sessions.create(draft("more")).unwrap();
    assert!(sessions.get(&key("first")).is_some() && sessions.get(&key("second")).is_none());
    sessions.open(&key("third")).unwrap();
    sessions.create(draft("most")).unwrap();
    assert_eq!(sessions.create(draft("too-many")), Err(SessionError::TooMany(MAX_SESSIONS)));
    assert_eq!(sessions.open(&key("too-many")), Err(SessionError::TooMany(MAX_SESSIONS)));
    assert_eq!(sessions.list("").len(), MAX_SESSIONS);
}

/// An owner sees, uses and ends his own; and of them he has no more than his share.
#[test]
fn who_made_room_is_told_from_who_was_given_up() {
    let sessions = Sessions::default();
    let id = |i: usize| key(&format!("s{i:03}"));
    for i in 0..MAX_SESSIONS {
        sessions.open(&id(i)).unwrap();
        sessions.said(&id(i), 5);
    }
    let [oldest, second] = [0, 1].map(|i| sessions.serial(&id(i)).unwrap().0);
    sessions.open(&key("new")).unwrap();
    assert!(sessions.get(&id(0)).is_none() && sessions.delete(&id(1)));
    assert!(!sessions.gave_way(second));
    assert!(sessions.gave_way(oldest) && !sessions.gave_way(oldest), "it is said once");
}

#[test]
fn sessions_are_their_owners_alone() {
    let sessions = Sessions::default();
    let of = |owner: &str, id: &str| SessionDraft { owner: owner.into(), ..draft(id) };
    let key_of = |owner: &str, id: &str| SessionKey { owner: owner.into(), id: id.to_owned() };
    sessions.create(of("kitchen", "talk")).unwrap();
    sessions.create(of("kiosk", "talk")).unwrap();
    assert!(sessions.admit(&key_of("kiosk", "talk")));
    let n_requests = |owner| sessions.get(&key_of(owner, "talk")).unwrap().n_requests;
    assert_eq!((n_requests("kitchen"), n_requests("kiosk")), (0, 1));
    for stranger in ["", "attic"] {
        let theirs = key_of(stranger, "talk");
        assert!(sessions.get(&theirs).is_none() && !sessions.admit(&theirs) && !sessions.delete(&theirs));
        assert!(sessions.serial(&theirs).is_none() && sessions.list(stranger).is_empty());
    }
    let again = Sessions::default();
    again.restore(&sessions.record()).unwrap();
    assert_eq!(again.list("kiosk"), sessions.list("kiosk"));
    assert!(sessions.delete(&key_of("kiosk", "talk")));
    assert_eq!(sessions.list("kitchen").len(), 1);

    for i in 2..MAX_SESSIONS_OF_ONE {
        sessions.create(of("kitchen", &format!("{i}"))).unwrap();
    }
    sessions.open(&key_of("attic", "by-use")).unwrap();
    sessions.open(&key_of("kitchen", "by-use")).unwrap();
    sessions.create(of("kitchen", "most")).unwrap();
    assert!(sessions.get(&key_of("kitchen", "by-use")).is_none(), "his own gives way");
    assert!(sessions.get(&key_of("attic", "by-use")).is_some(), "another's does not");
    let refused = sessions.create(of("kitchen", "too-many"));
    assert_eq!(refused, Err(SessionError::TooMany(MAX_SESSIONS_OF_ONE)));
    sessions.create(of("attic", "others-may")).unwrap();
}
