//! What a worker is told of its sockets, in every convention that servers know.

use super::Listener;
use crate::sys::spawn::FIRST_SOCKET;

/// The variables that describe `listeners` to a worker that has them from [`FIRST_SOCKET`] upward, in this
/// order. `LISTEN_PID` goes with them and is not among them: it is another in each worker.
///
/// Without listeners there is only `EINHORN_FD_COUNT`: the other conventions say that by saying nothing.
#[must_use]
pub fn exports(listeners: &[Listener]) -> Vec<(String, String)> {
    let mut variables = vec![("EINHORN_FD_COUNT".to_owned(), listeners.len().to_string())];
    if listeners.is_empty() {
        return variables;
    }
    let mut fds = Vec::new();
    let mut names = Vec::new();
    let mut starter_ports = Vec::new();
    for ((index, listener), fd) in listeners.iter().enumerate().zip(FIRST_SOCKET..) {
        variables.push((format!("EINHORN_FD_{index}"), fd.to_string()));
        variables.push((format!("EINHORN_FD_FAMILY_{index}"), listener.family_name().to_owned()));
        fds.push(fd.to_string());
        names.push(listener.name_at(index));
        starter_ports.push(format!("{}={fd}", listener.address));
    }
    for (name, value) in [
        ("EINHORN_FDS", fds.join(" ")),
        ("LISTEN_FDS", listeners.len().to_string()),
        ("LISTEN_FDNAMES", names.join(":")),
        ("SERVER_STARTER_PORT", starter_ports.join(";")),
    ] {
        variables.push((name.to_owned(), value));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{Family, bind};

    #[test]
    fn each_convention_finds_the_sockets_in_its_own_words() {
        let listeners = ["127.0.0.1:0,name=web", "[::1]:0"]
            .map(|spec| bind(&spec.parse().unwrap(), Family::Any, None).unwrap());
        let [web, second] = [0, 1].map(|index: usize| listeners[index].address.port());
        let expected = [
            ("EINHORN_FD_COUNT", "2"),
            ("EINHORN_FD_0", "3"),
            ("EINHORN_FD_FAMILY_0", "AF_INET"),
            ("EINHORN_FD_1", "4"),
            ("EINHORN_FD_FAMILY_1", "AF_INET6"),
            ("EINHORN_FDS", "3 4"),
            ("LISTEN_FDS", "2"),
            ("LISTEN_FDNAMES", "web:socket-1"),
            ("SERVER_STARTER_PORT", &format!("127.0.0.1:{web}=3;[::1]:{second}=4")),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(exports(&listeners), expected);
    }

    #[test]
    fn without_sockets_only_their_number_is_told() {
        assert_eq!(exports(&[]), [("EINHORN_FD_COUNT".to_owned(), "0".to_owned())]);
    }
}
