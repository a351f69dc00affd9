//! What was typed. What it means is for `config.rs` to say.

mod native;
mod reexec;
mod values;

pub use native::Args;
pub use reexec::{CommandWords, ReexecArgs, Takeover};
pub use values::{AckModeArg, LogFormat, NiceArg};
