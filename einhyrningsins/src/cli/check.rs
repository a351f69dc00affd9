//! Options about the check of a release.

use std::time::Duration;

use einhorn_proto::parse_seconds_above_zero;
use einhyrningsins_supervisor::CHECK_TIMEOUT;

use super::CommandWords;

/// What checks a release before the pool gets it.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Command that checks a new release, on a trial worker of its own, before an upgrade replaces the first worker
    ///
    /// The trial worker gets private copies of the sockets, and the command gets their addresses in EINHORN_CHECK_ADDR_0,
    /// EINHORN_CHECK_ADDR_1 and so on. If the command does not exit with status 0, the upgrade fails and touches no worker.
    /// CMDLINE is split into words as a shell does, and runs without a shell, as the workers' user.
    #[arg(long, value_name = "CMDLINE", value_parser = command_line, allow_hyphen_values = true, help_heading = "Workers")]
    pub check: Option<String>,

    /// How long the check of a release may take before it counts as failed
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds_above_zero,
          help_heading = "Workers")]
    pub check_timeout: Duration,

    /// Also check the release of the first start
    ///
    /// Connections wait until then. If the check fails, the master exits with 1.
    #[arg(long, requires = "check", help_heading = "Workers")]
    pub check_first: bool,
}

/// No checks.
impl Default for CheckArgs {
    fn default() -> Self {
        Self { check: None, check_timeout: CHECK_TIMEOUT, check_first: false }
    }
}

/// A command line that can be split; it is, each time that it runs.
pub(super) fn command_line(text: &str) -> Result<String, String> {
    text.parse::<CommandWords>().map(|_| text.to_owned())
}
