//! The end of a connection.

use super::*;

fn goaways(client: &mut Client) -> Vec<u32> {
    let got = client.got();
    let last = |got: &Got| frame::number(&got.payload).unwrap();
    got.iter()
        .filter(|got| got.kind == kind::GOAWAY)
        .map(last)
        .collect()
}

#[test]
fn a_drained_connection_says_so_twice_and_serves_what_was_on_its_way() {
    let mut client = Client::new();
    let first = client.ask(1, true, &[]);
    client.machine.drain(client.now);
    client.machine.drain(client.now);
    assert_eq!(goaways(&mut client), [0x7fff_ffff]);
    // It was sent before the client heard.
    let second = client.ask(3, true, &[]);
    client.send(&made(kind::PING, flag::ACK, 0, &connection::HEARD));
    assert_eq!(goaways(&mut client), [3]);
    assert_eq!(client.send(&request(5, true, &[])), []);
    assert_eq!(client.ends(), [(5, Code::Refused as u32)]);
    for key in [first, second] {
        assert_eq!(client.machine.over(), None);
        client.machine.send_head(key, &block(&[]), true);
        client.machine.release(key, Code::Internal, client.now);
    }
    assert_eq!(client.machine.over(), Some(Closing::Drained));
}

#[test]
fn a_client_that_does_not_answer_is_drained_all_the_same() {
    let mut client = Client::new();
    client.machine.drain(client.now);
    client.got();
    client.now = client.machine.next_deadline();
    client.machine.handle_timeout(client.now);
    assert_eq!(goaways(&mut client), [0]);
    assert_eq!(client.machine.over(), Some(Closing::Drained));
}

#[test]
fn an_idle_connection_ends_and_pings_do_not_help() {
    let mut client = Client::new();
    let key = client.ask(1, true, &[]);
    client.now = client.now + Duration::from_secs(1_000);
    client.machine.handle_timeout(client.now);
    assert_eq!(client.machine.over(), None, "a request is served");
    client.machine.send_head(key, &block(&[]), true);
    client.machine.release(key, Code::Internal, client.now);
    client.got();
    client.now = client.now + Duration::from_secs(74);
    client.send(&made(kind::PING, 0, 0, &[0; 8]));
    client.machine.handle_timeout(client.now);
    assert_eq!(client.machine.over(), None);
    client.now = client.now + Duration::from_secs(1);
    client.machine.handle_timeout(client.now);
    assert_eq!(client.machine.over(), Some(Closing::Idle));
}

#[test]
fn all_streams_end_with_their_connection() {
    let mut client = Client::new();
    let key = client.ask(1, false, &[]);
    client.send(&data(1, false, b"half"));
    client.machine.close();
    assert_eq!(client.machine.read(key, &mut [0; 9]), Taken::Reset);
    assert_eq!(client.machine.write(key, b"x", true), None);
    client.got();
    client.machine.release(key, Code::Internal, client.now);
    assert_eq!(client.ends(), [], "there is nobody to tell");
}
