mod bodies;
mod forwarded_requests;
mod forwarded_responses;
mod requests;
mod responses;

use super::*;

/// A request head around one field line.
fn with(line: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n").into_bytes()
}

fn request(input: &[u8]) -> Result<Option<Request<'_>>, Fault> {
    parse_request(input, &mut 0, &Limits::default())
}

fn good(input: &[u8]) -> Request<'_> {
    let text = String::from_utf8_lossy(input);
    match request(input) {
        Ok(Some(request)) => request,
        other => panic!("{text:?} should be a request: {other:?}"),
    }
}

fn fault(input: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(input);
    match request(input) {
        Err(fault) => fault,
        other => panic!("{text:?} should be refused: {other:?}"),
    }
}

fn response(input: &[u8]) -> Result<Option<Response<'_>>, Fault> {
    parse_response(input, &mut 0, &Limits::default(), MethodKind::Get)
}

fn good_response(input: &[u8]) -> Response<'_> {
    let text = String::from_utf8_lossy(input);
    match response(input) {
        Ok(Some(response)) => response,
        other => panic!("{text:?} should be a response: {other:?}"),
    }
}
