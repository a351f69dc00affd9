//! A pool with no master around it: the bare loop that spawns, waits for each worker's word, signals and reaps.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use tests::{binaries, wait};

use crate::sys::{BareSpawner, Program};

/// Workers of the program `tiny`, which say that they are ready to a socket just like the daemon's.
#[derive(Debug)]
pub(crate) struct Floor {
    spawner: BareSpawner,
    program: Program,
    ready: UnixDatagram,
    workers: Vec<Pid>,
}

impl Floor {
    /// Starts `count` workers, with these variables (`NAME=value`), and waits until they are ready.
    pub(crate) fn start(count: usize, variables: &[&str]) -> Self {
        let name = format!("einhorn-bench-{}-{count}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an abstract address");
        let ready = UnixDatagram::bind_addr(&address).expect("a datagram socket");
        ready.set_read_timeout(Some(wait::patience())).expect("a time limit on the socket");
        let notify = format!("NOTIFY_SOCKET=@{name}");
        let variables = variables.iter().copied().chain([notify.as_str()]);
        let program = Program::new(binaries::worker("tiny").as_os_str(), variables);
        let mut floor = Self { spawner: BareSpawner::new(), program, ready, workers: Vec::new() };
        floor.workers = floor.spawn(count);
        floor.wait_ready(count);
        floor
    }

    /// An upgrade: new workers, all at once, and when each is ready the old ones go.
    pub(crate) fn upgrade(&mut self) {
        self.upgrade_and_look(|_| ());
    }

    /// The same. Looks at all workers, old and new, before the old ones go.
    pub(crate) fn upgrade_and_look<T>(&mut self, look: impl FnOnce(&[Pid]) -> T) -> T {
        let count = self.workers.len();
        let new = self.spawn(count);
        self.wait_ready(count);
        let seen = look(&[self.workers.as_slice(), &new].concat());
        let old = std::mem::replace(&mut self.workers, new);
        for worker in &old {
            kill(*worker, Signal::SIGUSR2).expect("a worker of ours is there until it is reaped");
        }
        old.into_iter().for_each(reap);
        seen
    }

    /// Kills every worker, and replaces each as it is found dead.
    pub(crate) fn replace_killed(&mut self) {
        for worker in &self.workers {
            kill(*worker, Signal::SIGKILL).expect("a worker of ours is there until it is reaped");
        }
        for worker in &mut self.workers {
            reap(*worker);
            *worker = self.spawner.spawn(&self.program).expect("a spawn");
        }
        self.wait_ready(self.workers.len());
    }

    fn spawn(&mut self, count: usize) -> Vec<Pid> {
        (0..count).map(|_| self.spawner.spawn(&self.program).expect("a spawn")).collect()
    }

    fn wait_ready(&self, count: usize) {
        let mut message = [0; 64];
        for _ in 0..count {
            self.ready.recv(&mut message).expect("a worker says that it is ready");
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for worker in std::mem::take(&mut self.workers) {
            // Not yet reaped, so the pid cannot be somebody else's.
            let _ = kill(worker, Signal::SIGKILL);
            reap(worker);
        }
    }
}

fn reap(worker: Pid) {
    while waitpid(worker, None) == Err(nix::errno::Errno::EINTR) {}
}
