//! Plots as SVG text: panels of points that are joined by lines, axes with round marks, one legend for all panels.

use std::fmt::Write as _;

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dash {
    Solid,
    Dashed,
    Dotted,
}

/// The scale of the vertical axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// Whole decades.
    Logarithmic,
}

/// Points of one line.
pub(super) struct Series {
    /// Index of the name in [`Figure::names`].
    pub(super) colour: usize,
    pub(super) dash: Dash,
    /// In any order; drawn from left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// One quantity.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) scale: Scale,
    pub(super) series: Vec<Series>,
}

/// A vertical line in all panels.
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) x: f64,
}

/// Panels with the same horizontal axis.
pub(super) struct Figure {
    pub(super) title: String,
    pub(super) x: String,
    /// The names of the colours.
    pub(super) names: Vec<String>,
    pub(super) marks: Vec<Mark>,
    pub(super) panels: Vec<Panel>,
}

const COLUMNS: usize = 2;
const WIDTH: f64 = 540.0;
const HEIGHT: f64 = 300.0;
const TITLE: f64 = 40.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 46.0;
/// Colours that can be distinguished with colour blindness (Okabe and Ito).
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999",
];

impl Figure {
    /// The whole file. The legend follows the last panel.
    pub(super) fn svg(&self) -> String {
        let rows = (self.panels.len() + 1).div_ceil(COLUMNS);
        let width = WIDTH * COLUMNS as f64;
        let height = TITLE + HEIGHT * rows as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"28\" font-size=\"18\">{}</text>",
            escaped(&self.title)
        );
        for (index, panel) in self.panels.iter().enumerate() {
            open(&mut svg, index);
            self.panel(&mut svg, panel);
            svg.push_str("</g>\n");
        }
        open(&mut svg, self.panels.len());
        self.legend(&mut svg);
        svg.push_str("</g>\n</svg>\n");
        svg
    }

    fn panel(&self, svg: &mut String, panel: &Panel) {
        let points = || panel.series.iter().flat_map(|series| &series.points);
        let all = self.panels.iter().flat_map(|panel| &panel.series);
        let highest = all
            .flat_map(|series| &series.points)
            .map(|point| point.0)
            .fold(0.0, f64::max);
        // A mark far to the right of all points would compress them.
        let marks = || self.marks.iter().filter(|mark| mark.x <= 2.5 * highest);
        let x = Axis::linear(marks().map(|mark| mark.x).fold(highest, f64::max));
        let y = match panel.scale {
            Scale::Linear => Axis::linear(points().map(|point| point.1).fold(0.0, f64::max)),
            Scale::Logarithmic => Axis::decades(points().map(|point| point.1)),
        };
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        text(svg, LEFT, 18.0, "start", &panel.title);
        text(svg, middle, HEIGHT - 10.0, "middle", &self.x);
        for mark in x.marks() {
            let at = across(x.share(mark));
            line(svg, (at, TOP), (at, HEIGHT - BOTTOM), "#ddd");
            text(svg, at, HEIGHT - BOTTOM + 16.0, "middle", &number(mark));
        }
        for mark in y.marks() {
            let at = up(y.share(mark));
            line(svg, (LEFT, at), (WIDTH - RIGHT, at), "#ddd");
            text(svg, LEFT - 6.0, at + 4.0, "end", &number(mark));
        }
        for mark in marks() {
            let at = across(x.share(mark.x));
            line(svg, (at, TOP), (at, HEIGHT - BOTTOM), "#888");
            // The text is on the side of the line that has more space.
            let (side, anchor) = if x.share(mark.x) > 0.5 {
                (-4.0, "end")
            } else {
                (4.0, "start")
            };
            text(svg, at + side, HEIGHT - BOTTOM - 6.0, anchor, &mark.name);
        }
        for series in &panel.series {
            draw(svg, series, &x, &y);
        }
    }

    fn legend(&self, svg: &mut String) {
        for (index, name) in self.names.iter().enumerate() {
            let (left, row) = (LEFT, TOP + 18.0 * index as f64);
            circle(svg, left, row, 4.0, colour(index));
            text(svg, left + 12.0, row + 4.0, "start", name);
        }
    }
}

fn draw(svg: &mut String, series: &Series, x: &Axis, y: &Axis) {
    let mut sorted = series.points.clone();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let places: Vec<(f64, f64)> = sorted
        .iter()
        .map(|point| (across(x.share(point.0)), up(y.share(point.1))))
        .collect();
    let words: Vec<String> = places
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let dash = match series.dash {
        Dash::Solid => "",
        Dash::Dashed => " stroke-dasharray=\"6 3\"",
        Dash::Dotted => " stroke-dasharray=\"2 3\"",
    };
    let colour = colour(series.colour);
    let _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-opacity=\"0.6\"{dash} points=\"{}\"/>",
        words.join(" ")
    );
    for (left, top) in places {
        circle(svg, left, top, 2.5, colour);
    }
}

/// Marks at equal steps from zero, or at powers of ten.
struct Axis {
    scale: Scale,
    /// The first mark: zero, or an exponent.
    first: f64,
    step: f64,
    steps: u32,
}

impl Axis {
    fn linear(highest: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let power = 10_f64.powf((highest / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| step * 6.0 >= highest)
            .unwrap_or(10.0 * power);
        Self {
            scale: Scale::Linear,
            first: 0.0,
            step,
            steps: (highest / step).ceil() as u32,
        }
    }

    fn decades(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low <= high {
            (low, high)
        } else {
            (1.0, 10.0)
        };
        let first = low.log10().floor();
        Self {
            scale: Scale::Logarithmic,
            first,
            step: 1.0,
            steps: (high.log10().ceil() - first).max(1.0) as u32,
        }
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(|step| {
            let at = self.first + f64::from(step) * self.step;
            match self.scale {
                Scale::Linear => at,
                Scale::Logarithmic => 10_f64.powf(at),
            }
        })
    }

    fn share(&self, value: f64) -> f64 {
        let at = match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(10_f64.powf(self.first)).log10(),
        };
        (at - self.first) / (self.step * f64::from(self.steps))
    }
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

fn open(svg: &mut String, place: usize) {
    let left = WIDTH * (place % COLUMNS) as f64;
    let top = TITLE + HEIGHT * (place / COLUMNS) as f64;
    let _ = writeln!(svg, "<g transform=\"translate({left} {top})\">");
}

fn across(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn up(share: f64) -> f64 {
    HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

fn circle(svg: &mut String, x: f64, y: f64, radius: f64, colour: &str) {
    let _ = writeln!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}

fn number(value: f64) -> String {
    if value >= 10_000.0 {
        return format!("{} k", value / 1000.0);
    }
    let rounded = (value * 1000.0).round() / 1000.0;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(highest: f64, expected: &[f64]) {
        assert_eq!(Axis::linear(highest).marks().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn marks_are_round_and_reach_the_highest() {
        check(100.0, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        check(
            47_000.0,
            &[0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0],
        );
        check(0.0, &[0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
    }

    #[test]
    fn decades_hold_all_values() {
        let axis = Axis::decades([0.0, 3.0, 1048.0].into_iter());
        assert_eq!(
            axis.marks().collect::<Vec<_>>(),
            [1.0, 10.0, 100.0, 1000.0, 10_000.0]
        );
        assert_eq!(axis.share(100.0), 0.5);
        assert_eq!(axis.share(0.0), 0.0);
    }

    #[test]
    fn the_file_is_complete() {
        let figure = Figure {
            title: "a < b".into(),
            x: "x".into(),
            names: vec!["s".into()],
            marks: vec![Mark {
                name: "m".into(),
                x: 2.0,
            }],
            panels: vec![Panel {
                title: "p".into(),
                scale: Scale::Linear,
                series: vec![Series {
                    colour: 0,
                    dash: Dash::Dashed,
                    points: vec![(1.0, 2.0), (3.0, 1.0)],
                }],
            }],
        };
        let svg = figure.svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b") && svg.matches("<circle").count() == 3);
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    }
}
