//! Prometheus' text format, version 0.0.4.
//!
//! # Source
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::{Display, Write};

use einhorn_proto::Histogram;

/// Metrics as text.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

/// A label's name and its value.
pub(crate) type Label<'a> = (&'a str, &'a dyn Display);

/// The samples of one metric. They must follow each other, so that only one family is written at a time.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Text {
    /// Begins a metric that grows, and begins again at 0; its name ends in `_total`.
    pub(crate) fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Begins a metric that goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Writes a metric of times; its name ends in `_seconds`.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        let Histogram { buckets, count, sum_ms } = histogram;
        let mut family = self.family(name, "histogram", help);
        for bucket in buckets {
            family.line("_bucket", &[("le", &Seconds(bucket.le_ms))], bucket.count);
        }
        family.line("_bucket", &[("le", &"+Inf")], count);
        family.line("_sum", &[], Seconds(*sum_ms));
        family.line("_count", &[], count);
    }

    /// All of it.
    pub(crate) fn into_string(self) -> String {
        self.0
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
        let Self(text) = self;
        let name = format!("{PREFIX}{name}");
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "# HELP {name} {}\n# TYPE {name} {kind}",
            help.replace('\\', r"\\").replace('\n', r"\n")
        );
        Family { text, name }
    }
}

/// What every name begins with.
const PREFIX: &str = "einhyrningsins_";

impl Family<'_> {
    /// Writes a sample.
    pub(crate) fn add(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.line("", labels, value);
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        let Self { text, name } = self;
        text.push_str(name);
        text.push_str(suffix);
        let mut before = '{';
        for (label, value) in labels {
            let value = value.to_string().replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(text, "{before}{label}=\"{value}\"");
            before = ',';
        }
        if before == ',' {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

/// A time in milliseconds, written in seconds without loss.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        let text = format!("{seconds}.{millis:03}");
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_stand_below_their_family() {
        let mut text = Text::default();
        text.gauge("workers", "Workers of each state.").add(&[("state", &"up"), ("release", &"current")], 4);
        text.gauge("odd_info", "Back\\slash,\nnewline.").add(&[("name", &"a\"b\\c\nd ż")], 0.25);
        let mut histogram = Histogram::default();
        histogram.buckets.truncate(2);
        [4, 7, 1_500].into_iter().for_each(|took_ms| histogram.add(took_ms));
        text.histogram("boot_seconds", "Times.", &histogram);
        assert_snapshot!(text.into_string(), @r#"
        # HELP einhyrningsins_workers Workers of each state.
        # TYPE einhyrningsins_workers gauge
        einhyrningsins_workers{state="up",release="current"} 4
        # HELP einhyrningsins_odd_info Back\\slash,\nnewline.
        # TYPE einhyrningsins_odd_info gauge
        einhyrningsins_odd_info{name="a\"b\\c\nd ż"} 0.25
        # HELP einhyrningsins_boot_seconds Times.
        # TYPE einhyrningsins_boot_seconds histogram
        einhyrningsins_boot_seconds_bucket{le="0.005"} 1
        einhyrningsins_boot_seconds_bucket{le="0.01"} 2
        einhyrningsins_boot_seconds_bucket{le="+Inf"} 3
        einhyrningsins_boot_seconds_sum 1.511
        einhyrningsins_boot_seconds_count 3
        "#);
    }

    /// The value of a label as a reader of the format takes it.
    fn unescaped(text: &str) -> Option<String> {
        let mut value = String::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '"' | '\n' => return None,
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    char @ ('"' | '\\') => char,
                    _ => return None,
                }),
                char => value.push(char),
            }
        }
        Some(value)
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_label_is_read_as_it_was(first in any::<String>(), second in any::<String>()) {
            let mut text = Text::default();
            text.gauge("odd_info", &first).add(&[("first", &first), ("second", &second)], 1);
            let text = text.into_string();
            let lines: Vec<_> = text.strip_suffix('\n').unwrap().split('\n').collect();
            prop_assert_eq!(lines.len(), 3);
            let labels = lines[2].strip_prefix("einhyrningsins_odd_info{first=\"").unwrap().strip_suffix("\"} 1").unwrap();
            // A quote within a value has a backslash before it.
            let (at, _) = labels.match_indices("\",second=\"").find(|(at, _)| unescaped(&labels[..*at]).is_some()).unwrap();
            prop_assert_eq!(unescaped(&labels[..at]), Some(first));
            prop_assert_eq!(unescaped(&labels[at + "\",second=\"".len()..]), Some(second));
        }
    }

    #[test]
    fn milliseconds_are_written_in_seconds() {
        for (millis, seconds) in
            [(0, "0"), (5, "0.005"), (250, "0.25"), (1_000, "1"), (10_800_010, "10800.01")]
        {
            assert_eq!(Seconds(millis).to_string(), seconds);
        }
    }
}
