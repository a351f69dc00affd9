//! Figures as they are collected and as they are shown.

use std::fmt;
use std::time::Duration;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Time, in seconds; less is better.
    Time,
    /// Memory, in bytes; less is better.
    Memory,
    /// How many a second; more is better.
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

    /// How many times worse than `floor` it is, where `of` says which value stands for the rounds of each.
    fn ratio(&self, floor: &Self, of: fn(&Self) -> f64) -> f64 {
        match self.unit {
            Unit::Rate => of(floor) / of(self),
            Unit::Time | Unit::Memory | Unit::Count | Unit::Times => of(self) / of(floor),
        }
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

/// What the project aims at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    /// No more than this many times the floor.
    Ratio(f64),
    /// No more than this, in the figure's own unit.
    AtMost(f64),
    /// At least this, in the figure's own unit.
    AtLeast(f64),
    /// Nothing: shown for comparison.
    None,
}

/// Shows what the columns are, and on what the figures were taken.
pub(crate) fn head() {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{processors} processors, load average {load} before it began, Linux {}", kernel.trim());
    println!("each figure: median of its rounds (best of them); an aim goes by the median");
    row("", "measured", "floor", "ratio", "aim", "");
}

/// Begins a topic, and says what its floor is.
pub(crate) fn topic(name: &str, floor: &str) {
    println!("\n{name}; floor: {floor}");
}

/// Shows one figure.
pub(crate) fn line(what: &str, measured: &Figure, floor: Option<&Figure>, aim: Aim) {
    let ratio = floor.map(|floor| measured.ratio(floor, Figure::median));
    let of_best =
        floor.filter(|_| measured.rounds.len() > 1).map(|floor| measured.ratio(floor, Figure::best));
    let of_best = of_best.map(|ratio| format!(" ({ratio:.2})")).unwrap_or_default();
    let (aim, met) = match aim {
        Aim::Ratio(most) => (format!("<= {most:.2}"), ratio.map(|ratio| ratio <= most)),
        Aim::AtMost(most) => (format!("<= {}", measured.show(most)), Some(measured.median() <= most)),
        Aim::AtLeast(least) => (format!(">= {}", measured.show(least)), Some(measured.median() >= least)),
        Aim::None => (String::new(), None),
    };
    row(
        what,
        &measured.to_string(),
        &floor.map(Figure::to_string).unwrap_or_default(),
        &ratio.map(|ratio| format!("{ratio:.2}{of_best}")).unwrap_or_default(),
        &aim,
        match met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        },
    );
}

/// Shows what no single number tells, of what is measured and of the floor.
pub(crate) fn texts(what: &str, measured: &str, floor: &str) {
    row(what, measured, floor, "", "", "");
}

fn row(what: &str, measured: &str, floor: &str, ratio: &str, aim: &str, met: &str) {
    println!("  {what:<47} {measured:>22} {floor:>22} {ratio:>12} {aim:>12}  {met}");
}
