use super::*;

#[test]
fn lengths_that_no_frame_has_are_bad() {
    for length in [-1, i32::MIN, i32::MAX, MAX_FRAME as i32 + 1] {
        assert_eq!(frame(&length.to_be_bytes()), Frame::Bad(length));
    }
    assert_eq!(frame(&[0, 0, 0]), Frame::Partial);
    assert_eq!(frame(&[0, 0, 0, 2, 7]), Frame::Partial);
    assert_eq!(frame(&[0, 0, 0, 1, 7, 8]), Frame::Whole(&[7], 5));
}

#[test]
fn every_truncation_of_a_request_is_malformed() {
    let mut body = Vec::new();
    body.extend_from_slice(&[0, 0, 0, 2]);
    body.extend_from_slice(b"/a");
    body.extend_from_slice(&[0, 0, 0, 1, 9]);
    body.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 5]);
    body.extend_from_slice(b"world");
    body.extend_from_slice(&[0, 0, 0, 6]);
    body.extend_from_slice(b"anyone");
    body.extend_from_slice(&[0, 0, 0, 3]);
    for len in 0..body.len() {
        assert!(
            Request::read(OpCode::Create, &body[..len]).is_err(),
            "{len}"
        );
    }
    let Ok(Request::Create(create)) = Request::read(OpCode::Create, &body) else {
        panic!("a whole request")
    };
    assert_eq!(
        (create.path, create.data, create.flags),
        ("/a", Some(&[9][..]), 3)
    );
    assert_eq!(create.acl, [(31, "world", "anyone")]);
}

#[test]
fn a_count_of_two_billion_allocates_nothing() {
    let mut body = 0_i64.to_be_bytes().to_vec();
    body.extend_from_slice(&i32::MAX.to_be_bytes());
    assert!(Request::read(OpCode::SetWatches, &body).is_err());
}

#[test]
fn clients_that_say_nothing_about_reading_only_are_told_nothing_about_it() {
    let mut body = vec![0; 4 + 8 + 4 + 8];
    body.extend_from_slice(&16_i32.to_be_bytes());
    body.extend_from_slice(&[3; 16]);
    assert_eq!(ConnectRequest::read(&body).unwrap().read_only, None);
    body.push(1);
    assert_eq!(ConnectRequest::read(&body).unwrap().read_only, Some(true));
    let mut out = Vec::new();
    ConnectResponse::refused(None).write(&mut out);
    assert_eq!(out.len(), 4 + 36);
    ConnectResponse::refused(Some(true)).write(&mut out);
    assert_eq!(out.len(), 4 + 36 + 4 + 37);
}

#[test]
fn the_operations_of_a_multi_end_with_a_header_that_says_so() {
    let mut body = Vec::new();
    for path in [&b"/a"[..], b"/b"] {
        body.extend_from_slice(&2_i32.to_be_bytes());
        body.push(0);
        body.extend_from_slice(&(-1_i32).to_be_bytes());
        body.extend_from_slice(&2_i32.to_be_bytes());
        body.extend_from_slice(path);
        body.extend_from_slice(&(-1_i32).to_be_bytes());
    }
    let unfinished = body.len();
    body.extend_from_slice(&[255, 255, 255, 255, 1, 255, 255, 255, 255]);
    let read = |body: &[u8]| {
        let Ok(Request::Multi(mut ops)) = Request::read(OpCode::Multi, body) else {
            panic!("a multi")
        };
        let mut paths = Vec::new();
        while let Some((_, request)) = ops.next_op()? {
            let Request::Delete { path, .. } = request else {
                panic!("a delete")
            };
            paths.push(path.to_owned());
        }
        Ok::<_, Malformed>(paths)
    };
    assert_eq!(read(&body).unwrap(), ["/a", "/b"]);
    assert!(read(&body[..unfinished]).is_err());
}
