//! A batch: frames in one buffer that are sent together.

/// Frames that go out together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// Removes all frames and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds the bytes that `write` appends as one frame, if it returns true.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let is_added = write(&mut self.bytes);
        if is_added {
            self.ends.push(self.bytes.len());
        }
        is_added
    }

    /// The number of frames.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no frames.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The frames from the `first` on.
    pub fn frames(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        let mut start = match first {
            0 => 0,
            _ => self.ends[first - 1],
        };
        self.ends[first..].iter().map(move |&end| {
            let frame = &self.bytes[start..end];
            start = end;
            frame
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_its_frames_back() {
        let mut batch = Batch::default();
        for frame in ["one", "two", "three"] {
            assert!(batch.add(|out| {
                out.extend_from_slice(frame.as_bytes());
                true
            }));
        }
        assert!(!batch.add(|_| false));
        assert_eq!(batch.len(), 3);
        let texts = |first| -> Vec<&[u8]> { batch.frames(first).collect() };
        assert_eq!(texts(0), [b"one".as_slice(), b"two", b"three"]);
        assert_eq!(texts(2), [b"three"]);
        assert!(texts(3).is_empty());
    }
}
