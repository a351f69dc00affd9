//! `--observe-group`: who is let in to ask questions can do nothing else, and is in nobody's way.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use einhorn_proto::{COMMANDS, CommandClass, RefusalKind, Reply};
use serde_json::{Value, json};
use tests::process::{Captured, run};
use tests::{Control, Finished, Master, MasterBuilder, binaries, place_worker};

tests::trials! {
    members_may_ask_every_question_that_is_theirs_and_change_nothing needs "root" "util-linux" "python3",
    the_client_works_for_observers_and_says_what_it_may_not needs "root" "util-linux",
    nobody_but_members_the_owner_and_root_may_connect needs "root" "util-linux",
    the_owner_is_no_observer_though_a_member needs "root" "util-linux" "python3",
    a_new_master_and_a_new_socket_know_observers_too needs "root" "util-linux" "python3",
    a_worker_that_is_a_member_acks_and_may_do_no_more needs "root" "python3",
    observers_take_no_place_of_others_and_share_theirs needs "root" "python3",
    observers_that_do_not_read_are_dropped_before_others needs "root" "python3",
    observers_give_way_where_descriptors_are_short needs "root" "util-linux" "python3",
    a_flood_of_observers_keeps_no_upgrade_back needs "root" "python3",
    einhorns_observers_are_refused_in_yaml needs "root" "python3",
    what_is_wrong_with_the_group_is_said_at_the_start needs "root" "util-linux",
    an_owner_that_others_are_taken_for_gets_no_observers needs "root" "util-linux",
    a_changed_line_of_the_options_file_waits_for_a_start needs "root",
}

/// The group of observers. None of these numbers has an entry in the databases.
const GROUP: u32 = 54_322;

/// A user, its group, and the groups beside that.
#[derive(Debug, Clone, Copy)]
struct Who(u32, u32, &'static [u32]);

const MEMBER: Who = Who(54_321, GROUP, &[]);
const MEMBER_BESIDE: Who = Who(54_321, 54_321, &[7, GROUP]);
const STRANGER: Who = Who(54_323, 54_323, &[7]);

/// Observers at a time.
const OBSERVERS_MAX: usize = 64;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
}

/// A builder with observers, whose directory any user may enter, and in it a client that any user may execute.
fn observed() -> MasterBuilder {
    let builder = Master::builder();
    set_mode(builder.file("x").parent().expect("a directory"), 0o755);
    let (ctl, place) = (binaries::einhyrningsinsctl(), builder.file("ctl"));
    if fs::hard_link(&ctl, &place).is_err() {
        fs::copy(&ctl, &place).expect("a copy of the client");
    }
    builder.options(["--observe-group", &GROUP.to_string()])
}

impl Who {
    fn list(self, separator: &str) -> String {
        self.2.iter().map(u32::to_string).collect::<Vec<_>>().join(separator)
    }

    /// What runs a program as this user.
    fn setpriv(self) -> Vec<String> {
        let groups =
            if self.2.is_empty() { "--clear-groups".into() } else { format!("--groups={}", self.list(",")) };
        vec!["setpriv".into(), format!("--reuid={}", self.0), format!("--regid={}", self.1), groups]
    }

    fn ctl(self, master: &Master, args: &[&str]) -> Finished {
        let wrapper = self.setpriv();
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(master.file("ctl")).arg("-d").arg(master.socket()).args(args);
        command.env_remove("EINHYRNINGSINS_TRUST_OWNER");
        run(command)
    }

    /// A program in Python that runs as this user. Others may not execute every python3.
    fn python(self, program: &str, socket: &Path) -> Command {
        let Self(user, group, _) = self;
        let before = format!(
            "import os, socket, sys, time\nos.setgroups([{}]); os.setgid({group}); os.setuid({user})",
            self.list(",")
        );
        let mut command = Command::new("python3");
        command.arg("-c").arg(format!("{before}\n{CONNECT}\n{program}")).arg(socket);
        command
    }

    /// Sends each line on a connection of its own, and gives the first line that comes back.
    #[track_caller]
    fn say(self, master: &Master, lines: &[String]) -> Vec<String> {
        // One that is turned away may be closed before it has sent anything.
        let program = "for line in sys.argv[2:]:
    client = connect()
    try: client.sendall(line.encode() + b'\\n')
    except BrokenPipeError: pass
    print(client.makefile().readline().strip())";
        let mut command = self.python(program, master.socket());
        command.args(lines);
        let finished = run(command);
        finished.assert_code(0);
        finished.stdout.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn ask(self, master: &Master, request: &Value) -> Reply {
        let said = self.say(master, &[request.to_string()]);
        serde_json::from_str(&said[0]).unwrap_or_else(|error| panic!("{error}: {said:?}\n{master}"))
    }
}

const CONNECT: &str = "def connect():
    client = socket.socket(socket.AF_UNIX); client.settimeout(60); client.connect(sys.argv[1]); return client";

/// A request for each command of the table, with what it must have.
fn every_request(worker: i32) -> Vec<(&'static str, String)> {
    let requests = COMMANDS.iter().map(|info| {
        let arguments = match info.name {
            "set_workers" => json!({ "count": 3 }),
            "signal" | "signal_only" => json!({ "signal": "USR1", "slot": 0 }),
            "replace" => json!({ "slot": 0 }),
            "config" => json!({ "seconds": 5 }),
            "worker:ack" | "worker:ping" => json!({ "pid": worker }),
            _ => json!({}),
        };
        let mut request = json!({ "command": info.name, "id": 1 });
        request.as_object_mut().expect("fields").extend(arguments.as_object().expect("fields").clone());
        (info.name, request.to_string())
    });
    requests.collect()
}

fn members_may_ask_every_question_that_is_theirs_and_change_nothing() {
    let mut master = observed().serve(["ack=none"]).start_unready();
    let before = master.status();
    let worker = before.workers[0].pid;
    let requests = every_request(worker);
    let lines: Vec<_> = requests.iter().map(|(_, line)| line.clone()).collect();
    for who in [MEMBER, MEMBER_BESIDE] {
        let replies = who.say(&master, &lines);
        assert_eq!(replies.len(), requests.len(), "{replies:?}\n{master}");
        for (info, reply) in COMMANDS.iter().zip(replies) {
            let name = info.name;
            if info.class == CommandClass::Worker {
                assert_eq!(reply, "", "{name} is not answered\n{master}");
                continue;
            }
            let reply: Reply =
                serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{name}: {error}: {reply}"));
            if info.is_for_observers() {
                assert!(reply.ok == Some(true) || (name == "events" && reply.wait), "{name}: {reply:?}");
            } else {
                assert_eq!(
                    (reply.ok, reply.refused),
                    (Some(false), Some(RefusalKind::OwnerOnly)),
                    "{name}: {reply:?}"
                );
                let expected = format!(
                    "{name} refused: only root and the user of the master may send it, and you are an observer"
                );
                assert_eq!((reply.message, reply.data), (expected, None));
            }
        }
    }
    let after = master.status();
    assert_eq!(
        (after.master.generation, after.master.wanted, after.workers[0].pid),
        (1, 1, worker),
        "{master}"
    );
    assert_eq!(
        (after.master.up, after.master.state),
        (0, before.master.state),
        "an observer is no worker\n{master}"
    );
    master.wait_log("upgrade of an observer refused: user 54321 may ask questions only (--observe-group)");
    assert!(
        master.log().contains(&format!("worker:ack for {worker} refused: it came from process ")),
        "{master}"
    );
    // It asked the same of the owner, who may.
    assert_eq!(master.control().ask("state", &[]).ok, Some(true), "{master}");
}

fn the_client_works_for_observers_and_says_what_it_may_not() {
    let mut master = observed().workers(2).start();
    for args in [
        &["status"][..],
        &["status", "--ready"],
        &["--json", "status"],
        &["status", "--brief"],
        &["history"],
        &["version"],
        &["help"],
    ] {
        MEMBER_BESIDE.ctl(&master, args).assert_code(0);
    }
    let metrics = MEMBER_BESIDE.ctl(&master, &["metrics"]);
    metrics.assert_code(0);
    for family in
        ["einhyrningsins_workers_wanted 2", "einhyrningsins_worker_resident_memory_bytes{slot=\"1\"}"]
    {
        assert!(metrics.stdout.contains(family), "{metrics}");
    }
    let list = MEMBER_BESIDE.ctl(&master, &["list"]);
    list.assert_code(0);
    assert!(list.stdout.contains(&master.socket().display().to_string()), "{list}");
    for args in [
        &["upgrade"][..],
        &["rollback"],
        &["die"],
        &["signal", "USR1"],
        &["config", "seconds: 5"],
        &["state"],
    ] {
        let refused = MEMBER_BESIDE.ctl(&master, args);
        refused.assert_code(1).assert_says(&format!("{} refused: only root", args[0]));
        refused.assert_says("hint: run this as the user of the master or as root");
    }
    MEMBER_BESIDE
        .ctl(&master, &["config", "--show"])
        .assert_code(1)
        .assert_says("config_show refused: only root");
    // Events, while the owner upgrades.
    let wrapper = MEMBER_BESIDE.setpriv();
    let mut command = Command::new(&wrapper[0]);
    command
        .args(&wrapper[1..])
        .arg(master.file("ctl"))
        .arg("-d")
        .arg(master.socket())
        .args(["--json", "events"]);
    let events = Captured::new();
    let follower = command.stdin(Stdio::null()).stdout(events.writer()).spawn().expect("the client");
    let _follower = Client(follower);
    master.wait("the first line", |_| events.text().contains("following events").then_some(()));
    master.upgrade();
    master.wait("an event", |_| events.text().contains("\"upgrade_done\"").then_some(()));
}

/// How many observers the master has.
fn observing(master: &mut Master) -> usize {
    let state = master.control().ask("state", &[]).data.expect("the state");
    state["control"]["observers"].as_u64().and_then(|count| usize::try_from(count).ok()).expect("a number")
}

fn nobody_but_members_the_owner_and_root_may_connect() {
    let mut master = observed().start();
    let found = fs::metadata(master.socket()).expect("a socket");
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o660, 0, GROUP), "{master}");
    let refused = STRANGER.ctl(&master, &["status"]);
    refused
        .assert_code(3)
        .assert_says("Permission denied")
        .assert_says("open to the master's own user, and to a group");
    MEMBER.ctl(&master, &["status"]).assert_code(0);
    assert_eq!(master.ctl(["upgrade"]).code(), 0, "root\n{master}");
    master.assert_well(1);
}

/// A master of [`MEMBER_BESIDE`], in a directory of its own.
fn master_of_a_member() -> Master {
    let builder = observed();
    let top = builder.file("x").parent().expect("a directory").to_owned();
    place_worker(&top.join("serve"));
    let place = top.join("place");
    fs::create_dir(&place).expect("a directory");
    chown(&place, Some(MEMBER_BESIDE.0), None).expect("its owner");
    let socket = place.join("einhorn.sock");
    let builder = builder.under(MEMBER_BESIDE.setpriv()).without_socket().option("-d").option(&socket);
    let mut master = builder.option("--chdir").option(&top).program(["./serve"]).start_unready();
    master.at_socket(&socket);
    master.wait_up(1);
    master
}

fn the_owner_is_no_observer_though_a_member() {
    let mut master = master_of_a_member();
    MEMBER_BESIDE.ctl(&master, &["upgrade"]).assert_code(0);
    // Its user decides, and not by which group it comes.
    MEMBER.ctl(&master, &["upgrade"]).assert_code(0);
    assert_eq!(master.ctl(["upgrade"]).code(), 0, "root\n{master}");
    let other = Who(54_323, GROUP, &[]);
    other.ctl(&master, &["upgrade"]).assert_code(1).assert_says("and you are an observer");
    assert_eq!(other.ask(&master, &json!({ "command": "version" })).ok, Some(true), "{master}");
    STRANGER.ctl(&master, &["status"]).assert_code(3);
    assert_eq!(master.status().master.generation, 4, "{master}");
}

/// A program in Python as an observer: it says on its standard output what `respond` finds on each of its lines.
struct Client(Child);

impl Client {
    fn start(who: Who, master: &Master, program: &str) -> Self {
        let mut command = who.python(program, master.socket());
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3"))
    }

    /// What it prints once it was given a line.
    #[track_caller]
    fn next(&mut self) -> String {
        self.0.stdin.as_mut().expect("its input").write_all(b"\n").expect("room");
        let mut line = String::new();
        BufReader::with_capacity(1, self.0.stdout.as_mut().expect("its output"))
            .read_line(&mut line)
            .expect("a line");
        line.trim_end().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_new_master_and_a_new_socket_know_observers_too() {
    let mut master = observed().start();
    let upgrade = json!({ "command": "upgrade" });
    // One connection, which a new master takes over.
    let mut held = Client::start(
        MEMBER,
        &master,
        "client = connect(); replies = client.makefile()
for _ in sys.stdin: client.sendall(b'{\"command\":\"upgrade\"}\\n'); print(replies.readline().strip(), flush=True)",
    );
    for round in 0..3 {
        assert!(held.next().contains("\"refused\":\"owner_only\""), "round {round}\n{master}");
        assert_eq!(MEMBER.ask(&master, &upgrade).refused, Some(RefusalKind::OwnerOnly), "{master}");
        assert_eq!(MEMBER.ask(&master, &json!({ "command": "status" })).ok, Some(true), "{master}");
        STRANGER.ctl(&master, &["status"]).assert_code(3);
        match round {
            0 => assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}"),
            1 => {
                let socket = master.socket().to_owned();
                fs::remove_file(&socket).expect("the socket");
                master.wait("the socket again", |_| {
                    let found = fs::metadata(&socket).ok()?;
                    ((found.mode() & 0o7777, found.gid()) == (0o660, GROUP)).then_some(())
                });
            }
            _ => {}
        }
    }
    assert_eq!(master.status().master.generation, 1, "{master}");
}

fn a_worker_that_is_a_member_acks_and_may_do_no_more() {
    let builder = observed();
    let top = builder.file("x").parent().expect("a directory").to_owned();
    place_worker(&top.join("serve"));
    let builder = builder.options(["--user", "54321:54322"]).option("--chdir").option(&top);
    let mut master = builder.program(["./serve", "ack=control"]).start();
    master.wait_log(
        "workers (--user, --group) are members of group 54322, so they may ask what its members may",
    );
    assert_eq!(MEMBER.ask(&master, &json!({ "command": "inc" })).refused, Some(RefusalKind::OwnerOnly));
    // With every place of observers taken, workers ack all the same.
    let _full = follow(MEMBER, &mut master, OBSERVERS_MAX);
    master.upgrade();
    master.assert_well(1);
}

/// Observers of one user that follow events.
fn follow(who: Who, master: &mut Master, count: usize) -> Client {
    let program = format!(
        "clients = []
for number in range({count}):
    client = connect(); client.sendall(b'{{\"command\":\"events\",\"id\":1}}\\n'); client.makefile().readline()
    clients.append(client)
print('connected', flush=True)
sys.stdin.read()"
    );
    let mut client = Client::start(who, master, &program);
    assert_eq!(client.next(), "connected", "{master}");
    client
}

fn observers_take_no_place_of_others_and_share_theirs() {
    let mut master = observed().start();
    // As many as there are places for others, all idle.
    let mut owners: Vec<_> = (0..256).map(|_| master.control()).collect();
    let answers = |owners: &mut Vec<Control>| {
        owners.iter_mut().filter_map(|client| client.ask("version", &[]).ok).filter(|ok| *ok).count()
    };
    assert_eq!(answers(&mut owners), 256, "{master}");
    let _full = follow(MEMBER, &mut master, OBSERVERS_MAX);
    // One more of the same user is refused, since none of its own is idle.
    let refused = MEMBER.ask(&master, &json!({ "command": "version" }));
    assert_eq!(refused.message, "refused: 64 observers are connected already", "{master}");
    // Another user gets its part.
    let other = Who(54_324, GROUP, &[]);
    assert_eq!(other.ask(&master, &json!({ "command": "version" })).ok, Some(true), "{master}");
    let _part = follow(other, &mut master, OBSERVERS_MAX / 2 - 1);
    assert_eq!(other.ask(&master, &json!({ "command": "version" })).ok, Some(true), "{master}");
    assert_eq!(answers(&mut owners), 256, "{master}");
    drop(owners.split_off(255));
    assert!(observing(&mut master) <= OBSERVERS_MAX, "{master}");
    master.wait_log("was the idlest when one more than 64 observers came; hint: ");
    assert!(!master.log().contains("was the idlest when one more than 256"), "{master}");
    assert_eq!(answers(&mut owners), 255, "{master}");
}

/// The owner's client has read nothing for longest, and is none of those that are too many.
fn observers_that_do_not_read_are_dropped_before_others() {
    const STATUSES: usize = 3;
    let limit = format!("ulimit -v {}; exec \"$@\"", 64 << 10);
    // `status` has the command, and each of these characters as six.
    let program = [binaries::worker("tiny").into_os_string(), "%".repeat(18_000).into()];
    let builder = observed().under(["/bin/sh", "-c", &limit, "sh"]);
    let mut master = builder.program(program).start();
    let mut owners = master.control();
    for _ in 0..STATUSES {
        owners.send(r#"{"command":"status","id":1}"#);
    }
    let deaf = "clients = [connect() for _ in range(40)]
for client in clients: client.sendall(b'{\"command\":\"status\",\"id\":1}\\n' * 10)
print('asked', flush=True)
sys.stdin.read()";
    let mut observers = Client::start(MEMBER, &master, deaf);
    assert_eq!(observers.next(), "asked", "{master}");
    master.wait_log("of user 54321 read nothing for longest when all clients together left ");
    for _ in 0..STATUSES {
        assert_eq!(owners.reply().ok, Some(true), "{master}");
    }
    assert!(!master.log().contains("of user 0 read nothing"), "{master}");
}

fn observers_give_way_where_descriptors_are_short() {
    let mut master = observed().under(["prlimit", "--nofile=60:60"]).start();
    // As many as are let in; the others wait, or have taken the place of one.
    let many = "clients = [connect() for _ in range(60)]
for client in clients:
    try: client.sendall(b'{\"command\":\"events\",\"id\":1}\\n')
    except BrokenPipeError: pass
print('connected', flush=True)
sys.stdin.read()";
    let mut observers = Client::start(MEMBER, &master, many);
    assert_eq!(observers.next(), "connected", "{master}");
    master.wait_log("was the idlest observer when no descriptor was left for another client; hint: raise ");
    let mut owners = [(); 3].map(|()| master.control());
    assert!(owners.iter_mut().all(|client| client.ask("version", &[]).ok == Some(true)), "{master}");
}

fn a_flood_of_observers_keeps_no_upgrade_back() {
    let mut master = observed().workers(4).serve(["ack=control"]).start();
    // Connections that come and go, questions without an end, and answers that nobody reads.
    let floods = [
        "while True:
    try: client = connect(); client.sendall(b'{\"command\":\"status\"}\\n' * 20); client.close()
    except OSError: pass",
        "import threading
def ask():
    while True:
        try:
            client = connect()
            while True: client.sendall(b'{\"command\":\"status\"}\\n' * 50); client.recv(65536)
        except OSError: pass
for _ in range(8): threading.Thread(target=ask).start()",
        "clients = []
while True:
    try:
        client = connect(); client.setblocking(False); clients.append(client)
        client.send(b'{\"command\":\"status\"}\\n' * 500); clients = clients[-100:]
    except OSError: pass",
        "while True:
    try:
        client = connect()
        client.sendall(b'{\"command\":\"upgrade\"}\\n' * 500)
        while client.recv(65536): pass
    except OSError: pass",
    ];
    let flooders = [MEMBER, MEMBER_BESIDE, Who(54_324, GROUP, &[]), Who(54_325, GROUP, &[])];
    let floods: Vec<_> =
        flooders.iter().zip(floods).map(|(who, flood)| Client::start(*who, &master, flood)).collect();
    master.wait_log("upgrade of an observer refused: user 54325");
    let mut held = master.control();
    for generation in 2..5 {
        assert_eq!(master.ctl(["upgrade"]).code(), 0, "{master}");
        assert_eq!(master.status().master.generation, generation, "{master}");
        assert!(observing(&mut master) <= OBSERVERS_MAX, "{master}");
    }
    assert_eq!(held.ask("version", &[]).ok, Some(true), "{master}");
    let lines = master.log().matches("upgrade of an observer refused").count();
    assert!(lines <= 40, "{lines} lines\n{master}");
    drop(floods);
    master.assert_well(4);
}

fn einhorns_observers_are_refused_in_yaml() {
    let mut master = observed().einhorn().serve(["ack=control"]).start();
    let yaml = |command: &str| format!("---%0Acommand: {command}%0A");
    let said = MEMBER.say(&master, &[yaml("upgrade"), yaml("state"), yaml("ehlo")]);
    for (said, name) in said.iter().zip(["upgrade", "state"]) {
        assert!(
            said.starts_with("---%0Amessage: ") && said.contains(&format!("{name} refused: only root")),
            "{said}"
        );
    }
    assert!(said[2].contains("Welcome"), "{said:?}");
    master.upgrade();
    master.assert_well(1);
}

fn what_is_wrong_with_the_group_is_said_at_the_start() {
    let assert_fails = |builder: MasterBuilder, code: i32, words: &[&str]| {
        for finished in [builder.run_to_end(), run(dry_run(&builder))] {
            finished.assert_code(code);
            for word in words {
                finished.assert_says(word);
            }
        }
    };
    let group = GROUP.to_string();
    let unknown = Master::builder().options(["--observe-group", "no-such"]);
    assert_fails(
        unknown,
        1,
        &["--observe-group: no such group: no-such", "hint: make it, as with \"groupadd "],
    );
    let both = Master::builder().options(["--observe-group", &group, "--control-mode", "660"]);
    assert_fails(both, 2, &["--observe-group", "--control-mode", "cannot be used with"]);
    let builder = observed();
    set_mode(builder.file("x").parent().expect("a directory"), 0o777);
    place_worker(&builder.file("serve"));
    let directory = builder.file("x").parent().expect("a directory").to_owned();
    let builder = builder.under(STRANGER.setpriv()).option("--chdir").option(directory).program(["./serve"]);
    let words = [
        "to group 54322 (--observe-group): Operation not permitted",
        "hint: the master must be root or a member",
    ];
    assert_fails(builder, 1, &words);
    // In a directory that members cannot enter it starts, and warns.
    let builder = observed();
    let directory = builder.file("x").parent().expect("a directory").to_owned();
    set_mode(&directory, 0o700);
    let warning = format!(
        "may not reach {}: {} has mode 700; hint: ",
        builder.file("einhorn.sock").display(),
        directory.display()
    );
    run(dry_run(&builder)).assert_code(0);
    assert!(run(dry_run(&builder)).stdout.contains(&warning));
    let mut master = builder.start();
    master.wait_log(&warning);
    // A dry run beside it looks the group up, too.
    let mut beside = Command::new(binaries::einhyrningsins());
    beside.arg("-d").arg(master.socket()).args(["--observe-group", "no-such", "--dry-run", "/bin/true"]);
    run(beside).assert_code(1).assert_says("--observe-group: no such group: no-such");
}

/// The same command line with `--dry-run`.
fn dry_run(builder: &MasterBuilder) -> Command {
    let line = builder.command();
    let mut command = Command::new(line.get_program());
    let mut args: Vec<_> = line.get_args().map(ToOwned::to_owned).collect();
    let place = args.iter().position(|arg| arg == "--observe-group").expect("the option");
    args.insert(place, "--dry-run".into());
    command.args(args);
    command
}

/// All users without a number in its namespace have that of the owner.
fn an_owner_that_others_are_taken_for_gets_no_observers() {
    let builder = Master::builder().options(["--observe-group", "0"]).under(["unshare", "--user", "--"]);
    let refused = builder.run_to_end();
    refused
        .assert_code(1)
        .assert_says("cannot tell observers from the owner (--observe-group): the user of this master ");
    refused.assert_says("hint: run the master as another user");
}

fn a_changed_line_of_the_options_file_waits_for_a_start() {
    let builder = Master::builder();
    set_mode(builder.file("x").parent().expect("a directory"), 0o755);
    let file = builder.file("options");
    fs::write(&file, "--observe-group 54322\n").expect("a file");
    let mut master = builder.option("--options-file").option(&file).start();
    fs::write(&file, "--observe-group 54324\n").expect("a file");
    let report = master.upgrade();
    let change = report.options.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(
        change.contains("--observe-group: 54322 -> 54324") && change.contains("at the next start"),
        "{change}"
    );
    assert_eq!(fs::metadata(master.socket()).expect("a socket").gid(), 54_322, "{master}");
}
