//! Metrics in the text format of Prometheus, as a node serves them.
//!
//! What a node sends is of another machine: a line that cannot be read is left out, and texts lose what has an effect on a
//! terminal before they are shown.

use std::collections::HashMap;

/// One sample: its labels and its value.
type Sample = (Vec<(String, String)>, f64);

/// The samples of a page by the name of their metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scrape {
    metrics: HashMap<String, Vec<Sample>>,
}

impl Scrape {
    /// Reads a page.
    pub(super) fn parse(page: &str) -> Self {
        let mut metrics: HashMap<String, Vec<Sample>> = HashMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, labels, value)) = sample(line) {
                metrics
                    .entry(name.to_owned())
                    .or_default()
                    .push((labels, value));
            }
        }
        Self { metrics }
    }

    /// Whether it has a metric.
    pub(super) fn has(&self, name: &str) -> bool {
        self.metrics.contains_key(name)
    }

    /// The sum of the samples of a metric that have this label; any, if its name is empty.
    pub(super) fn sum(&self, name: &str, (label, text): (&str, &str)) -> f64 {
        let samples = self.metrics.get(name).into_iter().flatten();
        let wanted = samples.filter(|(labels, _)| {
            label.is_empty()
                || labels
                    .iter()
                    .any(|(known, value)| known == label && value == text)
        });
        // The sum of nothing would be -0.
        wanted.fold(0.0, |sum, (_, value)| sum + value)
    }

    /// The sum of all samples of a metric; none where it is missing.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.has(name).then(|| self.sum(name, ("", "")))
    }

    /// The values of a label in a metric, each once, in the order of the page.
    pub(super) fn texts(&self, name: &str, label: &str) -> Vec<String> {
        let samples = self.metrics.get(name).into_iter().flatten();
        let mut texts: Vec<String> = Vec::new();
        for (labels, _) in samples {
            let found = labels.iter().find(|(known, _)| known == label);
            if let Some((_, text)) = found.filter(|(_, text)| !texts.contains(text)) {
                texts.push(text.clone());
            }
        }
        texts
    }

    /// Each sample of a metric with two of its labels.
    pub(super) fn pairs(
        &self,
        name: &str,
        first: &str,
        second: &str,
    ) -> Vec<(String, String, f64)> {
        let samples = self.metrics.get(name).into_iter().flatten();
        let pairs = samples.filter_map(|(labels, value)| {
            let text = |wanted: &str| {
                let found = labels.iter().find(|(known, _)| known == wanted);
                found.map(|(_, text)| text.clone())
            };
            Some((text(first)?, text(second)?, *value))
        });
        pairs.collect()
    }
}

/// Name, labels and value of a line.
type Parts<'l> = (&'l str, Vec<(String, String)>, f64);

/// `name{label="text",...} value`.
fn sample(line: &str) -> Option<Parts<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches(',');
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                break;
            }
            let (label, behind) = rest.split_once("=\"")?;
            let (text, behind) = quoted(behind)?;
            labels.push((label.to_owned(), text));
            rest = behind;
        }
    }
    // A time may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// A text up to its closing quotation mark, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut plain = String::new();
    let mut letters = text.char_indices();
    loop {
        match letters.next()? {
            (at, '"') => return Some((plain, text.get(at + 1..)?)),
            (_, '\\') => plain.push(match letters.next()?.1 {
                'n' => '\n',
                letter => letter,
            }),
            (_, letter) => plain.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_the_rest_is_left_out() {
        let scrape = Scrape::parse(
            "# HELP a A.\n# TYPE a counter\na_total{shard=\"0\",reason=\"x\"} 3\na_total{shard=\"1\",reason=\"x\"} 4 1700\n\
             b 0.5\nc{t=\"q\\\"\\\\\\n}\"} 1\nnonsense\nd{\ne{x=\"} 1\nf{x=\"y\"} z\n\n",
        );
        assert_eq!(scrape.sum("a_total", ("shard", "1")), 4.0);
        assert_eq!(scrape.sum("a_total", ("reason", "x")), 7.0);
        assert_eq!(scrape.value("b"), Some(0.5));
        assert_eq!(scrape.texts("c", "t"), ["q\"\\\n}"]);
        assert_eq!(scrape.texts("a_total", "shard"), ["0", "1"]);
        assert_eq!(
            scrape.pairs("a_total", "shard", "reason")[1],
            ("1".to_owned(), "x".to_owned(), 4.0)
        );
        for name in ["nonsense", "d", "e", "f"] {
            assert!(!scrape.has(name) && scrape.value(name).is_none(), "{name}");
        }
    }
}
