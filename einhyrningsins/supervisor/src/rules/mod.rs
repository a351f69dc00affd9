//! The policy: which step comes next.
//!
//! Each rule is a pure function of the tables and the time, and names a step or none. They are asked in this order,
//! anew after every step, until none has anything to do:
//!
//! 1. [`aftermath`]: the report of a rollout that has ended is given, when its time has come.
//! 2. [`stop`]: a master that stops exits once its last worker has gone; one whose slots were all given up stops. All
//!    that its workers still need is below, as theirs; nothing else applies to it, because its slots are closed.
//! 3. [`loss`]: a slot that has lost a worker waits, goes on with the successor, is given up, or ends an upgrade.
//! 4. [`clock`]: deadlines that have passed: acks by time, missed boots, grace periods, long drains, ages, pings, a
//!    soak; and those of processes that workers have left behind.
//! 5. [`passing`]: a successor that has acked takes its slot, and the worker before it drains; a fleet waits for all.
//! 6. [`trial`]: a worker of a new release is tried and checked before the release gets a slot.
//! 7. [`refill`]: the pool is full for the first time; a slot that is due is filled, if there is room.
//! 8. [`soak`]: the canaries of an upgrade are checked.
//! 9. [`rollout`]: an upgrade or a rollback takes the next slot, soaks, or ends.
//! 10. [`queue`]: an upgrade that waited begins, if none runs.
//! 11. [`recycling`]: one worker that is too old, too large or silent is replaced, if nothing else goes on.
//!
//! To add a rule is to write one and to put it in its place here.

mod aftermath;
mod clock;
mod loss;
mod passing;
mod queue;
mod recycling;
mod refill;
mod rollout;
mod soak;
mod stop;
mod trial;

use einhorn_proto::RecycleReason;

use super::event::{Generation, SlotNumber, WorkerId};
use super::moment::Moment;
use super::plan::{Rollout, Stage};
use super::pool::Pass;
use super::signal::Pid;
use super::slot::Attempts;
use super::tables::Tables;
use super::worker::Process;

/// The rules in order of precedence.
const RULES: [fn(&View<'_>) -> Option<Step>; 11] = [
    aftermath::rule,
    stop::rule,
    loss::rule,
    clock::rule,
    passing::rule,
    trial::rule,
    refill::rule,
    soak::rule,
    rollout::rule,
    queue::rule,
    recycling::rule,
];

/// What the first rule that applies wants done.
pub(crate) fn next_step(view: &View<'_>) -> Option<Step> {
    RULES.iter().find_map(|rule| rule(view))
}

/// What rules look at.
pub(crate) struct View<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) now: Moment,
    /// The time up to which deadlines are heeded. It lags behind `now` where the shell has yet to say what came
    /// before a deadline: a worker's last words are read before its missed boot deadline is.
    pub(crate) reached: Moment,
    /// Nobody is spawned before the upgrade begins for which the master was replaced.
    pub(crate) is_held_for_upgrade: bool,
}

impl View<'_> {
    /// Whether one more worker may be spawned.
    fn may_spawn(&self) -> bool {
        let is_resolving = |rollout: &Rollout| *rollout.stage() == Stage::Resolving;
        let is_ahead =
            self.tables.queue.is_preparing() || self.tables.plan.rollout().is_some_and(is_resolving);
        let is_held = (self.is_held_for_upgrade && is_ahead) || self.tables.is_first_tried();
        self.tables.may_spawn() && !is_held
    }
}

/// One thing to do, with what the rule has found. Taking it changes the tables so that no rule asks for it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// What is there now of a group counts as left behind: a report or the end of the master cannot wait any longer.
    Settle(Pid),
    /// The first report that is due is given.
    Report,
    /// The master exits.
    Exit,
    /// The master stops, because every slot was given up.
    StopForWantOfWorkers,
    /// The first loss is decided.
    Decide(Fate),
    /// The worker counts as acked: its time has passed.
    CountAsAcked(WorkerId),
    /// The worker has missed its boot deadline: it drains, and is a loss to its slot.
    MissBoot(Process),
    /// The worker's grace period is over: SIGKILL.
    Kill(Process),
    /// The worker's drain takes long.
    WarnOfDrain(Process),
    /// Somebody looks who is left of a group.
    Look(Pid),
    /// The grace period of a group is over: SIGKILL.
    KillGroup(Pid),
    /// The worker, whose slot was closed, gets its stop signal.
    Ask(Process),
    /// The worker has reached its greatest age, and waits to be replaced.
    GrowOld(WorkerId),
    /// The worker has stopped pinging, and waits to be replaced.
    FallSilent(WorkerId),
    /// The worker has not acked: its next ping is expected later.
    ExpectPing(WorkerId),
    /// The canaries are checked.
    CheckCanaries,
    /// The canaries have failed their checks.
    FailSoak,
    /// The rest of the slots follows the canaries.
    EndSoak,
    /// The successor takes the slot, and the worker before it drains.
    Pass(Pass),
    /// The pool is full for the first time.
    BecomeReady,
    /// A trial worker is spawned.
    SpawnTrial(Generation),
    /// The trial worker has acked, and is checked.
    BeginCheck(Process),
    /// The check has passed: the release gets slots.
    PassTrial,
    /// The check has failed: the release gets none.
    FailTrial,
    /// A slot that was given up is due again: its release has proved itself.
    Revive(SlotNumber),
    /// A worker is spawned into the empty slot.
    Fill(SlotNumber, Generation),
    /// The rollout takes the slot of a worker: a successor is spawned.
    Replace(SlotNumber, WorkerId, Generation),
    /// The rollout takes an empty slot, which gets the release.
    Reassign(SlotNumber, Generation),
    /// The fleet takes its slots one by one from now on.
    ThinOut,
    /// The canaries are up, and are watched.
    BeginSoak,
    /// Every slot has what the rollout brings.
    FinishRollout,
    /// Every slot has what was there before the rollout.
    FinishRollback,
    /// The next upgrade that waits begins.
    BeginQueued,
    /// The turn of the worker to be replaced begins.
    BeginTurn(Process, RecycleReason),
}

/// What becomes of a slot that has lost a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// Its successor has it.
    Succeeded,
    /// It is filled again at `at`.
    Wait { at: Moment, attempts: Attempts },
    /// It has used up its tries.
    GiveUp { attempts: Attempts },
    /// The turn of the worker that holds it has failed, and comes again at `at` or later.
    FailTurn { at: Moment },
    /// The rollout tries it again at `at`, in either direction.
    Retry { at: Moment },
    /// The rollout fails; `tries` is `None` in its soak.
    TurnBack { tries: Option<u32> },
    /// It was to be given back to the previous release, which this is, and is free.
    GiveBack(Generation),
    /// The rollback fails too. The slot is filled again at `at`.
    FailRollback { at: Moment },
}
