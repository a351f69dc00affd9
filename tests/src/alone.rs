//! Servers without a master: on a socket of the test's own, replaced by the shortest way there is.

use std::ffi::OsString;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::load::Plan;
use crate::process::{Captured, Process};
use crate::wait;

/// Gives a program the socket, which is its standard input, where all conventions have it, and its own pid.
const SHELL: &str = r#"exec 3<&0 </dev/null; export LISTEN_PID=$$; exec "$@""#;

/// One server on a socket that stays open whatever becomes of the server, so that nobody is refused. What is lost here
/// was lost by the server, between its signal and its end.
#[derive(Debug)]
pub struct Alone {
    listener: TcpListener,
    address: SocketAddr,
    signal: Signal,
    program: Vec<OsString>,
    directory: PathBuf,
    generation: u64,
    running: Child,
    output: Captured,
}

impl Alone {
    /// Starts `program` in `directory`, and waits until it answers. It stops gracefully on `signal`.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    #[must_use]
    pub fn start(
        program: impl IntoIterator<Item = OsString>,
        directory: impl Into<PathBuf>,
        signal: Signal,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (program, directory) = (program.into_iter().collect::<Vec<_>>(), directory.into());
        let output = Captured::new();
        let running = spawn(&program, &directory, &listener, 1, &output);
        let alone = Self { listener, address, signal, program, directory, generation: 1, running, output };
        alone.wait_generation();
        alone
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts a second one beside it, waits until that answers, stops the first with its signal, and waits for its
    /// end.
    ///
    /// # Panics
    /// If one of them does not.
    #[track_caller]
    pub fn replace(&mut self) {
        self.generation += 1;
        let next = spawn(&self.program, &self.directory, &self.listener, self.generation, &self.output);
        let mut old = mem::replace(&mut self.running, next);
        self.wait_generation();
        let process = Process::of(old.id() as i32).expect("the server to be replaced");
        assert!(process.signal(self.signal), "it is gone\n{}", self.output.text());
        wait::wait_for("the end of a server that was asked to stop", || old.try_wait().ok().flatten());
    }

    /// Waits until the server that was started last answers.
    #[track_caller]
    fn wait_generation(&self) {
        let answers = wait::within(wait::patience(), || {
            let plan = Plan { fresh: 1, keep_alive: 0, requests_max: 1, ..Plan::new(self.address) };
            plan.start().run_to_end().generations().contains(&self.generation).then_some(())
        });
        assert!(answers.is_some(), "server {} does not answer\n{}", self.generation, self.output.text());
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some(process) = Process::of(self.running.id() as i32) {
            process.kill_with_descendants();
        }
        let _ = self.running.wait();
    }
}

/// Runs `program` with the socket of `listener` and the variables of a worker, but for a master's.
fn spawn(
    program: &[OsString],
    directory: &Path,
    listener: &TcpListener,
    generation: u64,
    output: &Captured,
) -> Child {
    let socket = OwnedFd::from(listener.try_clone().expect("a descriptor"));
    let address = listener.local_addr().expect("its address");
    let mut command = Command::new("sh");
    command.args(["-c", SHELL, "sh"]).args(program).current_dir(directory);
    command.stdin(Stdio::from(socket)).stdout(output.writer()).stderr(output.writer());
    command.envs([
        ("EINHORN_FD_0", "3"),
        ("EINHORN_FDS", "3"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "web"),
        ("SERVER_STARTER_PORT", &format!("{address}=3")),
        ("EINHORN_GENERATION", &generation.to_string()),
    ]);
    command.env_remove("NOTIFY_SOCKET").env_remove("EINHORN_SOCK_PATH");
    command.spawn().expect("a server alone")
}
