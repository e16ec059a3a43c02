use super::codes::{ErrorCode, EventType, OpCode, xid};

/// A node's statistics, in the order of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFields {
    /// The transaction that created it.
    pub czxid: i64,
    /// The one that set its data.
    pub mzxid: i64,
    /// When it was created, in milliseconds since 1970.
    pub ctime: i64,
    /// When its data was set.
    pub mtime: i64,
    /// How many times data was set.
    pub version: i32,
    /// How many times children came and went.
    pub cversion: i32,
    /// How many times the access list was set.
    pub aversion: i32,
    /// The session of an ephemeral node.
    pub ephemeral_owner: i64,
    /// Bytes of data.
    pub data_length: i32,
    /// How many children.
    pub num_children: i32,
    /// The transaction that added or removed a child.
    pub pzxid: i64,
}

/// Permission bits, scheme and id.
pub type AclLine<'a> = (i32, &'a str, &'a str);

/// One result of a multi that was carried out.
#[derive(Clone, Copy, Debug)]
pub enum MultiResult<'a> {
    /// A node was created; the statistics are for all operations but the oldest.
    Created(OpCode, &'a str, Option<&'a StatFields>),
    /// Data was set.
    Set(&'a StatFields),
    /// A node was deleted.
    Deleted,
    /// The version was right.
    Checked,
    /// Data was read.
    Data(Option<&'a [u8]>, &'a StatFields),
    /// Children were listed.
    Children(&'a [&'a str]),
    /// It was not carried out; the code, or zero.
    Failed(i32),
}

/// Writes frames to the end of a buffer.
#[derive(Debug)]
pub struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Out<'a> {
    /// Begins an answer.
    pub fn reply(bytes: &'a mut Vec<u8>, xid: i32, zxid: i64, error: i32) -> Self {
        let start = bytes.len();
        let mut out = Self { bytes, start };
        out.int(0);
        out.int(xid);
        out.long(zxid);
        out.int(error);
        out
    }

    /// Begins an event of a watch, as clients that are connected see it.
    pub fn event(bytes: &'a mut Vec<u8>, zxid: i64, kind: EventType, path: &str) {
        let mut out = Self::reply(bytes, xid::EVENT, zxid, 0);
        out.int(kind.code());
        // SyncConnected: what there is no event without.
        out.int(3);
        out.text(path);
        out.finish();
    }

    /// An answer without a body.
    pub fn empty(bytes: &'a mut Vec<u8>, xid: i32, zxid: i64, error: Option<ErrorCode>) {
        Self::reply(bytes, xid, zxid, error.map_or(0, ErrorCode::code)).finish();
    }

    /// Ends the frame: its length is known now.
    pub fn finish(self) {
        let length = (self.bytes.len() - self.start - 4) as i32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Appends a number of 32 bits.
    pub fn int(&mut self, n: i32) {
        self.bytes.extend_from_slice(&n.to_be_bytes());
    }

    /// Appends a number of 64 bits.
    pub fn long(&mut self, n: i64) {
        self.bytes.extend_from_slice(&n.to_be_bytes());
    }

    /// Appends whether something is so.
    pub fn flag(&mut self, flag: bool) {
        self.bytes.push(flag.into());
    }

    /// Appends bytes, or null.
    pub fn buffer(&mut self, buffer: Option<&[u8]>) {
        match buffer {
            Some(buffer) => {
                self.int(buffer.len() as i32);
                self.bytes.extend_from_slice(buffer);
            }
            None => self.int(-1),
        }
    }

    /// Appends a text.
    pub fn text(&mut self, text: &str) {
        self.buffer(Some(text.as_bytes()));
    }

    /// Appends a list of texts.
    pub fn texts<'t>(&mut self, count: usize, texts: impl Iterator<Item = &'t str>) {
        self.int(count as i32);
        texts.for_each(|text| self.text(text));
    }

    /// Appends statistics.
    pub fn stat(&mut self, stat: &StatFields) {
        self.long(stat.czxid);
        self.long(stat.mzxid);
        self.long(stat.ctime);
        self.long(stat.mtime);
        self.int(stat.version);
        self.int(stat.cversion);
        self.int(stat.aversion);
        self.long(stat.ephemeral_owner);
        self.int(stat.data_length);
        self.int(stat.num_children);
        self.long(stat.pzxid);
    }

    /// Appends an access list.
    pub fn acl<'t>(&mut self, count: usize, lines: impl Iterator<Item = AclLine<'t>>) {
        self.int(count as i32);
        for (permissions, scheme, id) in lines {
            self.int(permissions);
            self.text(scheme);
            self.text(id);
        }
    }

    /// Appends a result of a multi.
    pub fn result(&mut self, result: &MultiResult<'_>) {
        match result {
            MultiResult::Created(op, path, stat) => {
                self.result_header(*op, 0);
                self.text(path);
                if let Some(stat) = stat {
                    self.stat(stat);
                }
            }
            MultiResult::Set(stat) => {
                self.result_header(OpCode::SetData, 0);
                self.stat(stat);
            }
            MultiResult::Deleted => self.result_header(OpCode::Delete, 0),
            MultiResult::Checked => self.result_header(OpCode::Check, 0),
            MultiResult::Data(data, stat) => {
                self.result_header(OpCode::GetData, 0);
                self.buffer(*data);
                self.stat(stat);
            }
            MultiResult::Children(names) => {
                self.result_header(OpCode::GetChildren, 0);
                self.texts(names.len(), names.iter().copied());
            }
            MultiResult::Failed(code) => {
                self.result_header(OpCode::Error, *code);
                self.int(*code);
            }
        }
    }

    /// Ends the results of a multi.
    pub fn results_end(&mut self) {
        self.int(-1);
        self.flag(true);
        self.int(-1);
    }

    fn result_header(&mut self, op: OpCode, error: i32) {
        self.int(op.code());
        self.flag(false);
        self.int(error);
    }
}
