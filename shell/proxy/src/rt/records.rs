//! TLS's records. rustls decides what is said, and opens and seals; it is lent the bytes for that and keeps none, so that a connection
//! at rest has no buffers.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error};

/// One side of a connection.
pub(super) enum Machine {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What is to be said once everything else has been.
#[derive(Clone, Copy)]
pub(super) enum Say<'a> {
    Nothing,
    Data(&'a [u8]),
    /// Data, and that nothing follows.
    Last(&'a [u8]),
}

/// Where plaintext goes: to whoever asks for it, and what is more than that aside.
pub(super) struct Sink<'a> {
    pub(super) room: &'a mut [u8],
    pub(super) len: usize,
    pub(super) rest: &'a mut Vec<u8>,
}

/// Sealed records, in a buffer that is there for all of a worker's connections.
#[derive(Default)]
pub(super) struct Sealed {
    bytes: Vec<u8>,
    len: usize,
}

/// What became of a turn.
pub(super) struct Turn {
    /// How many bytes of the input will not be wanted again. The others will, as they are then.
    pub(super) used: usize,
    /// Whether all of the input was looked at; else there was no room for more.
    pub(super) whole: bool,
    /// Whether the peer has said that nothing follows.
    pub(super) ended: bool,
    /// How the peer broke the protocol. What there is to be said of that is sealed, and the machine must not be asked again.
    pub(super) fault: Option<Error>,
}

impl Machine {
    pub(super) fn state(&self) -> &CommonState {
        match self {
            Self::Server(machine) => machine,
            Self::Client(machine) => machine,
        }
    }

    /// Opens what is in `input`, which begins with what was not used the last time, until there is more than room for; seals what there
    /// is to be said.
    pub(super) fn turn(
        &mut self,
        input: &mut [u8],
        sink: &mut Sink<'_>,
        sealed: &mut Sealed,
        say: Say<'_>,
    ) -> Turn {
        match self {
            Self::Server(machine) => turn(machine, input, sink, sealed, say),
            Self::Client(machine) => turn(machine, input, sink, sealed, say),
        }
    }
}

/// What rustls's two machines have in common, but for a type.
trait Process {
    type Data;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether something is to be sealed before anything else is looked at.
    fn is_full(&self) -> bool;
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn is_full(&self) -> bool {
        self.wants_write()
    }
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn is_full(&self) -> bool {
        self.wants_write()
    }
}

fn turn<P: Process>(
    machine: &mut P,
    input: &mut [u8],
    sink: &mut Sink<'_>,
    sealed: &mut Sealed,
    say: Say<'_>,
) -> Turn {
    let mut turn = Turn {
        used: 0,
        whole: true,
        ended: false,
        fault: None,
    };
    loop {
        let UnbufferedStatus { mut discard, state } = machine.process(&mut input[turn.used..]);
        let (mut over, mut opened) = (false, false);
        let outcome = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                let mut outcome = Ok(());
                while let Some(record) = traffic.next_record() {
                    outcome = outcome.and(record).map(|record| {
                        discard += record.discard;
                        sink.put(record.payload);
                    });
                }
                // Whoever has something to say goes on: what can be said is known when everything has been looked at.
                opened = matches!(say, Say::Nothing);
                over = sink.is_full() && opened;
                turn.whole = !over;
                outcome
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => sealed.encode(&mut data),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // It is sealed, and whoever asked for this turn sees to the rest.
                data.done();
                Ok(())
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                over = true;
                sealed.say(traffic, say)
            }
            Ok(ConnectionState::PeerClosed) => {
                turn.ended = true;
                Ok(())
            }
            Ok(ConnectionState::Closed | ConnectionState::BlockedHandshake) => {
                over = true;
                Ok(())
            }
            // Early data is never offered.
            Ok(_) => Err(Error::General("something that was not offered".into())),
            Err(fault) => Err(fault),
        };
        turn.used += discard;
        if let Err(fault) = outcome {
            last_words(machine, &mut input[turn.used..], sealed);
            turn.fault = Some(fault);
            return turn;
        }
        // To ask what follows the last record costs as much as a small record does.
        over |= opened && turn.used == input.len() && !machine.is_full();
        if over {
            return turn;
        }
    }
}

/// Seals the alert that says what is wrong, and takes no step further: a machine that failed looks at nothing again.
fn last_words<P: Process>(machine: &mut P, input: &mut [u8], sealed: &mut Sealed) {
    while machine.is_full() {
        let state = machine.process(input).state;
        let Ok(ConnectionState::EncodeTlsData(mut data)) = state else {
            return;
        };
        if sealed.encode(&mut data).is_err() {
            return;
        }
    }
}

impl Sink<'_> {
    fn is_full(&self) -> bool {
        self.len == self.room.len()
    }

    /// In order: behind what had to be put aside, all is.
    fn put(&mut self, payload: &[u8]) {
        let n = match self.rest.is_empty() {
            true => payload.len().min(self.room.len() - self.len),
            false => 0,
        };
        self.room[self.len..self.len + n].copy_from_slice(&payload[..n]);
        self.len += n;
        self.rest.extend_from_slice(&payload[n..]);
    }
}

impl Sealed {
    /// Begins with bytes that were sealed before, and has room for so many more.
    pub(super) fn begin(&mut self, first: &[u8], room: usize) {
        self.len = first.len();
        self.make_room(room);
        self.bytes[..first.len()].copy_from_slice(first);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Not given back: a few records' worth a worker.
    fn make_room(&mut self, room: usize) {
        if self.bytes.len() < self.len + room {
            self.bytes.resize(self.len + room, 0);
        }
    }

    fn encode<D>(&mut self, data: &mut EncodeTlsData<'_, D>) -> Result<(), Error> {
        loop {
            match data.encode(&mut self.bytes[self.len..]) {
                Ok(n) => {
                    self.len += n;
                    return Ok(());
                }
                Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                    self.make_room(required_size);
                }
                Err(EncodeError::AlreadyEncoded) => return Ok(()),
            }
        }
    }

    fn say<D>(&mut self, mut traffic: WriteTraffic<'_, D>, what: Say<'_>) -> Result<(), Error> {
        let (data, last) = match what {
            Say::Nothing => return Ok(()),
            Say::Data(data) => (data, false),
            Say::Last(data) => (data, true),
        };
        if !data.is_empty() {
            self.seal(|room| traffic.encrypt(data, room))?;
        }
        if last {
            self.seal(|room| traffic.queue_close_notify(room))?;
        }
        Ok(())
    }

    fn seal(
        &mut self,
        mut seal: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        loop {
            match seal(&mut self.bytes[self.len..]) {
                Ok(n) => {
                    self.len += n;
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                    self.make_room(required_size);
                }
                // As many records as one key is good for: 2^24 and more of TLS 1.2's.
                Err(EncryptError::EncryptExhausted) => return Err(Error::EncryptError),
            }
        }
    }
}
