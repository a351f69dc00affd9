//! Goal: break the supervisor. Method: a world that is hostile by dice and honest about what it saw.
//!
//! Workers die at any time, ack late, twice or after they were asked to stop; strangers ack; pids come back;
//! spawns fail for now or for good; releases cannot be resolved; people resize, upgrade, respawn, go away
//! and stop the master at any moment. After each event the core checks I1 to I5 and I9 itself and the onlooker I5 to I7, I10
//! and the reports of upgrades; at the end comes I8: once everybody behaves, the pool becomes steady in a
//! bounded number of steps, and a stop ends the master. What the dice may miss in large pools, `model/` looks
//! for in small ones without dice.
//!
//! A failure prints its seed; `EINHYRNINGSINS_SEED=n` plays that one alone, `EINHYRNINGSINS_SEEDS=n` the first n.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use super::Moment;

use super::Pid;
use super::Signal;
use einhorn_proto::{AckSource, Requester, Target, Termination};

use super::onlooker::{BYSTANDER, MEMBER, Onlooker, answer, check_rest, good_event};
use super::*;

/// Seconds in a debug build; a sweep takes more by `EINHYRNINGSINS_SEEDS`.
const SEEDS: u64 = 600;
const STEPS: u32 = 400;
struct World {
    dice: fastrand::Rng,
    supervisor: Supervisor,
    now: Moment,
    onlooker: Onlooker,
    /// Pids that were reaped, to come back.
    reaped: BTreeSet<i32>,
    next_pid: i32,
    next_request: u64,
    /// Probability in percent that a spawn or a resolution fails.
    trouble: u32,
    log: Vec<String>,
}

/// Now and then with limits that are reached all the time.
fn limits(dice: &mut fastrand::Rng) -> RecyclingLimits {
    let time = |dice: &mut fastrand::Rng| Duration::from_millis(dice.u64(1..4000));
    RecyclingLimits {
        max_age: dice.bool().then(|| MaxAge { age: time(dice), jitter: time(dice), seed: dice.u64(..) }),
        max_rss_bytes: dice.bool().then_some(25),
        ping_timeout: dice.bool().then(|| time(dice)),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let workers = if dice.u32(..10) == 0 { dice.u32(1..=100) } else { dice.u32(1..=6) };
        let policy = Policy {
            program: "./server".to_owned(),
            workers,
            seconds: Duration::from_millis(dice.u64(1..2000)),
            ack: match dice.u32(..4) {
                0 => AckMode::Timer(Duration::from_millis(dice.u64(0..1500))),
                1 => AckMode::Manual(None),
                _ => AckMode::Manual(Some(Duration::from_millis(dice.u64(100..5000)))),
            },
            retries: if dice.bool() { Retries::always(dice.u32(1..5)) } else { Retries::DEFAULT },
            unacked_max: dice.u32(1..5),
            unacked_by_cpus: dice.bool().then(|| dice.u32(1..3)),
            upgrade_additional_max: dice.bool().then(|| dice.u32(1..4)),
            graceful_signal: dice.bool().then_some(Signal::SIGUSR2),
            grace: dice.bool().then(|| Duration::from_millis(dice.u64(0..3000))),
            stop_group: dice.bool(),
            drain_warning: dice.bool().then(|| Duration::from_millis(dice.u64(0..3000))),
            report_wait: Duration::from_millis(if dice.bool() { dice.u64(..2000) } else { 0 }),
            shrink_grace: dice.bool().then(|| Duration::from_millis(dice.u64(0..3000))),
            upgrade_restarts: dice.bool(),
            recycling: limits(&mut dice),
            check: (dice.u32(..3) == 0).then(String::new),
            check_timeout: Duration::from_millis(dice.u64(1..4000)),
            checks_first: dice.bool(),
            on_event: None,
        };
        let trouble = [0, 0, 5, 40][dice.usize(..4)];
        let log = vec![format!("{policy:?} trouble {trouble}")];
        Self {
            dice,
            supervisor: Supervisor::new(policy),
            now: Moment::from_clock(Duration::from_secs(1000)),
            onlooker: Onlooker::default(),
            reaped: BTreeSet::new(),
            next_pid: 100,
            next_request: 0,
            trouble,
            log,
        }
    }

    fn feed(&mut self, event: Event) {
        let mut queue = VecDeque::from([event]);
        while let Some(event) = queue.pop_front() {
            self.log.push(format!("{event:?}"));
            for action in self.onlooker.feed(&mut self.supervisor, self.now, event) {
                queue.extend(self.carry_out(&action));
            }
        }
    }

    fn carry_out(&mut self, action: &Action) -> Option<Event> {
        if !matches!(action, Action::Notice { .. }) {
            self.log.push(format!("    {action:?}"));
        }
        if let Action::PrepareUpgrade { .. } = action
            && self.dice.bool()
        {
            // No handover comes first.
            return self.prepared();
        }
        let &Action::Spawn { worker, .. } = action else {
            return answer(action, &self.onlooker.refusing, &self.onlooker.empty_groups);
        };
        if self.dice.u32(..100) < self.trouble {
            let transient = self.dice.bool();
            return Some(Event::SpawnFailed { worker, reason: "trouble".into(), transient });
        }
        Some(Event::Spawned { worker, pid: Pid::from_raw(self.new_pid()), start_ticks: None })
    }

    /// A pid that the kernel may give out: often one that was used before.
    fn new_pid(&mut self) -> i32 {
        if self.dice.bool()
            && let Some(pid) = self.reaped.pop_first()
        {
            return pid;
        }
        self.next_pid += 1;
        self.next_pid
    }

    fn any_pid(&mut self) -> i32 {
        let processes = &self.onlooker.processes;
        if processes.is_empty() || self.dice.u32(..20) == 0 {
            return self.dice.i32(1..100);
        }
        let at = self.dice.usize(..processes.len());
        processes.keys().nth(at).map_or(1, |pid| pid.as_raw())
    }

    fn reap(&mut self, pid: i32) {
        if self.onlooker.processes.contains_key(&Pid::from_raw(pid)) {
            if self.dice.u32(..10) == 0 {
                let (listens, is_group) = (self.dice.bool(), self.dice.u32(..4) > 0);
                let report = Report::LeftBehind { members: vec![MEMBER], listens, is_group };
                self.feed(Event::Heard { pid: Pid::from_raw(pid), report });
            } else {
                self.reaped.insert(pid);
            }
        }
        let termination = if self.dice.bool() {
            Termination::Exited(self.dice.i32(0..256))
        } else {
            Termination::Killed {
                signal: "SIGSEGV".into(),
                core_dumped: self.dice.bool(),
                out_of_memory: false,
            }
        };
        self.feed(Event::Exited { pid: Pid::from_raw(pid), termination });
    }

    fn command(&mut self, command: PoolCommand) {
        let request = self.dice.bool().then(|| {
            self.next_request += 1;
            RequestKey(self.next_request)
        });
        self.feed(Event::Command { request, requester: Requester::default(), command });
    }

    fn plan(&mut self) -> UpgradePlan {
        let check = match self.dice.u32(..6) {
            0 => CheckPlan::Never,
            1 => CheckPlan::By(String::new()),
            _ => CheckPlan::ByPolicy,
        };
        UpgradePlan { is_reported_drained: self.dice.u32(..4) == 0, check, ..self.order() }
    }

    fn order(&mut self) -> UpgradePlan {
        let options = OptionsChange { settings: self.settings(), changes: Vec::new() };
        let plain = UpgradePlan { options, ..UpgradePlan::default() };
        match self.dice.u32(..4) {
            0 | 1 => plain,
            2 => UpgradePlan { is_fleet: true, ..plain },
            _ => UpgradePlan {
                canary: Some(self.dice.u32(1..4)),
                soak: self.dice.bool().then(|| Duration::from_millis(self.dice.u64(0..3000))),
                soak_check: self.dice.bool().then(|| SoakCheck {
                    command: String::new(),
                    every: Duration::from_millis(self.dice.u64(1..1000)),
                    failures_max: self.dice.u32(1..4),
                }),
                ..plain
            },
        }
    }

    /// What an upgrade changes: mostly nothing. Which workers may start at a time, the onlooker knows from commands alone.
    fn settings(&mut self) -> Vec<Setting> {
        let change = match self.dice.u32(..8) {
            0 | 1 => Some(self.change()),
            2 => Some(self.other_terms()),
            _ => None,
        };
        change.into_iter().filter(|setting| !matches!(setting, Setting::Unacked { .. })).collect()
    }

    /// No client can change these.
    fn other_terms(&mut self) -> Setting {
        match self.dice.u32(..5) {
            0 => Setting::Ack(AckMode::Manual(None)),
            1 => Setting::Ack(AckMode::Manual(Some(Duration::from_millis(self.dice.u64(1..3000))))),
            2 => Setting::Ack(AckMode::Timer(Duration::from_millis(self.dice.u64(0..500)))),
            3 => Setting::GracefulSignal(self.dice.bool().then_some(Signal::SIGHUP)),
            _ => Setting::StopGroup(self.dice.bool()),
        }
    }

    fn change(&mut self) -> Setting {
        match self.dice.u32(..5) {
            0 => Setting::Workers(self.dice.u32(1..9)),
            1 => Setting::Seconds(Duration::from_millis(self.dice.u64(1..3000))),
            2 => Setting::Unacked {
                max: self.dice.u32(1..4),
                by_cpus: self.dice.bool().then(|| self.dice.u32(1..3)),
            },
            3 => Setting::UpgradeAdditional(Some(self.dice.u32(1..4))),
            _ => Setting::Grace(Some(Duration::from_millis(self.dice.u64(1..5000)))),
        }
    }

    fn random_step(&mut self) {
        match self.dice.u32(..36) {
            34 | 35 => self.end_job(),
            0..6 => self.pass_time(),
            6..11 => {
                let pid = Pid::from_raw(self.any_pid());
                self.feed(Event::Heard { pid, report: Report::Ack(AckSource::Control) });
            }
            11..15 => {
                let pid = self.any_pid();
                self.reap(pid);
            }
            15 => {
                let count = self.dice.u32(1..4);
                self.command(PoolCommand::Inc(count));
            }
            16 => {
                let count = self.dice.u32(1..4);
                self.command(PoolCommand::Dec(count));
            }
            17 => {
                let count = self.dice.u32(1..9);
                self.command(PoolCommand::SetWorkers(count));
            }
            18 | 19 => {
                let plan = self.plan();
                self.command(PoolCommand::Upgrade(plan));
            }
            20 => self.command(PoolCommand::Respawn),
            21 => {
                let target = match self.dice.u32(..3) {
                    0 => Target::Slot(self.dice.u32(..6)),
                    1 => Target::Pid(self.any_pid()),
                    _ => Target::Draining,
                };
                let some = PoolCommand::SignalOnly(vec![BYSTANDER], target);
                let commands = [PoolCommand::Signal(vec![BYSTANDER]), some, PoolCommand::Replace(target)];
                let command = commands[self.dice.usize(..3)].clone();
                self.command(command);
            }
            33 => {
                let plan = self.plan();
                self.command(PoolCommand::QueueUpgrade(plan));
            }
            30 => {
                let (requester, command) = (Requester::default(), PoolCommand::Hangup);
                self.feed(Event::Command { request: None, requester, command });
            }
            31 | 32 => {
                if let Some(event) = self.prepared() {
                    self.feed(event);
                }
            }
            22 | 23 => self.resolve(),
            24 => {
                let command =
                    [PoolCommand::Continue, PoolCommand::Abort, PoolCommand::Follow, PoolCommand::Rollback];
                let command = command[self.dice.usize(..4)].clone();
                self.command(command);
            }
            25 | 26 => self.hand_over(),
            29 => {
                let pid = Pid::from_raw(self.any_pid());
                if self.dice.u32(..8) == 0 && self.onlooker.processes.contains_key(&pid) {
                    self.onlooker.refusing.insert(pid);
                }
            }
            27 => {
                let change = vec![self.change()];
                self.command(PoolCommand::Configure(change));
            }
            _ => match self.dice.u32(..12) {
                0 => self.stop(),
                1..3 => self.abandon(),
                3 => {
                    let groups = self.onlooker.groups.keys().next().copied();
                    self.onlooker.empty_groups.extend(groups);
                }
                6 | 7 => {
                    let load = BootLoad {
                        busy_permille: self.dice.u32(..1000),
                        is_pressed: self.dice.u32(..3) == 0,
                        filling: self.dice.bool().then(|| self.dice.u32(..6)),
                        room: self.dice.bool().then(|| self.dice.u32(..6)),
                    };
                    self.feed(Event::BootLoad(load));
                }
                5 if self.supervisor.is_timed() => {
                    let lost = Duration::from_millis(self.dice.u64(..5000));
                    self.now += lost;
                    self.feed(Event::TimeLost(lost));
                }
                4 => {
                    let worker = WorkerId(self.dice.u64(..50) + 1_000_000);
                    self.feed(Event::Spawned { worker, pid: Pid::from_raw(1), start_ticks: None });
                }
                _ => {
                    let pid = Pid::from_raw(self.any_pid());
                    self.feed(Event::Heard { pid, report: Report::Status("well".into()) });
                    let rss_bytes = self.dice.u64(..30);
                    self.feed(Event::Heard { pid, report: Report::Rss(rss_bytes) });
                    self.feed(Event::Heard { pid, report: Report::Ping(None) });
                    if self.dice.u32(..4) == 0 {
                        self.feed(Event::Heard { pid, report: Report::LostSocket });
                    }
                    let report = Report::Suspended(self.dice.bool());
                    self.feed(Event::Heard { pid, report });
                }
            },
        }
    }

    /// Another image of the master goes on with the pool. Its clock has gone on meanwhile.
    fn hand_over(&mut self) {
        let Ok(tables) = self.supervisor.tables().cloned() else { return };
        let json = serde_json::to_string(&tables).unwrap();
        self.log.push("    handed over".to_owned());
        let took = Duration::from_millis(self.dice.u64(..3000));
        let read = serde_json::from_str(&json).unwrap();
        self.onlooker.hand_over(&self.supervisor);
        self.supervisor = Supervisor::restore(read).unwrap();
        assert_eq!(self.supervisor.tables(), Ok(&tables), "what was read is what was written");
        self.now += took;
    }

    /// To the next deadline, past it, or not as far; now and then with a deadline event that is early.
    fn pass_time(&mut self) {
        match (self.supervisor.next_deadline(), self.dice.u32(..3)) {
            (Some(deadline), 0) => self.now = self.now.max(deadline),
            (Some(deadline), 1) => self.now = self.now.max(deadline) + Duration::from_millis(500),
            _ => self.now += Duration::from_millis(self.dice.u64(..400)),
        }
        self.feed(Event::DeadlineReached);
    }

    fn resolve(&mut self) {
        let Some(&generation) = self.onlooker.resolving.last() else { return };
        if self.dice.u32(..100) < self.trouble {
            self.feed(Event::ReleaseFailed { generation, reason: "trouble".into() });
        } else {
            self.feed(Event::ReleaseResolved { generation, same_as: None });
        }
    }

    /// The upgrade that is being prepared can begin, or cannot.
    fn prepared(&mut self) -> Option<Event> {
        let prepared = self.onlooker.prepared(&self.supervisor)?;
        let is_refused = self.dice.u32(..100) < self.trouble;
        Some(if is_refused { Event::UpgradeNotPrepared } else { prepared })
    }

    /// A check ends, one way or the other; now and then one ends that nobody knows.
    fn end_job(&mut self) {
        let job = self.onlooker.jobs.keys().next().copied();
        if job.is_none() && self.dice.u32(..8) > 0 {
            return;
        }
        let failed = JobOutcome::Failed { reason: "dice".into(), output: Vec::new() };
        let outcome = if self.dice.u32(..3) == 0 { failed } else { JobOutcome::Passed };
        self.feed(Event::JobEnded { job: job.unwrap_or(JobId(1_000_000)), outcome });
    }

    fn abandon(&mut self) {
        if let Some(&request) = self.onlooker.pending.first() {
            self.feed(Event::RequestAbandoned { request });
        }
    }

    fn stop(&mut self) {
        let how = match self.dice.u32(..8) {
            0..3 => Stop::Gracefully,
            3..5 => Stop::With(Signal::SIGTERM),
            5..7 => Stop::Escalating,
            _ => Stop::AtOnce(Signal::SIGQUIT),
        };
        self.command(PoolCommand::Stop { how, why: "dice".into() });
    }

    /// I8: nothing fails any more, everybody does what is asked, and so the pool comes to rest.
    fn behave_until_steady(&mut self) {
        self.trouble = 0;
        // Who has a limit reaches it; who comes has none, or there would be no end.
        self.supervisor.tables.policy.recycling = RecyclingLimits::default();
        for _ in 0..4000 {
            let Some((at, event)) = good_event(&self.supervisor, self.now, &self.onlooker) else {
                return check_rest(&self.supervisor, &self.onlooker);
            };
            if self.onlooker.exit.is_some() {
                return;
            }
            self.now = at;
            match event {
                // Its pid may come back.
                Event::Exited { pid, .. } => self.reap(pid.as_raw()),
                event => self.feed(event),
            }
        }
        self.log.retain(|line| line != "DeadlineReached");
        panic!("I8: never steady: {:?}", self.supervisor.snapshot(self.now));
    }

    fn play(&mut self) {
        self.feed(Event::Started);
        for _ in 0..STEPS {
            if self.onlooker.exit.is_some() {
                break;
            }
            self.random_step();
        }
        self.behave_until_steady();
        if self.onlooker.exit.is_none() {
            self.command(PoolCommand::Stop { how: Stop::Gracefully, why: "the end".into() });
            self.behave_until_steady();
        }
        assert!(self.onlooker.exit.is_some(), "I8: told to stop, and the last worker has gone");
    }
}

#[test]
fn a_hostile_world_breaks_no_invariant() {
    let number = |name| {
        let given = std::env::var(name).ok()?;
        Some(given.parse::<u64>().unwrap_or_else(|error| panic!("{name}={given} is no number: {error}")))
    };
    let seeds = match number("EINHYRNINGSINS_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("EINHYRNINGSINS_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let mut world = World::new(seed);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.play()));
        if let Err(panic) = played {
            let tail = world.log.len().saturating_sub(60);
            eprintln!("{}\n{}", world.log[0], world.log[tail..].join("\n"));
            eprintln!("replay with EINHYRNINGSINS_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
