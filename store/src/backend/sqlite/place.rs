//! Places in the list, and the ids that they are written as.

use crate::call::CallId;

/// A place in the list: newer calls are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) time_ms: i64,
    pub(super) arrival: u64,
}

impl Place {
    /// The id of the call that is there.
    pub(super) fn id(self) -> CallId {
        CallId::of_parts(self.arrival, self.time_ms.unsigned_abs())
    }
}

/// What an id has.
pub(super) struct Id {
    pub(super) arrival: u64,
    pub(super) time_ms: Option<i64>,
}

impl Id {
    pub(super) fn parse(id: &CallId) -> Option<Self> {
        let Some((arrival, time)) = id.as_str().split_once('-') else {
            let arrival = number(id.as_str())?;
            return Some(Self {
                arrival,
                time_ms: None,
            });
        };
        Some(Self {
            arrival: number(arrival)?,
            time_ms: Some(number(time)?.try_into().ok()?),
        })
    }
}

/// The places between which the list is, both exclusive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    pub(super) before: Option<Place>,
    pub(super) after: Option<Place>,
}

impl Places {
    pub(super) fn contain(&self, place: Place) -> bool {
        self.before.is_none_or(|before| place < before)
            && self.after.is_none_or(|after| place > after)
    }
}

/// The number that a text is, in decimal digits.
pub(super) fn number(text: &str) -> Option<u64> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| text.parse().ok()).flatten()
}
