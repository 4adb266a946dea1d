//! What only a sink over HTTP counts: answers by their class, connections, and how the kernel does the I/O.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use engine_sys::driver::Kind;

use crate::sink::stats::{Counters, Detail, Metric, UrlState};

/// Classes of answers; `none` when there was none.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Written by the uploader alone, read by any thread.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By [`CLASSES`].
    classes: [AtomicU64; CLASSES.len()],
    connects: AtomicU64,
    endless: AtomicU64,
    last_status: AtomicU16,
    driver: OnceLock<Kind>,
    places: Mutex<Vec<UrlState>>,
}

impl Answers {
    /// A request ended with this answer, or with none.
    pub(super) fn count(&self, status: Option<u16>) {
        let class = usize::from(status.unwrap_or(0) / 100);
        if let Some(count) = self.classes.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(status) = status {
            self.last_status.store(status, Ordering::Relaxed);
        }
    }

    /// A connection was made.
    pub(super) fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was given up because an answer did not end.
    pub(super) fn does_not_end(&self) {
        self.endless.fetch_add(1, Ordering::Relaxed);
    }

    /// How each of several collectors is.
    pub(super) fn set_places(&self, places: Vec<UrlState>) {
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// The driver that was opened first stays the one that is shown.
    pub(super) fn set_driver(&self, kind: Kind) {
        let _ = self.driver.set(kind);
    }

    /// The driver; none before it is opened.
    pub(super) fn kind(&self) -> Option<Kind> {
        self.driver.get().copied()
    }

    /// Its name; empty before it is opened.
    pub(super) fn driver(&self) -> String {
        self.driver.get().map(Kind::to_string).unwrap_or_default()
    }

    /// All of it, as status and metrics show it.
    pub(super) fn detail(&self, counters: &Counters) -> Detail {
        let single = |name, help, count| Metric {
            name,
            help,
            label: "",
            samples: vec![("", count)],
        };
        let classes = self.classes.iter();
        let classes = classes.map(|count| count.load(Ordering::Relaxed));
        Detail {
            last_code: self.last_status.load(Ordering::Relaxed),
            transport: self.driver(),
            places: self
                .places
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            metrics: vec![
                Metric {
                    name: "sniffer_output_requests_total",
                    help: "POSTs that ended, by the class of their answer; none: the connection failed or the time was over.",
                    label: "code",
                    samples: CLASSES.into_iter().zip(classes).collect(),
                },
                single(
                    "sniffer_output_retries_total",
                    "POSTs that repeated an earlier one.",
                    counters.retries,
                ),
                single(
                    "sniffer_output_connects_total",
                    "Connections made to the destination.",
                    self.connects.load(Ordering::Relaxed),
                ),
                single(
                    "sniffer_output_endless_answers_total",
                    "Connections given up because the destination sent more than any answer has.",
                    self.endless.load(Ordering::Relaxed),
                ),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_class() {
        let answers = Answers::default();
        for status in [None, Some(204), Some(200), Some(503), Some(999)] {
            answers.count(status);
        }
        answers.connected();
        answers.does_not_end();
        let detail = answers.detail(&Counters {
            retries: 3,
            ..Counters::default()
        });
        assert_eq!((detail.last_code, detail.transport.as_str()), (999, ""));
        let counts: Vec<u64> = (detail.metrics.iter())
            .flat_map(|metric| &metric.samples)
            .map(|(_, count)| *count)
            .collect();
        assert_eq!(counts, [1, 0, 2, 0, 0, 1, 3, 1, 1]);
    }
}
