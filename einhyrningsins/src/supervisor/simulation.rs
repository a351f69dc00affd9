//! Goal: break the supervisor. Method: a world that is hostile by dice and honest about what it saw.
//!
//! Workers die at any time, ack late, twice or after they were asked to stop; strangers ack; pids come back;
//! spawns fail for now or for good; releases cannot be resolved; people resize, upgrade, respawn, go away
//! and stop the master at any moment. After each event the core checks I1-I5 itself; the world, which alone
//! knows what was really sent, checks I5 to I7, and at the end I8: once everybody behaves, the pool becomes
//! steady in a bounded number of steps, and a stop ends the master.
//!
//! A failure prints its seed; `EINHYRNINGSINS_SEED=n` plays that one alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use einhorn_proto::{AckSource, Termination, WorkerState};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::*;

const SEEDS: u64 = 600;
const STEPS: u32 = 400;
/// What the `signal` command sends: told apart from stop signals by being another one.
const BYSTANDER: Signal = Signal::SIGWINCH;

struct Process {
    /// Stop signals that it got, in order.
    stops: Vec<Signal>,
}

struct World {
    dice: fastrand::Rng,
    supervisor: Supervisor,
    now: Instant,
    /// Not reaped yet.
    processes: BTreeMap<i32, Process>,
    /// Pids that were reaped, to come back.
    reaped: BTreeSet<i32>,
    next_pid: i32,
    /// Requests without a last reply.
    pending: BTreeSet<u64>,
    next_request: u64,
    resolving: Vec<Generation>,
    /// Probability in percent that a spawn or a resolution fails.
    trouble: u32,
    exit: Option<u8>,
    stop_asked: bool,
    log: Vec<String>,
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
            retries: dice.bool().then(|| dice.u32(1..5)),
            unacked_max: dice.u32(1..5),
            upgrade_additional_max: dice.bool().then(|| dice.u32(1..4)),
            graceful_signal: Signal::SIGUSR2,
            grace: dice.bool().then(|| Duration::from_millis(dice.u64(0..3000))),
        };
        let trouble = [0, 0, 5, 40][dice.usize(..4)];
        let log = vec![format!("{policy:?} trouble {trouble}")];
        Self {
            dice,
            supervisor: Supervisor::new(policy),
            now: Instant::now(),
            processes: BTreeMap::new(),
            reaped: BTreeSet::new(),
            next_pid: 100,
            pending: BTreeSet::new(),
            next_request: 0,
            resolving: Vec::new(),
            trouble,
            exit: None,
            stop_asked: false,
            log,
        }
    }

    fn feed(&mut self, event: Event) {
        let mut queue = VecDeque::from([event]);
        while let Some(event) = queue.pop_front() {
            self.log.push(format!("{event:?}"));
            for action in self.supervisor.handle(self.now, event) {
                queue.extend(self.carry_out(&action));
            }
        }
    }

    fn carry_out(&mut self, action: &Action) -> Option<Event> {
        if !matches!(action, Action::Notice { .. }) {
            self.log.push(format!("    {action:?}"));
        }
        match action {
            &Action::Spawn { worker, .. } => {
                assert!(self.exit.is_none() && !self.stop_asked, "spawned after the stop");
                if self.dice.u32(..100) < self.trouble {
                    let transient = self.dice.bool();
                    return Some(Event::SpawnFailed { worker, reason: "trouble".into(), transient });
                }
                let pid = self.new_pid();
                self.processes.insert(pid, Process { stops: Vec::new() });
                Some(Event::Spawned { worker, pid: Pid::from_raw(pid) })
            }
            &Action::Signal { pid, signal } => {
                let process = self.processes.get_mut(&pid.as_raw());
                let process = process.unwrap_or_else(|| panic!("I5: {signal} to {pid}, which was reaped"));
                if signal != BYSTANDER {
                    assert!(!process.stops.contains(&signal), "I6: {signal} to {pid} twice");
                    process.stops.push(signal);
                }
                None
            }
            &Action::ResolveRelease { generation } => {
                self.resolving.push(generation);
                None
            }
            &Action::Reply { request, .. } => {
                assert!(self.pending.remove(&request.0), "I7: a second last reply to {request:?}");
                None
            }
            &Action::Exit { code } => {
                assert_eq!(self.exit.replace(code), None, "exits twice");
                None
            }
            Action::Notice { .. } | Action::ForgetRelease { .. } => None,
        }
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
        if self.processes.is_empty() || self.dice.u32(..20) == 0 {
            return self.dice.i32(1..100);
        }
        let at = self.dice.usize(..self.processes.len());
        *self.processes.keys().nth(at).unwrap()
    }

    fn reap(&mut self, pid: i32) {
        if self.processes.remove(&pid).is_some() {
            self.reaped.insert(pid);
        }
        let termination = if self.dice.bool() {
            Termination::Exited(self.dice.i32(0..256))
        } else {
            Termination::Killed { signal: "SIGSEGV".into(), core_dumped: self.dice.bool() }
        };
        self.feed(Event::Exited { pid: Pid::from_raw(pid), termination });
    }

    fn command(&mut self, command: PoolCommand) {
        let request = self.dice.bool().then(|| {
            self.next_request += 1;
            self.pending.insert(self.next_request);
            RequestKey(self.next_request)
        });
        self.feed(Event::Command { request, command });
    }

    fn plan(&mut self) -> UpgradePlan {
        match self.dice.u32(..4) {
            0 | 1 => UpgradePlan::default(),
            2 => UpgradePlan { is_fleet: true, ..UpgradePlan::default() },
            _ => UpgradePlan {
                is_fleet: false,
                canary: Some(self.dice.u32(1..4)),
                soak: self.dice.bool().then(|| Duration::from_millis(self.dice.u64(0..3000))),
            },
        }
    }

    fn random_step(&mut self) {
        match self.dice.u32(..26) {
            0..6 => self.pass_time(),
            6..11 => {
                let pid = Pid::from_raw(self.any_pid());
                self.feed(Event::Acked { pid, source: AckSource::Control });
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
            21 => self.command(PoolCommand::Signal(vec![BYSTANDER])),
            22 | 23 => self.resolve(),
            24 => {
                let command =
                    [PoolCommand::Continue, PoolCommand::Abort, PoolCommand::Follow, PoolCommand::Rollback];
                let command = command[self.dice.usize(..4)].clone();
                self.command(command);
            }
            _ => match self.dice.u32(..12) {
                0 => self.stop(),
                1..4 => self.abandon(),
                4 => {
                    let worker = WorkerId(self.dice.u64(..50) + 1_000_000);
                    self.feed(Event::Spawned { worker, pid: Pid::from_raw(1) });
                }
                _ => {
                    let pid = Pid::from_raw(self.any_pid());
                    self.feed(Event::StatusText { pid, text: "well".into() });
                    self.feed(Event::Pinged { pid });
                }
            },
        }
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
        let Some(generation) = self.resolving.pop() else { return };
        if self.dice.u32(..100) < self.trouble {
            self.feed(Event::ReleaseFailed { generation, reason: "trouble".into() });
        } else {
            self.feed(Event::ReleaseResolved { generation });
        }
    }

    fn abandon(&mut self) {
        if let Some(request) = self.pending.pop_first() {
            self.feed(Event::RequestAbandoned { request: RequestKey(request) });
        }
    }

    fn stop(&mut self) {
        self.stop_asked = true;
        let how = match self.dice.u32(..8) {
            0..3 => Stop::Gracefully,
            3..5 => Stop::With(Signal::SIGTERM),
            5..7 => Stop::Escalating,
            _ => Stop::AtOnce(Signal::SIGQUIT),
        };
        self.command(PoolCommand::Stop { how, why: "dice".into() });
    }

    /// Nothing fails, whoever starts acks, whoever was asked to stop goes: I8.
    fn behave_until_steady(&mut self) {
        self.trouble = 0;
        for _ in 0..4000 {
            if self.exit.is_some() {
                return;
            }
            self.resolve();
            if self.supervisor.next_deadline().is_none() {
                self.feed(Event::Command { request: None, command: PoolCommand::Continue });
            }
            let snapshot = self.supervisor.snapshot(self.now);
            let Some(worker) = snapshot.workers.iter().find(|worker| worker.state != WorkerState::Up) else {
                if snapshot.upgrade.is_none() && self.is_full(&snapshot) {
                    return;
                }
                self.now =
                    self.supervisor.next_deadline().map_or(self.now, |deadline| self.now.max(deadline));
                self.feed(Event::DeadlineReached);
                continue;
            };
            match worker.state {
                WorkerState::Draining => self.reap(worker.pid),
                _ => {
                    let pid = Pid::from_raw(worker.pid);
                    self.feed(Event::Acked { pid, source: AckSource::Notify });
                }
            }
        }
        self.log.retain(|line| line != "DeadlineReached");
        panic!("I8: not steady: {:?}", self.supervisor.snapshot(self.now));
    }

    fn is_full(&self, snapshot: &Snapshot) -> bool {
        let given_up = snapshot.slots.iter().filter(|slot| slot.given_up).count();
        snapshot.up as usize + given_up == snapshot.slots.len()
    }

    fn play(&mut self) {
        self.feed(Event::Started);
        for _ in 0..STEPS {
            if self.exit.is_some() {
                break;
            }
            self.random_step();
        }
        self.behave_until_steady();
        if self.exit.is_none() {
            assert_eq!(self.supervisor.next_deadline(), None, "a steady pool has nothing to wake up for");
            assert_eq!(self.supervisor.snapshot(self.now).draining, 0);
            self.stop_asked = true;
            self.command(PoolCommand::Stop { how: Stop::Gracefully, why: "the end".into() });
            self.behave_until_steady();
        }
        assert!(self.exit.is_some(), "I8: told to stop, and the last worker has gone");
        assert!(self.pending.is_empty(), "I7: no last reply to {:?}", self.pending);
    }
}

#[test]
fn a_hostile_world_breaks_no_invariant() {
    let seeds = match std::env::var("EINHYRNINGSINS_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("EINHYRNINGSINS_SEED is a number");
            seed..=seed
        }
        Err(_) => 1..=SEEDS,
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
