//! The screen of a terminal, and its keys.

use ratatui::Frame;
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::groups::Groups;
use super::node::Node;
use super::table::Table;
use super::text;
use super::view::{Key, View};

/// Everything that is drawn.
pub(super) struct Shown<'a> {
    pub(super) view: &'a View,
    pub(super) nodes: &'a [Node],
    pub(super) groups: &'a Groups,
    /// With colours; without, reversed and bold text alone.
    pub(super) has_colour: bool,
}

impl Shown<'_> {
    /// Draws it; returns the number of rows that the table may be moved by.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) -> usize {
        let area = frame.area();
        let mut lines: Vec<Line<'_>> = Vec::new();
        lines.push(Line::styled("sniffer top", Modifier::BOLD));
        lines.extend(text::head(self.nodes).into_iter().map(Line::raw));
        let output = text::output(self.nodes);
        let is_bad = output.contains("DOWN") || output.contains("UNACCOUNTED");
        lines.push(match is_bad {
            true => Line::styled(output, self.alarm()),
            false => Line::raw(output),
        });
        lines.push(Line::raw(""));
        let height = usize::from(area.height);
        let room = height.saturating_sub(lines.len() + 1);
        let mut most = 0;
        if let Some(number) = self.view.explained {
            let explanation = text::explanation(self.nodes, number).into_iter();
            lines.extend(explanation.take(room).map(Line::raw));
        } else {
            let table = text::table(self.view, self.nodes, self.groups);
            most = table.rows.len().saturating_sub(room.saturating_sub(1));
            let offset = self.view.offset.min(most);
            lines.extend(self.table(&table, offset).into_iter().take(room));
        }
        lines.truncate(height.saturating_sub(1));
        let buffer = frame.buffer_mut();
        for (row, line) in (area.y..).zip(&lines) {
            buffer.set_line(area.x, row, line, area.width);
        }
        if area.height > 0 {
            let last = Rect {
                y: area.bottom() - 1,
                height: 1,
                ..area
            };
            buffer.set_style(last, Modifier::REVERSED);
            let keys = text::keys(self.view, self.nodes.len());
            buffer.set_line(last.x, last.y, &Line::raw(keys), last.width);
        }
        most
    }

    fn table<'t>(&self, table: &Table, offset: usize) -> Vec<Line<'t>> {
        let sorted = (self.view.column, self.view.is_largest_first());
        let mut texts = table.lines(Some(sorted)).into_iter();
        let heads = texts.next().unwrap_or_default();
        let mut lines = vec![Line::styled(heads, Modifier::BOLD)];
        if table.rows.is_empty() {
            let nothing = text::nothing(self.view, self.groups);
            lines.extend(nothing.lines().map(|line| Line::raw(line.to_owned())));
            return lines;
        }
        for (row, text) in table.rows.iter().zip(texts).skip(offset) {
            let mut cells = table.columns.iter().zip(row);
            let is_bad = cells.any(|(column, cell)| text::is_alarming(column, cell));
            lines.push(match is_bad {
                true => Line::from(Span::styled(text, self.alarm())),
                false => Line::raw(text),
            });
        }
        lines
    }

    fn alarm(&self) -> Style {
        match self.has_colour {
            true => Style::new().fg(Color::Red),
            false => Style::new().add_modifier(Modifier::BOLD),
        }
    }
}

/// The key of an event of the terminal, if it means something.
pub(super) fn key(event: &Event) -> Option<Key> {
    let Event::Key(pressed) = event else {
        return None;
    };
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    Some(match pressed.code {
        KeyCode::Char('c') if pressed.modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(letter) => Key::Letter(letter),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::node::tests::node;
    use super::*;

    const NOW: &str = "sniffer_up 1\nsniffer_capture_packets_total{shard=\"0\"} 8\n\
        sniffer_capture_packets_total{shard=\"1\"} 9\nsniffer_shard_busy_ratio{shard=\"1\"} 0.95\n";

    fn drawn(view: &View, width: u16, height: u16, has_colour: bool) -> (String, usize) {
        let nodes = [node("this host", "sniffer_up 1", NOW, &["W070"])];
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let groups = Groups::default();
        let shown = Shown {
            view,
            nodes: &nodes,
            groups: &groups,
            has_colour,
        };
        let mut most = 0;
        terminal.draw(|frame| most = shown.draw(frame)).unwrap();
        let reds = terminal.backend().buffer().content().iter();
        assert_eq!(
            reds.filter(|cell| cell.fg == Color::Red).count() > 0,
            has_colour
        );
        (terminal.backend().to_string(), most)
    }

    #[test]
    fn a_screen_of_any_size_has_what_fits() {
        let view = View {
            column: 3,
            ..View::default()
        };
        let (screen, most) = drawn(&view, 160, 12, true);
        let lines: Vec<&str> = screen.lines().collect();
        assert!(lines[0].contains("sniffer top"), "{screen}");
        assert!(lines[4].contains("busy▼"), "{screen}");
        assert!(
            lines[5].contains("95.0 %") && lines[6].contains("0.0 %"),
            "{screen}"
        );
        assert!(lines[11].contains("[s]*shards") && lines[11].contains("[q] quit"));
        assert_eq!(most, 0);
        drawn(&view, 160, 12, false);
        for (width, height) in [(1, 1), (3, 2), (20, 4)] {
            let nodes = [node("x", "", NOW, &[])];
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let shown = Shown {
                view: &view,
                nodes: &nodes,
                groups: &Groups::default(),
                has_colour: false,
            };
            terminal
                .draw(|frame| assert!(shown.draw(frame) < 9))
                .unwrap();
        }
    }
}
