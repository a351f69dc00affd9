//! The typed answer to `status`.

use serde::{Deserialize, Serialize};

use crate::{Death, Pace, Recycled, UpgradeReport, UpgradeStatus, WorkerSlot};

/// The state of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The master.
    pub master: MasterStatus,
    /// Its listeners, in the order of `-b`.
    pub listeners: Vec<ListenerStatus>,
    /// Its slots, by number.
    pub slots: Vec<SlotStatus>,
    /// Every live worker, by slot and then by age, oldest first.
    pub workers: Vec<WorkerStatus>,
    /// The release of each generation from which workers may still be spawned, oldest first. That of a draining worker
    /// may be missing.
    #[serde(default)]
    pub releases: Vec<ReleaseStatus>,
    /// How many serving workers were replaced since the master started.
    #[serde(default)]
    pub recycled: Recycled,
    /// The running rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
    /// The last rollout that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_upgrade: Option<LastUpgrade>,
    /// Old workers that still serve a long time after their stop signal, by generation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lasting: Vec<Lasting>,
    /// Processes that workers have left behind, by the worker that led them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<LeftoverStatus>,
    /// How many workers may start at a time, outside of the first start and of `upgrade --fleet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// How many upgrades wait until that has ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queued: u32,
}

/// A rollout that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastUpgrade {
    /// Its report, without the output of workers.
    #[serde(flatten)]
    pub report: UpgradeReport,
    /// How long ago it ended, in milliseconds.
    pub ended_ms: u64,
}

/// Workers of a generation that still serve a long time after their stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lasting {
    /// Their generation.
    pub generation: u64,
    /// How many.
    pub workers: u32,
    /// Since the first of them got its stop signal, in milliseconds.
    pub after_ms: u64,
}

/// Processes that a worker has left behind: in its process group, or elsewhere with a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverStatus {
    /// The slot of the worker.
    pub slot: WorkerSlot,
    /// Its pid, which is the number of its group.
    pub pid: i32,
    /// Its generation.
    pub generation: u64,
    /// The pids of some of them.
    pub members: Vec<i32>,
    /// Whether one of those holds a listener of the pool.
    pub listens: bool,
    /// How long ago the worker exited, in milliseconds.
    pub age_ms: u64,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What the master is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MasterState {
    /// The first workers have not all acked yet.
    Starting,
    /// All is up, and no rollout runs.
    Running,
    /// A rollout runs.
    Upgrading,
    /// It waits for the last workers to exit.
    Stopping,
}

/// The master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MasterStatus {
    /// Its pid.
    pub pid: i32,
    /// The version of the program.
    pub version: String,
    /// Its name, from `--command-name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is doing.
    pub state: MasterState,
    /// How long ago it started, in milliseconds.
    pub age_ms: u64,
    /// The generation that new workers get.
    pub generation: u64,
    /// The workers' program and its arguments.
    pub command: Vec<String>,
    /// The workers' directory.
    pub directory: String,
    /// The path of its control socket.
    pub socket: String,
    /// The number of workers that the pool should have.
    pub wanted: u32,
    /// Workers that have acked and are not draining.
    pub up: u32,
    /// Workers that have not acked and are not draining.
    pub starting: u32,
    /// Workers that were asked to stop, or will be soon because their slot was taken away.
    pub draining: u32,
    /// A worker that has more memory in RAM than this, in bytes, is replaced (`--max-rss`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rss: Option<u64>,
    /// How a worker becomes up: `manual`, by its ack, or `timer`, by time too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_mode: Option<String>,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its position among the `-b` options, from 0.
    pub index: u32,
    /// Its descriptor in the workers.
    pub fd: i32,
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// The bound address, in the form that `--bind` takes: `127.0.0.1:80`, `udp:127.0.0.1:53`, `unix:/run/web.sock`.
    pub address: String,
    /// `tcp`, `udp`, `unix`, `seqpacket` or `unix-datagram`.
    #[serde(default = "tcp")]
    pub kind: String,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: String,
    /// The length of its queue of connections, after the system's limit was applied; 0 for datagrams.
    pub backlog: u32,
    /// How full its queue is, if the kernel reports that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// With `reuseport`, the sockets of the slots, by slot; `queue` is then the sum of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<SlotListenerStatus>,
}

/// The socket of one slot, with `reuseport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotListenerStatus {
    /// The slot.
    pub slot: u32,
    /// Whether it gets new connections. It does not while its slot has no worker up and another slot has one, or after
    /// the slot was taken away.
    pub live: bool,
    /// How full its queue is, if the kernel reports that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
}

/// The kind of a listener of a master that reports none: it has no other.
fn tcp() -> String {
    "tcp".to_owned()
}

/// The queue of a listener: connections that wait to be accepted, or, for UDP, bytes of packets that wait to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// What waits in it, in connections or bytes.
    pub length: u32,
    /// How much can wait, in the same unit.
    pub limit: u32,
    /// Connections or packets that the kernel dropped because the queue was full, since the socket was made; `None` if
    /// the kernel does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<u32>,
}

/// The release of a generation, as it was when it was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseStatus {
    /// The generation.
    pub generation: u64,
    /// What it is called in the history: the label of `upgrade`, or the name that it gives itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its directory, by the path that each upgrade resolves anew.
    pub directory: String,
    /// The same directory without symbolic links in its path.
    pub real_directory: String,
    /// The program, without symbolic links in its path.
    pub program: String,
    /// The device of that file.
    pub device: u64,
    /// The inode of that file.
    pub inode: u64,
    /// When that file was last modified, in UTC: `2026-11-22T08:35:29Z`.
    pub modified: String,
    /// The signals with which its workers are asked to stop, as far as that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_signals: Vec<StopSignalStatus>,
}

/// A signal with which workers of a release are asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopSignalStatus {
    /// The name of the signal.
    pub signal: String,
    /// Why that one, for people.
    pub why: String,
}

/// A slot of the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Its number.
    pub slot: u32,
    /// How many of its workers died and were replaced, outside of rollouts.
    pub restarts: u64,
    /// Spawns in a row without an ack.
    pub tries: u32,
    /// Whether it was given up, and stays empty until a command fills it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// If it waits for its next spawn: the time left, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_spawn_ms: Option<u64>,
    /// Its last death.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_death: Option<Death>,
    /// How long ago that was, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_death_age_ms: Option<u64>,
}

/// The state of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Spawned, not acked.
    Starting,
    /// Acked.
    Up,
    /// Asked to stop, or about to be because its slot was taken away.
    Draining,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its slot.
    pub slot: WorkerSlot,
    /// Its index (`EINHORN_CHILD_INDEX`).
    pub index: u32,
    /// Its pid.
    pub pid: i32,
    /// When that process started: the 22nd field of `/proc/PID/stat`, as it is in the master's time namespace. Another process
    /// that has the pid later has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ticks: Option<u64>,
    /// Its generation.
    pub generation: u64,
    /// Its state.
    pub state: WorkerState,
    /// How long ago it was spawned, in milliseconds.
    pub age_ms: u64,
    /// The time from its spawn to its ack, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_ms: Option<u64>,
    /// How long ago its last `worker:ping` or `WATCHDOG=1` came, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinged_ms: Option<u64>,
    /// Its last status text (`STATUS=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether a signal such as SIGSTOP suspended it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Whether the kernel refuses to let the master signal it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsignallable: bool,
}
