//! The container engine: podman with everything that it stores in namespaces of its own for mounts, processes and the
//! network, one for all tests of this program.
//!
//! A *caretaker*, a shell outside of those namespaces, waits for the end of its standard input, which this process holds.
//! However this process ends, all containers are killed then, their mounts and files are gone with the namespaces, and the
//! cgroups are removed.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tests::process::{Captured, Finished, run};
use tests::{Process, wait};

/// Where the engine keeps its files: in memory.
pub(crate) const DIRECTORY: &str = "/var/lib/containers";

/// Makes the engine's namespaces, and ends them with its standard input.
///
/// catatonit is the first process in them because something must reap what podman leaves behind. Each container has a
/// network of its own, or one that it shares with the engine (`page.conf`); neither has a way out. The limits of podman's
/// default configuration are above those of some machines.
const CARETAKER: &str = r#"
exec 3<&0 </dev/null
unshare --pid --mount --net --fork --kill-child --mount-proc catatonit -- sh -ec '
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /dev/shm
    mkdir -p "$1"
    mount -t tmpfs tmpfs "$1"
    ip link set lo up
    cat >"$1/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
END
    sed s/none/host/ "$1/containers.conf" >"$1/page.conf"
    cat >"$1/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$1/storage"
runroot = "/run/containers/storage"
END
    echo ready
    exec sleep infinity
' sh "$1" 3<&- &
engine=$!
(read -r _ <&3; kill -KILL "$engine") &
wait "$engine"
kill "$!" 2>/dev/null
exec 3<&-
tries=0
until find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' -exec rmdir {} + 2>/dev/null || [ "$((tries += 1))" -gt 100 ]; do
    sleep 0.05
done
"#;

/// The engine. [`Engine::get`] starts it, and [`end`] ends it.
#[derive(Debug)]
pub(crate) struct Engine {
    caretaker: Child,
    init: Process,
}

static ENGINE: Mutex<Option<Arc<Engine>>> = Mutex::new(None);

/// Ends the engine, if a test has started it, and waits until nothing of it is left.
pub(crate) fn end() {
    drop(ENGINE.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Engine {
    /// The engine of this program. A test with it needs "podman".
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub(crate) fn get() -> Arc<Self> {
        let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(engine.get_or_insert_with(|| Arc::new(Self::start())))
    }

    #[track_caller]
    fn start() -> Self {
        let log = Captured::new();
        let mut command = Command::new("sh");
        command.args(["-c", CARETAKER, "sh", DIRECTORY]);
        // An interrupt from the keyboard is for this process; it is this one's end that ends the engine.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(log.writer()).stderr(log.writer());
        let mut caretaker = command.spawn().expect("a caretaker of the container engine");
        let process = Process::of(caretaker.id().cast_signed()).expect("the caretaker that was just started");
        let init = wait::within(wait::patience(), || {
            assert!(
                caretaker.try_wait().is_ok_and(|end| end.is_none()),
                "no container engine\n{}",
                log.text()
            );
            let descendants = process.descendants();
            let init = descendants.iter().find(|process| pid_inside(process) == Some(1));
            init.copied().filter(|_| log.text().contains("ready"))
        });
        let init = init.unwrap_or_else(|| panic!("the container engine did not come up\n{}", log.text()));
        Self { caretaker, init }
    }

    /// A command in the engine's namespaces, which see the files of this machine.
    pub(crate) fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        self.configured("containers.conf", words)
    }

    /// A command in the engine's namespaces that runs containers in the network that it is in itself.
    pub(crate) fn page_command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        self.configured("page.conf", words)
    }

    fn configured<'a>(&self, file: &str, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.pid().to_string(), "-m", "-n", "-p", "--"]).args(words);
        command.env("CONTAINERS_CONF", format!("{DIRECTORY}/{file}"));
        command.env("CONTAINERS_STORAGE_CONF", format!("{DIRECTORY}/storage.conf"));
        command.env("TMPDIR", DIRECTORY).env("HOME", DIRECTORY);
        // podman's own timer for health checks needs systemd. The tests run the checks themselves.
        command.env("DISABLE_HC_SYSTEMD", "true");
        command
    }

    /// Runs `podman WORDS...` to its end.
    #[track_caller]
    pub(crate) fn podman<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Finished {
        run(self.command(["podman"].into_iter().chain(words)))
    }

    /// All processes of the engine and its containers, as this machine sees them.
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.init.descendants()
    }

    /// The process of this machine that has `pid` in the engine's namespace.
    #[track_caller]
    pub(crate) fn process(&self, pid: i32) -> Process {
        let found = self.processes().into_iter().find(|process| pid_inside(process) == Some(pid));
        found.unwrap_or_else(|| panic!("the container engine has no process {pid}"))
    }
}

/// The pid of `process` in the engine's namespace; `None` if it is not in it.
fn pid_inside(process: &Process) -> Option<i32> {
    process.status("NSpid")?.split_whitespace().nth(1)?.parse().ok()
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The end of its standard input is that of the engine.
        drop(self.caretaker.stdin.take());
        let _ = self.caretaker.wait();
    }
}
