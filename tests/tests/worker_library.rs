//! Programs on `einhorn-child` under the real master, and under systemd's socket activation without one.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use tests::load::Plan;
use tests::process::Captured;
use tests::wait::wait_for;
use tests::{Master, Process, binaries};

tests::trials! {
    serve_for_axum_loses_nothing_through_upgrades_and_resizes,
    serve_for_axum_loses_nothing_on_a_listener_for_each_slot,
    a_worker_that_is_the_first_process_of_a_pid_namespace_acks needs "pid namespace",
    an_ack_in_the_name_of_no_worker_from_a_stranger_is_refused,
    a_server_that_systemd_activates_takes_the_socket_and_stops_on_term needs "systemd",
}

/// Five upgrades, one slot more, and one less, under a load of new and of kept connections.
fn serve_loses_nothing(options: &str) {
    let builder = Master::builder().workers(3).without_bind().options(["--shrink-grace", "1"]);
    let builder = builder.options(["-b", &format!("127.0.0.1:0{options}")]);
    let mut master = builder.program([binaries::example("axum")]).start();
    let load = Plan::new(master.address()).start();
    for _ in 0..5 {
        load.wait_for_answers(500);
        master.upgrade();
    }
    for (command, workers) in [("inc", 4), ("dec", 3)] {
        assert_eq!(master.control().ask(command, &[]).ok, Some(true), "{master}");
        master.wait_status("the resize", |status| status.master.up == workers);
        load.wait_for_answers(500);
    }
    let report = load.stop();
    report.assert_nothing_lost();
    // A kept connection has one answer for each generation, at least; a new one has one.
    assert!(report.connections > 16, "{report}");
    master.wait_up(3);
    assert!(!master.log().contains(" WARN"), "{master}");
}

fn serve_for_axum_loses_nothing_through_upgrades_and_resizes() {
    serve_loses_nothing("");
}

fn serve_for_axum_loses_nothing_on_a_listener_for_each_slot() {
    serve_loses_nothing(",reuseport");
}

/// It acks as process 1, which for the master is somebody else. `unshare` does not heed TERM, and takes the worker with
/// it when it is killed.
fn a_worker_that_is_the_first_process_of_a_pid_namespace_acks() {
    let mut words: Vec<PathBuf> = ["unshare", "--pid", "--fork", "--kill-child"].map(Into::into).into();
    if !nix::unistd::geteuid().is_root() {
        words.push("--map-root-user".into());
    }
    words.push(binaries::hello());
    for options in [&[][..], &["-g"]] {
        let builder = Master::builder().workers(2).options(["--signal-timeout", "0.1"]).options(options);
        let mut master = builder.option("--").program(&words).start();
        master.upgrade();
        assert!(!master.log().contains("refused"), "{master}");
        assert!(!master.log().contains("acked by READY=1"), "by the control socket\n{master}");
        master.assert_well(2);
    }
}

/// Only a worker, or what descends from one, may know a worker by another pid.
fn an_ack_in_the_name_of_no_worker_from_a_stranger_is_refused() {
    let mut master = Master::builder().serve(["ack=none"]).start_unready();
    master.control().send(r#"{"command":"worker:ack","pid":1}"#);
    master.wait_log("worker:ack for 1 refused: 1 is no worker");
    let status = master.status().master;
    assert_eq!((status.up, status.starting), (0, 1), "{master}");
}

/// A server under systemd-socket-activate(1), which does what systemd does. Killed when dropped.
struct Activated {
    address: SocketAddr,
    child: Child,
    output: Captured,
}

impl Activated {
    fn start(program: PathBuf) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let output = Captured::new();
        let mut command = Command::new("systemd-socket-activate");
        command.arg("--listen").arg(address.to_string()).arg("--fdname=web").arg(program);
        command.stdin(Stdio::null()).stdout(output.writer()).stderr(output.writer());
        let child = command.spawn().expect("systemd-socket-activate");
        wait_for("systemd-socket-activate to listen", || {
            output.text().contains(&format!("Listening on {address}")).then_some(())
        });
        Self { address, child, output }
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On an address that it could not bind: `127.0.0.1:8000`, which it would, is none of the test's.
fn a_server_that_systemd_activates_takes_the_socket_and_stops_on_term() {
    for program in [binaries::hello(), binaries::example("worker"), binaries::example("axum")] {
        let mut server = Activated::start(program);
        let report = Plan { requests_max: 200, ..Plan::new(server.address) }.start().run_to_end();
        assert_eq!((report.requests, report.failed()), (200, 0), "{report}{}", server.output.text());
        let process = Process::of(server.child.id().cast_signed()).expect("the server");
        assert!(process.signal(Signal::SIGTERM));
        let status = wait_for("its end", || server.child.try_wait().ok().flatten());
        assert_eq!(status.code(), Some(0), "{}", server.output.text());
    }
}
