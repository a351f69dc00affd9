//! Options of a running master: which values are in force, where they came from, and what an upgrade changes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An option whose lines in the options file have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionChange {
    /// Its long name, such as `--number`.
    pub option: String,
    /// What was given for it before, as it was typed; `None` if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What is given for it now; `None` if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Where, as `FILE:LINE`; `None` if its line is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What came of it.
    pub effect: OptionEffect,
}

/// What came of a changed option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionEffect {
    /// It is in force.
    Now,
    /// It is not in force, because the upgrade was rolled back.
    Undone,
    /// It takes effect at the next start: it cannot change while the master runs.
    NextStart,
    /// It has no effect, because the command line has the same option.
    Hidden,
}

impl fmt::Display for OptionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, from, to, place, effect } = self;
        let words = |words: &Option<String>| words.clone().unwrap_or_else(|| "not given".to_owned());
        write!(f, "option {option}: {} -> {}", words(from), words(to))?;
        if let Some(place) = place {
            write!(f, " ({place})")?;
        }
        f.write_str(match effect {
            OptionEffect::Now => "",
            OptionEffect::Undone => ", undone with the upgrade",
            OptionEffect::NextStart => ", takes effect at the next start",
            OptionEffect::Hidden => ", without effect: the command line has this option",
        })
    }
}

/// The answer to `config_show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Every option, in the order of the master's help.
    pub options: Vec<OptionStatus>,
}

/// An option of a running master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionStatus {
    /// Its long name, such as `--number`.
    pub option: String,
    /// The value in force, as it would be typed; several of one option are separated by blanks. `None` if there is none.
    #[serde(default)]
    pub value: Option<String>,
    /// Where it came from: `default`, `command line`, `FILE:LINE` or `command`, for one that a client changed.
    pub origin: String,
    /// What the options file says, if that takes effect at the next start only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
