//! HPACK (RFC 7541): header blocks decoded as their bytes come, with a table that stays exact.
//!
//! A block is never collected. Of a field that a fragment ends within, its bytes are kept until the rest is there
//! ([`HEAD_BYTES_MAX`]); a longer one is walked, decoded only to know its length, and is no entry of the table that could
//! be referred to. What the table no longer has, or never had, is unknown; it is never guessed, and no error.
//!
//! Each block has to pass here in wire order, whatever becomes of its message.

mod broken;
mod entries;
mod huffman;
mod integer;
mod literal;
mod static_table;
mod strings;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub(super) use self::broken::Broken;
pub(super) use self::entries::Entries;
use self::literal::{Literal, Located, Name, locate};
pub(super) use self::strings::Strings;
use self::table::Found;
pub(super) use self::table::{Memory, Table, TableMut};
use self::walk::Walk;
use crate::limits::HEAD_BYTES_MAX;

/// Receives the fields of a block, in order.
pub(super) trait Fields {
    /// A field. Its bytes are valid for the call only.
    fn field(&mut self, name: &[u8], value: &[u8]);
    /// A field whose name or value is not known.
    fn unknown(&mut self);
    /// A field that is too long.
    fn too_long(&mut self);
    /// The encoder sets the size of its table.
    fn table_size(&mut self, size: u32);
}

/// The decoder of one direction, between two fragments.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a field that is not complete.
    rest: Vec<u8>,
    /// How many bytes of that field are needed to read further.
    needed: usize,
    /// A field that is too long to be kept.
    walk: Option<Box<Walk>>,
    /// The block has had a field: from there on the table is not resized (RFC 7541 §4.2).
    has_fields: bool,
}

impl Decoder {
    /// Decodes the next fragment of a block.
    pub(super) fn fragment(
        &mut self,
        mut bytes: &[u8],
        table: &mut TableMut<'_>,
        strings: &mut Strings,
        fields: &mut impl Fields,
    ) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if let Some(walk) = &mut self.walk {
                if !walk.take(&mut bytes)? {
                    break;
                }
                if walk.inserts() {
                    table.insert_unknown(walk.length());
                }
                self.walk = None;
                fields.too_long();
            } else if self.rest.is_empty() {
                let read = self.read(bytes, table, strings, fields)?;
                bytes = bytes.get(read..).unwrap_or_default();
                if self.walk.is_none() {
                    self.rest.extend_from_slice(bytes);
                    break;
                }
            } else {
                let missing = self.needed.saturating_sub(self.rest.len());
                let (piece, after) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
                self.rest.extend_from_slice(piece);
                bytes = after;
                if self.rest.len() >= self.needed {
                    self.read_rest(table, strings, fields)?;
                }
            }
        }
        Ok(())
    }

    /// The block is over: no field may be incomplete.
    pub(super) fn end(&mut self) -> Result<(), Broken> {
        let is_complete = self.rest.is_empty() && self.walk.is_none();
        *self = Self::default();
        if is_complete { Ok(()) } else { Err(Broken) }
    }

    /// Memory that it holds between two fragments, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.rest.capacity()
    }

    /// Keeps nothing of the field that is not complete, because memory is short.
    pub(super) fn shed(&mut self, table: &TableMut<'_>) -> Result<(), Broken> {
        let rest = std::mem::take(&mut self.rest);
        match locate(&rest, 0, table)? {
            Located::Long(walk, read) => {
                let walk = self.walk.insert(walk);
                walk.take(&mut rest.get(read..).unwrap_or_default())?;
            }
            // No string has begun.
            _ => self.rest = rest,
        }
        Ok(())
    }

    /// Reads the field that was not complete.
    fn read_rest(
        &mut self,
        table: &mut TableMut<'_>,
        strings: &mut Strings,
        fields: &mut impl Fields,
    ) -> Result<(), Broken> {
        let mut rest = std::mem::take(&mut self.rest);
        let read = self.read(&rest, table, strings, fields)?;
        if let Some(walk) = &mut self.walk {
            walk.take(&mut rest.get(read..).unwrap_or_default())?;
        } else {
            rest.drain(..read);
            self.rest = rest;
        }
        Ok(())
    }

    /// Reads fields as far as `bytes` have them: how many bytes they took.
    fn read(
        &mut self,
        bytes: &[u8],
        table: &mut TableMut<'_>,
        strings: &mut Strings,
        fields: &mut impl Fields,
    ) -> Result<usize, Broken> {
        let mut read = 0;
        while let Some(rest) = bytes.get(read..).filter(|rest| !rest.is_empty()) {
            match locate(rest, HEAD_BYTES_MAX, table)? {
                Located::Size(_, _) if self.has_fields => return Err(Broken),
                Located::Size(size, length) => {
                    table.resize(size);
                    fields.table_size(size);
                    read += length;
                    continue;
                }
                Located::Indexed(index, length) => {
                    indexed(index, table, fields)?;
                    read += length;
                }
                Located::Literal(literal, length) => {
                    literal_field(&literal, table, strings, fields)?;
                    read += length;
                }
                Located::Partial(needed) => {
                    self.needed = needed;
                    break;
                }
                Located::Long(walk, length) => {
                    self.walk = Some(walk);
                    read += length;
                    break;
                }
            }
            self.has_fields = true;
        }
        Ok(read)
    }
}

fn indexed(index: u32, table: &TableMut<'_>, fields: &mut impl Fields) -> Result<(), Broken> {
    match table.entry(index)? {
        Found::Known(name, value) => fields.field(name, value),
        _ => fields.unknown(),
    }
    Ok(())
}

fn literal_field(
    literal: &Literal<'_>,
    table: &mut TableMut<'_>,
    strings: &mut Strings,
    fields: &mut impl Fields,
) -> Result<(), Broken> {
    let Strings { name, value } = strings;
    let value = literal.value.decoded(value)?;
    let name = match literal.name {
        Name::Text(text) => text.decoded(name)?,
        Name::Index(index) => match table.entry(index)? {
            Found::Known(known, _) if !literal.inserts => {
                fields.field(known, value);
                return Ok(());
            }
            // The entry may be the one that is evicted by this field.
            Found::Known(known, _) => copied(known, &mut name.buffer),
            _ => {
                if literal.inserts {
                    table.insert_unknown(None);
                }
                fields.unknown();
                return Ok(());
            }
        },
    };
    fields.field(name, value);
    if literal.inserts {
        table.insert(name, value);
    }
    Ok(())
}

/// A copy at the front of `buffer`, which only grows.
fn copied<'a>(text: &[u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    if buffer.len() < text.len() {
        buffer.resize(text.len(), 0);
    }
    match buffer.get_mut(..text.len()) {
        Some(copy) => {
            copy.copy_from_slice(text);
            copy
        }
        None => &[],
    }
}
