//! Clients that make work: each is ended, and not before it has had its fair share.

use super::*;

/// Sends frames until the connection ends; how many that took.
fn until_over(client: &mut Client, mut next: impl FnMut(&mut Client, u32) -> Vec<u8>) -> u32 {
    for n in 0..20_000 {
        let bytes = next(client, n);
        client.send(&bytes);
        client.got();
        if let Some(over) = client.machine.over() {
            assert_eq!(over, Closing::Flood);
            return n;
        }
    }
    panic!("nothing ended it");
}

#[test]
fn rapid_reset_is_ended() {
    let reset = |stream| made(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes());
    let mut client = Client::new();
    let n = until_over(&mut client, |client, n| {
        let stream = 2 * n + 1;
        let key = client.ask(stream, true, &[]);
        let events = client.send(&reset(stream));
        if events == [Event::Reset(key)] {
            client.machine.release(key, Code::Cancel, client.now);
        }
        Vec::new()
    });
    assert_eq!(n, 500);
}

#[test]
fn making_us_reset_is_ended_too() {
    let mut client = Client::new();
    let n = until_over(&mut client, |client, n| {
        let stream = 2 * n + 1;
        let key = client.ask(stream, true, &[]);
        if client.send(&window(stream, 0)) == [Event::Reset(key)] {
            client.machine.release(key, Code::Cancel, client.now);
        }
        Vec::new()
    });
    assert_eq!(n, 500);
    let mut client = Client::new();
    until_over(&mut client, |_, n| request(2 * n + 1, true, &[("A", "b")]));
}

#[test]
fn streams_count_until_those_who_serve_them_let_go() {
    let mut client = Client::new();
    let keys: Vec<Key> = (0..8).map(|n| client.ask(2 * n + 1, true, &[])).collect();
    for n in 0..8 {
        client.send(&made(kind::RST_STREAM, 0, 2 * n + 1, &[0; 4]));
    }
    assert_eq!(client.send(&request(17, true, &[])), []);
    assert_eq!(client.ends(), [(17, Code::Refused as u32)]);
    client.machine.release(keys[0], Code::Cancel, client.now);
    client.ask(19, true, &[]);
}

#[test]
fn frames_that_move_nothing_are_ended() {
    let quiet: [fn(u32) -> Vec<u8>; 7] = [
        |_| made(kind::PING, 0, 0, &[0; 8]),
        |_| made(kind::SETTINGS, 0, 0, &[]),
        |_| made(kind::PRIORITY, 0, 1, &[0; 5]),
        |_| data(1, false, b""),
        |_| window(1, 1),
        |_| made(0x77, 0, 0, b"?"),
        |_| made(kind::SETTINGS, flag::ACK, 0, &[]),
    ];
    for make in quiet {
        let mut client = Client::new();
        client.ask(1, false, &[]);
        let n = until_over(&mut client, |_, n| make(n));
        assert!((1_990..2_010).contains(&n), "{n}");
    }
}

#[test]
fn who_does_something_in_earnest_may_talk_beside_it() {
    let mut client = Client::new();
    let key = client.ask(1, false, &[]);
    for _ in 0..5_000 {
        client.send(&data(1, false, b"some"));
        client.send(&made(kind::PING, 0, 0, &[0; 8]));
        client.send(&window(0, 1));
        client.read(key, 100);
        client.got();
    }
    assert_eq!(client.machine.over(), None);
    let reset = |stream| made(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes());
    for n in 1..5_000 {
        let served = client.ask(4 * n - 1, true, &[]);
        client.machine.send_head(served, &block(&[]), true);
        client.machine.release(served, Code::Internal, client.now);
        let broken_off = client.ask(4 * n + 1, true, &[]);
        client.send(&reset(4 * n + 1));
        client
            .machine
            .release(broken_off, Code::Internal, client.now);
        client.got();
    }
    assert_eq!(client.machine.over(), None);
}

#[test]
fn continuations_without_end_are_ended() {
    let mut client = Client::new();
    client.send(&made(kind::HEADERS, flag::END_STREAM, 1, &[]));
    let empty = until_over(&mut client, |_, _| made(kind::CONTINUATION, 0, 1, &[]));
    assert!(empty > 1_000, "{empty}");
    let mut client = Client::new();
    client.send(&made(kind::HEADERS, flag::END_STREAM, 1, &[]));
    let full = until_over(&mut client, |_, _| {
        made(kind::CONTINUATION, 0, 1, &[0; 1_000])
    });
    assert_eq!(full, 65, "four times the least limit");
}

#[test]
fn a_small_block_cannot_become_a_large_head() {
    let mut client = Client::new();
    // One field of 3,000 bytes for the table, and then an index for each time that it is meant.
    let mut bomb = block(&GET);
    bomb.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xb9, 0x16]);
    bomb.extend_from_slice(&[b'v'; 3_000]);
    bomb.extend_from_slice(&[0xbe; 10_000]);
    let head = made(
        kind::HEADERS,
        flag::END_HEADERS | flag::END_STREAM,
        1,
        &bomb,
    );
    let events = client.send(&head);
    assert!(matches!(events[..], [Event::TooLarge(_)]), "{events:?}");
    assert!(client.head.size() < 20_000, "{}", client.head.size());
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_late() {
    let mut client = Client::new();
    client.ask(1, true, &[]);
    assert_eq!(
        client.machine.next_deadline(),
        Moment::NEVER,
        "nothing is due"
    );
    client.send(&made(kind::HEADERS, flag::END_STREAM, 3, &[0]));
    client.now = client.now + Duration::from_secs(9);
    client.machine.handle_timeout(client.now);
    assert_eq!(client.machine.over(), None);
    client.send(&made(kind::CONTINUATION, 0, 3, &[0]));
    client.now = client.now + Duration::from_secs(1);
    assert_eq!(client.machine.next_deadline(), client.now);
    client.machine.handle_timeout(client.now);
    assert_eq!(client.machine.over(), Some(Closing::Late));
}
