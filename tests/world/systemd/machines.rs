//! The machines themselves: that nothing is left of them, however they end.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::{Process, wait};

use crate::machine::Machine;
use crate::network::{HERE, Network};
use crate::roots::root;

tests::trials! {
    machines_do_not_see_each_other_and_leave_the_root_as_it_was needs "machine",
    machines_of_a_network_reach_each_other_and_the_test needs "machine",
    a_machine_ends_with_the_test_program_however_that_ends needs "machine",
}

fn machines_do_not_see_each_other_and_leave_the_root_as_it_was() {
    let root = root("bookworm");
    let [first, second] = [(); 2].map(|()| Machine::builder(&root).boot());
    first.write("/etc/only-here", "of the first\n");
    first.run(["test", "-e", "/etc/only-here"]).assert_code(0);
    second.run(["test", "-e", "/etc/only-here"]).assert_code(1);
    assert!(!root.join("etc/only-here").exists());
    let ids = [&first, &second].map(|machine| machine.run(["cat", "/etc/machine-id"]).stdout);
    assert!(ids[0].len() > 30 && ids[0] != ids[1], "{ids:?}");
    let servers = "for pid in /proc/[0-9]*; do readlink $pid/exe; done | grep -c /sshd; ip -br link";
    let seen = first.shell(servers).stdout;
    assert_eq!(seen.lines().count(), 2, "one server, and one interface\n{seen}");
    assert!(seen.starts_with("1\nlo "), "{seen}");
    let inside = [&first, &second].map(|machine| (machine.init(), machine.name().to_owned()));
    drop((first, second));
    inside.into_iter().for_each(|(init, name)| wait_nothing_left(init, &name));
}

fn machines_of_a_network_reach_each_other_and_the_test() {
    let network = Network::new();
    let root = root("bookworm");
    let boot = |host: &str, address: &str| Machine::builder(&root).on(&network, address, host).boot();
    let (one, two) = (boot("one", "10.77.0.11"), boot("two", "10.77.0.12"));
    assert_eq!(one.run(["hostname"]).stdout, "one\n");
    one.place(Path::new("/bin/true"), "/usr/local/bin/nothing");
    one.run(["nothing"]).assert_code(0);
    // Each has a server that says what it is.
    let greet = "import socket; print(socket.create_connection(('10.77.0.12', 22)).recv(3))";
    assert_eq!(one.run(["python3", "-c", greet]).stdout, "b'SSH'\n", "{two}");
    assert_eq!(network.run(&["python3", "-c", greet]).stdout, "b'SSH'\n", "{two}");
    assert!(network.inside(|| TcpStream::connect(("10.77.0.11", 22))).is_ok(), "{one}");
    assert!(two.in_network(|| TcpStream::connect((HERE, 22))).is_err(), "nobody is there");
    let server = one.run(["pgrep", "-o", "sshd"]).stdout.trim().parse().expect("a pid");
    assert_eq!(one.process(server).status("Name").as_deref(), Some("sshd"));
}

/// This variable tells a test program to boot a machine and wait for its own SIGKILL.
const MARKER: &str = "EINHYRNINGSINS_TEST_MACHINE";

fn a_machine_ends_with_the_test_program_however_that_ends() {
    if env::var_os(MARKER).is_some() {
        let machine = Machine::builder(root("bookworm")).boot();
        println!("machine {} {}", machine.init().pid(), machine.name());
        loop {
            std::thread::park();
        }
    }
    // Made before, by whoever waits for it.
    root("bookworm");
    let name = concat!(module_path!(), "::a_machine_ends_with_the_test_program_however_that_ends");
    let (_, name) = name.split_once("::").expect("the crate's name");
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(MARKER, "1");
    let mut program = command.stdout(Stdio::piped()).spawn().expect("another test program");
    let lines = BufReader::new(program.stdout.take().expect("its standard output")).lines();
    let mut lines = lines.map_while(Result::ok);
    let line = lines.find_map(|line| line.split_once("machine ").map(|(_, rest)| rest.to_owned()));
    let line = line.expect("a machine");
    let (pid, name) = line.split_once(' ').expect("a pid and a name");
    let init = Process::of(pid.parse().expect("a pid")).expect("a machine that runs");
    program.kill().expect("it runs");
    let _ = program.wait();
    wait_nothing_left(init, name);
}

#[track_caller]
fn wait_nothing_left(init: Process, name: &str) {
    init.wait_gone();
    for parent in ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
        let group = Path::new(parent).join(name);
        wait::wait_for("the cgroups of a machine to go", || (!group.exists()).then_some(()));
    }
}
