//! The command lines: parses what was typed. `config.rs` turns it into what it means.

mod answer;
mod check;
#[cfg(test)]
mod completions;
mod handover;
mod lines;
mod native;
mod process;
mod recycling;
mod reports;
mod shared;
mod stop_signal;
mod values;

pub use answer::Answer;
pub use check::CheckArgs;
pub use handover::{HandoverArgs, Takeover};
pub use lines::{BadLine, Given, Merged, OptionLine, hidden, on_command_line, option_name, values};
pub use native::Args;
pub use process::{CpuAffinityArg, ProcessArgs, UserArg};
pub use recycling::{MaxAgeArg, RecyclingArgs};
pub use reports::ReportArgs;
pub use shared::SharedArgs;
pub use values::{AckModeArg, CommandWords, LogFormat, LogWorkersArg, NiceArg, NumberArg, parse_nice};
