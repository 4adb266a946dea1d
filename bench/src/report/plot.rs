//! A plot of points with lines through them, as SVG text: axes from zero, round marks, a legend.

use std::fmt::Write as _;

/// Points of one colour.
pub(super) struct Series {
    /// For the legend.
    pub(super) name: String,
    /// In any order; drawn from left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// One picture.
pub(super) struct Plot {
    /// Above it.
    pub(super) title: String,
    /// Below it.
    pub(super) x: String,
    /// Beside it.
    pub(super) y: String,
    /// Drawn in turn.
    pub(super) series: Vec<Series>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart by people who see few colours, too (Okabe and Ito).
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999",
];

impl Plot {
    /// The whole file.
    pub(super) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::to(points().map(|point| point.0).fold(0.0, f64::max));
        let y = Axis::to(points().map(|point| point.1).fold(0.0, f64::max));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, LEFT, 22.0, "start", &self.title);
        text(
            &mut svg,
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 10.0,
            "middle",
            &self.x,
        );
        text(&mut svg, 8.0, TOP - 6.0, "start", &self.y);
        for mark in x.marks() {
            let at = across(x.share(mark));
            line(&mut svg, (at, TOP), (at, HEIGHT - BOTTOM));
            text(
                &mut svg,
                at,
                HEIGHT - BOTTOM + 16.0,
                "middle",
                &number(mark),
            );
        }
        for mark in y.marks() {
            let at = up(y.share(mark));
            line(&mut svg, (LEFT, at), (WIDTH - RIGHT, at));
            text(&mut svg, LEFT - 6.0, at + 4.0, "end", &number(mark));
        }
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let mut sorted = series.points.clone();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            let places: Vec<String> = sorted
                .iter()
                .map(|point| {
                    format!(
                        "{:.1},{:.1}",
                        across(x.share(point.0)),
                        up(y.share(point.1))
                    )
                })
                .collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-opacity=\"0.5\" points=\"{}\"/>",
                places.join(" ")
            );
            for place in &places {
                if let Some((cx, cy)) = place.split_once(',') {
                    let _ = writeln!(
                        svg,
                        "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{colour}\"/>"
                    );
                }
            }
            let row = TOP + 16.0 * index as f64;
            let left = WIDTH - RIGHT + 16.0;
            let _ = writeln!(
                svg,
                "<circle cx=\"{left}\" cy=\"{row}\" r=\"4\" fill=\"{colour}\"/>"
            );
            text(&mut svg, left + 10.0, row + 4.0, "start", &series.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// From zero to a round number.
struct Axis {
    step: f64,
    steps: u32,
}

impl Axis {
    fn to(highest: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let power = 10_f64.powf((highest / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| step * 6.0 >= highest)
            .unwrap_or(10.0 * power);
        Self {
            step,
            steps: (highest / step).ceil() as u32,
        }
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(|step| f64::from(step) * self.step)
    }

    fn share(&self, value: f64) -> f64 {
        value / (self.step * f64::from(self.steps))
    }
}

fn across(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn up(share: f64) -> f64 {
    HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
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
        assert_eq!(Axis::to(highest).marks().collect::<Vec<_>>(), expected);
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
    fn the_file_is_whole() {
        let plot = Plot {
            title: "a < b".into(),
            x: "x".into(),
            y: "y".into(),
            series: vec![Series {
                name: "s".into(),
                points: vec![(1.0, 2.0), (3.0, 1.0)],
            }],
        };
        let svg = plot.svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b") && svg.matches("<circle").count() == 3);
    }
}
