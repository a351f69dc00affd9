//! Servers that people run, installed as they are: rolling upgrades under load lose nothing of theirs.
//!
//! Some do that with a listener for each slot (`reuseport`) too, and then through a slot that goes and comes back.
//!
//! Each test prints its row of the table in einhyrningsins/doc/workers.md (`--nocapture` shows it). The page must have that
//! row; the figures may differ. Every command is run as the table has it, in `tests/servers`.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;
use tests::alone::Alone;
use tests::install::{go_program, node_modules, python_program, servers};
use tests::load::{Fault, Load, Plan, Report};
use tests::needs::package;
use tests::wait::{patience, within};
use tests::{Master, MasterBuilder, process};

use crate::documentation::read;

tests::trials! {
    gunicorn_loses_nothing needs "gunicorn",
    gunicorn_with_threads_loses_nothing needs "gunicorn",
    gunicorn_for_asgi_loses_nothing needs "gunicorn",
    uvicorn_loses_what_it_loses_alone_too needs "uvicorn",
    node_loses_nothing needs "node",
    fastify_on_node_loses_nothing needs "node" "fastify",
    go_loses_nothing needs "go",
    puma_loses_nothing needs "puma",
    starlet_loses_nothing needs "starlet" "systemd",
    nginx_loses_nothing needs "nginx",
    haproxy_loses_nothing needs "haproxy",
}

/// One server at a time: each has the machine to itself, and its figures are its own.
pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A port that is free.
pub(crate) const LOOPBACK: &str = "127.0.0.1:0";

/// How a worker becomes up.
enum Ack {
    /// It says so: `-m`. How, in words.
    Manual(&'static str),
    /// After some time: `--ack-mode SECONDS`.
    Timer(f64),
}

/// A server, as a row of the table has it.
pub(crate) struct Server {
    name: &'static str,
    version: String,
    /// Whether the socket has to be non-blocking before it gets it.
    nonblocking: bool,
    /// The command after `--`.
    command: &'static str,
    ack: Ack,
    /// Directories for `PATH`, and other variables.
    paths: Vec<PathBuf>,
    environment: Vec<(&'static str, OsString)>,
}

impl Server {
    fn new(name: &'static str, version: String, command: &'static str) -> Self {
        Self {
            name,
            version,
            nonblocking: false,
            command,
            ack: Ack::Manual("`worker:ack`, in the program"),
            paths: Vec::new(),
            environment: Vec::new(),
        }
    }

    fn acks(self, ack: Ack) -> Self {
        Self { ack, ..self }
    }

    /// Finds `program` by its name, wherever it was installed.
    fn installed(mut self, program: &Path) -> Self {
        self.paths.insert(0, program.parent().expect("a directory").into());
        self
    }

    fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn path(&self) -> OsString {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let inherited = env::split_paths(&inherited);
        env::join_paths(self.paths.iter().cloned().chain(inherited)).expect("directories for PATH")
    }

    pub(crate) fn program(&self) -> Vec<&'static str> {
        self.command.split_ascii_whitespace().collect()
    }

    /// Three upgrades of three workers under load.
    fn three_upgrades(&self) -> Report {
        under_load(self.builder(LOOPBACK, "").option("--").program(self.program()), |_, _| {})
    }

    /// The same with a listener for each slot, then with one slot less, and one more.
    fn three_upgrades_and_a_slot_less(&self) -> Report {
        let builder = self.builder(LOOPBACK, ",reuseport").options(["--shrink-grace", "1"]);
        under_load(builder.option("--").program(self.program()), |master, load| {
            for (command, workers) in [("dec", 2), ("inc", 3)] {
                assert_eq!(master.control().ask(command, &[]).ok, Some(true), "{master}");
                master.wait_status("the resize", |status| {
                    status.master.up == workers && status.listeners[0].slots.len() == workers as usize
                });
                load.wait_for_answers(300);
            }
        })
    }

    /// A master of three of them at this address, whose sockets have these options.
    pub(crate) fn builder(&self, address: &str, options: &str) -> MasterBuilder {
        let builder = Master::builder();
        let builder = match self.ack {
            Ack::Manual(_) => builder,
            Ack::Timer(seconds) => builder.timer_acks(seconds),
        };
        let scratch = builder.file("");
        let nonblocking = if self.nonblocking { ",n" } else { "" };
        let bind = format!("{address},name=web{nonblocking}{options}");
        let mut builder = builder
            .workers(3)
            .without_bind()
            .options(["-b", &bind])
            .current_dir(servers())
            .env("PATH", self.path())
            .env("SCRATCH", scratch);
        for (name, value) in &self.environment {
            builder = builder.env(name, value);
        }
        builder
    }

    /// Prints its row, and asserts that the table has it.
    #[track_caller]
    fn row(&self, report: &Report, remark: &str, per_slot: Option<&Report>) {
        let Self { name, command, .. } = self;
        let (ack, acks_by) = match self.ack {
            Ack::Manual(how) => ("-m".to_owned(), how),
            Ack::Timer(seconds) => (format!("--ack-mode {seconds}"), "time"),
        };
        let bind = if self.nonblocking { "-b 127.0.0.1:8000,n " } else { "" };
        let row = format!("| {name} | `{bind}{ack} -- {command}` | {acks_by} |");
        let per_slot =
            per_slot.map_or(String::new(), |report| format!("{} of {}", report.failed(), report.requests));
        println!("{row} {} | {} | {}{remark} | {per_slot} |", self.version, report.requests, report.failed());
        let page = read("einhyrningsins/doc/workers.md");
        assert!(page.lines().any(|line| line.starts_with(&row)), "doc/workers.md has no row\n{row}");
    }

    /// Loses nothing.
    #[track_caller]
    fn loses_nothing(&self) {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let report = self.three_upgrades();
        report.assert_nothing_lost();
        self.row(&report, "", None);
    }

    /// Loses nothing, whether its listener is that of all or its own.
    #[track_caller]
    fn loses_nothing_either_way(&self) {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let reports = [self.three_upgrades(), self.three_upgrades_and_a_slot_less()];
        reports.iter().for_each(Report::assert_nothing_lost);
        self.row(&reports[0], "", Some(&reports[1]));
    }
}

/// Three upgrades under load, and what `then` does to it.
fn under_load(builder: MasterBuilder, then: impl FnOnce(&mut Master, &Load)) -> Report {
    let mut master = builder.start();
    let load = Plan::new(master.address()).start();
    for _ in 0..3 {
        load.wait_for_answers(300);
        let left = master.upgrade().left;
        assert_eq!((left.undrained, left.ended_by_signal), (0, 0), "{left}: {master}");
    }
    master.wait_up(3);
    load.wait_for_answers(300);
    then(&mut master, &load);
    let report = load.stop();
    assert!(!master.log().contains("did not drain"), "{master}");
    assert_eq!(report.generations(), [1, 2, 3, 4].into(), "{report}");
    report
}

/// The version that a program tells: the word at `index` of what it prints, without what is around the number.
#[track_caller]
fn version(program: &[&str], index: usize) -> String {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]);
    let told = process::run(command);
    let text = format!("{} {}", told.stdout, told.stderr);
    let word = text.split([' ', '/', '\n']).filter(|word| !word.is_empty()).nth(index);
    let word = word.unwrap_or_else(|| panic!("no version in {told}"));
    word.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned()
}

/// The version of what pip or npm has installed.
fn pinned(need: &str) -> String {
    package(need).split(['=', '@']).next_back().unwrap_or_default().to_owned()
}

/// It takes its socket from `LISTEN_FDS`, says `READY=1`, and drains on TERM.
pub(crate) fn gunicorn(name: &'static str, command: &'static str) -> Server {
    let server = Server::new(name, pinned("gunicorn"), command).installed(&python_program("gunicorn"));
    server.acks(Ack::Manual("`READY=1`, by itself"))
}

fn gunicorn_loses_nothing() {
    gunicorn("gunicorn", "gunicorn --preload --workers 1 wsgi_hello").loses_nothing();
}

fn gunicorn_with_threads_loses_nothing() {
    gunicorn("gunicorn, threads", "gunicorn --preload --workers 1 --threads 8 wsgi_hello")
        .loses_nothing_either_way();
}

/// Without `--keep-alive 0` it closes idle connections when it stops, with a request perhaps on its way.
fn gunicorn_for_asgi_loses_nothing() {
    let command = "gunicorn --preload --workers 1 --worker-class asgi --keep-alive 0 asgi_hello";
    gunicorn("gunicorn, ASGI", command).loses_nothing();
}

/// When it stops, it closes each connection that it has accepted and read nothing from, and no option changes
/// that. The same happens without a master, which the test shows.
fn uvicorn_loses_what_it_loses_alone_too() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let command = "uvicorn --fd 3 --header Connection:close --log-level warning asgi_hello:application";
    let program = python_program("uvicorn");
    let server = Server::new("uvicorn", pinned("uvicorn"), command).installed(&program);
    let server = server.acks(Ack::Manual("`READY=1`, in the application"));
    let report = server.three_upgrades();
    assert_only_unanswered_connections_closed(&report);
    let words = server.program().into_iter().skip(1).map(OsString::from);
    let mut alone = Alone::start([program.into()].into_iter().chain(words), servers(), Signal::SIGTERM);
    let load = Plan::new(alone.address()).start();
    let lost = within(patience(), || {
        load.wait_for_answers(300);
        alone.replace();
        (load.failed() > 0).then_some(())
    });
    let lost_alone = load.stop();
    assert!(lost.is_some(), "alone it loses nothing: is uvicorn to be recommended now?\n{lost_alone}");
    assert_only_unanswered_connections_closed(&lost_alone);
    server.row(&report, &format!(" (alone: {} of {})", lost_alone.failed(), lost_alone.requests), None);
}

/// That what was lost was lost on connections that were accepted and closed before their first answer began.
#[track_caller]
fn assert_only_unanswered_connections_closed(report: &Report) {
    for failure in &report.failures {
        let closed = matches!(failure.fault, Fault::Reset | Fault::Cut);
        let unanswered = failure.answers_before == 0 && failure.worker.is_none();
        assert!(closed && unanswered && failure.connection_age.is_some(), "{failure}\n{report}");
    }
}

pub(crate) fn node() -> Server {
    Server::new("Node, `http`", version(&["node", "--version"], 0), "node node_hello.js")
}

fn node_loses_nothing() {
    node().loses_nothing_either_way();
}

fn fastify_on_node_loses_nothing() {
    let modules = node_modules("fastify");
    let server = Server::new("Node, fastify", pinned("fastify"), "node fastify_hello.js");
    server.env("NODE_PATH", modules).loses_nothing();
}

/// `LISTEN_FDS`, and the socket by its name in `LISTEN_FDNAMES`.
pub(crate) fn go() -> Server {
    let program = go_program("go_hello");
    let server = Server::new("Go, `net/http`", version(&["go", "version"], 2), "go_hello");
    server.installed(&program).acks(Ack::Manual("`READY=1`, in the program"))
}

fn go_loses_nothing() {
    go().loses_nothing_either_way();
}

/// `LISTEN_FDS`. It says `READY=1` and `STOPPING=1`; its `sd_notify` knows paths alone, and it ends if it cannot notify.
pub(crate) fn puma() -> Server {
    let command = "puma --bind-to-activated-sockets only -C puma_hello.rb config.ru";
    let server = Server::new("puma", version(&["puma", "--version"], 2), command);
    server.acks(Ack::Manual("`READY=1`, by itself"))
}

fn puma_loses_nothing() {
    puma().loses_nothing_either_way();
}

/// `SERVER_STARTER_PORT`, and systemd's own program for `NOTIFY_SOCKET`.
fn starlet_loses_nothing() {
    let command = "plackup -s Starlet --max-workers 4 --max-keepalive-reqs 1 hello.psgi";
    let version = version(&["perl", "-MStarlet", "-e", "print $Starlet::VERSION"], 0);
    let server = Server::new("Starlet", version, command);
    server.acks(Ack::Manual("`READY=1`, `systemd-notify`")).loses_nothing();
}

/// Its own way to pass sockets on, which a line of shell speaks. It expects a socket that does not block: else a
/// worker that was woken for a connection which another took would wait for the next one, and serve nobody meanwhile.
pub(crate) fn nginx() -> Server {
    let server = Server::new("nginx", version(&["nginx", "-v"], 3), "sh nginx_hello.sh");
    let server = Server { nonblocking: true, ..server };
    server.acks(Ack::Timer(0.5))
}

fn nginx_loses_nothing() {
    nginx().loses_nothing_either_way();
}

/// `EINHORN_FD_0`, in its configuration.
pub(crate) fn haproxy() -> Server {
    let command = "haproxy -Ws -f haproxy_hello.cfg";
    let server = Server::new("HAProxy", version(&["haproxy", "-v"], 2), command);
    server.acks(Ack::Manual("`READY=1`, by itself"))
}

fn haproxy_loses_nothing() {
    haproxy().loses_nothing_either_way();
}
