//! A literal field that is not kept, since it is too long or memory is short. It is decoded only to know how long it is, and
//! whether it is broken.

use super::broken::Broken;
use super::huffman::Huffman;
use super::integer;

/// Where the walk of a literal field stands.
#[derive(Debug)]
pub(super) struct Walk {
    inserts: bool,
    /// Decoded length of the name; nothing if that is not known.
    name: Option<u64>,
    /// Decoded length of what was walked of the string at hand.
    decoded: u64,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Name(Left),
    /// The length of the value, as far as it was seen.
    Length([u8; LENGTH_OCTETS], usize),
    Value(Left),
}

/// What is left of a string.
#[derive(Debug)]
struct Left {
    octets: u32,
    huffman: Option<Huffman>,
}

/// Octets of a length, at most.
const LENGTH_OCTETS: usize = 6;

impl Walk {
    /// From the first octet of a name on.
    pub(super) fn of_name(inserts: bool, octets: u32, is_huffman: bool) -> Self {
        Self {
            inserts,
            name: None,
            decoded: 0,
            part: Part::Name(Left::new(octets, is_huffman)),
        }
    }

    /// From the first octet of the value on; `name` is the length of the name.
    pub(super) fn of_value(
        inserts: bool,
        name: Option<u64>,
        octets: u32,
        is_huffman: bool,
    ) -> Self {
        Self {
            inserts,
            name,
            decoded: 0,
            part: Part::Value(Left::new(octets, is_huffman)),
        }
    }

    /// Whether the field becomes an entry of the table.
    pub(super) fn inserts(&self) -> bool {
        self.inserts
    }

    /// Length of name and value after the end, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.name.map(|name| name.saturating_add(self.decoded))
    }

    /// Takes bytes up to the end of the field, and returns whether that is reached.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Result<bool, Broken> {
        loop {
            match &mut self.part {
                Part::Name(left) => {
                    if !left.take(bytes, &mut self.decoded)? {
                        return Ok(false);
                    }
                    self.name = Some(std::mem::take(&mut self.decoded));
                    self.part = Part::Length([0; LENGTH_OCTETS], 0);
                }
                Part::Length(octets, count) => {
                    let Some((&octet, after)) = bytes.split_first() else {
                        return Ok(false);
                    };
                    *bytes = after;
                    if let Some(place) = octets.get_mut(*count) {
                        *place = octet;
                    }
                    *count += 1;
                    let seen = octets.get(..*count).ok_or(Broken)?;
                    if let Some((length, _)) = integer::read(seen, 7)? {
                        let is_huffman = octets.first().is_some_and(|first| first & 0x80 != 0);
                        self.part = Part::Value(Left::new(length, is_huffman));
                    }
                }
                Part::Value(left) => return left.take(bytes, &mut self.decoded),
            }
        }
    }
}

impl Left {
    fn new(octets: u32, is_huffman: bool) -> Self {
        Self {
            octets,
            huffman: is_huffman.then(Huffman::default),
        }
    }

    /// Takes what there is of the string, adds its decoded length, and returns whether it is over.
    fn take(&mut self, bytes: &mut &[u8], decoded: &mut u64) -> Result<bool, Broken> {
        let count = usize::try_from(self.octets).unwrap_or(usize::MAX);
        let (piece, after) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
        *bytes = after;
        self.octets -= u32::try_from(piece.len()).unwrap_or(self.octets);
        match &mut self.huffman {
            Some(huffman) => huffman.push(piece, |_| *decoded += 1)?,
            None => *decoded += piece.len() as u64,
        }
        if self.octets > 0 {
            return Ok(false);
        }
        match self.huffman {
            Some(huffman) => huffman.end().map(|()| true),
            None => Ok(true),
        }
    }
}
