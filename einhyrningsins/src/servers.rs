//! Servers whose stop signal is known, by the names of their programs.

use nix::sys::signal::Signal;

/// A server, and how it is asked to finish its requests and exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    pub name: &'static str,
    /// Other names of its program. One that ends in `*` stands for every name that begins so and continues with a
    /// version.
    aliases: &'static [&'static str],
    pub stop_signal: Signal,
    /// Whether it sends itself that signal once it has drained, so that the signal ends it.
    pub reraises: bool,
}

const fn server(name: &'static str, aliases: &'static [&'static str], stop_signal: Signal) -> Server {
    Server { name, aliases, stop_signal, reraises: false }
}

const fn reraising(server: Server) -> Server {
    Server { reraises: true, ..server }
}

/// Every known server.
pub const SERVERS: &[Server] = &[
    // httpd.apache.org, "Stopping and Restarting": graceful-stop, with -D FOREGROUND.
    server("apache", &["apache2", "httpd"], Signal::SIGWINCH),
    // docs.gunicorn.org, "Signal Handling": graceful shutdown; QUIT and INT are quick.
    server("gunicorn", &[], Signal::SIGTERM),
    // HAProxy's management guide, "Stopping and restarting HAProxy": graceful stop; TERM is hard.
    server("haproxy", &[], Signal::SIGUSR1),
    // hypercorn.readthedocs.io, "Configuring": graceful_timeout, after SIGTERM.
    server("hypercorn", &[], Signal::SIGTERM),
    // nginx.org, "Controlling nginx": graceful shutdown; TERM and INT are fast.
    server("nginx", &[], Signal::SIGQUIT),
    // php-fpm(8), "SIGNALS": graceful stop; TERM and INT are immediate.
    server("php-fpm", &["php-fpm*"], Signal::SIGQUIT),
    // puma's docs/signals.md: TERM finishes requests; USR2 restarts it. Puma::DSL#raise_exception_on_sigterm: on by default.
    reraising(server("puma", &[], Signal::SIGTERM)),
    // Plack::Handler::Starlet is written for Server::Starter, which sends TERM.
    server("starlet", &[], Signal::SIGTERM),
    // starman(1), "SIGNALS": QUIT is its graceful stop; TERM is not.
    server("starman", &[], Signal::SIGQUIT),
    // unicorn's SIGNALS: QUIT waits for requests; TERM and INT do not, and USR2 executes it anew.
    server("unicorn", &["unicorn_rails"], Signal::SIGQUIT),
    // www.uvicorn.org, "Server behavior", "Graceful process shutdown". Release notes of 0.29: it re-raises the signal.
    reraising(server("uvicorn", &[], Signal::SIGTERM)),
];

impl Server {
    /// The server with this name, in any case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        SERVERS.iter().find(|server| server.name.eq_ignore_ascii_case(name))
    }

    /// The server of which this is a program's name.
    #[must_use]
    pub fn of_program(program: &str) -> Option<&'static Self> {
        let is = |name: &str| match name.strip_suffix('*') {
            Some(name) => program.strip_prefix(name).is_some_and(is_version),
            None => program == name,
        };
        SERVERS.iter().find(|server| is(server.name) || server.aliases.iter().any(|name| is(name)))
    }
}

/// Whether `text` is digits and dots, such as `8.2`.
fn is_version(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_their_names_and_no_others() {
        for (program, server) in [
            ("nginx", "nginx"),
            ("httpd", "apache"),
            ("apache2", "apache"),
            ("php-fpm", "php-fpm"),
            ("php-fpm8.2", "php-fpm"),
            ("unicorn_rails", "unicorn"),
        ] {
            assert_eq!(Server::of_program(program).map(|server| server.name), Some(server), "{program}");
        }
        for program in ["", "nginx-proxy", "php-fpm-exporter", "php-fpm8x", "Puma", "my-puma"] {
            assert_eq!(Server::of_program(program), None, "{program}");
        }
    }
}
