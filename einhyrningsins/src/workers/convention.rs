//! What a worker's process shows of its convention: whether it is a server whose stop signal is known, and which signals
//! it catches.

use std::cell::{OnceCell, RefCell};
use std::ffi::CString;

use einhorn_proto::DrainEnding;
use einhyrningsins_supervisor::{Generation, Shows, Signal};
use nix::unistd::Pid;

use super::Workers;
use crate::forms::{core_signal, system_signal};
use crate::servers::Server;
use crate::sys::shown::program_name;
use crate::sys::stat::Stat;

/// Programs that run another one, which their arguments name. Names that begin with `python` or `ruby` count too.
const RUNNERS: &[&str] = &["bundle", "env", "node", "perl", "plackup"];

/// Which server the last worker was that somebody looked at. Workers of one release that have the same name are the same
/// server.
#[derive(Debug)]
pub(super) struct LastSeen {
    generation: Generation,
    name: String,
    server: Option<&'static Server>,
}

/// A worker's process, looked at when something is asked about it.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pid: Pid,
    generation: Generation,
    last_seen: &'a RefCell<Option<LastSeen>>,
    /// The arguments that its release starts it with, the program's name first.
    words: &'a [CString],
    stat: OnceCell<Option<Stat>>,
    server: OnceCell<Option<&'static Server>>,
}

impl Workers {
    /// The worker `pid`, of `generation`.
    pub(crate) fn shown(&self, pid: Pid, generation: Generation) -> Shown<'_> {
        let words = self.release(generation).map_or(&[][..], |release| &release.argv);
        Shown {
            pid,
            generation,
            last_seen: &self.last_seen,
            words,
            stat: OnceCell::new(),
            server: OnceCell::new(),
        }
    }
}

impl Shows for Shown<'_> {
    fn server(&self) -> Option<(&str, Signal)> {
        let server = self.known()?;
        Some((server.name, core_signal(server.stop_signal)))
    }

    /// `false` if `/proc` does not say.
    fn catches(&self, signal: Signal) -> bool {
        self.handles(signal) == Some(true)
    }
}

impl Shown<'_> {
    /// Whether it has a handler for `signal`; `None` if `/proc` does not say.
    fn handles(&self, signal: Signal) -> Option<bool> {
        Some(self.stat()?.caught.contains(system_signal(signal)?))
    }

    fn stat(&self) -> Option<&Stat> {
        self.stat.get_or_init(|| Stat::of(self.pid).ok()).as_ref()
    }

    /// What it tells if the process dies of `signal`.
    pub(crate) fn ending_by(&self, signal: Signal) -> DrainEnding {
        match self.handles(signal) {
            None => DrainEnding::Own,
            Some(false) => DrainEnding::Unhandled,
            Some(true) if self.known().is_some_and(|server| server.reraises) => DrainEnding::Reraised,
            Some(true) => DrainEnding::Handled,
        }
    }

    fn known(&self) -> Option<&'static Server> {
        *self.server.get_or_init(|| {
            let name = self.stat().map(|stat| &stat.name);
            let last = self.last_seen.borrow();
            let is_same = |last: &&LastSeen| last.generation == self.generation && Some(&last.name) == name;
            if let Some(last) = last.as_ref().filter(is_same) {
                return last.server;
            }
            drop(last);
            let names = program_name(self.pid).into_iter().chain(name.cloned());
            let server = names.filter_map(|name| Server::of_program(&name)).next();
            let server = server.or_else(|| server_of(self.words));
            let seen = name.map(|name| LastSeen { generation: self.generation, name: name.clone(), server });
            self.last_seen.replace(seen);
            server
        })
    }
}

/// The server that a command line starts: its program or, of one that runs others, what follows `-m` or `-s`, or else the
/// first word that is no option.
fn server_of(words: &[CString]) -> Option<&'static Server> {
    let mut words = words.iter().map(|word| word.to_string_lossy());
    let mut program = words.next()?.into_owned();
    loop {
        let name = program.rsplit('/').next()?;
        if let Some(server) = Server::of_program(name) {
            return Some(server);
        }
        if !RUNNERS.contains(&name) && !name.starts_with("python") && !name.starts_with("ruby") {
            return None;
        }
        program = loop {
            let word = words.next()?;
            match &*word {
                "-m" | "-s" => return Server::by_name(&words.next()?),
                "exec" if name == "bundle" => {}
                word if word.starts_with('-') || (name == "env" && word.contains('=')) => {}
                word => break word.to_owned(),
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_in_the_words_that_name_it_and_in_no_others() {
        let server = |line: &str| {
            let words: Vec<_> = line.split(' ').map(|word| CString::new(word).unwrap()).collect();
            server_of(&words).map(|server| server.name)
        };
        for (line, name) in [
            ("/usr/sbin/nginx -g daemon", "nginx"),
            ("python3 -m gunicorn app:app", "gunicorn"),
            ("/venv/bin/python /venv/bin/uvicorn app:app", "uvicorn"),
            ("env PYTHONUNBUFFERED=1 python3.12 -u -m uvicorn app:app", "uvicorn"),
            ("bundle exec puma -C config.rb", "puma"),
            ("ruby3.1 /usr/bin/unicorn_rails", "unicorn"),
            ("plackup -s Starlet app.psgi", "starlet"),
            ("perl /usr/bin/starman", "starman"),
        ] {
            assert_eq!(server(line), Some(name), "{line}");
        }
        for line in
            ["./server", "./server nginx", "node server.js puma", "python3 app.py gunicorn", "env", "sh puma"]
        {
            assert_eq!(server(line), None, "{line}");
        }
    }
}
