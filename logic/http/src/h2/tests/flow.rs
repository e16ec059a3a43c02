//! Windows, in both directions.

use super::*;

fn grown(got: &[Got]) -> Vec<(u32, u32)> {
    let windows = got.iter().filter(|got| got.kind == kind::WINDOW_UPDATE);
    windows
        .map(|got| (got.stream, frame::number(&got.payload).unwrap()))
        .collect()
}

#[test]
fn a_window_is_opened_only_as_bytes_are_taken() {
    let mut client = Client::new();
    let key = client.ask(1, false, &[]);
    for _ in 0..3 {
        client.send(&data(1, false, &[7; 16_384]));
    }
    assert_eq!(grown(&client.got()), [], "nobody has taken anything");
    client.read(key, 20_000);
    assert_eq!(grown(&client.got()), [], "not half of a window yet");
    client.read(key, 20_000);
    assert_eq!(grown(&client.got()), [(1, 40_000)]);
    client.read(key, 20_000);
    let other = client.ask(3, false, &[]);
    for _ in 0..4 {
        client.send(&data(3, false, &[7; 15_000]));
        client.read(other, 20_000);
    }
    // Windows of both kinds are given back by halves.
    assert_eq!(grown(&client.got()), [(3, 45_000), (0, 109_152)]);
}

#[test]
fn more_than_a_window_is_a_fault() {
    let mut client = Client::new();
    let key = client.ask(1, false, &[]);
    let mut events = Vec::new();
    for _ in 0..5 {
        events = client.send(&data(1, false, &[7; 16_000]));
    }
    assert_eq!(events, [Event::Reset(key)]);
    assert_eq!(client.ends(), [(1, Code::FlowControl as u32)]);

    let mut client = Client::new();
    for stream in [1, 3, 5] {
        client.ask(stream, false, &[]);
        for _ in 0..4 {
            client.send(&data(stream, false, &[7; 16_000]));
        }
    }
    client.ask(7, false, &[]);
    let events = client.send(&data(7, false, &[7; 16_000]));
    let over = Closing::Fault(Code::FlowControl);
    assert_eq!(events, [Event::Over(over)], "of the connection");
    assert_eq!(client.ends(), [(0, Code::FlowControl as u32)]);
}

#[test]
fn what_is_thrown_away_is_given_back_to_the_connection() {
    let mut client = Client::new();
    for n in 0..40 {
        let stream = 2 * n + 1;
        let key = client.ask(stream, false, &[]);
        for _ in 0..3 {
            client.send(&data(stream, false, &[7; 16_000]));
        }
        // Its instance has answered without reading: what was sent, and what is on its way, is for nobody.
        client.machine.send_head(key, &block(&[]), true);
        client.machine.release(key, Code::Internal, client.now);
        assert_eq!(client.ends(), [(stream, Code::None as u32)]);
        assert_eq!(client.send(&data(stream, false, &[7; 10_000])), []);
        assert_eq!(client.ends(), []);
    }
}

#[test]
fn nothing_is_sent_beyond_a_window_and_the_first_in_line_goes_first() {
    let mut client = Client::new();
    let keys = [1, 3, 5].map(|stream| client.ask(stream, true, &[]));
    let bytes = [9; 40_000];
    assert_eq!(client.machine.write(keys[0], &bytes, true), Some(40_000));
    let mut got = client.got();
    assert_eq!(client.machine.write(keys[1], &bytes, true), Some(25_535));
    assert_eq!(client.machine.write(keys[2], &bytes, true), Some(0));
    assert_eq!(client.machine.poll_writable(&mut 0), None);
    got.extend(client.got());
    let sent: usize = got.iter().map(|got| got.payload.len()).sum();
    assert_eq!(sent, 65_535);
    client.send(&window(0, 20_000));
    assert_eq!(client.machine.poll_writable(&mut 0), Some(keys[1]));
    assert_eq!(client.machine.poll_writable(&mut 0), Some(keys[2]));
    assert_eq!(
        client.machine.write(keys[1], &bytes[25_535..], true),
        Some(14_465)
    );
    assert_eq!(client.machine.write(keys[2], &bytes, true), Some(5_535));
    let got = client.got();
    let ends = |got: &&Got| got.flags & flag::END_STREAM != 0;
    let ended: Vec<u32> = got.iter().filter(ends).map(|got| got.stream).collect();
    assert_eq!(ended, [3], "with its last byte");
}

#[test]
fn a_streams_own_window_holds_it_and_settings_move_it_below_zero() {
    let mut client = Client::new();
    client.send(&window(0, 1_000_000));
    let key = client.ask(1, true, &[]);
    assert_eq!(client.machine.write(key, &[1; 60_000], false), Some(60_000));
    client.got();
    let small = [&[0, 4][..], &10_000u32.to_be_bytes()].concat();
    client.send(&made(kind::SETTINGS, 0, 0, &small));
    assert_eq!(client.machine.write(key, &[1; 10], false), Some(0));
    client.send(&window(1, 50_000));
    assert_eq!(client.machine.poll_writable(&mut 0), None, "still none");
    client.send(&window(1, 6));
    assert_eq!(client.machine.poll_writable(&mut 0), Some(key));
    assert_eq!(client.machine.write(key, &[1; 10], false), Some(6));
    let other = client.ask(3, true, &[]);
    assert_eq!(
        client.machine.write(other, &[1; 20_000], false),
        Some(10_000)
    );
}

#[test]
fn output_that_is_not_taken_stops_growing() {
    let mut client = Client::new();
    client.send(&window(0, 0x7fff_0000));
    let key = client.ask(1, true, &[]);
    client.send(&window(1, 0x7fff_0000));
    client.got();
    let mut taken = 0;
    while let Some(n @ 1..) = client.machine.write(key, &[1; 30_000], false) {
        taken += n;
        assert!(taken < 100_000);
    }
    assert!(client.machine.is_full());
    assert_eq!(client.machine.poll_writable(&mut 0), None);
    for _ in 0..200 {
        let some = client.machine.poll_output().len().min(1_000);
        client.machine.sent(some);
        if client.machine.poll_writable(&mut 0).is_some() {
            client.machine.write(key, &[1; 30_000], false);
        }
        assert!(client.machine.poll_output().len() < 70_000);
    }
}

#[test]
fn no_more_are_told_of_room_than_it_is_enough_for() {
    let mut client = Client::new();
    client.send(&window(0, 0x7fff_0000));
    let keys = [1, 3, 5].map(|stream| client.ask(stream, true, &[]));
    client.got();
    let bytes = [9; 65_000];
    assert_eq!(client.machine.write(keys[0], &bytes, false), Some(65_000));
    assert_eq!(client.machine.wait_for_room(keys[1]), None);
    assert_eq!(client.machine.wait_for_room(keys[2]), None);
    assert_eq!(client.machine.poll_writable(&mut 0), None);
    client.got();
    let mut promised = 0;
    assert_eq!(client.machine.poll_writable(&mut promised), Some(keys[1]));
    assert_eq!(client.machine.poll_writable(&mut promised), None);
    assert!(client.machine.is_awaited());
    // The first one wants nothing after all.
    assert_eq!(client.machine.poll_writable(&mut 0), Some(keys[2]));
    assert!(!client.machine.is_awaited());
    assert_eq!(client.machine.wait_for_room(keys[2]), Some(65_535));
    assert_eq!(client.machine.write(keys[2], &bytes, false), Some(65_000));
}

#[test]
fn output_in_a_buffer_that_was_lent_goes_on_where_it_was() {
    let mut client = Client::new();
    let key = client.ask(1, true, &[]);
    client.got();
    client.machine.send_head(key, &block(&[]), false);
    let before = client.machine.poll_output().to_vec();
    assert!(!client.machine.outgrows(key, 1_000));
    assert!(client.machine.outgrows(key, 60_000));
    client.machine.lend(vec![7; 100]);
    assert_eq!(client.machine.poll_output(), before);
    assert!(!client.machine.outgrows(key, 60_000));
    client.machine.write(key, &[1; 60_000], true);
    assert_eq!(client.machine.give_back(), None, "it is in use");
    client.machine.sent(4);
    assert_eq!(client.machine.poll_output()[..5], before[4..9]);
    let rest = client.machine.poll_output().len();
    client.machine.sent(rest);
    let lent = client.machine.give_back();
    assert!(lent.is_some_and(|buffer| buffer.capacity() < 100_000));
    assert!(client.machine.poll_output().is_empty());
}

#[test]
fn what_is_looked_at_stays_until_it_is_taken() {
    let mut client = Client::new();
    let key = client.ask(1, false, &[]);
    client.got();
    assert_eq!(client.machine.unread(key), Err(Taken::Nothing));
    client.send(&data(1, false, &[1; 16_000]));
    client.send(&data(1, true, &[2; 16_000]));
    assert_eq!(client.machine.unread(key).map(<[u8]>::len), Ok(32_000));
    client.machine.took(key, 10_000);
    assert_eq!(client.machine.unread(key).map(<[u8]>::len), Ok(22_000));
    let mut buffer = [0; 30_000];
    assert_eq!(
        client.machine.read(key, &mut buffer[..6_001]),
        Taken::Bytes(6_001)
    );
    assert_eq!(buffer[5_999..6_001], [1, 2]);
    client.machine.took(key, 15_999);
    assert_eq!(client.machine.unread(key), Err(Taken::End));
}
