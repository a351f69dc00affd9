//! Options about who hears of what happens to the pool, and of what its workers write.

use std::path::PathBuf;

use super::check::command_line;
use super::values::LogWorkersArg;

/// Who hears of it, apart from the log and clients.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ReportArgs {
    /// Where workers write: "inherit", to the master's standard output and error, or "journal[=NAME]", to journald
    ///
    /// In the journal, each line has the name of its worker's slot, such as web/3, and the process that wrote it. NAME is
    /// by default that of -c or of the program. Without journald, workers write as with "inherit", and the log has a
    /// warning. [default: inherit]
    #[arg(long, value_name = "WHERE", help_heading = "Log")]
    pub log_workers: Option<LogWorkersArg>,

    /// File that keeps the history of "einhyrningsinsctl history" when the master stops
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    pub history: Option<PathBuf>,

    /// Command to run when all workers are up, an upgrade is done or has failed, a worker has died, or a slot was given up
    ///
    /// It runs for one event at a time, as the master's user. EINHORN_EVENT has the name of the event, and standard input
    /// has the event as a line of JSON. CMDLINE is split into words as a shell does, and runs without a shell.
    #[arg(long, value_name = "CMDLINE", value_parser = command_line, allow_hyphen_values = true, help_heading = "Log")]
    pub on_event: Option<String>,
}
