//! Slots with sockets of their own (`reuseport`), where the kernel refuses a socket, or what it is told of them.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use tests::Master;
use tests::faults::Strace;
use tests::load::{Load, Plan};

tests::trials! {
    a_new_slot_whose_socket_is_refused_gets_one_later needs "strace",
    a_kernel_that_does_not_let_itself_be_told_where_connections_go_is_told_later needs "strace",
    a_socket_that_came_back_without_an_option_is_revived_again needs "strace",
}

fn pool() -> (Master, Load) {
    let builder = Master::builder().workers(2).without_bind();
    let builder = builder.options(["-b", "127.0.0.1:0,reuseport", "-s", "0.05", "--shrink-grace", "0.3"]);
    let master = builder.start();
    let load = Plan::new(master.address()).start();
    load.wait_for_answers(100);
    (master, load)
}

fn count_injected(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().lines().filter(|line| line.contains("(INJECTED)")).count()
}

#[track_caller]
fn resize(master: &mut Master, command: &str, to: usize) {
    assert_eq!(master.control().ask(command, &[]).ok, Some(true), "{master}");
    master.wait_status("the resize", |status| {
        let slots = &status.listeners[0].slots;
        status.master.up as usize == to && slots.len() == to && slots.iter().all(|slot| slot.live)
    });
}

fn a_new_slot_whose_socket_is_refused_gets_one_later() {
    for (call, error) in
        [("socket", "EMFILE"), ("setsockopt", "ENOMEM"), ("bind", "ENOMEM"), ("listen", "ENOBUFS")]
    {
        let (mut master, load) = pool();
        let log = master.file("strace");
        let strace = Strace::attach(master.process(), &format!("{call}:error={error}:when=1..3"), &log);
        resize(&mut master, "inc", 3);
        assert_eq!(count_injected(&log), 3, "{call}\n{master}");
        strace.detach();
        load.wait_for_answers(300);
        resize(&mut master, "dec", 2);
        load.stop().assert_nothing_lost();
        master.assert_well(2);
    }
}

/// It goes on with what it was told before, which may lose what comes to a slot that is closed, and nothing else.
fn a_kernel_that_does_not_let_itself_be_told_where_connections_go_is_told_later() {
    let (mut master, load) = pool();
    load.stop().assert_nothing_lost();
    let log = master.file("strace");
    let strace = Strace::attach(master.process(), "setsockopt:error=ENOMEM", &log);
    assert_eq!(master.control().ask("dec", &[]).ok, Some(true), "{master}");
    master.wait_status("the resize", |status| status.listeners[0].slots.len() == 1);
    strace.detach();
    assert!(count_injected(&log) > 1, "it is tried again\n{master}");
    assert_eq!(master.log().matches("cannot change which slots").count(), 1, "{master}");
    let load = Plan::new(master.address()).start();
    resize(&mut master, "inc", 2);
    load.wait_for_answers(300);
    resize(&mut master, "dec", 1);
    load.wait_for_answers(300);
    load.stop().assert_nothing_lost();
    master.assert_well(1);
}

/// A socket that could not be given an option when it came back is looked after as before.
fn a_socket_that_came_back_without_an_option_is_revived_again() {
    for options in ["nodelay", "nodelay,reuseport"] {
        let bind = format!("127.0.0.1:0,{options}");
        let builder = Master::builder().without_bind().options(["-b", &bind]);
        let mut master = builder.serve(["shutdown"]).start();
        let worker = master.workers_up()[0];
        let log = master.file("strace");
        let strace = Strace::attach(master.process(), "setsockopt:error=ENOMEM:when=1", &log);
        worker.signal(Signal::SIGHUP);
        master.wait_log("cannot listen again");
        strace.detach();
        worker.signal(Signal::SIGHUP);
        master.wait_log("; it listens again");
        let load = Plan::new(master.address()).start();
        load.wait_for_answers(10);
        load.stop().assert_nothing_lost();
        master.assert_well(1);
    }
}
