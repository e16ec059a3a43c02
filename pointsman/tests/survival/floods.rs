//! More than there is room for: handshakes that are never finished, and connections beyond the ports there are.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use crate::harness::{Home, Node, PATIENCE, until};
use crate::network::Place::{self, A, Client};
use crate::network::{Network, with_network};
use crate::skip;

fn node(service: &str) -> Node {
    Home::new(&format!(
        "[node]\nworkers = 1\ndurability = \"memory\"\n\
         [listener.tcp]\nbind = \"{}:5000\"\nprotocol = \"tcp\"\nservice = \"s\"\n\
         [service.s]\n{service}\n[[service.s.instance]]\naddress = \"{}:7000\"\n",
        Place::Node.address(),
        A.address()
    ))
    .start()
}

/// An instance that answers one byte on each connection, and keeps it.
fn echo(network: &Network) {
    let listener = network.at(A, || TcpListener::bind((A.address().as_str(), 7_000)));
    let listener = listener.unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
}

/// A connection that works.
fn connected(network: &Network, to: SocketAddr) -> Option<TcpStream> {
    let mut stream = network
        .at(Client, || TcpStream::connect_timeout(&to, PATIENCE))
        .ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"x").ok()?;
    stream.read_exact(&mut [0]).ok()?;
    Some(stream)
}

#[test]
fn a_flood_of_handshakes_that_are_never_finished_keeps_nobody_out() {
    with_network("a flood of SYNs", |network| {
        let raw = network.at(Client, || {
            socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW))
        });
        let Ok(raw) = raw else {
            return skip("a flood of SYNs", "no raw sockets");
        };
        let node = node("");
        echo(network);
        let to = node.listener("tcp");
        connected(network, to).expect("a connection before");
        let before = node.memory();
        for number in 0..100_000_u32 {
            // From a network that is nowhere: nobody answers what the node answers.
            let from = Ipv4Addr::from_bits(0x0a64_0000 + number);
            let packet = syn(from, to, number);
            let _ = sendto(&raw, &packet, SendFlags::empty(), &to);
            if number % 10_000 == 0 {
                connected(network, to).expect("a connection in the flood");
            }
        }
        let accepted = node.metric("pointsman_listener_accepted_total{listener=\"tcp\"}");
        assert_eq!(accepted, 11.0, "nothing but finished handshakes is seen");
        let grown = node.memory().saturating_sub(before);
        assert!(grown < 4 << 20, "{grown} bytes");
    });
}

/// An IPv4 packet (RFC 791) with a TCP segment (RFC 9293) that asks for a connection.
fn syn(from: Ipv4Addr, to: SocketAddr, number: u32) -> Vec<u8> {
    let SocketAddr::V4(to) = to else {
        unreachable!("the network has IPv4 only");
    };
    let mut tcp = Vec::new();
    tcp.extend((1_024 + (number % 60_000) as u16).to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(number.to_be_bytes());
    tcp.extend([0; 4]);
    // Five words, SYN, a window, the checksum's place, no urgent data.
    tcp.extend([0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let mut summed = [from.octets(), to.ip().octets()].concat();
    summed.extend([0, 6, 0, 20]);
    summed.extend(&tcp);
    let sum = summed.chunks(2).fold(0_u32, |sum, b| {
        sum + u32::from(u16::from_be_bytes([b[0], b[1]]))
    });
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    // Length, identification and checksum are the kernel's to fill in.
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.ip().octets());
    packet.extend(tcp);
    packet
}

/// Ports that an address of the node's has in this test, and addresses.
const PORTS: usize = 20;
const ADDRESSES: usize = 3;

#[test]
fn every_port_of_every_address_is_used_and_beyond_them_no_instance_is_blamed() {
    with_network("ports that run out", |network| {
        let more = ["10.99.0.3", "10.99.0.4"];
        more.iter().for_each(|address| network.add_address(address));
        let own = Place::Node.address();
        let from = [&[own.as_str()], &more[..]].concat();
        let node = node(&format!("connect_from = {from:?}"));
        // Others than the node has for its API: a port that somebody listens on is nobody's to connect from.
        let range = format!("30000 {}", 30_000 + PORTS - 1);
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();
        echo(network);
        let to = node.listener("tcp");
        let mut open: Vec<_> = (0..PORTS * ADDRESSES)
            .map_while(|_| connected(network, to))
            .collect();
        println!(
            "{} connections through {PORTS} ports of {ADDRESSES} addresses",
            open.len()
        );
        assert_eq!(open.len(), PORTS * ADDRESSES);
        for _ in 0..5 {
            assert!(connected(network, to).is_none(), "there is no port left");
        }
        node.until_instances("tcp", 1);
        let failures = "pointsman_instance_failures_total{service=\"s\",instance=\"a\"}";
        assert_eq!(node.metric(failures), 0.0);
        // Reset, for a port that ends in order is kept for a minute.
        let last = open.pop().unwrap();
        rustix::net::sockopt::set_socket_linger(&last, Some(std::time::Duration::ZERO)).unwrap();
        drop(last);
        until("a connection with the port that is free again", || {
            connected(network, to)
        });
    });
}
