//! Machines: a real systemd boots in `systemd-nspawn` from a root directory, and is gone when the test is.
//!
//! A machine sees its root through an overlay in memory, so a test may do anything to it. It has namespaces of its own
//! for processes, mounts and the network, and cgroups of its own. A *caretaker*, a shell outside of all that, waits for
//! the end of its standard input, which this process holds: however this process ends, the machine is killed then, and
//! its cgroups are removed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tests::process::{self, Captured, Finished};
use tests::{Process, wait};

use crate::network::{self, Network};

/// How long a machine has for its shutdown before it is killed.
const POWEROFF_MAX: Duration = Duration::from_secs(10);

/// Where systemd looks for programs, too.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Boots the machine `$1` from the root `$2`, in the network namespace `$3` if that is not empty, with further options
/// for systemd-nspawn; ends with it.
const CARETAKER: &str = r#"
name=$1 root=$2 network=$3
shift 3
exec 3<&0 </dev/null
groups=
for parent in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    [ -e "$parent/cgroup.procs" ] || continue
    mkdir "$parent/$name" || exit
    groups="$groups $parent/$name"
done
${network:+nsenter --net="$network"} unshare --pid --mount --fork --kill-child --mount-proc sh -c '
    set -e
    groups=$1 name=$2 root=$3
    shift 3
    for group in $groups; do echo 0 >"$group/cgroup.procs"; done
    # What nspawn puts into directories of this machine goes with the namespace. The root may lie below one of them.
    mount --bind "$root" /mnt
    mount -t tmpfs tmpfs /tmp
    [ ! -d /run/systemd ] || mount -t tmpfs tmpfs /run/systemd
    exec systemd-nspawn --quiet --directory=/mnt --machine="$name" --volatile=overlay --register=no --keep-unit \
        --console=pipe --boot "$@"
' sh "$groups" "$name" "$root" "$@" 3<&- &
machine=$!
(read -r _ <&3; kill -KILL "$machine") &
wait "$machine"
kill "$!" 2>/dev/null
exec 3<&-
for group in $groups; do
    tries=0
    until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || [ "$((tries += 1))" -gt 200 ]; do sleep 0.05; done
done
"#;

/// A running machine.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    caretaker: Child,
    console: Captured,
    init: Process,
}

/// A machine that is not booted yet.
#[derive(Debug)]
pub(crate) struct MachineBuilder {
    root: PathBuf,
    network: Option<PathBuf>,
    address: Option<String>,
    options: Vec<String>,
    environment: Vec<(String, String)>,
}

impl MachineBuilder {
    /// Makes it one of the machines of `network`, with this address (`10.77.0.11`), and this host name.
    pub(crate) fn on(mut self, network: &Network, address: &str, host: &str) -> Self {
        self.network = Some(network.namespace());
        self.address = Some(format!("{address}/24"));
        self.option(format!("--network-bridge={}", network.bridge())).option(format!("--hostname={host}"))
    }

    /// A further option of systemd-nspawn.
    pub(crate) fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Boots it.
    ///
    /// # Panics
    /// With what it wrote to its console, if it does not come up with every unit in order.
    #[track_caller]
    pub(crate) fn boot(mut self) -> Machine {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // An interface is named after it, so it is short.
        let name = format!("w{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        if self.network.is_none() {
            self.options.push("--private-network".into());
        }
        // It would take this machine's.
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a random id");
        self.options.push(format!("--uuid={}", id.trim()));
        let console = Captured::new();
        let mut command = Command::new("sh");
        command.args(["-c", CARETAKER, "sh", &name]).arg(&self.root);
        command.arg(self.network.unwrap_or_default()).args(&self.options).envs(self.environment);
        // An interrupt from the keyboard is for this process; it is this one's end that ends the machine.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(console.writer()).stderr(console.writer());
        let caretaker = command.spawn().expect("a caretaker of a machine");
        let pid = caretaker.id() as i32;
        // Ours and not yet waited for.
        let process = Process::of(pid).expect("the caretaker that was just started");
        let mut machine = Machine { name, caretaker, console, init: process };
        machine.init = machine.wait("a first process", |_| process.descendants().into_iter().find(is_init));
        machine.wait("the end of the boot", |machine| {
            let state = machine.run(["systemctl", "is-system-running", "--wait"]);
            match state.stdout.trim() {
                "running" => Some(()),
                "degraded" => panic!("not every unit came up\n{machine}"),
                // Not yet asked in a way that it hears.
                _ => None,
            }
        });
        if let Some(address) = self.address {
            machine.run(["ip", "addr", "add", &address, "dev", "host0"]).assert_code(0);
            machine.run(["ip", "link", "set", "host0", "up"]).assert_code(0);
        }
        machine
    }
}

/// Whether it is the first process of a machine. systemd-nspawn sets it up as itself, and it executes systemd then.
fn is_init(process: &Process) -> bool {
    let pids = process.status("NSpid").unwrap_or_default();
    process.status("Name").as_deref() == Some("systemd") && pids.split_whitespace().next_back() == Some("1")
}

impl Machine {
    /// A machine with the root directory `root`, alone in a network.
    pub(crate) fn builder(root: impl Into<PathBuf>) -> MachineBuilder {
        MachineBuilder {
            root: root.into(),
            network: None,
            address: None,
            options: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Its first process, as this machine sees it.
    pub(crate) fn init(&self) -> Process {
        self.init
    }

    /// Its name, which is that of its cgroups too.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command in it, by its root, with nothing of this machine's environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-u", "-i", "-n", "-p", "-t", &self.init.pid().to_string()]);
        command.args([
            "--",
            "env",
            "-i",
            PATH,
            "HOME=/root",
            "LANG=C.UTF-8",
            "SYSTEMD_PAGER=",
            "SYSTEMD_COLORS=0",
        ]);
        command.args(words);
        command
    }

    /// Runs a command in it to its end.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Finished {
        process::run(self.command(words))
    }

    /// Runs a script of its shell in it to its end, with `-e`.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> Finished {
        self.run(["sh", "-ec", script])
    }

    /// Where a file of it is, as this machine sees it. An absolute link leads astray.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let relative = path.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.init.pid())).join(relative)
    }

    /// Writes a file of it, with the directories above.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directories in the machine");
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// Copies a program of this machine into it.
    #[track_caller]
    pub(crate) fn place(&self, from: &Path, to: &str) {
        let target = self.path(to);
        fs::create_dir_all(target.parent().expect("a directory")).expect("directories in the machine");
        // Renamed into its place, because what is there may be running.
        let new = target.with_extension("new");
        fs::copy(from, &new).unwrap_or_else(|error| panic!("cannot copy {}: {error}", from.display()));
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("a mode");
        fs::rename(&new, &target).expect("a new program");
    }

    /// Does something in its network: what is started in it stays there, a load for instance.
    ///
    /// # Panics
    /// If it does.
    pub(crate) fn in_network<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        network::inside(Path::new(&format!("/proc/{}/ns/net", self.init.pid())), act)
    }

    /// The process that has `pid` in it.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub(crate) fn process(&self, pid: i32) -> Process {
        let inside = |process: &Process| {
            let pids = process.status("NSpid").unwrap_or_default();
            pids.split_whitespace().next_back().is_some_and(|last| last == pid.to_string())
        };
        let found = self.init.descendants().into_iter().find(inside);
        found.unwrap_or_else(|| panic!("process {pid} is not there\n{self}"))
    }

    /// Waits for `condition`, and fails at once if the machine ends meanwhile.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        let found = wait::within(wait::patience(), || {
            let ended = self.caretaker.try_wait().is_ok_and(|status| status.is_some());
            assert!(!ended, "the machine ended while the test waited for {what}\n{}", self.console.text());
            condition(self)
        });
        found.unwrap_or_else(|| panic!("waited {:?} in vain for {what}\n{self}", wait::patience()))
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "--- the console of machine {}\n{}", self.name, self.console.text())?;
        let log =
            |words: &[&str]| self.command(words).output().map(|output| output.stdout).unwrap_or_default();
        let journal = log(&["journalctl", "--no-pager", "--lines=200", "--output=short-precise"]);
        writeln!(f, "--- its journal\n{}", String::from_utf8_lossy(&journal))?;
        let units = log(&["systemctl", "--no-pager", "--failed"]);
        write!(f, "--- failed units\n{}---", String::from_utf8_lossy(&units))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{self}");
        } else if self.init.is_alive() {
            let mut poweroff = self.command(["systemctl", "poweroff", "--no-block"]);
            poweroff.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _ = poweroff.status();
            wait::within(POWEROFF_MAX, || self.caretaker.try_wait().ok().flatten());
        }
        // The end of its standard input is that of the machine, if it still runs.
        drop(self.caretaker.stdin.take());
        let _ = self.caretaker.wait();
    }
}
