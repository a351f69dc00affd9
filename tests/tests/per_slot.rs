//! One listener for each slot, owned by the master: upgrades, kills of idle workers and resizes lose nothing. The
//! control is the same pool whose workers own their listeners, and loses some by the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::{fmt, fs};

use einhorn_proto::WorkerState;
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tests::Master;
use tests::load::{Load, Plan, Report};

tests::trials! {
    upgrades_kills_and_resizes_lose_nothing_where_the_master_owns_the_listeners_and_some_where_workers_do,
    all_of_it_at_once_with_new_masters_in_between_loses_nothing,
}

const WORKERS: u32 = 4;

/// Between the shrink and the worker's signal, in seconds.
const GRACE: &str = "0.1";

/// Each on its own.
const UPGRADES: usize = 100;
const KILLS: usize = 50;
const RESIZES: usize = 30;

/// All of it together, so often.
const ROUNDS: usize = 40;

/// Who owns the listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Master,
    Workers,
}

/// A pool with one listener for each slot or worker.
struct Pool {
    master: Master,
    address: SocketAddr,
    /// Keeps the port for workers that bind it.
    _port: Option<Socket>,
}

impl Pool {
    fn start(owner: Owner) -> Self {
        let builder = Master::builder().workers(WORKERS).without_bind().options(["-s", "0.01"]);
        match owner {
            Owner::Master => {
                let builder = builder.options(["-b", "127.0.0.1:0,reuseport", "--shrink-grace", GRACE]);
                let master = builder.serve(["park"]).start();
                let address = master.address();
                Self { master, address, _port: None }
            }
            Owner::Workers => {
                let (port, address) = shared_port();
                let master = builder.serve(["park", &format!("own={address}")]).start();
                Self { master, address, _port: Some(port) }
            }
        }
    }

    /// How a load went while `act` did something to the pool.
    fn under_load(&mut self, act: impl FnOnce(&mut Master, &Load)) -> Report {
        let load = Plan::new(self.address).start();
        load.wait_for_answers(200);
        act(&mut self.master, &load);
        load.wait_for_answers(200);
        load.stop()
    }
}

/// A port that other sockets of this user can bind too, for as long as the one lives that does not listen.
fn shared_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("a socket option");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    (socket, address.expect("its address"))
}

fn upgrades(master: &mut Master, load: &Load) {
    for _ in 0..UPGRADES {
        master.upgrade();
        load.wait_for_answers(8);
    }
    master.wait_up(WORKERS);
}

/// Kills one worker after another, each of which had ended what it had accepted, while others wait in its queue.
fn kills(master: &mut Master, load: &Load) {
    for number in 0..KILLS {
        let victim = master.workers_up()[number % WORKERS as usize];
        master.park(victim);
        master.wait_queued(victim, 1);
        master.kill_workers(&[victim]);
        master.wait_up(WORKERS);
        load.wait_for_answers(8);
    }
}

/// Takes one to three workers away and adds them again.
fn resizes(master: &mut Master, load: &Load) {
    for number in 0..RESIZES {
        let count = 1 + number as u32 % (WORKERS - 1);
        ask(master, "dec", count);
        master.wait_up(WORKERS - count);
        load.wait_for_answers(8);
        ask(master, "inc", count);
        master.wait_up(WORKERS);
        load.wait_for_answers(8);
    }
}

#[track_caller]
fn ask(master: &Master, command: &str, count: u32) {
    let reply = master.control().ask(command, &[&count.to_string()]);
    assert_eq!(reply.ok, Some(true), "{command} {count}: {}\n{master}", reply.message);
}

/// Whether the kernel moves what waits in the queue of a listener that is closed to another one at its address.
fn kernel_migrates() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req").is_ok_and(|value| value.trim() != "0")
}

/// What was lost, by what was done.
struct Lost([u64; 3]);

impl Lost {
    fn of(reports: &[Report; 3]) -> Self {
        Self([0, 1, 2].map(|index: usize| reports[index].failed()))
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([upgrades, kills, resizes]) = self;
        write!(
            f,
            "{upgrades} by {UPGRADES} upgrades, {kills} by {KILLS} kills, {resizes} by {RESIZES} resizes"
        )
    }
}

/// How the load went on a pool over upgrades, kills and resizes.
fn reports(owner: Owner) -> [Report; 3] {
    let mut pool = Pool::start(owner);
    [pool.under_load(upgrades), pool.under_load(kills), pool.under_load(resizes)]
}

fn upgrades_kills_and_resizes_lose_nothing_where_the_master_owns_the_listeners_and_some_where_workers_do() {
    let control = reports(Owner::Workers);
    let requests = |reports: &[Report; 3]| reports.iter().map(|report| report.requests).sum::<u64>();
    let lost = Lost::of(&control);
    println!(
        "listeners of the workers' own: of {} requests {} were lost: {lost}",
        requests(&control),
        lost.total()
    );
    if kernel_migrates() {
        println!(
            "net.ipv4.tcp_migrate_req is 1: the kernel moves them to a sibling's, so that there is no control"
        );
    } else {
        // Each was killed with somebody in its queue.
        assert!(lost.0[1] >= KILLS as u64, "the control lost no more than {lost}");
    }

    let reports = reports(Owner::Master);
    let lost = Lost::of(&reports);
    println!(
        "listeners of the master's: of {} requests {} were lost: {lost}",
        requests(&reports),
        lost.total()
    );
    reports.iter().for_each(Report::assert_nothing_lost);
}

fn all_of_it_at_once_with_new_masters_in_between_loses_nothing() {
    let mut pool = Pool::start(Owner::Master);
    let mut killed = 0;
    let report = pool.under_load(|master, load| {
        for round in 0..ROUNDS {
            // Others may still leave, whose slots were taken away in the round before.
            master.wait_status("four up", |status| status.master.up == WORKERS);
            let victim = master.workers_up()[round % WORKERS as usize];
            master.park(victim);
            master.wait_queued(victim, 1);
            let mut upgrade = master.control();
            upgrade.send(r#"{"command":"upgrade","id":"upgrade"}"#);
            // Unless it was asked to stop already, which a parked worker does at once.
            killed += usize::from(victim.signal(Signal::SIGKILL));
            master.wait_reaped(&[victim]);
            if round % 3 == 0 {
                ask_reload(master);
            }
            // Not of a slot whose queue nobody serves yet.
            master.wait_status("every slot served", |status| {
                let up = status.workers.iter().filter(|worker| worker.state == WorkerState::Up);
                up.map(|worker| worker.slot.0).collect::<BTreeSet<_>>().len() == WORKERS as usize
            });
            ask(master, "dec", 1);
            if round % 3 == 1 {
                ask_reload(master);
            }
            ask(master, "inc", 1);
            let report = upgrade.replies().pop().expect("a final reply");
            assert_eq!(report.ok, Some(true), "round {round}: {}\n{master}", report.message);
            if round % 3 == 2 {
                ask_reload(master);
            }
            load.wait_for_answers(8);
        }
        master.wait_up(WORKERS);
    });
    println!("{killed} of {ROUNDS} parked workers were killed before the upgrade had them leave");
    report.assert_nothing_lost();
    assert!(report.generations().len() > ROUNDS, "not every generation served\n{report}");
}

#[track_caller]
fn ask_reload(master: &Master) {
    let reply = master.control().ask("reload", &[]);
    assert_eq!(reply.ok, Some(true), "reload: {}\n{master}", reply.message);
}
