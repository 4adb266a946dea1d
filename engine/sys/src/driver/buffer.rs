//! Memory that an operation owns: a vector of its own, or bytes that others read as well.

use std::ops::Deref;

use bytes::Bytes;

/// What an operation reads or writes. Its bytes stay where they are when it is moved.
#[derive(Debug)]
pub enum Buffer {
    /// Of the operation alone; only such can be received into.
    Own(Vec<u8>),
    /// Sent without a copy, whoever else holds them.
    Shared(Bytes),
}

impl Buffer {
    /// The vector, for its memory; an empty one for shared bytes.
    pub fn into_memory(self) -> Vec<u8> {
        match self {
            Self::Own(memory) => memory,
            Self::Shared(_) => Vec::new(),
        }
    }

    /// What can be written to: nothing of shared bytes.
    pub(super) fn own(&mut self) -> &mut [u8] {
        match self {
            Self::Own(memory) => memory,
            Self::Shared(_) => &mut [],
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(memory: Vec<u8>) -> Self {
        Self::Own(memory)
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(memory) => memory,
            Self::Shared(bytes) => bytes,
        }
    }
}
