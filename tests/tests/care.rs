//! Workers that serve are replaced, for their age, their memory or their silence: one at a time, and nothing is lost.

use std::collections::BTreeSet;
use std::fs;

use einhorn_proto::{Notice, RecycleReason, Termination};
use serde_json::Value;
use tests::control::{Control, typed};
use tests::load::Plan;
use tests::wait::patience;
use tests::{Gate, Master, MasterBuilder, Process};

tests::trials! {
    four_workers_over_their_memory_at_once_are_replaced_one_by_one_and_nothing_is_lost,
    workers_that_grow_old_again_and_again_are_replaced_one_by_one_and_nothing_is_lost,
    a_turn_that_a_new_master_takes_over_is_finished_once,
    a_worker_whose_pings_over_the_control_socket_stop_is_replaced_and_resumed,
    a_worker_whose_notifications_stop_is_replaced_and_resumed,
    workers_are_told_how_often_to_ping_only_where_pings_are_waited_for,
    a_master_that_is_called_as_einhorn_takes_the_options_too,
}

const WORKERS: usize = 4;

/// Follows the events of a master from its first ack on, and knows from them who takes traffic and who is leaving.
struct Onlooker {
    events: Control,
    up: BTreeSet<i32>,
    starting: BTreeSet<i32>,
    leaving: BTreeSet<i32>,
    /// Whose turn began, and why.
    turns: Vec<(i32, RecycleReason)>,
    /// Who has gone, and how.
    gone: Vec<(i32, Termination)>,
}

impl Onlooker {
    /// Of a pool whose workers wait at `gate`, which it opens; watches until all are up.
    #[track_caller]
    fn of(master: &Master, gate: &mut Gate) -> Self {
        let mut events = master.control();
        events.send(r#"{"command":"events"}"#);
        assert!(events.reply().wait, "the events are followed");
        // On the same connection: it stands between the events that it includes and those that it does not.
        events.send(r#"{"command":"status","id":"status"}"#);
        let status = loop {
            let reply = events.reply();
            if reply.request_id.is_some() {
                break typed::<einhorn_proto::Status>(reply);
            }
        };
        assert_eq!((status.workers.len(), status.master.up), (WORKERS, 0), "{status:?}");
        let starting = status.workers.iter().map(|worker| worker.pid).collect();
        let (up, leaving) = (BTreeSet::new(), BTreeSet::new());
        let mut onlooker = Self { events, up, starting, leaving, turns: Vec::new(), gone: Vec::new() };
        gate.open();
        while onlooker.up.len() < WORKERS {
            onlooker.take();
        }
        onlooker
    }

    /// The next event, after which as many workers take traffic as should, and at most one is there beside them.
    #[track_caller]
    fn next(&mut self) {
        let notice = self.take();
        assert!(self.up.len() >= WORKERS, "one is missing after {notice:?}: {self:?}");
        let live = self.up.len() + self.starting.len() + self.leaving.len();
        assert!(live <= WORKERS + 1, "two are away after {notice:?}: {self:?}");
    }

    #[track_caller]
    fn take(&mut self) -> Notice {
        let notice: Notice = typed(self.events.reply());
        match &notice {
            Notice::Recycling { pid, reason, .. } => {
                let others = self.starting.len() + self.leaving.len();
                assert_eq!(others, 0, "the turn of {pid} began beside another: {self:?}");
                self.turns.push((*pid, *reason));
            }
            Notice::Spawned { pid, .. } => drop(self.starting.insert(*pid)),
            Notice::Acked { pid, .. } => {
                self.starting.remove(pid);
                self.up.insert(*pid);
            }
            Notice::Draining { pid, .. } => {
                self.up.remove(pid);
                self.leaving.insert(*pid);
            }
            Notice::Drained { pid, termination, .. } => {
                self.leaving.remove(pid);
                self.gone.push((*pid, termination.clone()));
            }
            Notice::Died { death, .. } => panic!("{death}: {self:?}"),
            _ => {}
        }
        notice
    }

    /// Watches until `count` workers have gone.
    #[track_caller]
    fn watch(&mut self, count: usize) {
        while self.gone.len() < count {
            self.next();
        }
    }
}

impl std::fmt::Debug for Onlooker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { up, starting, leaving, turns, gone, .. } = self;
        write!(f, "up {up:?}, starting {starting:?}, leaving {leaving:?}, turns {turns:?}, gone {gone:?}")
    }
}

/// A pool whose first four workers hold more than they may, and whose later ones, which pass `gate`, do not.
fn swollen(builder: MasterBuilder, gate: &Gate) -> (Master, Onlooker) {
    let knobs = builder.file("knobs");
    let mut first_gate = Gate::closed(builder.file("first-gate"));
    fs::write(&knobs, format!("hold_mb=64 {}", first_gate.knob())).expect("the knobs");
    let words = [format!("@{}", knobs.display())];
    let builder = builder.workers(WORKERS as u32).options(["--max-rss", "48M"]);
    let mut master = builder.serve(words).start_unready();
    master.wait("four workers that have booted", |master| {
        let workers = master.status().workers.into_iter().filter_map(|worker| Process::of(worker.pid));
        let held = workers.filter_map(|worker| {
            let kib = worker.status("VmRSS")?;
            kib.strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        (held.filter(|kib| *kib > 64 << 10).count() == WORKERS).then_some(())
    });
    // They have read their knobs, and whoever comes after them reads these.
    fs::write(&knobs, format!("hold_mb=0 {}", gate.knob())).expect("the knobs");
    let onlooker = Onlooker::of(&master, &mut first_gate);
    (master, onlooker)
}

fn four_workers_over_their_memory_at_once_are_replaced_one_by_one_and_nothing_is_lost() {
    let builder = Master::builder();
    let mut gate = Gate::closed(builder.file("gate"));
    let (mut master, mut onlooker) = swollen(builder, &gate);
    let first = onlooker.up.clone();
    let load = Plan::new(master.address()).start();
    load.wait_for_answers(200);
    gate.open();
    onlooker.watch(WORKERS);
    load.wait_for_answers(200);
    load.stop().assert_nothing_lost();
    let turns: BTreeSet<_> = onlooker.turns.iter().map(|(pid, _)| *pid).collect();
    assert_eq!((turns, onlooker.turns.len()), (first, WORKERS), "each once: {onlooker:?}\n{master}");
    assert!(onlooker.turns.iter().all(|(_, reason)| *reason == RecycleReason::MaxRss), "{onlooker:?}");
    let status = master.wait_up(WORKERS as u32);
    assert!(status.slots.iter().all(|slot| slot.restarts == 0), "none of them died\n{master}");

    let shown = master.ctl(["--json", "status"]);
    let shown: Value = serde_json::from_str(&shown.assert_code(0).stdout).expect("JSON");
    let counts =
        serde_json::json!({ "asked": 0, "lost_socket": 0, "max_age": 0, "max_rss": 4, "ping_timeout": 0 });
    assert_eq!(shown["recycled"], counts, "{shown}");
}

fn workers_that_grow_old_again_and_again_are_replaced_one_by_one_and_nothing_is_lost() {
    let builder = Master::builder().workers(WORKERS as u32).options(["--max-age", "0.5:0.5"]);
    let mut gate = Gate::closed(builder.file("gate"));
    let master = builder.serve([gate.knob()]).start_unready();
    let mut onlooker = Onlooker::of(&master, &mut gate);
    let load = Plan::new(master.address()).start();
    onlooker.watch(3 * WORKERS);
    load.stop().assert_nothing_lost();
    assert!(onlooker.turns.iter().all(|(_, reason)| *reason == RecycleReason::MaxAge), "{onlooker:?}");
}

fn a_turn_that_a_new_master_takes_over_is_finished_once() {
    let builder = Master::builder();
    let mut gate = Gate::closed(builder.file("gate"));
    let (mut master, mut onlooker) = swollen(builder, &gate);
    let first = onlooker.up.clone();
    let load = Plan::new(master.address()).start();
    while onlooker.starting.is_empty() {
        onlooker.next();
    }
    let reply = master.control().ask("reload", &[]);
    assert_eq!(reply.ok, Some(true), "{}\n{master}", reply.message);
    gate.open();
    onlooker.watch(WORKERS);
    load.stop().assert_nothing_lost();
    let turns: BTreeSet<_> = onlooker.turns.iter().map(|(pid, _)| *pid).collect();
    assert_eq!((turns, onlooker.turns.len()), (first, WORKERS), "each once: {onlooker:?}\n{master}");
    assert_eq!(master.wait_up(WORKERS as u32).recycled.max_rss, 4, "{master}");
}

/// A worker that is frozen keeps what it has accepted. Its stop resumes it, so it finishes that and goes.
fn a_frozen_worker_is_replaced_and_resumed(ack: &str) {
    let builder = Master::builder().workers(WORKERS as u32).options(["--ping-timeout", "3"]);
    let mut gate = Gate::closed(builder.file("gate"));
    let knobs = [format!("ack={ack}"), "ping_ms=100".to_owned(), gate.knob()];
    let mut master = builder.serve(knobs).start_unready();
    let mut onlooker = Onlooker::of(&master, &mut gate);
    // Nobody gives up before the frozen worker is resumed.
    let load = Plan { deadline: 2 * patience(), ..Plan::new(master.address()) }.start();
    load.wait_for_answers(200);
    let (victim, held) = master.freeze_busiest(&load);
    assert!(held > 0 && victim.is_stopped(), "it was resumed before its connections were counted\n{master}");
    while !onlooker.gone.iter().any(|(pid, _)| *pid == victim.pid()) {
        onlooker.next();
    }
    assert!(onlooker.turns.contains(&(victim.pid(), RecycleReason::PingTimeout)), "{onlooker:?}");
    assert!(onlooker.gone.contains(&(victim.pid(), Termination::Exited(0))), "{onlooker:?}");
    load.wait_for_answers(200);
    load.stop().assert_nothing_lost();
    assert!(master.status().recycled.ping_timeout >= 1, "{master}");
}

fn a_worker_whose_pings_over_the_control_socket_stop_is_replaced_and_resumed() {
    a_frozen_worker_is_replaced_and_resumed("control");
}

fn a_worker_whose_notifications_stop_is_replaced_and_resumed() {
    a_frozen_worker_is_replaced_and_resumed("notify");
}

fn workers_are_told_how_often_to_ping_only_where_pings_are_waited_for() {
    for (options, usec) in [(&["--ping-timeout", "2.5"][..], Some("2500000")), (&[][..], None)] {
        let mut master = Master::builder().options(options).start();
        let [worker] = master.workers_up()[..] else { panic!("not one worker\n{master}") };
        let environment = worker.environment();
        assert_eq!(environment.get("WATCHDOG_USEC").map(String::as_str), usec);
        let pid = usec.map(|_| worker.pid().to_string());
        assert_eq!(environment.get("WATCHDOG_PID"), pid.as_ref());
    }
}

fn a_master_that_is_called_as_einhorn_takes_the_options_too() {
    let options = ["--max-age", "0.2", "--max-rss", "1G", "--ping-timeout", "60"];
    let mut master = Master::builder().einhorn().options(options).start();
    master.wait_status("a worker replaced for its age", |status| status.recycled.max_age > 0);
}
