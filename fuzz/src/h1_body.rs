//! Bodies: the payload does not hang on how the bytes were cut, nothing is invented, and what is written anew reads the same.

use http::h1::{BodyDecoder, Fault, Framing, chunk_head, write_last_chunk};

use crate::heads;

/// Pieces of chunked bodies.
pub const TOKENS: &[&str] = &[
    "\r\n", "\n", "\r", "0\r\n\r\n", "0\r\n", "1\r\na\r\n", "4\r\nWiki\r\n", "a\r\n0123456789\r\n", ";", ";x=y", " ", "\t",
    "\0", "0x", "+", "-", "ffffffffffffffff", "7fffffffffffffff", "0000000000000000", "X: y\r\n", "Host: h\r\n",
    "Content-Length: 5\r\n", "X : y\r\n", "\r\n ", "\u{e9}",
];

/// Payload, trailers, how much was used, and whether it is complete.
type Outcome = Result<(Vec<u8>, Vec<u8>, usize, bool), Fault>;

/// Panics if a promise is broken. The first byte chooses how the rest is cut.
pub fn run(data: &[u8]) {
    let Some((&cut, input)) = data.split_first() else {
        return;
    };
    let length = Framing::Length(u64::from(cut) * 3);
    for framing in [Framing::Chunked, length, Framing::UntilClose, Framing::None] {
        let whole = decode(framing, input, input.len().max(1));
        assert_eq!(decode(framing, input, 1), whole, "byte by byte");
        assert_eq!(decode(framing, input, usize::from(cut).max(1)), whole, "by {cut}");
        if let (Framing::Chunked, Ok((payload, trailers, used, complete))) = (framing, whole) {
            assert!(used <= input.len() && payload.len() + trailers.len() <= used.max(1) * 2);
            if complete {
                written_anew(&payload, &trailers, usize::from(cut).max(1));
            }
        }
    }
}

/// Decodes the input in pieces of that size.
fn decode(framing: Framing, input: &[u8], size: usize) -> Outcome {
    let mut decoder = BodyDecoder::new(framing);
    let mut payload = Vec::new();
    let mut used = 0;
    for piece in input.chunks(size) {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece)?;
        assert!(decoded.data <= decoded.consumed && decoded.consumed <= piece.len());
        assert_eq!(decoded.done, decoder.is_done());
        assert!(decoded.done || decoded.consumed == piece.len());
        payload.extend_from_slice(&piece[..decoded.data]);
        used += decoded.consumed;
        if decoded.done {
            break;
        }
    }
    let ended = decoder.finish_at_eof().is_ok();
    assert_eq!(ended, decoder.is_done() || framing == Framing::UntilClose);
    Ok((payload, decoder.trailers().to_vec(), used, decoder.is_done()))
}

fn written_anew(payload: &[u8], trailers: &[u8], size: usize) {
    let as_head = [b"HTTP/1.1 200\r\n", trailers, b"\r\n"].concat();
    let lines = if trailers.is_empty() { vec![] } else { heads::lines(&as_head) };
    assert_eq!(heads::count(&lines, &["host", "content_length", "transfer_encoding", "x_forwarded_for"]), 0);

    let mut out = Vec::new();
    for chunk in payload.chunks(size) {
        out.extend_from_slice(chunk_head(chunk.len(), &mut [0; 18]));
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    write_last_chunk(trailers, &mut out);
    let used = out.len();
    out.extend_from_slice(b"next");
    let again = decode(Framing::Chunked, &out, out.len());
    assert_eq!(again, Ok((payload.to_vec(), trailers.to_vec(), used, true)));
}
