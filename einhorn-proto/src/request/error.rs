//! Why a line is no valid request.

use crate::{CommandInfo, command_elsewhere};

/// What is wrong with a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestErrorKind {
    /// The line is not JSON.
    #[error("cannot parse the request: {0}")]
    NotJson(serde_json::Error),
    /// The line is neither JSON nor YAML.
    #[cfg(feature = "yaml")]
    #[error("cannot parse the request: {0}")]
    NotYaml(#[from] crate::NotYaml),
    /// The line is JSON or YAML, but no object.
    #[error("a request is a JSON object such as {{\"command\":\"status\"}}")]
    NotAnObject,
    /// The `id` is neither number nor string.
    #[error("\"id\" must be a number or a string")]
    BadId,
    /// The `id` is longer than [`crate::ID_BYTES_MAX`].
    #[error("\"id\" is longer than {} bytes", crate::ID_BYTES_MAX)]
    LongId,
    /// There is no `command`, or it is no string.
    #[error("no \"command\" parameter provided; not sure what you want me to do")]
    NoCommand,
    /// There is no such command.
    #[error("unrecognized command: \"{command}\"; {}", suggestion(command))]
    UnknownCommand {
        /// The name as it was sent, or its beginning.
        command: String,
    },
    /// An argument is missing, superfluous or invalid.
    #[error("{command}: {argument} {why}")]
    BadArgument {
        /// The command.
        command: String,
        /// The argument's name, or its beginning.
        argument: String,
        /// What is wrong with it, as the rest of the sentence: `must be a string`.
        why: String,
    },
}

/// What to type instead of `word`.
fn suggestion(word: &str) -> String {
    match command_elsewhere(word) {
        Some(CommandInfo { name, .. }) => format!("did you mean \"{name}\"?"),
        None => "\"help\" lists the commands".to_owned(),
    }
}
