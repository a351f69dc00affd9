//! Variables that describe a worker's sockets, in every convention that servers know.

use einhyrningsins_supervisor::Generation;

use super::{Address, Listener, UnixName};
use crate::sys::spawn::FIRST_SOCKET;

/// The variables that describe `listeners` to a worker of `generation` that has them from [`FIRST_SOCKET`] up, in this order.
/// `LISTEN_PID` belongs to them but is not included, because it differs per worker.
///
/// Without listeners, only `EINHORN_FD_COUNT` is set; the other conventions express that by absence.
///
/// Server::Starter knows TCP ports, Unix stream sockets by path and, since version 0.35, UDP ports, marked with
/// a `u`. Its variable leaves out other sockets.
pub fn exports<'a>(
    listeners: impl ExactSizeIterator<Item = &'a Listener>,
    generation: Generation,
) -> Vec<(String, String)> {
    let mut variables = vec![("EINHORN_FD_COUNT".to_owned(), listeners.len().to_string())];
    if listeners.len() == 0 {
        return variables;
    }
    let mut fds = Vec::new();
    let mut names = Vec::new();
    let mut starter_ports = Vec::new();
    for ((index, listener), fd) in listeners.enumerate().zip(FIRST_SOCKET..) {
        variables.push((format!("EINHORN_FD_{index}"), fd.to_string()));
        variables.push((format!("EINHORN_FD_FAMILY_{index}"), listener.address.family_name().to_owned()));
        fds.push(fd.to_string());
        names.push(listener.name_at(index));
        starter_ports.extend(starter_port(&listener.address).map(|port| format!("{port}={fd}")));
    }
    for (name, value) in [
        ("EINHORN_FDS", fds.join(" ")),
        ("LISTEN_FDS", fds.len().to_string()),
        ("LISTEN_FDNAMES", names.join(":")),
    ] {
        variables.push((name.to_owned(), value));
    }
    if !starter_ports.is_empty() {
        variables.push(("SERVER_STARTER_PORT".to_owned(), starter_ports.join(";")));
    }
    variables.push(("SERVER_STARTER_GENERATION".to_owned(), generation.to_string()));
    variables
}

/// The form in Server::Starter's variable.
fn starter_port(address: &Address) -> Option<String> {
    match address {
        Address::Tcp(address) => Some(address.to_string()),
        Address::Udp(address) => {
            let text = address.to_string();
            let (host, port) = text.rsplit_once(':')?;
            Some(format!("{host}:u{port}"))
        }
        // A semicolon or an equals sign in the path would be read as its end.
        Address::Unix(UnixName::Path(path)) => {
            path.to_str().filter(|path| !path.contains([';', '='])).map(str::to_owned)
        }
        Address::Unix(_) | Address::Seqpacket(_) | Address::UnixDatagram(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{Family, bind};

    #[test]
    fn each_convention_describes_the_sockets() {
        let listeners = ["127.0.0.1:0,name=web", "[::1]:0"]
            .map(|spec| bind(&spec.parse().unwrap(), Family::Any, None).unwrap());
        let [web, second] = [0, 1].map(|index: usize| listeners[index].address.inet().unwrap().port());
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
            ("SERVER_STARTER_GENERATION", "2"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(exports(listeners.iter(), Generation(2)), expected);
    }

    #[test]
    fn other_kinds_of_sockets_are_in_the_conventions_that_know_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let specs = [
            format!("unix:{}", path.display()),
            "udp:127.0.0.1:0,name=packets".to_owned(),
            format!("unix:@{}", directory.path().display()),
            format!("seqpacket:{}/b.sock", directory.path().display()),
        ];
        let listeners = specs.map(|spec| bind(&spec.parse().unwrap(), Family::Any, None).unwrap());
        let exported = exports(listeners.iter(), Generation(2));
        let value =
            |name: &str| exported.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let families = [0, 1, 2, 3].map(|index| value(&format!("EINHORN_FD_FAMILY_{index}")).unwrap());
        assert_eq!(families, ["AF_UNIX", "AF_INET", "AF_UNIX", "AF_UNIX"]);
        assert_eq!(value("LISTEN_FDS"), Some("4"));
        assert_eq!(value("LISTEN_FDNAMES"), Some("socket-0:packets:socket-2:socket-3"));
        let port = listeners[1].address.inet().unwrap().port();
        let expected = format!("{}=3;127.0.0.1:u{port}=4", path.display());
        assert_eq!(value("SERVER_STARTER_PORT"), Some(expected.as_str()));
        assert!(
            !exports(listeners[2..].iter(), Generation(2))
                .iter()
                .any(|(name, _)| name == "SERVER_STARTER_PORT")
        );
    }

    #[test]
    fn without_sockets_only_their_number_is_set() {
        assert_eq!(exports([].iter(), Generation(2)), [("EINHORN_FD_COUNT".to_owned(), "0".to_owned())]);
    }
}
