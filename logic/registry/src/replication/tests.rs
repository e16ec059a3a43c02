use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::Command;

fn id(term: u64, index: u64) -> EntryId {
    EntryId { term, index }
}

fn membership() -> Membership {
    let member = |name: &str| Member {
        name: name.into(),
        address: format!("{name}:7071").into(),
        disk: u64::MAX - 1,
        format: crate::FORMAT,
    };
    Membership {
        voters: vec![BTreeSet::from([1, 2]), BTreeSet::from([2, u64::MAX])],
        nodes: BTreeMap::from([(1, member("a")), (2, member("b")), (u64::MAX, member("c"))]),
    }
}

fn deregister(name: &str) -> Command {
    Command::Deregister {
        key: model::ServiceKey::in_default("shop".parse().unwrap()),
        id: name.parse().unwrap(),
    }
}

#[test]
fn records_are_read_as_they_were_written() {
    let mut batch = Vec::new();
    push_command(&mut batch, &deregister("a"));
    push_command(&mut batch, &deregister("b"));
    let whole = Batch {
        node: 5,
        proposer: Proposer {
            run: u64::MAX,
            number: 6,
        },
        commands: &batch,
    };
    let vote = Vote {
        term: 300,
        node: u64::MAX,
        committed: true,
    };
    let records = [
        Record::Command(deregister("a")),
        Record::Entry(id(0, 0), Body::Blank),
        Record::Entry(id(7, 1 << 40), Body::Batch(whole)),
        Record::Entry(id(8, 3), Body::Membership(membership())),
        Record::Vote(vote),
        Record::Committed(77),
    ];
    for record in records {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(Record::decode(&bytes), Ok(record.clone()));
        for cut in 0..bytes.len() {
            // A batch may be cut short and still be one; its commands are not.
            match Record::decode(&bytes[..cut]) {
                Ok(Record::Entry(_, Body::Batch(rest))) => {
                    assert!(rest.commands.len() < batch.len());
                }
                found => assert!(found.is_err(), "{found:?}"),
            }
        }
    }
    assert_eq!(commands(&batch), Ok(vec![deregister("a"), deregister("b")]));
    assert!(commands(&batch[..batch.len() - 1]).is_err());
}

#[test]
fn messages_are_read_as_they_were_written_and_cut_short_are_refused() {
    let vote = Vote {
        term: 4,
        node: 1 << 60,
        committed: false,
    };
    let ballot = Ballot {
        vote,
        last: Some(id(3, 9)),
        transfer: true,
    };
    let key = model::ServiceKey::in_default("shop".parse().unwrap());
    let entry = (id(4, 10), Body::Membership(membership()));
    let crowd = Crowd {
        run: u64::MAX,
        weight: 100,
        api: "a:7070".into(),
        sessions: Some(1 << 20),
        watches: 7,
    };
    let requests = [
        Request::Append {
            vote,
            previous: None,
            committed: Some(id(3, 9)),
            entries: vec![(id(3, 9), Body::Blank), entry],
        },
        Request::Vote(ballot),
        Request::PreVote(ballot),
        Request::Transfer {
            vote,
            to: 2,
            last: None,
        },
        Request::Snapshot {
            vote,
            offset: 1 << 33,
            last: true,
            bytes: b"part",
        },
        Request::Propose(b"batch"),
        Request::Renew {
            instances: vec![(key.clone(), "a".parse().unwrap())],
            sessions: vec![1, u64::MAX],
        },
        Request::Who,
        Request::Reach {
            prove: true,
            crowd: None,
        },
        Request::Reach {
            prove: false,
            crowd: Some(crowd.clone()),
        },
        Request::Change(Change::Add {
            name: "d".into(),
            address: "d:7071".into(),
            observer: true,
        }),
        Request::Change(Change::Remove {
            name: "d".into(),
            force: false,
        }),
        Request::Change(Change::Promote { name: "d".into() }),
        Request::Change(Change::Transfer {
            to: Some("d".into()),
        }),
        Request::Report,
        Request::Suspect(vec![(key.clone(), "a".parse().unwrap())]),
    ];
    let standing = Standing {
        name: "d".into(),
        disk: 9,
        blank: true,
        founders: vec!["a".into(), "d".into()],
        membership: Some((id(4, 10), membership())),
        format: 7,
    };
    let report = Report {
        version: "1".into(),
        revision: 5,
        applied: 6,
        last: 7,
        age: Some(8),
        free: Some(1 << 40),
        used: None,
        fault: Some("full".into()),
        trouble: None,
        format: 7,
    };
    let responses = [
        Response::Done,
        Response::Partial(Some(id(1, 1))),
        Response::Conflict,
        Response::HigherVote(vote),
        Response::Ballot {
            vote,
            granted: true,
            last: None,
        },
        Response::Refused {
            passing: true,
            why: "no leader".into(),
        },
        Response::Standing(Box::new(standing)),
        Response::Reached {
            index: 9,
            age: 75,
            crowds: vec![Heard {
                node: u64::MAX,
                age: 900,
                crowd,
            }],
        },
        Response::Said("done".into()),
        Response::Report(Box::new(report)),
    ];
    let requests = requests.map(|r| Message::Request(77, r));
    let messages = requests
        .into_iter()
        .chain(responses.map(|r| Message::Response(78, r)));
    for message in messages {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        for cut in 0..bytes.len() {
            assert!(
                Message::decode(&bytes[..cut]).is_err(),
                "{message:?} at {cut}"
            );
        }
    }
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: "c".into(),
        token: "secret".into(),
        node: 1,
        disk: 3,
        to: 2,
        to_disk: u64::MAX,
        format: 7,
    };
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    assert_eq!(Hello::decode(&bytes), Ok(hello.clone()));
    assert!(Hello::decode(&bytes[..bytes.len() - 1]).is_err());
    // What a later program says besides is its own business.
    bytes.extend_from_slice(b"more");
    assert_eq!(Hello::decode(&bytes), Ok(hello));
}

#[test]
fn a_batch_that_was_applied_is_known_by_its_number_in_the_run_of_its_node() {
    let batch = |run, number| Proposer { run, number };
    assert!(batch(1, 1).is_after(None));
    assert!(batch(1, 2).is_after(Some(&batch(1, 1))));
    assert!(!batch(1, 2).is_after(Some(&batch(1, 2))));
    assert!(!batch(1, 1).is_after(Some(&batch(1, 2))));
    assert!(batch(2, 1).is_after(Some(&batch(1, 2))));
}

#[test]
fn a_membership_whose_voters_are_no_nodes_is_refused() {
    let mut unknown = membership();
    unknown.voters[0].insert(9);
    let mut nobody = membership();
    nobody.voters[0].clear();
    let mut many = membership();
    many.voters.push(BTreeSet::from([1]));
    for wrong in [unknown, nobody, many] {
        let mut bytes = Vec::new();
        wrong.write(&mut bytes);
        assert!(Membership::read(&bytes).is_err());
    }
}

/// As the first programs of clusters wrote them.
#[test]
fn a_membership_that_does_not_say_what_its_members_read_is_read() {
    let old = b"\x01\x02\x01\x02\x02\x01\x01a\x03a:1\x09\x02\x01b\x03b:1\x0a";
    let mut read = Membership::read(old).unwrap();
    let formats = |m: &Membership| m.nodes.values().map(|n| n.format).collect::<Vec<_>>();
    assert_eq!((read.voters.len(), formats(&read)), (1, vec![0, 0]));
    // All of them read what there was when memberships began to say it.
    assert_eq!(read.format(), 6);
    read.nodes.get_mut(&1).unwrap().format = 9;
    assert_eq!(read.format(), 6);
    read.nodes.get_mut(&2).unwrap().format = 8;
    assert_eq!(read.format(), 8);
    let mut again = Vec::new();
    read.write(&mut again);
    assert_eq!(Membership::read(&again), Ok(read));
}

#[test]
fn a_snapshots_origin_is_read_as_it_was_written() {
    let origin = Origin {
        entry: id(3, 9),
        membership: membership(),
        since: id(1, 2),
        vote: Some(Vote::default()),
        position: 1 << 50,
        proposed: BTreeMap::from([(7, Proposer::default())]),
    };
    let mut bytes = Vec::new();
    origin.write(&mut bytes);
    assert_eq!(Origin::read(&bytes), Ok(origin));
    assert!(Origin::read(&bytes[..bytes.len() - 1]).is_err());
}
