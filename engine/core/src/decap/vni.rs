//! Which virtual networks are wanted, and which were seen.

use std::fmt;

use crate::limits::VNIS_SEEN_MAX;

/// The largest VNI: it has 24 bits.
const VNI_MAX: u32 = 0x00ff_ffff;

/// The networks to take and those to refuse, `1,2,-7`.
///
/// The first entry that names a VNI decides: a positive one takes it, a negative one refuses it. A VNI that no entry
/// names is taken when the list is empty or has any negative entry, and refused when all entries are positive. So
/// `1,2` takes these two only, `-7` takes all but 7, and `1,2,-7` does the same as `-7`: the refusal opens the list to
/// the rest, and the positive entries then have no effect. This is the rule of network-sniffer 1.x; unlike there, `0`
/// and `-0` name VNI 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VniFilter {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    vni: u32,
    take: bool,
}

impl VniFilter {
    /// Reads a list separated by commas. Blanks around entries and empty entries are ignored.
    pub fn parse(text: &str) -> Result<Self, VniError> {
        let words = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        Ok(Self {
            entries: words.map(Entry::parse).collect::<Result<_, _>>()?,
        })
    }

    /// Whether traffic of this network is wanted.
    #[inline]
    pub fn wants(&self, vni: u32) -> bool {
        match self.entries.iter().find(|entry| entry.vni == vni) {
            Some(entry) => entry.take,
            None => self.entries.is_empty() || self.entries.iter().any(|entry| !entry.take),
        }
    }

    /// Whether every network is wanted.
    pub fn wants_all(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The list as a user would type it; nothing for all.
impl fmt::Display for VniFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.entries.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let minus = if entry.take { "" } else { "-" };
            write!(f, "{comma}{minus}{}", entry.vni)?;
        }
        Ok(())
    }
}

impl Entry {
    fn parse(word: &str) -> Result<Self, VniError> {
        let (digits, take) = match word.strip_prefix('-') {
            Some(digits) => (digits, false),
            None => (word, true),
        };
        // The standard parser would take a second sign.
        let vni = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())
            .flatten();
        match vni {
            Some(vni) if vni <= VNI_MAX => Ok(Self { vni, take }),
            _ => Err(VniError {
                word: word.to_owned(),
            }),
        }
    }
}

/// An entry of a VNI list that is not a VNI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VniError {
    /// The entry as typed.
    pub word: String,
}

impl fmt::Display for VniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a VNI: write numbers from 0 to {VNI_MAX}, separated by commas; a minus in front refuses one",
            self.word
        )
    }
}

impl std::error::Error for VniError {}

/// A network that mirrored traffic came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VniSeen {
    /// Its identifier.
    pub vni: u32,
    /// Frames of it, read or not.
    pub frames: u64,
    /// Whether the filter takes it.
    pub wanted: bool,
}

/// The first [`VNIS_SEEN_MAX`] networks seen, in order of appearance.
#[derive(Debug)]
pub(super) struct VniTable {
    seen: Vec<VniSeen>,
    /// Index of the network counted last: mirrors send long runs of one network.
    last: usize,
}

impl VniTable {
    pub(super) fn new() -> Self {
        Self {
            seen: Vec::with_capacity(VNIS_SEEN_MAX),
            last: 0,
        }
    }

    /// Counts a frame; `false` when the table is full and this network is not in it.
    #[inline]
    pub(super) fn note(&mut self, vni: u32, filter: &VniFilter) -> bool {
        match self.seen.get_mut(self.last) {
            Some(entry) if entry.vni == vni => {
                entry.frames += 1;
                true
            }
            _ => self.note_other(vni, filter),
        }
    }

    fn note_other(&mut self, vni: u32, filter: &VniFilter) -> bool {
        if let Some(at) = self.seen.iter().position(|entry| entry.vni == vni) {
            self.last = at;
            return self.note(vni, filter);
        }
        let free = self.seen.len() < VNIS_SEEN_MAX;
        if free {
            self.last = self.seen.len();
            self.seen.push(VniSeen {
                vni,
                frames: 1,
                wanted: filter.wants(vni),
            });
        }
        free
    }

    pub(super) fn seen(&self) -> &[VniSeen] {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, taken: &[u32], refused: &[u32]) {
        let filter = VniFilter::parse(list).unwrap();
        for vni in taken {
            assert!(filter.wants(*vni), "{list:?} should take {vni}");
        }
        for vni in refused {
            assert!(!filter.wants(*vni), "{list:?} should refuse {vni}");
        }
        assert_eq!(VniFilter::parse(&filter.to_string()), Ok(filter));
    }

    #[test]
    fn lists() {
        check("", &[0, 1, VNI_MAX], &[]);
        check(" , ", &[7], &[]);
        check("1, 2", &[1, 2], &[0, 3]);
        check("-7", &[0, 1, 8], &[7]);
        check("1,2,-7", &[1, 2, 3], &[7]);
        check("7,-7", &[7, 8], &[]);
        check("-7,7", &[8], &[7]);
        check("0", &[0], &[1]);
        check("-0", &[1], &[0]);
    }

    #[test]
    fn errors_name_the_entry() {
        for word in ["x", "16777216", "--1", "+1", "1-2", "-", "1 2"] {
            assert_eq!(
                VniFilter::parse(&format!("5,{word}")),
                Err(VniError {
                    word: word.to_owned()
                })
            );
        }
        let message = VniFilter::parse("12x").unwrap_err().to_string();
        assert!(message.starts_with("\"12x\" is not a VNI"), "{message}");
    }

    #[test]
    fn the_table_is_capped_and_counts() {
        let filter = VniFilter::parse("-3").unwrap();
        let mut table = VniTable::new();
        let rounds = 3;
        let mut untracked = 0;
        for _ in 0..rounds {
            for vni in 0..VNIS_SEEN_MAX as u32 + 10 {
                untracked += u64::from(!table.note(vni, &filter));
            }
        }
        assert_eq!(untracked, 10 * rounds);
        assert_eq!(table.seen().len(), VNIS_SEEN_MAX);
        assert!(table.seen().iter().all(|entry| entry.frames == rounds));
        assert_eq!(
            table.seen()[3],
            VniSeen {
                vni: 3,
                frames: rounds,
                wanted: false
            }
        );
    }
}
