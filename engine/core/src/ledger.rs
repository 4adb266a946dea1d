//! The ledger: every frame, payload byte and call ends in exactly one named bucket.
//!
//! Each stage owns a struct of plain `u64` cells made by [`counters!`](crate::counters); the shard that owns the stage
//! is the only writer, and a reader samples copies. Nothing here is atomic and nothing is formatted per packet.
//! Counter names read `stage_outcome_reason`.

/// Name, meaning and kind of one cell of a struct that [`counters!`](crate::counters) made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name of the field.
    pub name: &'static str,
    /// What one unit is: the doc comment of the field, the help text of the exported metric.
    pub help: &'static str,
    /// Whether the value can fall.
    pub kind: Kind,
}

/// What the value of a cell does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that is a present state.
    Gauge,
}

/// Declares a struct of `u64` cells with names, so that it can be summed, listed and exported.
///
/// Every cell has a doc comment on what one unit is; it becomes the help text of the exported metric. A cell is a
/// counter unless `#[gauge]` stands before its name.
///
/// ```
/// use engine_core::ledger::Kind;
///
/// engine_core::counters! {
///     /// What happens at a door.
///     pub struct Door {
///         /// Visitors that came in.
///         entered,
///         /// Visitors inside.
///         #[gauge]
///         inside,
///     }
/// }
///
/// let mut sum = Door { entered: 7, inside: 2 };
/// sum.add(&Door { entered: 1, inside: 1 });
/// assert_eq!((sum.entered, sum.inside), (8, 3));
/// assert_eq!(Door::FIELDS[1].kind, Kind::Gauge);
/// ```
#[macro_export]
macro_rules! counters {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[doc = $doc:literal])+ $(#[gauge $($marker:tt)?])? $field:ident,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $name { $($(#[doc = $doc])+ $vis $field: u64,)* }

        impl $name {
            /// The cells, in the order of [`Self::values`].
            $vis const FIELDS: &'static [$crate::ledger::Field] = &[$(
                $crate::ledger::Field {
                    name: stringify!($field),
                    help: concat!($($doc),+),
                    kind: $crate::counters!(@kind $(gauge $($marker)?)?),
                },
            )*];

            /// The values, in the order of [`Self::FIELDS`].
            $vis fn values(&self) -> impl Iterator<Item = u64> + use<> {
                [$(self.$field),*].into_iter()
            }

            /// Takes the next [`Self::FIELDS`] values, as [`Self::values`] gave them; where there are fewer, the rest is 0.
            $vis fn from_values(values: &mut impl Iterator<Item = u64>) -> Self {
                Self { $($field: values.next().unwrap_or(0),)* }
            }

            /// Adds another shard's values to these.
            $vis fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
    (@kind) => { $crate::ledger::Kind::Counter };
    (@kind gauge) => { $crate::ledger::Kind::Gauge };
}

#[cfg(test)]
mod tests {
    use super::Kind;

    counters! {
        /// Two cells.
        struct Pair {
            /// Apples
            /// that were picked.
            apples,
            /// Pears in the basket.
            #[gauge]
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
            .map(|field| (field.name, field.kind))
            .zip(sum.values())
            .collect();
        assert_eq!(
            named,
            [
                (("apples", Kind::Counter), 11),
                (("pears", Kind::Gauge), 22)
            ]
        );
        assert_eq!(Pair::FIELDS[0].help, " Apples that were picked.");
    }

    #[test]
    fn values_make_the_struct_again() {
        let pair = Pair {
            apples: 3,
            pears: 4,
        };
        let mut values = pair.values().chain(pair.values().take(1));
        assert_eq!(Pair::from_values(&mut values), pair);
        assert_eq!(
            Pair::from_values(&mut values),
            Pair {
                apples: 3,
                pears: 0
            }
        );
    }
}
