//! The typed answer to `status`.

use serde::{Deserialize, Serialize};

use crate::{Death, Recycled, UpgradeStatus};

/// How the pool is.
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
    /// What each generation runs that workers may still be spawned of, oldest first. A draining worker's may be
    /// gone from here.
    #[serde(default)]
    pub releases: Vec<ReleaseStatus>,
    /// How many workers were replaced while they served, since the master started.
    #[serde(default)]
    pub recycled: Recycled,
    /// The upgrade that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
}

/// What the master is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MasterState {
    /// The first workers have not all acked yet.
    Starting,
    /// It supervises.
    Running,
    /// An upgrade runs.
    Upgrading,
    /// It waits for the last workers to go.
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
    /// Since it started, in milliseconds.
    pub age_ms: u64,
    /// The generation that new workers get.
    pub generation: u64,
    /// What it runs.
    pub command: Vec<String>,
    /// Where it runs it.
    pub directory: String,
    /// Its control socket.
    pub socket: String,
    /// Workers asked for.
    pub wanted: u32,
    /// Workers that have acked and are not draining.
    pub up: u32,
    /// Workers that have not acked and are not draining.
    pub starting: u32,
    /// Workers that were asked to stop, or are to be soon, because their slot was taken away.
    pub draining: u32,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its place in the order of `-b`, from 0.
    pub index: u32,
    /// The descriptor that workers find it at.
    pub fd: i32,
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// The address that it really has, as `--bind` takes it: `127.0.0.1:80`, `udp:127.0.0.1:53`, `unix:/run/web.sock`.
    pub address: String,
    /// `tcp`, `udp`, `unix`, `seqpacket` or `unix-datagram`.
    #[serde(default = "tcp")]
    pub kind: String,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: String,
    /// How many connections may wait: what was asked for, within the system's limit; 0 where none come, of datagrams.
    pub backlog: u32,
    /// How full its queue is, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// Where each slot has one of its own (`reuseport`): each, by slot. `queue` is then that of all of them together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<SlotListenerStatus>,
}

/// The listener of one slot, at an address at which each slot has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotListenerStatus {
    /// The slot.
    pub slot: u32,
    /// Whether it gets what is new: not while its slot has no worker that is up and another slot has, nor when its slot
    /// was taken away.
    pub live: bool,
    /// How full its queue is, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
}

/// What a listener was that did not say: masters had no other kind.
fn tcp() -> String {
    "tcp".to_owned()
}

/// The queue of a listener: of connections that nobody has accepted; of UDP, bytes of packets that nobody has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// What waits in it, in connections or bytes.
    pub length: u32,
    /// How much may, likewise.
    pub limit: u32,
    /// Connections that could not be begun, or packets that were lost, for want of room, since the socket was made;
    /// absent where the kernel does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<u32>,
}

/// What a generation runs, as it was when it was looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseStatus {
    /// The generation, by which workers refer to it.
    pub generation: u64,
    /// Its directory, by the path that is looked up anew at each upgrade.
    pub directory: String,
    /// Where that path led, with no symbolic link in it.
    pub real_directory: String,
    /// The file of the program, with no symbolic link in the path.
    pub program: String,
    /// The device that this file is on.
    pub device: u64,
    /// The inode of this file.
    pub inode: u64,
    /// When this file was last written to, in UTC: `2026-11-22T08:35:29Z`.
    pub modified: String,
}

/// One seat of the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Its number.
    pub slot: u32,
    /// How many workers of it died and were replaced, upgrades not counted.
    pub restarts: u64,
    /// Spawns in a row without an ack.
    pub tries: u32,
    /// Whether it stays empty until somebody acts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// If it waits for its next spawn: how long still, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_spawn_ms: Option<u64>,
    /// How its last dead worker died.
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
    /// Asked to stop, or to be asked soon, because its slot was taken away.
    Draining,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its slot.
    pub slot: u32,
    /// Its index (`EINHORN_CHILD_INDEX`).
    pub index: u32,
    /// Its pid.
    pub pid: i32,
    /// Its generation.
    pub generation: u64,
    /// Its state.
    pub state: WorkerState,
    /// Since it was spawned, in milliseconds.
    pub age_ms: u64,
    /// From its spawn to its ack, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_ms: Option<u64>,
    /// Since its last `worker:ping` or `WATCHDOG=1`, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinged_ms: Option<u64>,
    /// What it last said of itself (`STATUS=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
