use thiserror::Error;

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bytes are no such record")]
pub struct Malformed;

/// Takes fields off the front of a record. Nothing is allocated for what a length says: lists are read item by item.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or(Malformed)?;
        self.bytes = rest;
        Ok(*array)
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    ///
    /// As all of these: when the bytes end before.
    pub fn int(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// A number of 64 bits.
    ///
    /// # Errors
    ///
    /// When the bytes end before.
    pub fn long(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// Whether something is so.
    ///
    /// # Errors
    ///
    /// When the bytes end before.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        self.array().map(|[byte]| byte != 0)
    }

    /// Bytes, or null.
    ///
    /// # Errors
    ///
    /// When the bytes end before, or the length is none.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let length = self.int()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (buffer, rest) = self.bytes.split_at_checked(length).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(Some(buffer))
    }

    /// A text; null counts as empty.
    ///
    /// # Errors
    ///
    /// When the bytes end before, or are no UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.buffer()?.unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| Malformed)
    }

    /// How many items follow. There cannot be more than bytes are left.
    ///
    /// # Errors
    ///
    /// When the bytes end before, or the number is none.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.int()?.max(0) as usize;
        (count <= self.bytes.len())
            .then_some(count)
            .ok_or(Malformed)
    }
}
