use std::io;

use registry::replication::MAX_MESSAGE;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest greeting, or answer to one.
pub(super) const MAX_GREETING: usize = 4 << 10;

/// Begins a frame: room for its length, which [`finish`] fills in.
pub(super) fn begin() -> Vec<u8> {
    vec![0; 4]
}

/// A frame that is ready to be sent.
pub(super) fn finish(mut frame: Vec<u8>) -> Vec<u8> {
    let len = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame
}

pub(super) async fn send(out: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    out.write_all(frame).await?;
    out.flush().await
}

/// The next message; none at the end.
pub(super) async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len).await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let len = u32::from_le_bytes(len) as usize;
    if len > limit.min(MAX_MESSAGE) {
        return Err(io::Error::other(format!(
            "a message of {len} bytes, where {limit} is the most"
        )));
    }
    // Taken as it comes: a length alone costs nothing.
    let mut message = Vec::new();
    let read = from.take(len as u64).read_to_end(&mut message).await?;
    match read == len {
        true => Ok(Some(message)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
