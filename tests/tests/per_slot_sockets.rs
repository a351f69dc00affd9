//! One listener for each slot: who has it, and how long it is the same one; and what is sent over UDP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};

use einhorn_proto::Status;
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tests::ask::{Facts, Flow};
use tests::load::Plan;
use tests::{Master, MasterBuilder, Process};

tests::trials! {
    a_worker_has_its_slots_listeners_and_no_siblings_and_so_has_its_successor,
    the_port_of_all_slots_is_one_and_stays_so_over_re_execs,
    a_second_master_at_the_same_address_is_refused_and_the_first_loses_nothing,
    an_address_that_another_program_listens_at_is_refused_whether_it_would_share_it_or_not,
    a_flow_stays_with_its_slot_over_upgrades_and_re_execs,
    packets_that_wait_in_the_queue_of_a_killed_worker_are_answered_by_its_successor,
    packets_are_answered_through_shrinks_and_grows,
}

/// The descriptors of a worker's sockets: from 3, in the order of `-b`.
const FIRST_FD: i32 = 3;

/// A master of some workers on these sockets alone.
fn on(workers: u32, binds: &[&str]) -> MasterBuilder {
    let builder =
        Master::builder().workers(workers).without_bind().options(["-s", "0.01", "--shrink-grace", "0.2"]);
    binds.iter().fold(builder, |builder, bind| builder.options(["-b", bind]))
}

#[track_caller]
fn asked(master: &Master, command: &str, args: &[&str]) {
    let reply = master.control().ask(command, args);
    assert_eq!(reply.ok, Some(true), "{command} {args:?}: {}\n{master}", reply.message);
}

/// The sockets of each worker, by slot and in the order of `-b`; each has no others than these.
#[track_caller]
fn sockets(master: &mut Master, workers: u32, count: usize) -> BTreeMap<u32, Vec<u64>> {
    let status = master.wait_up(workers);
    let of_worker = |pid: i32| {
        let worker = Process::of(pid).expect("a worker that is up");
        worker.wait_executed();
        let listening = worker.listening();
        let fds: Vec<_> = listening.keys().copied().collect();
        let expected: Vec<_> = (FIRST_FD..FIRST_FD + count as i32).collect();
        assert_eq!(fds, expected, "{listening:?}\n{master}");
        listening.into_values().map(|listening| listening.inode).collect()
    };
    status.workers.iter().filter_map(|worker| Some((worker.slot.0?, of_worker(worker.pid)))).collect()
}

fn a_worker_has_its_slots_listeners_and_no_siblings_and_so_has_its_successor() {
    const WORKERS: u32 = 3;
    let binds =
        ["127.0.0.1:0,reuseport", "127.0.0.1:0", "udp:127.0.0.1:0,reuseport", "127.0.0.1:0,reuseport,name=b"];
    let mut master = on(WORKERS, &binds).serve(["park"]).start();
    let first = sockets(&mut master, WORKERS, binds.len());
    let distinct = |place: usize| first.values().map(|sockets| sockets[place]).collect::<BTreeSet<_>>().len();
    assert_eq!([0, 1, 2, 3].map(distinct), [3, 1, 3, 3], "{first:?}");
    let held: BTreeSet<_> =
        master.process().listening().into_values().map(|listening| listening.inode).collect();
    assert_eq!(held, first.values().flatten().copied().collect(), "the master has each, and nothing else");

    master.upgrade();
    assert_eq!(sockets(&mut master, WORKERS, binds.len()), first, "after an upgrade\n{master}");
    let victim = master.workers_up()[1];
    master.park(victim);
    master.kill_workers(&[victim]);
    assert_eq!(sockets(&mut master, WORKERS, binds.len()), first, "after a death\n{master}");
    asked(&master, "reload", &[]);
    master.upgrade();
    assert_eq!(sockets(&mut master, WORKERS, binds.len()), first, "after a re-exec and an upgrade\n{master}");

    // The victim's successor is the youngest but for the upgrade's; whichever slot goes, the others stay.
    asked(&master, "dec", &["1"]);
    let fewer = sockets(&mut master, WORKERS - 1, binds.len());
    assert!(fewer.iter().all(|(slot, sockets)| first[slot] == *sockets), "{first:?}\n{fewer:?}\n{master}");
    asked(&master, "inc", &["2"]);
    let more = sockets(&mut master, WORKERS + 1, binds.len());
    assert!(fewer.iter().all(|(slot, sockets)| more[slot] == *sockets), "{fewer:?}\n{more:?}\n{master}");
    let distinct: BTreeSet<_> = more.values().flatten().collect();
    assert_eq!(distinct.len(), 3 * more.len() + 1, "{more:?}\n{master}");
}

fn the_port_of_all_slots_is_one_and_stays_so_over_re_execs() {
    let mut master = on(2, &["127.0.0.1:0,reuseport"]).start();
    let address = master.address();
    asked(&master, "reload", &[]);
    asked(&master, "inc", &["2"]);
    master.wait_up(4);
    asked(&master, "reload", &[]);
    assert_eq!(master.address(), address);
    let ports: Vec<_> = master.process().listening().into_values().map(|listening| listening.port).collect();
    assert_eq!(ports, [address.port(); 4], "{master}");
    master.assert_well(4);
}

/// The kernel would let the second in, which has the same user, and share the connections out among both.
fn a_second_master_at_the_same_address_is_refused_and_the_first_loses_nothing() {
    let master = on(2, &["127.0.0.1:0,reuseport"]).start();
    let address = master.address();
    let load = Plan::new(address).start();
    load.wait_for_answers(100);
    for bind in [format!("{address},reuseport"), address.to_string()] {
        let refused = on(2, &[&bind]).run_to_end();
        refused.assert_code(1).assert_says(&address.to_string()).assert_says("Address already in use");
        load.wait_for_answers(100);
    }
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.pids().len(), 2, "{report}");
    master.signal(Signal::SIGTERM);
    let mut master = master;
    master.wait_exit_code(0);
    let mut next = on(2, &[&format!("{address},reuseport")]).start();
    next.assert_well(2);
}

fn an_address_that_another_program_listens_at_is_refused_whether_it_would_share_it_or_not() {
    let alone = TcpListener::bind("127.0.0.1:0").expect("a port");
    let sharing = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    sharing.set_reuse_port(true).expect("a socket option");
    sharing.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    sharing.listen(8).expect("a listener");
    let sharing = TcpListener::from(sharing);
    for other in [alone, sharing] {
        let address = other.local_addr().expect("its address");
        let refused = on(2, &[&format!("{address},reuseport")]).run_to_end();
        refused.assert_code(1).assert_says(&address.to_string()).assert_says("Address already in use");
    }
}

/// Where a UDP listener is.
fn udp_address(master: &mut Master) -> SocketAddr {
    let status = master.status();
    let address = status.listeners[0].address.strip_prefix("udp:").and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| panic!("{:?} is no UDP socket", status.listeners[0]))
}

/// So many that one of four slots gets none of them with a chance of one in 10^7.
const FLOWS: usize = 64;

/// Each flow asks once, and all answers are waited for: who answered which.
#[track_caller]
fn ask_all(flows: &[Flow]) -> Vec<Facts> {
    flows.iter().for_each(Flow::ask);
    flows.iter().map(Flow::answer).collect()
}

fn slots(answers: &[Facts]) -> Vec<u32> {
    answers.iter().map(|facts| facts.slot.expect("a slot")).collect()
}

fn a_flow_stays_with_its_slot_over_upgrades_and_re_execs() {
    let mut master = on(4, &["udp:127.0.0.1:0,reuseport"]).start();
    let address = udp_address(&mut master);
    let flows: Vec<_> = (0..FLOWS).map(|_| Flow::to(address)).collect();
    let first = slots(&ask_all(&flows));
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 4, "{first:?}");
    for round in 1..=5 {
        let mut upgrade = master.control();
        upgrade.send(r#"{"command":"upgrade"}"#);
        for _ in 0..10 {
            assert_eq!(slots(&ask_all(&flows)), first, "in upgrade {round}\n{master}");
        }
        assert_eq!(upgrade.replies().last().and_then(|reply| reply.ok), Some(true), "{master}");
        asked(&master, "reload", &[]);
        assert_eq!(slots(&ask_all(&flows)), first, "after upgrade {round}\n{master}");
    }
}

fn packets_that_wait_in_the_queue_of_a_killed_worker_are_answered_by_its_successor() {
    let mut master = on(4, &["udp:127.0.0.1:0,reuseport"]).serve(["park"]).start();
    let address = udp_address(&mut master);
    let flows: Vec<_> = (0..FLOWS).map(|_| Flow::to(address)).collect();
    for round in 0..4 {
        let before = ask_all(&flows);
        let victim = master.workers_up()[round];
        let of_victim = before.iter().filter(|facts| facts.pid == victim.pid()).count();
        assert!(of_victim > 0, "{before:?}");
        master.park(victim);
        flows.iter().for_each(Flow::ask);
        master.wait_queued(victim, 1);
        master.kill_workers(&[victim]);
        let after: Vec<_> = flows.iter().map(Flow::answer).collect();
        let moved = before.iter().zip(&after).filter(|(before, after)| before.slot != after.slot).count();
        assert_eq!(moved, 0, "who was sent to a slot was answered there\n{master}");
        assert!(after.iter().all(|facts| facts.pid != victim.pid()));
        master.wait_up(4);
    }
}

/// While a slot leaves, its worker goes on with what was sent to it, and all others are answered by the rest.
fn packets_are_answered_through_shrinks_and_grows() {
    let mut master = on(4, &["udp:127.0.0.1:0,reuseport"]).start();
    let address = udp_address(&mut master);
    let flows: Vec<_> = (0..FLOWS).map(|_| Flow::to(address)).collect();
    for _ in 0..3 {
        for (command, workers) in [("dec", 2), ("inc", 4)] {
            let mut control = master.control();
            control.send(&format!(r#"{{"command":"{command}","args":["2"]}}"#));
            let is_done =
                |status: &Status| (status.master.up, status.workers.len()) == (workers, workers as usize);
            while !is_done(&master.status()) {
                assert_eq!(ask_all(&flows).len(), FLOWS);
            }
            assert_eq!(control.reply().ok, Some(true), "{master}");
        }
    }
}
