//! The pairs of networks in which the same connections were captured, by name: a bounded table, one for each shard, that can
//! be added up.

use crate::decap::Encap;
use crate::limits::COPY_PLACES_MAX;

/// Where connections were captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The innermost encapsulation.
    pub encap: Encap,
    /// The innermost VNI, where there is one.
    pub vni: Option<u32>,
}

/// Two places in which the same connections were captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiedPlaces {
    /// Both places.
    pub places: [Place; 2],
    /// Connections that were captured in both.
    pub connections: u64,
}

impl CopiedPlaces {
    /// Numbers in a row.
    pub const CELLS: usize = 5;

    /// The row as numbers, which other threads can read.
    pub fn cells(&self) -> [u64; Self::CELLS] {
        let [one, other] = self.places.map(|place| {
            let vni = place.vni.map_or(0, |vni| u64::from(vni) + 1);
            (place.encap as u64, vni)
        });
        [one.0, one.1, other.0, other.1, self.connections]
    }

    /// The row of such numbers.
    pub fn from_cells([one_encap, one_vni, encap, vni, connections]: [u64; Self::CELLS]) -> Self {
        let place = |encap: u64, vni: u64| Place {
            encap: Encap::ALL
                .get(encap as usize)
                .copied()
                .unwrap_or(Encap::Other),
            vni: vni.checked_sub(1).and_then(|vni| u32::try_from(vni).ok()),
        };
        Self {
            places: [place(one_encap, one_vni), place(encap, vni)],
            connections,
        }
    }
}

/// The pairs, in the order in which they were first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyTable {
    rows: Vec<CopiedPlaces>,
}

impl CopyTable {
    /// The rows.
    pub fn rows(&self) -> &[CopiedPlaces] {
        &self.rows
    }

    /// Adds connections that were captured in two places. Those of further pairs than
    /// [`COPY_PLACES_MAX`] are in the sums of the counters only.
    pub(super) fn count(&mut self, mut places: [Place; 2], connections: u64) {
        places.sort_unstable_by_key(|place| (place.encap as u8, place.vni));
        if let Some(row) = self.rows.iter_mut().find(|row| row.places == places) {
            row.connections += connections;
        } else if self.rows.len() < COPY_PLACES_MAX {
            self.rows.push(CopiedPlaces {
                places,
                connections,
            });
        }
    }
}

impl Extend<CopiedPlaces> for CopyTable {
    /// Adds the rows of another table.
    fn extend<I: IntoIterator<Item = CopiedPlaces>>(&mut self, rows: I) {
        for row in rows {
            self.count(row.places, row.connections);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_bounded_add_up_and_survive_as_numbers() {
        let place = |encap, vni| Place { encap, vni };
        let (plain, vxlan) = (Place::default(), place(Encap::Vxlan, Some(7)));
        let mut table = CopyTable::default();
        table.count([plain, vxlan], 1);
        table.count([vxlan, plain], 2);
        for (number, encap) in (0..).zip(Encap::ALL.into_iter().cycle().take(40)) {
            table.count([plain, place(encap, Some(number))], 1);
        }
        assert_eq!(table.rows().len(), COPY_PLACES_MAX);
        assert_eq!(
            (table.rows()[0].places, table.rows()[0].connections),
            ([plain, vxlan], 3)
        );
        let rows = table.rows().iter();
        let mut again = CopyTable::default();
        again.extend(rows.map(|row| CopiedPlaces::from_cells(row.cells())));
        assert_eq!(again, table);
    }
}
