//! What one side of a call sends, with the places that differ from call to call, cut into segments.

use super::call::PLACEHOLDER;
use super::template::{Place, positions};

const MSS: usize = 1448;

/// What one side sends, with its variable parts in their order.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    pub(super) octets: Vec<u8>,
    pub(super) places: Vec<Place>,
}

impl Bytes {
    pub(super) fn of_http1(octets: Vec<u8>) -> Self {
        let places = positions(&octets, &PLACEHOLDER.to_string());
        let places = places.into_iter().map(|at| Place {
            at,
            call: 0,
            is_stream: false,
        });
        Self {
            places: places.collect(),
            octets,
        }
    }

    /// Cut into segments, none of which ends within a variable part.
    pub(super) fn segments(&self) -> impl Iterator<Item = (&[u8], Vec<Place>)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let most = self.octets.len().min(from + MSS);
            let is_cut = |place: &&Place| place.at < most && place.end() > most;
            let end = self
                .places
                .iter()
                .find(is_cut)
                .map_or(most, |place| place.at);
            let piece = self
                .octets
                .get(from..end)
                .filter(|piece| !piece.is_empty())?;
            let inside = self
                .places
                .iter()
                .filter(|place| (from..end).contains(&place.at));
            let places = inside.map(|place| Place {
                at: place.at - from,
                ..*place
            });
            let places = places.collect();
            from = end;
            Some((piece, places))
        })
    }
}
