//! Answers that are compressed on their way. What came in leaves whenever there is nothing more to read: a stream stays one.

use std::io;
use std::ops::Range;

use brotli::CompressorWriter;
use flate2::write::GzEncoder;
use http::h1;
use model::Coding;

use super::pump::{Frame, Pace};
use super::respond::{Begin, Started, Unanswered};
use super::session::{Cut, Session};
use crate::buffers::{FRONT, READ};
use crate::rt::{Sock, yield_now};

/// A compressor that gathers what it makes. Each is set up so that it takes some hundred KiB, for as long as its answer lasts.
pub(super) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// It has said all.
    Over,
}

/// Of gzip, brotli and zstd: as much as costs a few milliseconds a MiB. More costs much, and gains a few per cent.
const GZIP: u32 = 5;
const BROTLI: u32 = 4;
const ZSTD: i32 = 3;

/// Windows of 256 KiB: larger ones take memory and gain little for what pages are.
const WINDOW: u32 = 18;

impl Encoder {
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        let out = Vec::new();
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(out, flate2::Compression::new(GZIP))),
            Coding::Brotli => {
                let encoder = CompressorWriter::new(out, 16 << 10, BROTLI, WINDOW);
                Self::Brotli(Box::new(encoder))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD)?;
                encoder.window_log(WINDOW)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Takes in more; `flush`: what was taken in so far must come out.
    fn write(&mut self, data: &[u8], flush: bool) -> io::Result<Vec<u8>> {
        let writer: &mut dyn io::Write = match self {
            Self::Gzip(encoder) => encoder,
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
            Self::Over => return Ok(Vec::new()),
        };
        writer.write_all(data)?;
        if flush {
            writer.flush()?;
        }
        Ok(match self {
            Self::Gzip(encoder) => std::mem::take(encoder.get_mut()),
            Self::Brotli(encoder) => std::mem::take(encoder.get_mut()),
            Self::Zstd(encoder) => std::mem::take(encoder.get_mut()),
            Self::Over => Vec::new(),
        })
    }

    /// The rest.
    fn finish(&mut self) -> io::Result<Vec<u8>> {
        match std::mem::replace(self, Self::Over) {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Over => Ok(Vec::new()),
        }
    }
}

impl Session {
    /// Begins an answer whose body is compressed; what there is of it waits to be sent.
    pub(super) fn start_encoded(
        &self,
        scratch: &mut [u8],
        came: Range<usize>,
        mut started: Started,
        mut head: Vec<u8>,
        mut encoder: Box<Encoder>,
    ) -> Result<Begin, Unanswered> {
        let decoded = started.decode(scratch, &came)?;
        let data = &scratch[FRONT + came.start..][..decoded.data];
        self.speaking.set(started.status);
        self.heard.set(self.worker.now());
        if self.client.is_stream() {
            started.client_stays = true;
            self.client.send_head(&head, false);
            head.clear();
        }
        // Without a byte of the body, the client has seen nothing yet; but the head is on its way.
        let encoded = encoder.write(data, false);
        let encoded = encoded.map_err(|_| Unanswered::Malformed)?;
        frame(&encoded, started.frame, &mut head);
        if decoded.done {
            self.end_encoded(&mut encoder, &started, &mut head)
                .map_err(|_| Unanswered::Malformed)?;
        }
        started.encoder = Some(encoder);
        Ok((started, head))
    }

    /// Carries what is left of such an answer.
    pub(super) async fn carry_encoded(
        &self,
        instance: &Sock,
        started: &mut Started,
        unsent: &mut Vec<u8>,
    ) -> Result<(), Cut> {
        let mut pace = Pace::new(self.client.sent());
        let mut throttle = self.throttle(|bandwidth| bandwidth.response);
        let Some(mut encoder) = started.encoder.take() else {
            return Err(Cut::InstanceMalformed);
        };
        loop {
            self.flush_to_client(unsent, &mut pace).await?;
            if let Encoder::Over = *encoder {
                self.client.end_message(started.body.trailers());
                return Ok(());
            }
            if self.step_encoded(instance, started, &mut encoder, unsent)? {
                if let Some(throttle) = &mut throttle {
                    Box::pin(self.hold_back(throttle, unsent.len())).await;
                }
                // A step is a millisecond of work.
                yield_now(self.worker.reactor()).await;
                continue;
            }
            // There is nothing more at present: the client gets what there was.
            let encoded = encoder
                .write(&[], true)
                .map_err(|_| Cut::InstanceMalformed)?;
            frame(&encoded, started.frame, unsent);
            if unsent.is_empty() {
                self.until_readable(instance).await?;
            }
        }
    }

    /// Reads once from the instance; false if there is nothing.
    fn step_encoded(
        &self,
        instance: &Sock,
        started: &mut Started,
        encoder: &mut Encoder,
        unsent: &mut Vec<u8>,
    ) -> Result<bool, Cut> {
        let mut scratch = self.worker.buffers.scratch();
        let room = &mut scratch[FRONT..FRONT + READ];
        let done = match instance.try_recv(room).map_err(|_| Cut::InstanceLeft)? {
            None => return Ok(false),
            Some(0) => {
                let ended = started.body.end(instance.take_trailers());
                ended.map_err(|_| Cut::InstanceLeft)?;
                true
            }
            Some(n) => {
                let decoded = started.body.decode(&mut room[..n]);
                let decoded = decoded.map_err(|_| Cut::InstanceMalformed)?;
                started.instance_stays &= decoded.consumed == n;
                let encoded = encoder.write(&room[..decoded.data], false);
                let encoded = encoded.map_err(|_| Cut::InstanceMalformed)?;
                frame(&encoded, started.frame, unsent);
                decoded.done
            }
        };
        if done {
            self.end_encoded(encoder, started, unsent)
                .map_err(|_| Cut::InstanceMalformed)?;
        }
        Ok(true)
    }

    fn end_encoded(
        &self,
        encoder: &mut Encoder,
        started: &Started,
        unsent: &mut Vec<u8>,
    ) -> io::Result<()> {
        frame(&encoder.finish()?, started.frame, unsent);
        if started.frame == Frame::Chunks {
            h1::write_last_chunk(started.body.trailers(), unsent);
        }
        Ok(())
    }
}

/// Appends a piece of the body as it leaves.
fn frame(piece: &[u8], frame: Frame, out: &mut Vec<u8>) {
    if piece.is_empty() {
        return;
    }
    if frame == Frame::Plain {
        return out.extend_from_slice(piece);
    }
    out.extend_from_slice(h1::chunk_head(piece.len(), &mut [0; 18]));
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let read = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut out),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .unwrap()
                .read_to_end(&mut out),
        };
        // What was flushed can be read; whether the end is there is another question.
        assert!(read.is_ok() || !out.is_empty(), "{coding:?}: {read:?}");
        out
    }

    #[test]
    fn what_is_flushed_can_be_read_and_the_end_is_whole() {
        let text = "an answer that repeats itself, ".repeat(5_000);
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut sent = encoder.write(b"first ", true).unwrap();
            assert_eq!(decoded(coding, &sent), b"first ", "{coding:?}");
            for piece in text.as_bytes().chunks(10_000) {
                sent.extend(encoder.write(piece, false).unwrap());
            }
            sent.extend(encoder.finish().unwrap());
            assert_eq!(
                decoded_whole(coding, &sent),
                format!("first {text}").as_bytes(),
                "{coding:?}"
            );
            assert!(sent.len() < text.len() / 20, "{coding:?}: {}", sent.len());
            assert_eq!(encoder.finish().unwrap(), b"", "{coding:?}");
        }
    }

    #[test]
    fn an_answer_of_nothing_is_whole_too() {
        for coding in Coding::ALL {
            let sent = Encoder::new(coding).unwrap().finish().unwrap();
            assert_eq!(decoded_whole(coding, &sent), b"", "{coding:?}");
        }
    }

    fn decoded_whole(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut out),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .unwrap()
                .read_to_end(&mut out),
        }
        .unwrap();
        out
    }
}
