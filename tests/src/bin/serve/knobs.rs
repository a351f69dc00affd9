//! What a test wants of the worker.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the worker says that it takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ack {
    /// `worker:ack` to `EINHORN_SOCK_PATH`.
    Control,
    /// `worker:ack` to the connected socket `EINHORN_SOCK_FD`.
    Descriptor,
    /// `READY=1` to `NOTIFY_SOCKET`.
    Notify,
    /// Not at all.
    None,
}

/// What a worker with one thread finishes before it serves another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Single {
    /// A connection.
    Connection,
    /// A request.
    Request,
}

/// The knobs, each an argument `NAME=VALUE`. An argument `@FILE` stands for the words in that file, which
/// is read at each start: so a test changes what the next generation is.
#[derive(Debug, Clone)]
pub(crate) struct Knobs {
    /// `bind=ADDR:PORT`: binds a socket of its own and runs without a master.
    pub(crate) bind: Option<SocketAddr>,
    /// `own=ADDR:PORT`: binds a socket of its own, under a master that has none for it, at an address that every worker
    /// binds (SO_REUSEPORT).
    pub(crate) own: Option<SocketAddr>,
    /// `boot_ms=N`: takes this long to boot.
    pub(crate) boot: Duration,
    /// `burn_ms=N`: computes, after that, until it has used so much CPU time.
    pub(crate) burn: Duration,
    /// `gate=FILE`: waits, after that, until this gate is open.
    pub(crate) gate: Option<PathBuf>,
    /// `exit_before_ack=STATUS`: has booted and then exits.
    pub(crate) exit_before_ack: Option<i32>,
    /// `bad_slot=N`: exits before its ack, with status 3, if this is its slot.
    pub(crate) bad_slot: Option<u64>,
    /// `ack=control|fd|notify|none`.
    pub(crate) ack: Ack,
    /// `hold_mb=N`: holds so many MiB of memory, from its boot on.
    pub(crate) hold_mb: usize,
    /// `ping_ms=N`: says that it is well right before its ack and then so often, in the way it acks.
    pub(crate) ping: Option<Duration>,
    /// `chatter=N`: says N times what it does (`STATUS=`), right after its ack.
    pub(crate) chatter: u64,
    /// `exit_after_ms=N`: exits with status 7 this long after its ack, whatever it holds.
    pub(crate) exit_after: Option<Duration>,
    /// `leave_gate=FILE`: stops by itself when, after its ack, this gate is open: as if it were asked to, but
    /// ends with status 7.
    pub(crate) leave_gate: Option<PathBuf>,
    /// `greedy`: accepts all that wait before it looks at anything else, as many event loops do.
    pub(crate) greedy: bool,
    /// `single=connection|request`: has one thread, which finishes a connection, or a request, before it serves another
    /// client. Asked to stop, it finishes that one and cuts its other connections.
    pub(crate) single: Option<Single>,
    /// `park`: at SIGUSR1 it stops, but stays, with its sockets open, until it is killed or asked to stop. Says
    /// `STATUS=parked` when it holds no connection any more.
    pub(crate) park: bool,
    /// `shutdown`: at SIGHUP it calls `shutdown(2)` on its listeners, as some servers do to stop, and goes on. Says
    /// `STATUS=shut down` then.
    pub(crate) shutdown: bool,
    /// `status=N`: answers each request with this status of HTTP.
    pub(crate) status: u16,
    /// `version=TEXT`: each answer names this version.
    pub(crate) version: Option<String>,
    /// `request_ms=N`: takes this long for each request.
    pub(crate) request: Duration,
    /// `request_burn_ms=N`: then uses this much CPU time for each request.
    pub(crate) request_burn: Duration,
    /// `slow_slot=N`, `slow_ms=N`: takes this much longer for each request, if this is its slot.
    pub(crate) slow_slot: Option<u64>,
    pub(crate) slow: Duration,
    /// `request_gate=FILE`: answers no request, after that, until this gate is open.
    pub(crate) request_gate: Option<PathBuf>,
    /// `ignore_stop`: goes on when it is asked to stop.
    pub(crate) ignore_stop: bool,
    /// `linger_ms=N`: when asked to stop, waits this long for the next request on an idle connection. Whoever
    /// holds an idle connection may be sending right now, and only an answer can tell him to go elsewhere.
    pub(crate) linger: Duration,
}

impl Knobs {
    /// Reads the arguments.
    ///
    /// # Panics
    /// At a word that is no knob: a test that misspells one would prove nothing.
    pub(crate) fn from_arguments(arguments: impl Iterator<Item = String>) -> Self {
        let mut knobs = Self {
            bind: None,
            own: None,
            boot: Duration::ZERO,
            burn: Duration::ZERO,
            gate: None,
            exit_before_ack: None,
            bad_slot: None,
            ack: Ack::Control,
            hold_mb: 0,
            ping: None,
            chatter: 0,
            exit_after: None,
            leave_gate: None,
            greedy: false,
            single: None,
            park: false,
            shutdown: false,
            status: 200,
            version: None,
            request: Duration::ZERO,
            request_burn: Duration::ZERO,
            slow_slot: None,
            slow: Duration::ZERO,
            request_gate: None,
            ignore_stop: false,
            linger: Duration::from_secs(10),
        };
        for word in arguments {
            match word.strip_prefix('@') {
                None => knobs.set(&word),
                Some(path) => {
                    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
                    text.split_whitespace().for_each(|word| knobs.set(word));
                }
            }
        }
        knobs
    }

    fn set(&mut self, word: &str) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{word}: no number"));
        let duration = || Duration::from_millis(number());
        let address = || value.parse().unwrap_or_else(|_| panic!("{word}: no address"));
        match name {
            "bind" => self.bind = Some(address()),
            "own" => self.own = Some(address()),
            "boot_ms" => self.boot = duration(),
            "burn_ms" => self.burn = duration(),
            "gate" => self.gate = Some(value.into()),
            "exit_before_ack" => self.exit_before_ack = Some(number() as i32),
            "bad_slot" => self.bad_slot = Some(number()),
            "hold_mb" => self.hold_mb = number() as usize,
            "ping_ms" => self.ping = Some(duration()),
            "chatter" => self.chatter = number(),
            "exit_after_ms" => self.exit_after = Some(duration()),
            "leave_gate" => self.leave_gate = Some(value.into()),
            "status" => self.status = number() as u16,
            "version" => self.version = Some(value.to_owned()),
            "request_ms" => self.request = duration(),
            "request_burn_ms" => self.request_burn = duration(),
            "slow_slot" => self.slow_slot = Some(number()),
            "slow_ms" => self.slow = duration(),
            "request_gate" => self.request_gate = Some(value.into()),
            "ignore_stop" => self.ignore_stop = true,
            "linger_ms" => self.linger = duration(),
            "greedy" => self.greedy = true,
            "single" => {
                self.single = Some(match value {
                    "connection" => Single::Connection,
                    "request" => Single::Request,
                    _ => panic!("{word}: neither connection nor request"),
                });
            }
            "park" => self.park = true,
            "shutdown" => self.shutdown = true,
            "ack" => {
                self.ack = match value {
                    "control" => Ack::Control,
                    "fd" => Ack::Descriptor,
                    "notify" => Ack::Notify,
                    "none" => Ack::None,
                    _ => panic!("{word}: no way to ack"),
                }
            }
            _ => panic!("{word}: no such knob"),
        }
    }
}
