use std::time::Duration;

use model::{
    Cookie, Health, Moment, PersistBy, Persistence, Persisting, Policy, SameSite, ServiceTable,
    Weight,
};

use super::service;
use crate::{Balancer, Context, named, persistence, remember, remembered};

fn how(by: PersistBy) -> Persisting {
    Persisting {
        by,
        cookie: Cookie {
            name: "stay".into(),
            path: "/".into(),
            domain: None,
            secure: None,
            http_only: true,
            same_site: SameSite::Lax,
        },
        lifetime: Some(Duration::from_secs(60)),
        max_keys: 64,
    }
}

fn of(service: &ServiceTable, by: PersistBy, key: &[u8]) -> Persistence {
    persistence(
        &how(by),
        key,
        &service.key,
        &service.endpoints,
        None,
        [1, 2],
    )
}

#[test]
fn a_token_names_its_instance_on_every_node_and_after_every_restart() {
    let service = service(Policy::RoundRobin, &[1; 20]);
    let (here, there) = (
        of(&service, PersistBy::Cookie, b"key"),
        of(&service, PersistBy::Cookie, b"key"),
    );
    for (endpoint, token) in (0..).zip(&here.tokens) {
        assert_eq!(token.len(), 22);
        assert_eq!(named(&there, token.as_bytes()), Some(endpoint));
    }
}

#[test]
fn nobody_without_the_key_names_an_instance() {
    let service = service(Policy::RoundRobin, &[1; 20]);
    let (ours, forged) = (
        of(&service, PersistBy::Cookie, b"key"),
        of(&service, PersistBy::Cookie, b"other"),
    );
    for token in &forged.tokens {
        assert_eq!(named(&ours, token.as_bytes()), None);
    }
    for garbage in [&b""[..], b"i00001", &[0xff; 22], &[b'A'; 100_000]] {
        assert_eq!(named(&ours, garbage), None);
    }
}

#[test]
fn tokens_stay_with_their_instances_when_others_come_and_go() {
    let mut table = service(Policy::RoundRobin, &[1; 20]);
    let before = of(&table, PersistBy::Cookie, b"key");
    let endpoints = table.endpoints.clone();
    table.endpoints.remove(3);
    let known = Some((&before, &*endpoints));
    let how = how(PersistBy::Cookie);
    let after = persistence(&how, b"key", &table.key, &table.endpoints, known, [1, 2]);
    assert_eq!(named(&after, before.tokens[3].as_bytes()), None);
    assert_eq!(named(&after, before.tokens[4].as_bytes()), Some(3));
    assert_eq!(after.tokens, of(&table, PersistBy::Cookie, b"key").tokens);
}

#[test]
fn a_key_is_remembered_until_it_was_not_used_for_its_lifetime() {
    let mut table = service(Policy::RoundRobin, &[1; 5]);
    let sessions = of(&table, PersistBy::SourceIp, b"");
    let at = |seconds: u64| Moment::from_millis(seconds * 1_000);
    assert_eq!(remembered(&sessions, 7, at(100)), None);
    remember(&sessions, 7, 2, at(100));
    assert_eq!(remembered(&sessions, 7, at(160)), Some(2));
    remember(&sessions, 7, 2, at(160));
    assert_eq!(remembered(&sessions, 7, at(220)), Some(2));
    assert_eq!(remembered(&sessions, 7, at(221)), None);
    assert_eq!(remembered(&sessions, 8, at(100)), None);
    // The instance has another number by now, and then none.
    remember(&sessions, 7, 2, at(300));
    let endpoints = table.endpoints.clone();
    table.endpoints.remove(0);
    let how = how(PersistBy::SourceIp);
    let after = persistence(
        &how,
        b"",
        &table.key,
        &table.endpoints,
        Some((&sessions, &*endpoints)),
        [3, 4],
    );
    assert_eq!(remembered(&after, 7, at(300)), Some(1));
    let endpoints = table.endpoints.clone();
    table.endpoints.remove(1);
    let gone = persistence(
        &how,
        b"",
        &table.key,
        &table.endpoints,
        Some((&after, &*endpoints)),
        [3, 4],
    );
    assert_eq!(remembered(&gone, 7, at(300)), None);
    // However many keys come, the table stays what it is.
    for key in 0..10_000_u64 {
        remember(&gone, key.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0, at(301));
    }
    assert_eq!(gone.keys.slots.len(), 64);
}

#[test]
fn sessions_stay_at_what_drains_and_go_elsewhere_from_what_is_down_or_tried() {
    let choose = |change: &dyn Fn(&mut ServiceTable), tried: Option<usize>| {
        let mut service = service(Policy::RoundRobin, &[1; 3]);
        change(&mut service);
        let mut context = Context {
            kept: Some(1),
            ..Context::default()
        };
        tried.into_iter().for_each(|index| context.tried.add(index));
        let mut balancer = Balancer::new(&service, 0, 7);
        let chosen = (0..9).map(|_| balancer.choose(&service, &context, Moment::ZERO).unwrap());
        let chosen: Vec<_> = chosen.collect();
        chosen.iter().filter(|&&index| index == 1).count()
    };
    assert_eq!(choose(&|_| {}, None), 9);
    assert_eq!(choose(&|s| s.endpoints[1].drain = true, None), 9);
    assert_eq!(choose(&|s| s.endpoints[1].weight = Weight(0), None), 9);
    assert_eq!(
        choose(&|s| s.endpoints[1].health = Health::Critical, None),
        0
    );
    assert_eq!(choose(&|s| s.endpoints[1].enabled = false, None), 0);
    assert_eq!(choose(&|_| {}, Some(1)), 0);
    assert_eq!(choose(&|s| s.endpoints.truncate(1), None), 0);
}
