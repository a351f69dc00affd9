//! The whole vocabulary between the supervisor and the world: what it hears and what it asks for.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::Pid;
use super::Signal;
use einhorn_proto::{
    AckSource, Counts, DrainEnding, LastReply, Notice, PastOutcome, Requester, RolloutKind, RolloutOrder,
    SignalReason, Target, Termination, WorkerSlot,
};
use serde::{Deserialize, Serialize};

use super::allowance::BootLoad;
use super::convention::Convention;
use super::policy::{Check, OptionsChange, Setting};
use super::tables::is_default;

/// One worker, from the decision to spawn it until it is reaped. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId(pub(crate) u64);

/// A position in the pool, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotNumber(pub u32);

/// Which round of code a worker came from: 1 at start, one more per upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Generation(pub u64);

/// A job that the core has asked for. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// A request that waits for its last reply. The shell knows whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestKey(pub u64);

/// The slot of a worker, as messages have it.
pub(crate) fn shown(slot: Option<SlotNumber>) -> WorkerSlot {
    WorkerSlot(slot.map(|slot| slot.0))
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The master is ready to spawn. Once, and first.
    Started,
    /// A [`Action::Spawn`] worked.
    Spawned {
        /// The worker of the action.
        worker: WorkerId,
        /// The process that it is now.
        pid: Pid,
        /// When that started, in the unit of `/proc/PID/stat`; it is kept for `status`, and decides nothing.
        start_ticks: Option<u64>,
    },
    /// A [`Action::Spawn`] did not work.
    SpawnFailed {
        /// The worker of the action.
        worker: WorkerId,
        /// What failed and why, in words.
        reason: String,
        /// Whether the same spawn can work a little later with nothing changed but the system's load.
        transient: bool,
    },
    /// A child of the master was reaped: a worker, or a stranger that was left to the master.
    Exited {
        /// Its pid, which the kernel may now use again.
        pid: Pid,
        /// How it ended.
        termination: Termination,
    },
    /// A worker reports something, or something was found out about it. The shell has checked who speaks.
    Heard {
        /// The worker's pid.
        pid: Pid,
        /// What was heard.
        report: Report,
    },
    /// Somebody wants something: a client, or a signal to the master (no request to answer).
    Command {
        /// What to answer.
        request: Option<RequestKey>,
        /// Who asks. It is kept for the history, and decides nothing.
        requester: Requester,
        /// What to do.
        command: PoolCommand,
    },
    /// The answer to [`Action::Look`].
    GroupSeen {
        /// The group of the action.
        group: Pid,
        /// Some of those that are left of it; none if nobody is.
        members: Vec<Pid>,
        /// Whether one of them holds a listener of the pool.
        listens: bool,
    },
    /// Nobody waits for the answer to this request any more.
    RequestAbandoned {
        /// The request.
        request: RequestKey,
    },
    /// The upgrade of a [`Action::PrepareUpgrade`] can begin.
    UpgradePrepared {
        /// The request of the action, or none if that was answered already.
        request: Option<RequestKey>,
        /// The plan of the action.
        plan: UpgradePlan,
    },
    /// The upgrade of a [`Action::PrepareUpgrade`] will not begin, and its request was answered.
    UpgradeNotPrepared,
    /// The upgrade of a [`Action::PrepareUpgrade`] cannot begin: the master may not signal these workers.
    WorkersUnsignallable {
        /// The request of the action.
        request: Option<RequestKey>,
        /// The workers.
        pids: Vec<Pid>,
    },
    /// A [`Action::ResolveRelease`] worked.
    ReleaseResolved {
        /// The generation of the action.
        generation: Generation,
        /// The newest generation that runs the same, where a deploy would have moved a link that it has not.
        same_as: Option<Generation>,
    },
    /// A [`Action::ResolveRelease`] did not work.
    ReleaseFailed {
        /// The generation of the action.
        generation: Generation,
        /// What failed and why, in words.
        reason: String,
    },
    /// The job of a [`Action::Check`] has ended; not if [`Action::EndJob`] ended it.
    JobEnded {
        /// The job of the action.
        job: JobId,
        /// How it ended.
        outcome: JobOutcome,
    },
    /// What was seen of the workers that start, or of the last one that did.
    BootLoad(BootLoad),
    /// For so long nobody ran, neither the master nor its workers, as in a frozen cgroup: no deadline of a process counts
    /// that time.
    TimeLost(Duration),
    /// The time that [`super::Supervisor::next_deadline`] named has come. Early is harmless.
    DeadlineReached,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// It exited with status 0.
    Passed,
    /// It did not.
    Failed {
        /// How it ended, or why it could not run, in words.
        reason: String,
        /// The last lines that it wrote.
        output: Vec<String>,
    },
}

/// What is heard of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It takes traffic.
    Ack(AckSource),
    /// It is still well; with a word of its own for the state.
    Ping(Option<String>),
    /// It holds this much memory, in bytes.
    Rss(u64),
    /// A socket that it serves has lost its path, which leads to another socket now.
    LostSocket,
    /// It describes its status; empty for none.
    Status(String),
    /// What it last wrote to standard error before its ack, in whole and oldest first; where that is captured.
    LastWords(Vec<String>),
    /// It is stopping.
    Stopping,
    /// The answer to [`Action::Recognise`]: the signal that would ask it to stop now, and why that one.
    Convention(Signal, SignalReason),
    /// A [`Action::Stop`] worked.
    StopSent {
        /// The signal that was sent.
        signal: Signal,
        /// Why that one.
        reason: SignalReason,
        /// What it tells if the worker dies of that signal.
        ending: DrainEnding,
    },
    /// A [`Action::Stop`] or an [`Action::Signal`] did not work.
    SignalFailed {
        /// The signal that was not sent.
        signal: Signal,
        /// Why, in words.
        reason: String,
    },
    /// It has exited, and left processes behind.
    LeftBehind {
        /// Some of them.
        members: Vec<Pid>,
        /// Whether one of those holds a listener of the pool: it may accept connections.
        listens: bool,
        /// Whether they are in its process group, which can be signalled. If not, they are out of reach.
        is_group: bool,
    },
    /// Whether it is suspended, as by SIGSTOP, rather than running.
    Suspended(bool),
}

/// A command that the pool carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolCommand {
    /// More workers, by at least 1.
    Inc(u32),
    /// Fewer workers, by at least 1.
    Dec(u32),
    /// This many workers, at least 1.
    SetWorkers(u32),
    /// Change options, in this order.
    Configure(Vec<Setting>),
    /// Replace every worker; refused while that is being done.
    Upgrade(UpgradePlan),
    /// Replace every worker once the upgrades that run and wait have ended.
    QueueUpgrade(UpgradePlan),
    /// SIGHUP: replace every worker, now or after the upgrades that run and wait. Several merge into one.
    Hangup,
    /// End the soak of the upgrade that runs.
    Continue,
    /// End the upgrade that runs, and go back.
    Abort,
    /// Be told of the end of the upgrade that runs.
    Follow,
    /// Go back to the previous release.
    Rollback,
    /// Fill empty slots now.
    Respawn,
    /// Send these to every worker.
    Signal(Vec<Signal>),
    /// Send these to some workers.
    SignalOnly(Vec<Signal>, Target),
    /// Replace a serving worker, as recycling does.
    Replace(Target),
    /// Stop all workers, and then the master.
    Stop {
        /// How.
        how: Stop,
        /// Who asked, for the log.
        why: String,
    },
}

/// How to upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UpgradePlan {
    /// All new workers at once, rather than one by one; the old ones go when all have acked.
    pub is_fleet: bool,
    /// So many slots first, and the rest after the soak.
    pub canary: Option<u32>,
    /// How long the soak lasts; `None` until [`PoolCommand::Continue`].
    pub soak: Option<Duration>,
    /// Whether [`Action::PrepareUpgrade`] may leave the master as it is, if it cannot replace it.
    #[serde(default)]
    pub may_keep_master: bool,
    /// Whether its report waits for the last worker that it replaces, however long that takes to go.
    #[serde(default)]
    pub is_reported_drained: bool,
    /// The label of its release, if a client gave one.
    #[serde(default)]
    pub label: Option<String>,
    /// Who asked for it; of several, the first.
    #[serde(default)]
    pub requester: Requester,
    /// What checks the canaries during the soak.
    #[serde(default, skip_serializing_if = "is_default")]
    pub soak_check: Option<SoakCheck>,
    /// Whether its release is checked before it replaces a worker.
    #[serde(default, skip_serializing_if = "is_default")]
    pub check: CheckPlan,
    /// What changes of the options when its first worker is replaced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub options: OptionsChange,
}

/// How canaries are checked while they soak: at once, and then again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoakCheck {
    /// The command; the shell knows how to run it.
    pub command: String,
    /// The time from the end of one check to the next.
    pub every: Duration,
    /// So many failures end the upgrade; at least 1.
    pub failures_max: u32,
}

/// Whether an upgrade checks its release.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckPlan {
    /// As the policy says.
    #[default]
    ByPolicy,
    /// No.
    Never,
    /// By this command.
    By(String),
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ask each worker in its own convention, and wait for them. Again, it changes nothing.
    Gracefully,
    /// This signal to all; wait for them.
    With(Signal),
    /// This signal to all, and each time it is asked again to all once more; wait for them. So does einhorn.
    Repeating(Signal),
    /// As [`Stop::Gracefully`]; again, a second after the last step or later, one step harder: each worker gets the next
    /// of TERM and KILL that it has not had.
    Escalating,
    /// This signal to all, and exit 1 without waiting.
    AtOnce(Signal),
}

/// How a worker is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// With the signal of its convention: [`Convention::choose`], with what its process shows at that moment.
    ByConvention(Convention),
    /// With this signal.
    With(Signal),
}

/// A rollout that has ended, for the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// Upgrade, or rollback by command.
    pub kind: RolloutKind,
    /// The order that was asked for.
    pub order: RolloutOrder,
    /// The generation that it led to.
    pub generation: Generation,
    /// The generation that served before.
    pub from: Generation,
    /// The label of the release of `generation`, if a client gave one.
    pub label: Option<String>,
    /// Who asked for it; of several, the first.
    pub requester: Requester,
    /// How long it took, from the first worker that it replaced.
    pub took: Duration,
    /// How it ended.
    pub outcome: PastOutcome,
    /// Whether it ended before it touched a worker.
    pub is_untouched: bool,
    /// Who aborted or superseded it, or stopped the master meanwhile.
    pub ended_by: Option<Requester>,
    /// How many workers that it replaced are known to have left processes that may still serve.
    pub listening: u32,
    /// Why it failed, was aborted or was superseded.
    pub reason: Option<String>,
}

/// What a check is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A trial worker.
    Trial(Pid),
    /// The workers that serve during a soak.
    Canaries {
        /// Those of the new release.
        canaries: Vec<Pid>,
        /// The others.
        baseline: Vec<Pid>,
    },
}

/// Something that the shell must now do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Spawn a process and answer with [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn {
        /// What the answer is for.
        worker: WorkerId,
        /// Its slot; `None` for a trial worker, which gets private twins of the sockets.
        slot: Option<SlotNumber>,
        /// Its `EINHORN_CHILD_INDEX`.
        index: u32,
        /// Whose release it runs.
        generation: Generation,
    },
    /// Find out how a worker that has acked would be asked to stop, and answer with [`Report::Convention`]. It may have
    /// died since.
    Recognise {
        /// This process.
        pid: Pid,
        /// Whose release it runs.
        generation: Generation,
        /// What decides, apart from what the process shows.
        convention: Convention,
    },
    /// Ask a worker to stop and answer with [`Report::StopSent`] or [`Report::SignalFailed`]. It has not been reaped.
    Stop {
        /// This process.
        pid: Pid,
        /// Whose release it runs.
        generation: Generation,
        /// How.
        ask: Ask,
    },
    /// Send a stop signal to what is left of the process group of a worker that has exited.
    StopGroup {
        /// The group.
        group: Pid,
        /// The signal.
        signal: Signal,
    },
    /// Look who is left of what a worker that has exited has left behind, and answer with [`Event::GroupSeen`].
    Look {
        /// The group.
        group: Pid,
    },
    /// Send a signal to a worker, and answer with [`Report::SignalFailed`] if that fails. It has not been reaped.
    Signal {
        /// To this process.
        pid: Pid,
        /// This signal.
        signal: Signal,
    },
    /// See whether each worker that serves can be signalled, replace the master first where an upgrade begins with that,
    /// and answer with [`Event::WorkersUnsignallable`], [`Event::UpgradePrepared`] or [`Event::UpgradeNotPrepared`],
    /// perhaps from the next image.
    PrepareUpgrade {
        /// Who asked.
        request: Option<RequestKey>,
        /// How to upgrade.
        plan: UpgradePlan,
    },
    /// Resolve what this generation will run and answer with [`Event::ReleaseResolved`] or
    /// [`Event::ReleaseFailed`].
    ResolveRelease {
        /// The generation.
        generation: Generation,
    },
    /// Run the command of a check, and answer with [`Event::JobEnded`].
    Check {
        /// What the answer is for.
        job: JobId,
        /// What it is about.
        subject: Subject,
        /// Whose release it runs.
        generation: Generation,
        /// What to run, and for how long.
        check: Check,
    },
    /// Kill the command of a check. Nothing waits for its end.
    EndJob {
        /// The job of the action.
        job: JobId,
    },
    /// No worker of this generation will be spawned any more.
    ForgetRelease {
        /// The generation.
        generation: Generation,
    },
    /// Add a rollout that has ended to the history. The release of its generation has not been forgotten yet.
    Record {
        /// The rollout.
        rollout: Box<RolloutRecord>,
    },
    /// Say in the history that workers which the last rollout from `from` to `generation` has replaced left processes that may
    /// still serve. Its report says so too.
    RecordListening {
        /// The generation that it led to.
        generation: Generation,
        /// The generation that served before.
        from: Generation,
        /// How many workers.
        listening: u32,
    },
    /// Log this and send it to whoever follows events.
    Notice {
        /// What happened.
        notice: Notice,
        /// Send it to these requests too, as progress.
        progress_of: Vec<RequestKey>,
        /// How far the rollout is, for those requests.
        counts: Option<Counts>,
    },
    /// Give the last reply to a request.
    Reply {
        /// The request.
        request: RequestKey,
        /// What to say.
        answer: LastReply,
    },
    /// End the master.
    Exit {
        /// With this exit code.
        code: u8,
    },
}
