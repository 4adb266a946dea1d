//! The ledger: every frame, payload byte and call ends in exactly one named box.
//!
//! Each stage owns a struct of plain `u64` cells made by [`counters!`](crate::counters); the shard that owns the stage
//! is the only writer, and a reader samples copies. Nothing here is atomic and nothing is formatted per packet.
//! Counter names read `stage_outcome_reason`.

/// Declares a struct of `u64` counters with names, so that it can be summed, listed and exported.
///
/// Every counter has a doc comment that says what one unit is; it becomes the help text of the exported metric.
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[doc = $doc:literal])+ $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $name { $($(#[doc = $doc])+ $vis $field: u64,)* }

        impl $name {
            /// Names and meanings, in the order of [`Self::values`].
            $vis const FIELDS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), concat!($($doc),+)),)*];

            /// The values, in the order of [`Self::FIELDS`].
            $vis fn values(&self) -> impl Iterator<Item = u64> + use<> {
                [$(self.$field),*].into_iter()
            }

            /// Adds another shard's counters to these.
            $vis fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}

#[cfg(test)]
mod tests {
    counters! {
        /// Two cells.
        struct Pair {
            /// Apples.
            apples,
            /// Pears.
            pears,
        }
    }

    #[test]
    fn names_values_and_sums_agree() {
        let mut sum = Pair {
            apples: 1,
            pears: 2,
        };
        sum.add(&Pair {
            apples: 10,
            pears: 20,
        });
        let named: Vec<_> = Pair::FIELDS
            .iter()
            .map(|(name, _)| *name)
            .zip(sum.values())
            .collect();
        assert_eq!(named, [("apples", 11), ("pears", 22)]);
    }
}
