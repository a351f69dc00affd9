//! The command lines: parses what was typed. `config.rs` turns it into what it means.

mod answer;
mod care;
mod native;
mod process;
mod reexec;
mod shared;
mod stop_signal;
mod values;

pub use answer::Answer;
pub use care::{CareArgs, MaxAgeArg};
pub use native::Args;
pub use process::{CpuAffinityArg, ProcessArgs, UserArg};
pub use reexec::{CommandWords, ReexecArgs, Takeover};
pub use shared::SharedArgs;
pub use values::{AckModeArg, LogFormat, NiceArg, parse_nice};
