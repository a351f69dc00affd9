//! What a command comes to: something for the supervisor to do, or an answer that needs nobody.

use einhorn_proto::{Audience, COMMANDS, Command, CommandInfo};
use einhyrningsins_supervisor::{PoolCommand, Stop, UpgradePlan};
use nix::sys::signal::Signal;

use crate::forms::core_signal;
use crate::sys::signals::parse_signal;

/// The version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is answered without the supervisor.
pub(super) enum Answer {
    /// What was asked for.
    Told(String),
    /// No signal has this name.
    InvalidSignal(String),
    /// The command has its name, and nothing else.
    Unknown(&'static str),
}

impl Answer {
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Told(_))
    }

    pub(super) fn in_words(self, of_einhorn: bool) -> String {
        match self {
            Self::Told(message) => message,
            Self::InvalidSignal(name) if of_einhorn => format!("Invalid signal: \"{name}\""),
            Self::InvalidSignal(name) => format!("invalid signal: \"{name}\""),
            Self::Unknown(command) => format!("{command}: not in this version ({VERSION})"),
        }
    }
}

/// What the supervisor is to do.
pub(super) fn pool_command(command: &Command) -> Result<PoolCommand, Answer> {
    Ok(match command {
        Command::Inc { by } => PoolCommand::Inc(*by),
        Command::Dec { by } => PoolCommand::Dec(*by),
        Command::SetWorkers { count } => PoolCommand::SetWorkers(*count),
        Command::Upgrade { fleet, canary, soak } => {
            PoolCommand::Upgrade(UpgradePlan { is_fleet: *fleet, canary: *canary, soak: *soak })
        }
        Command::UpgradeContinue => PoolCommand::Continue,
        Command::UpgradeAbort => PoolCommand::Abort,
        Command::UpgradeFollow => PoolCommand::Follow,
        Command::Rollback => PoolCommand::Rollback,
        Command::Respawn => PoolCommand::Respawn,
        Command::Signal { signals } if signals.is_empty() => {
            let names: Vec<_> = Signal::iterator().map(Signal::as_str).collect();
            return Err(Answer::Told(format!("signals: {}", names.join(" "))));
        }
        Command::Signal { signals } => {
            let parsed: Result<Vec<_>, _> = signals.iter().map(|name| signal(name.as_str())).collect();
            PoolCommand::Signal(parsed?.into_iter().map(core_signal).collect())
        }
        Command::Die { signal: name } => {
            let how = match name {
                Some(name) => Stop::With(core_signal(signal(name.as_str())?)),
                None => Stop::Gracefully,
            };
            PoolCommand::Stop { how, why: "a control client asked for it".to_owned() }
        }
        command => return Err(Answer::Unknown(command.name())),
    })
}

fn signal(name: &str) -> Result<Signal, Answer> {
    parse_signal(name).map_err(|_| Answer::InvalidSignal(name.to_owned()))
}

/// The commands that people type, a line each; users of einhornsh type one more.
pub(super) fn help(of_einhorn: bool) -> String {
    let is_listed =
        |info: &&CommandInfo| info.is_typed() || (of_einhorn && info.audience == Audience::Einhornsh);
    let lines = COMMANDS.iter().filter(is_listed).map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}
