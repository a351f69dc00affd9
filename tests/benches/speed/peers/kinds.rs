//! The other masters that can be measured: how each is started with N workers, and how it is asked to replace them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use nix::sys::signal::Signal;
use tests::{binaries, install};

/// A program that replaces the workers of a server.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What it is called by; `None` if it is not installed.
    program: fn() -> Option<Vec<PathBuf>>,
    /// The option that prints the version.
    version: &'static str,
    /// What starts it, after `program`.
    arguments: fn(&Place) -> Vec<String>,
    pub(super) request: Request,
    pub(super) workers: Workers,
    /// More workers than this it cannot have, or this machine not hold.
    pub(super) most: u32,
}

/// How it is asked for an upgrade.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request {
    Signal(Signal),
    /// A line to its control socket, in [`Place::socket`].
    Line(&'static str),
}

/// What its workers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Workers {
    /// Any program. An old one is asked to stop when the new ones are known to be ready.
    Any,
    /// Its own, which it takes for ready as soon as they are forked: each sends a datagram to [`Place::ready`] when it is.
    Unready,
    /// Its own, which need no time to boot.
    Ready,
    /// Threads of one process, which need no time to boot.
    Threads,
}

/// What one of them is started with.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) address: SocketAddr,
    pub(super) workers: u32,
    pub(super) boot_ms: u64,
    /// For those that run any program.
    pub(super) program: Vec<String>,
}

impl Place {
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("control")
    }

    pub(super) fn ready(&self) -> PathBuf {
        self.directory.join("ready")
    }

    /// Writes a file, and gives its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("a file in a directory of ours");
        path.display().to_string()
    }
}

pub(super) const KINDS: [Kind; 6] = [
    Kind {
        name: "einhorn",
        program: einhorn,
        version: "--version",
        arguments: einhorn_arguments,
        request: Request::Line("{\"command\":\"upgrade_fleet\"}\n"),
        workers: Workers::Any,
        most: 500,
    },
    Kind {
        name: "Server::Starter",
        program: || in_path("start_server"),
        version: "--version",
        arguments: server_starter_arguments,
        request: Request::Signal(Signal::SIGHUP),
        workers: Workers::Any,
        most: 1,
    },
    Kind {
        name: "nginx",
        program: || in_path("nginx"),
        version: "-v",
        arguments: nginx_arguments,
        request: Request::Signal(Signal::SIGHUP),
        workers: Workers::Ready,
        most: 500,
    },
    Kind {
        name: "HAProxy",
        program: || in_path("haproxy"),
        version: "-v",
        arguments: haproxy_arguments,
        request: Request::Signal(Signal::SIGUSR2),
        workers: Workers::Threads,
        most: 64,
    },
    Kind {
        name: "gunicorn",
        program: gunicorn,
        version: "--version",
        arguments: gunicorn_arguments,
        request: Request::Signal(Signal::SIGHUP),
        workers: Workers::Unready,
        most: 128,
    },
    Kind {
        name: "puma",
        program: || in_path("puma"),
        version: "--version",
        arguments: puma_arguments,
        request: Request::Signal(Signal::SIGUSR1),
        workers: Workers::Unready,
        most: 128,
    },
];

impl Kind {
    /// Its version; `None` if it is not installed.
    pub(super) fn version(&self) -> Option<String> {
        let words = (self.program)()?;
        let output = crate::results::output(Command::new(&words[0]).args(&words[1..]).arg(self.version));
        let words = output.split([' ', '/', '\n']).map(|word| word.trim_matches(['(', ')', 'v']));
        let version = words
            .into_iter()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
        version.map(str::to_owned)
    }

    /// Whether it has workers that take time to boot.
    pub(super) fn boots(&self) -> bool {
        matches!(self.workers, Workers::Any | Workers::Unready)
    }

    /// What starts it.
    pub(super) fn command(&self, place: &Place) -> Command {
        let words = (self.program)().expect("it was found before");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args((self.arguments)(place)).current_dir(&place.directory);
        // Whoever starts this benchmark may have been told of a socket that is not theirs.
        command.env_remove("NOTIFY_SOCKET").env("TINY_BOOT_MS", place.boot_ms.to_string());
        command
    }
}

fn in_path(name: &str) -> Option<Vec<PathBuf>> {
    let directories = env::split_paths(&env::var_os("PATH")?).collect::<Vec<_>>();
    // Servers are where the path of an ordinary user may not lead.
    let mut directories = directories.into_iter().chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    directories.find_map(|directory| Some(vec![Some(directory.join(name)).filter(|path| path.is_file())?]))
}

/// The script, which Ruby runs: a binary of this name is ours.
fn einhorn() -> Option<Vec<PathBuf>> {
    in_path("einhorn").filter(|words| fs::read(&words[0]).is_ok_and(|bytes| bytes.starts_with(b"#!")))
}

/// The Python that has it: what pip wrote to start it names the directory in which it was installed first.
fn gunicorn() -> Option<Vec<PathBuf>> {
    let program = install::python_program("gunicorn");
    program.is_file().then(|| vec![program.with_file_name("python"), "-m".into(), "gunicorn".into()])
}

fn einhorn_arguments(place: &Place) -> Vec<String> {
    let path = |name: &str| place.directory.join(name).display().to_string();
    let number = place.workers.to_string();
    let bind = place.address.to_string();
    let options = ["-m", "manual", "-n", &number, "-b", &bind];
    let mut arguments: Vec<_> = options.map(str::to_owned).into();
    arguments.extend(["-d".into(), place.socket().display().to_string()]);
    arguments.extend(["-e".into(), path("pid"), "-f".into(), path("lock"), "--".into()]);
    arguments.extend_from_slice(&place.program);
    arguments
}

/// Our worker does not know Server::Starter's variable for sockets: a line of shell translates it.
fn server_starter_arguments(place: &Place) -> Vec<String> {
    let line = "EINHORN_FD_COUNT=1 EINHORN_FD_0=${SERVER_STARTER_PORT##*=} exec \"$0\" \"$@\"";
    let port = format!("--port={}", place.address);
    let mut arguments: Vec<_> = [&port, "--", "sh", "-c", line].map(str::to_owned).into();
    arguments.extend_from_slice(&place.program);
    arguments
}

fn nginx_arguments(place: &Place) -> Vec<String> {
    let Place { directory, address, workers, .. } = place;
    let directory = directory.display();
    let text = format!(
        "daemon off;
         pid {directory}/pid;
         error_log stderr;
         worker_processes {workers};
         events {{ }}
         http {{
             access_log off;
             client_body_temp_path {directory}/body;
             proxy_temp_path {directory}/proxy;
             fastcgi_temp_path {directory}/fastcgi;
             scgi_temp_path {directory}/scgi;
             uwsgi_temp_path {directory}/uwsgi;
             server {{
                 listen {address} backlog=4096;
                 location / {{ return 200 hello; }}
             }}
         }}"
    );
    vec!["-c".into(), place.file("nginx.conf", &text)]
}

fn haproxy_arguments(place: &Place) -> Vec<String> {
    let Place { address, workers, .. } = place;
    let text = format!(
        "global
             nbthread {workers}
         defaults
             mode http
             timeout client 10s
         frontend web
             bind {address}
             http-request return status 200 content-type text/plain string hello
"
    );
    vec!["-W".into(), "-f".into(), place.file("haproxy.cfg", &text)]
}

fn gunicorn_arguments(place: &Place) -> Vec<String> {
    let Place { address, workers, boot_ms, .. } = place;
    let ready = place.ready();
    let text = format!(
        "import socket, time
bind = '{address}'
workers = {workers}
chdir = '{}'
wsgi_app = 'wsgi_hello'
def post_fork(server, worker):
    time.sleep({boot_ms} / 1000)
def post_worker_init(worker):
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', '{}')
",
        install::servers().display(),
        ready.display()
    );
    vec!["-c".into(), place.file("gunicorn.conf.py", &text)]
}

fn puma_arguments(place: &Place) -> Vec<String> {
    let Place { address, workers, boot_ms, .. } = place;
    let ready = place.ready();
    let rackup = format!(
        "require 'socket'
sleep {boot_ms} / 1000.0
eval File.read('{}')
Socket.new(:UNIX, :DGRAM).send('READY=1', 0, Socket.sockaddr_un('{}'))
",
        install::servers().join("config.ru").display(),
        ready.display()
    );
    let rackup = place.file("config.ru", &rackup);
    // What is loaded before the workers are forked cannot be replaced by a phased restart.
    let text = format!(
        "bind 'tcp://{address}'
workers {workers}
threads 1, 1
preload_app! false
environment 'production'
rackup '{rackup}'
"
    );
    vec!["-C".into(), place.file("puma.rb", &text)]
}

/// The program `name` of this crate, as a peer's worker.
pub(super) fn worker(name: &str, arguments: &[&str]) -> Vec<String> {
    let path: &Path = &binaries::worker(name);
    let words = arguments.iter().map(|&word| word.to_owned());
    [path.display().to_string()].into_iter().chain(words).collect()
}
