//! The protocol's ledger: which command came with which version.

/// The version of the control protocol that this crate speaks.
///
/// It grows when a command, a field or an event is added. What a version brought stays.
pub const PROTOCOL_VERSION: u32 = 1;

/// What there is to know of a command.
#[derive(Debug, Clone, Copy)]
pub struct CommandInfo {
    /// Its name on the wire.
    pub name: &'static str,
    /// Its arguments, as help shows them; empty if it has none.
    pub arguments: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// The protocol version that brought it.
    pub since: u32,
    /// Whether people type it (`false`: only programs send it).
    pub interactive: bool,
}

const fn command(name: &'static str, arguments: &'static str, summary: &'static str) -> CommandInfo {
    CommandInfo { name, arguments, summary, since: 1, interactive: true }
}

const fn for_programs(info: CommandInfo) -> CommandInfo {
    CommandInfo { interactive: false, ..info }
}

/// Every command, in the order in which help lists them.
pub const COMMANDS: &[CommandInfo] = &[
    command("status", "", "Show the master, its listeners and every worker"),
    command("upgrade", "", "Replace every worker with one from the current code, one by one"),
    command("upgrade_fleet", "", "Replace every worker, all new ones at once"),
    command("upgrade_continue", "", "End the soak of the upgrade that runs: the rest follows"),
    command("upgrade_abort", "", "End the upgrade that runs, and go back"),
    command("upgrade_follow", "", "Follow the upgrade that runs to its end"),
    command("rollback", "", "Go back to the release before"),
    command("inc", "[COUNT]", "Add COUNT workers [default: 1]"),
    command("dec", "[COUNT]", "Remove COUNT workers, draining them [default: 1]"),
    command("set_workers", "COUNT", "Set the number of workers"),
    command("respawn", "", "Fill empty slots now, given up or waiting"),
    command("signal", "[SIGNAL...]", "Send signals to every worker; without one, list the signals"),
    command("die", "[SIGNAL]", "Stop the workers gracefully, and then the master"),
    command("reload", "", "Replace the master itself and keep the workers"),
    command("events", "", "Show what happens as it happens"),
    command("state", "", "Show everything that the master knows, for programs and bug reports"),
    command("louder", "", "Make the master's log say more"),
    command("quieter", "", "Make the master's log say less"),
    command("version", "", "Show the versions of master and protocol"),
    command("help", "", "List the commands"),
    for_programs(command("config", "[OPTIONS]", "Change options, from now on; OPTIONS is a map in YAML")),
    for_programs(command("ehlo", "[USER]", "Greet the master")),
    for_programs(command("worker:ack", "PID", "A worker says that it takes traffic")),
    for_programs(command("worker:ping", "PID [REQUEST_ID]", "A worker says that it is still well")),
];

/// What there is to know of the command `name`.
#[must_use]
pub fn command_info(name: &str) -> Option<&'static CommandInfo> {
    COMMANDS.iter().find(|info| info.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, RequestErrorKind};

    #[test]
    fn every_command_in_the_ledger_is_read() {
        for info in COMMANDS {
            let line = format!(r#"{{"command":"{}","args":[]}}"#, info.name);
            match Request::from_json(line.as_bytes()) {
                Ok(request) => assert_eq!(request.command.name(), info.name),
                Err(error) => assert!(
                    matches!(error.kind, RequestErrorKind::BadArgument { .. }),
                    "{}: {error}",
                    info.name
                ),
            }
        }
    }
}
