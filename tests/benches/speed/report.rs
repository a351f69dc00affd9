//! Figures as they are collected and as they are shown.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::results::{self, Machine, Measured, OURS, Row};

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Time, in seconds; less is better.
    #[serde(rename = "seconds")]
    Time,
    /// Memory, in bytes; less is better.
    #[serde(rename = "bytes")]
    Memory,
    /// How many a second; more is better.
    #[serde(rename = "per_second")]
    Rate,
    /// How many; less is better.
    Count,
    /// How many times something else; less is better.
    Times,
}

/// One figure, as each round found it.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    unit: Unit,
    rounds: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(unit: Unit) -> Self {
        Self { unit, rounds: Vec::new() }
    }

    /// A figure that one look gives.
    pub(crate) fn once(unit: Unit, value: f64) -> Self {
        Self { unit, rounds: vec![value] }
    }

    /// Adds what a round found.
    pub(crate) fn add(&mut self, value: f64) {
        self.rounds.push(value);
    }

    /// Adds how long a round took.
    pub(crate) fn add_time(&mut self, time: Duration) {
        self.add(time.as_secs_f64());
    }

    /// The same, of something else of which this figure has so many.
    pub(crate) fn divided_by(&self, divisor: f64, unit: Unit) -> Self {
        Self { unit, rounds: self.rounds.iter().map(|value| value / divisor).collect() }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// What a round usually finds; zero if there was none.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            _ if sorted.is_empty() => 0.0,
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        }
    }

    /// All rounds together.
    pub(crate) fn sum(&self) -> Self {
        Self::once(self.unit, self.rounds.iter().sum())
    }

    /// The largest.
    pub(crate) fn most(&self) -> f64 {
        self.sorted().last().copied().unwrap_or(0.0)
    }

    /// What a round finds that nobody disturbed.
    pub(crate) fn best(&self) -> f64 {
        let sorted = self.sorted();
        let best = if self.unit == Unit::Rate { sorted.last() } else { sorted.first() };
        best.copied().unwrap_or(0.0)
    }

    /// How many times worse than `floor` it is, where `of` says which value stands for the rounds of each; `None` if nothing is
    /// that many times zero.
    fn ratio(&self, floor: &Self, of: fn(&Self) -> f64) -> Option<f64> {
        let ratio = match self.unit {
            Unit::Rate => of(floor) / of(self),
            Unit::Time | Unit::Memory | Unit::Count | Unit::Times => of(self) / of(floor),
        };
        Some(ratio).filter(|ratio| ratio.is_finite())
    }

    fn to_measured(&self) -> Measured {
        let rounds = self.rounds.iter().copied().map(rounded).collect();
        Measured::Figure { median: rounded(self.median()), best: rounded(self.best()), rounds }
    }

    fn show(&self, value: f64) -> String {
        match self.unit {
            Unit::Time if value < 0.001 => format!("{:.1} us", value * 1e6),
            Unit::Time if value < 1.0 => format!("{:.2} ms", value * 1e3),
            Unit::Time => format!("{value:.2} s"),
            Unit::Memory if value < 1e5 => format!("{value:.0} B"),
            Unit::Memory => format!("{:.2} MB", value / 1e6),
            Unit::Rate => format!("{value:.0}/s"),
            Unit::Count => format!("{value:.0}"),
            Unit::Times => format!("{value:.2} times"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show(self.median()))?;
        if self.rounds.len() > 1 { write!(f, " ({})", self.show(self.best())) } else { Ok(()) }
    }
}

/// With as many significant digits as are printed: none of the figures is more exact.
pub(crate) fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// What the project aims at.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aim {
    /// No more than this many times the floor.
    Ratio(f64),
    /// No more than this, in the figure's own unit.
    AtMost(f64),
    /// At least this, in the figure's own unit.
    AtLeast(f64),
    /// Nothing: shown for comparison.
    #[serde(untagged)]
    None,
}

/// Shows what the columns are, and on what the figures are taken.
pub(crate) fn head(machine: &Machine) {
    let Machine { processor, processors, kernel, load, .. } = machine;
    println!("{processors} processors ({processor}), load average {load} before it began, Linux {kernel}");
    println!("each figure: median of its rounds (best of them); an aim goes by the median");
    row("", "measured", "floor", "ratio", "aim", "");
}

/// Begins a topic, and says what its floor is.
pub(crate) fn topic(name: &str, floor: &str) {
    println!("\n{name}; floor: {floor}");
    results::topic(name, floor);
}

/// Shows one figure of ours.
pub(crate) fn line(what: &str, measured: &Figure, floor: Option<&Figure>, aim: Aim) {
    line_of(OURS, what, measured, floor, aim);
}

/// Shows one figure of a program.
pub(crate) fn line_of(program: &str, what: &str, measured: &Figure, floor: Option<&Figure>, aim: Aim) {
    let ratio = floor.and_then(|floor| measured.ratio(floor, Figure::median));
    let best_ratio =
        floor.filter(|_| measured.rounds.len() > 1).and_then(|floor| measured.ratio(floor, Figure::best));
    let of_best = best_ratio.map(|ratio| format!(" ({ratio:.2})")).unwrap_or_default();
    let (goal, met) = match aim {
        Aim::Ratio(most) => (format!("<= {most:.2}"), ratio.map(|ratio| ratio <= most)),
        Aim::AtMost(most) => (format!("<= {}", measured.show(most)), Some(measured.median() <= most)),
        Aim::AtLeast(least) => (format!(">= {}", measured.show(least)), Some(measured.median() >= least)),
        Aim::None => (String::new(), None),
    };
    row(
        &labelled(program, what),
        &measured.to_string(),
        &floor.map(Figure::to_string).unwrap_or_default(),
        &ratio.map(|ratio| format!("{ratio:.2}{of_best}")).unwrap_or_default(),
        &goal,
        match met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        },
    );
    results::row(Row {
        program: program.to_owned(),
        row: what.to_owned(),
        unit: Some(measured.unit),
        measured: measured.to_measured(),
        floor: floor.map(Figure::to_measured),
        ratio: ratio.map(rounded),
        best_ratio: best_ratio.map(rounded),
        aim,
        met,
    });
}

/// Shows what no single number tells, of what is measured and of the floor.
pub(crate) fn texts(what: &str, measured: &str, floor: &str) {
    row(what, measured, floor, "", "", "");
    let text = |text: &str| Measured::Text(text.to_owned());
    results::row(Row {
        program: OURS.to_owned(),
        row: what.to_owned(),
        unit: None,
        measured: text(measured),
        floor: Some(text(floor)),
        ratio: None,
        best_ratio: None,
        aim: Aim::None,
        met: None,
    });
}

/// `1 worker`, `4 workers`.
pub(crate) fn workers(count: u32) -> String {
    format!("{count} worker{}", if count == 1 { "" } else { "s" })
}

/// Others go by their name.
fn labelled(program: &str, what: &str) -> String {
    if program == OURS { what.to_owned() } else { format!("{program}, {what}") }
}

fn row(what: &str, measured: &str, floor: &str, ratio: &str, aim: &str, met: &str) {
    println!("  {what:<47} {measured:>22} {floor:>22} {ratio:>12} {aim:>12}  {met}");
}
