//! What is shown, and what keys change of it.

use super::cell::Kind;

/// A key of the keyboard, as far as it means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Letter(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    /// Control and C: the end.
    Interrupt,
}

/// Whether the program goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    End,
}

/// Rows that a page key moves.
const PAGE: usize = 20;

/// Characters of a filter.
const FILTER_MAX: usize = 200;

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) kind: Kind,
    /// The column that rows are sorted by; the first is sorted the smallest first.
    pub(super) column: usize,
    /// The order is the other way round.
    pub(super) is_reversed: bool,
    pub(super) is_paused: bool,
    /// The warning that is explained, by its number among those of all nodes.
    pub(super) explained: Option<usize>,
    /// Rows need this text.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) is_typing: bool,
    /// Rows above the first that is shown.
    pub(super) offset: usize,
}

impl View {
    /// Whether the largest values of the column stand first.
    pub(super) fn is_largest_first(&self) -> bool {
        (self.column > 0) != self.is_reversed
    }

    /// Takes a key; `columns` and `warnings` are as many as there are.
    pub(super) fn press(&mut self, key: Key, columns: usize, warnings: usize) -> Next {
        if key == Key::Interrupt {
            return Next::End;
        }
        if self.is_typing {
            self.type_filter(key);
            return Next::GoOn;
        }
        match key {
            Key::Letter('q') => return Next::End,
            Key::Escape => match self.explained.take() {
                Some(_) => {}
                None => self.filter.clear(),
            },
            Key::Letter(' ') => self.is_paused = !self.is_paused,
            Key::Letter('/') => self.is_typing = true,
            Key::Letter('i') => self.is_reversed = !self.is_reversed,
            // The next one with each press, and the table again behind the last.
            Key::Letter('e') => {
                let next = self.explained.map_or(0, |number| number + 1);
                self.explained = Some(next).filter(|next| *next < warnings.max(1));
            }
            Key::Right => self.column = (self.column + 1).min(columns.saturating_sub(1)),
            Key::Left => self.column = self.column.saturating_sub(1),
            Key::Down => self.offset = self.offset.saturating_add(1),
            Key::Up => self.offset = self.offset.saturating_sub(1),
            Key::PageDown => self.offset = self.offset.saturating_add(PAGE),
            Key::PageUp => self.offset = self.offset.saturating_sub(PAGE),
            Key::Letter(letter) => {
                if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.key().0 == letter) {
                    self.show(kind);
                }
            }
            Key::Enter | Key::Backspace | Key::Interrupt => {}
        }
        Next::GoOn
    }

    /// Another table; it begins sorted by its first column of numbers.
    pub(super) fn show(&mut self, kind: Kind) {
        self.kind = kind;
        self.column = usize::from(kind.field().is_some());
        (self.is_reversed, self.offset, self.explained) = (false, 0, None);
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Letter(letter) if self.filter.chars().count() < FILTER_MAX => {
                self.filter.push(letter);
                self.offset = 0;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The view after some keys, with 5 columns and 2 warnings.
    fn after(keys: &[Key]) -> View {
        let mut view = View::default();
        for key in keys {
            assert_eq!(view.press(*key, 5, 2), Next::GoOn, "{key:?}");
        }
        view
    }

    fn letters(text: &str) -> Vec<Key> {
        text.chars().map(Key::Letter).collect()
    }

    #[test]
    fn keys_choose_table_column_and_order() {
        let view = after(&[Key::Letter('v'), Key::Right, Key::Right]);
        assert_eq!((view.kind, view.column), (Kind::Networks, 2));
        assert!(view.is_largest_first());
        assert!(!after(&[Key::Right, Key::Letter('i')]).is_largest_first());
        assert!(!after(&[]).is_largest_first());
        let view = after(&[Key::Right; 9]);
        assert_eq!(view.column, 4);
        let view = after(&[Key::Down, Key::Down, Key::Up, Key::Letter('h')]);
        assert_eq!((view.kind, view.column, view.offset), (Kind::Hosts, 1, 0));
        assert_eq!(after(&[Key::PageDown, Key::Up]).offset, PAGE - 1);
    }

    #[test]
    fn pause_explanation_and_filter() {
        assert!(after(&letters(" ")).is_paused && !after(&letters("  ")).is_paused);
        assert_eq!(after(&letters("e")).explained, Some(0));
        assert_eq!(after(&letters("ee")).explained, Some(1));
        assert_eq!(after(&letters("eee")).explained, None);
        let mut keys = letters("/qa");
        keys.extend([
            Key::Backspace,
            Key::Letter('x'),
            Key::Enter,
            Key::Letter('p'),
        ]);
        let view = after(&keys);
        assert_eq!((view.filter.as_str(), view.kind), ("qx", Kind::Ports));
        keys.push(Key::Escape);
        assert_eq!(after(&keys).filter, "");
        assert_eq!(after(&letters("/x")).press(Key::Interrupt, 1, 0), Next::End);
        assert_eq!(View::default().press(Key::Letter('q'), 1, 0), Next::End);
        // Without warnings there is still a text that says so.
        let mut view = View::default();
        view.press(Key::Letter('e'), 1, 0);
        assert_eq!(view.explained, Some(0));
    }
}
