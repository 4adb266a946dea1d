//! The two directions of a flow, and what exists once for each of them.

use std::ops::{Index, IndexMut};

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the originator: it sent the SYN, or the first segment seen.
    Originator,
    /// From the responder.
    Responder,
}

impl Direction {
    /// Both directions, the originator's first.
    pub const BOTH: [Self; 2] = [Self::Originator, Self::Responder];

    /// The other direction.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Originator => Self::Responder,
            Self::Responder => Self::Originator,
        }
    }
}

/// One value for each direction of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerDirection<T> {
    /// The originator's.
    pub originator: T,
    /// The responder's.
    pub responder: T,
}

impl<T> PerDirection<T> {
    /// The value of `direction` and that of the other direction, borrowed apart.
    #[inline]
    pub const fn pair_mut(&mut self, direction: Direction) -> (&mut T, &mut T) {
        match direction {
            Direction::Originator => (&mut self.originator, &mut self.responder),
            Direction::Responder => (&mut self.responder, &mut self.originator),
        }
    }

    /// Both values, the originator's first.
    #[inline]
    pub const fn both(&self) -> [&T; 2] {
        [&self.originator, &self.responder]
    }

    /// Both values, the originator's first.
    #[inline]
    pub const fn both_mut(&mut self) -> [&mut T; 2] {
        [&mut self.originator, &mut self.responder]
    }

    /// The originator turns out to be the responder.
    pub const fn swap(&mut self) {
        std::mem::swap(&mut self.originator, &mut self.responder);
    }
}

impl<T> Index<Direction> for PerDirection<T> {
    type Output = T;

    #[inline]
    fn index(&self, direction: Direction) -> &T {
        match direction {
            Direction::Originator => &self.originator,
            Direction::Responder => &self.responder,
        }
    }
}

impl<T> IndexMut<Direction> for PerDirection<T> {
    #[inline]
    fn index_mut(&mut self, direction: Direction) -> &mut T {
        self.pair_mut(direction).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_has_its_value() {
        let mut sent = PerDirection {
            originator: 1,
            responder: 2,
        };
        let (own, other) = sent.pair_mut(Direction::Responder);
        assert_eq!((*own, *other), (2, 1));
        sent[Direction::Responder] = 3;
        sent.swap();
        assert_eq!(sent.both(), [&3, &1]);
        for direction in Direction::BOTH {
            assert_eq!(direction.reverse().reverse(), direction);
            assert_ne!(sent[direction], sent[direction.reverse()]);
        }
    }
}
