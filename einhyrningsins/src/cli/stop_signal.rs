//! The signal that asks a worker to stop, by its own name or by that of a server whose stop signal is known.

use nix::sys::signal::Signal;

use crate::servers::{SERVERS, Server};
use crate::sys::signals::parse_signal;

/// Neither a signal nor a server that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither a signal, as kill -l names them or by number, nor a server whose signal is known: {}",
    known_servers()
)]
pub struct UnknownStopSignal;

/// Reads a signal, or the name of a server, in any case.
///
/// # Errors
/// [`UnknownStopSignal`], whose message lists the known servers.
pub fn parse_stop_signal(text: &str) -> Result<Signal, UnknownStopSignal> {
    match Server::by_name(text.trim()) {
        Some(server) => Ok(server.stop_signal),
        None => parse_signal(text).map_err(|_| UnknownStopSignal),
    }
}

/// The help of the option, with the names of the servers.
pub(super) fn help() -> String {
    format!(
        "Signal that asks a worker to stop, or the name of a server, for the signal on which that drains: {}. \
         --stop-signal is the same option",
        known_servers()
    )
}

fn known_servers() -> String {
    SERVERS.iter().map(|server| server.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_stands_for_the_signal_on_which_it_drains() {
        assert_eq!(parse_stop_signal("nginx"), Ok(Signal::SIGQUIT));
        assert_eq!(parse_stop_signal("Gunicorn"), Ok(Signal::SIGTERM));
        assert_eq!(parse_stop_signal("winch"), parse_stop_signal("apache"));
    }

    #[test]
    fn a_signal_is_read_as_everywhere() {
        for name in ["USR2", "sigusr2", "12"] {
            assert_eq!(parse_stop_signal(name), Ok(Signal::SIGUSR2), "for {name}");
        }
    }

    #[test]
    fn no_server_is_called_as_a_signal_is() {
        for Server { name, .. } in SERVERS {
            assert!(parse_signal(name).is_err(), "for {name}");
        }
    }

    #[test]
    fn the_page_has_each_server_with_its_signal() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/man/einhyrningsins.1");
        let page = std::fs::read_to_string(page).unwrap();
        for Server { name, stop_signal, .. } in SERVERS {
            let signal = einhorn_proto::short_signal_name(stop_signal.as_str());
            assert!(
                page.contains(&format!(".Cm {name}\n.Pq {signal} ")),
                "{name} {signal} is not in the page"
            );
        }
    }

    #[test]
    fn what_is_neither_is_told_the_servers_that_are_known() {
        let message = parse_stop_signal("ngnix").unwrap_err().to_string();
        for Server { name, .. } in SERVERS {
            assert!(message.contains(name), "{name} is not in: {message}");
        }
    }
}
