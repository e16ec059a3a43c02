//! The file that says whose a data directory is.

use std::io::{self, Read};

use crate::OpenError;
use crate::storage::Storage;

const TEMPORARY: &str = "node.tmp";
/// The first line, with the version of the format.
const FIRST: &str = "pointsman node 1";
/// Names have 255 bytes at most.
const MOST: u64 = 1 << 10;

/// Whose a data directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// The node's name.
    pub(crate) name: Box<str>,
    /// Drawn when the directory was begun, so that an empty one in its place is known to be another.
    pub(crate) disk: u64,
}

impl Card {
    /// The file's name.
    pub(crate) const FILE: &'static str = "node";

    /// Reads the card, if there is one. A node that was always alone has none.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Option<Self>, OpenError> {
        let io = |source| OpenError::Io {
            action: "read",
            path: Self::FILE.into(),
            source,
        };
        if !storage
            .list()
            .map_err(io)?
            .iter()
            .any(|name| name == Self::FILE)
        {
            return Ok(None);
        }
        let mut text = String::new();
        let file = storage.read(Self::FILE).map_err(io)?;
        file.take(MOST).read_to_string(&mut text).map_err(io)?;
        let card = Self::parse(&text).ok_or_else(|| OpenError::Damaged {
            file: Self::FILE.into(),
            offset: 0,
            found: "no name of a node with its checksum".into(),
            advice: "It says whose the directory is; without it the node cannot know what it has promised. Empty the \
                     directory with `pointsman cluster wipe -c FILE`, and take the node in again",
        })?;
        Ok(Some(card))
    }

    /// Writes the card, durably.
    pub(crate) fn write(&self, storage: &dyn Storage) -> io::Result<()> {
        let mut file = storage.create(TEMPORARY)?;
        file.append(self.text().as_bytes())?;
        file.sync()?;
        storage.rename(TEMPORARY, Self::FILE)?;
        storage.sync_directory()
    }

    fn text(&self) -> String {
        let said = format!("{FIRST}\nname {}\ndisk {:016x}\n", self.name, self.disk);
        format!("{said}crc32c {:08x}\n", crc32c::crc32c(said.as_bytes()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let name = lines.next()?.strip_prefix("name ")?;
        let disk = lines.next()?.strip_prefix("disk ")?;
        let card = Self {
            name: name.into(),
            disk: u64::from_str_radix(disk, 16).ok()?,
        };
        // Whatever else it may say would have another checksum.
        (card.text() == text).then_some(card)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::faulty::FaultyDisk;

    #[test]
    fn a_card_is_read_as_it_was_written_and_a_damaged_one_is_refused() {
        let disk = FaultyDisk::new(1);
        assert_eq!(Card::read(&disk).unwrap(), None);
        let card = Card {
            name: "edge 1".into(),
            disk: 77,
        };
        card.write(&disk).unwrap();
        assert_eq!(Card::read(&disk).unwrap(), Some(card.clone()));
        let text = card.text();
        for place in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[place] ^= 1;
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(Card::parse(&damaged), None, "{damaged}");
            assert_eq!(Card::parse(&text[..place]), None);
        }
    }
}
