//! The control socket as einhorn's clients use it: escaped YAML, einhorn's words, and whatever a hostile client
//! makes of YAML. Ruby's own loader has its say in `ruby_client.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use einhorn_proto::{Reply, RequestId, Resized, YAML_BYTES_MAX, yaml_scalar};
use tests::control::typed;
use tests::process::run;
use tests::{Control, Master, binaries};

tests::trials! {
    a_worker_acks_and_pings_in_yaml_and_the_connection_is_closed_without_an_answer needs "python3",
    each_command_is_answered_in_einhorns_words,
    json_is_answered_in_json_and_in_our_words,
    a_master_that_was_called_as_einhorn_has_its_words_in_json_and_our_facts_beside_them,
    einhornsh_shows_einhorns_words_and_follows_an_upgrade,
    ids_come_back_by_either_name_and_type,
    an_upgrade_is_followed_to_its_end_by_who_gave_an_id,
    without_an_id_an_upgrade_is_confirmed_and_no_more,
    a_failed_upgrade_ends_with_the_reason_and_a_refused_one_with_that,
    the_answers_come_in_yaml_from_the_master_that_takes_this_ones_place,
    an_upgrade_that_begins_with_the_master_itself_is_followed_to_its_end,
    a_master_that_cannot_be_replaced_says_so,
    events_come_in_the_language_of_their_request,
    hostile_yaml_is_refused_and_hurts_nobody,
}

/// Sends a YAML document as one line.
fn send(control: &mut Control, document: &str) {
    control.send(&document.replace('%', "%25").replace('\n', "%0A"));
}

/// The next reply, which must be a YAML document in a line.
#[track_caller]
fn reply(control: &mut Control) -> Reply {
    let line = control.line().expect("a reply, but the master closed the connection");
    assert!(line.starts_with("---%0Amessage: "), "no YAML: {line}");
    assert!(!line.contains("%0Aok:") && !line.contains("%0Adata:"), "not einhorn's: {line}");
    Reply::from_line(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The message that answers a document.
#[track_caller]
fn ask(control: &mut Control, document: &str) -> String {
    send(control, document);
    let reply = reply(control);
    assert!(!reply.wait && reply.request_id.is_none(), "{reply:?}");
    reply.message
}

/// The message that answers a command.
#[track_caller]
fn command(control: &mut Control, command: &str, args: &[&str]) -> String {
    let args: String = args.iter().map(|arg| format!("- {}\n", yaml_scalar(arg))).collect();
    ask(control, &format!("---\ncommand: {command}\nargs:\n{args}"))
}

fn a_worker_acks_and_pings_in_yaml_and_the_connection_is_closed_without_an_answer() {
    let builder = Master::builder();
    let (script, seen) = (builder.file("worker.py"), builder.file("seen"));
    let worker = r#"
import os, signal, socket, sys

def tell(document):
    with socket.socket(socket.AF_UNIX) as master:
        master.connect(os.environ["EINHORN_SOCK_PATH"])
        master.sendall(document.replace("%", "%25").replace("\n", "%0A").encode() + b"\n")
        return master.recv(1000)

answers = [
    tell("---\n:command: worker:ack\n:pid: %d\n" % os.getpid()),
    tell("---\ncommand: worker:ping\npid: %d\nrequest_id: \"50%% +1\"\n" % os.getpid()),
]
with open(sys.argv[1] + ".new", "w") as seen:
    seen.write(repr(answers))
os.rename(sys.argv[1] + ".new", sys.argv[1])
signal.pause()
"#;
    fs::write(&script, worker).expect("a script");
    let program = ["python3".into(), script.into_os_string(), seen.clone().into_os_string()];
    let mut master = builder.program(program).start();
    let answers = master.wait("the worker's answers", |_| fs::read_to_string(&seen).ok());
    assert_eq!(answers, "[b'', b'']");
    let state = command(&mut master.control(), "state", &[]);
    assert!(state.contains(":acked: true\n"), "{state}");
    assert!(state.contains(":pinged_request_id: \"50\\u0025 \\u002B1\"\n"), "{state}");
}

fn each_command_is_answered_in_einhorns_words() {
    let mut master = Master::builder().options(["-c", "wire-words"]).start();
    let pid = master.process().pid();
    let mut control = master.control();
    let version = env!("CARGO_PKG_VERSION");
    let welcome = format!(
        "Welcome, joe: 1+1! You are speaking to Einhorn Master Process {pid} (wire-words).\nThis is Einhorn {version}."
    );
    assert_eq!(ask(&mut control, "command: ehlo\nuser: 'joe: 1+1'\n"), welcome);
    for (name, args, answer) in [
        ("inc", &[][..], "Incrementing number of workers from 1 -> 2"),
        ("set_workers", &["4"], "Altering worker count, 2 -> 4. Will spin up additional workers."),
        ("set_workers", &["4"], ""),
        ("set_workers", &["2"], "Altering worker count, 4 -> 2. Will gracefully terminate workers."),
        ("dec", &[], "Decrementing number of workers from 2 -> 1"),
        ("set_workers", &["1001"], "set_workers: count must be a number from 1 to 1000, not 1001"),
        ("louder", &[], "Verbosity set to 0"),
        ("louder", &[], "Verbosity set to 0"),
        ("quieter", &[], "Verbosity set to 1"),
        ("quieter", &[], "Verbosity set to 2"),
        ("quieter", &[], "Verbosity set to 2"),
        ("signal", &["usr1", "sigfoo"], "Invalid signal: \"FOO\""),
        ("config", &["{number: 3, signal_timeout: 2.5}"], "number of workers 1 -> 3"),
        ("config", &["number: 1"], "number of workers 3 -> 1"),
        ("config", &["verbosity: 1"], "options changed"),
        ("config", &["verbosity:", "1"], "options changed"),
        ("events", &[], "events: needs an \"id\", since more than one line follows"),
    ] {
        assert_eq!(command(&mut control, name, args), answer, "to {name} {args:?}");
    }
    let last = format!(
        "Can't decrease number of workers (already at 1).  Run kill {pid} if you really want to kill einhorn."
    );
    assert_eq!(command(&mut control, "dec", &[]), last);
    let state = command(&mut control, "state", &[]);
    for line in
        ["    :number: 1\n", "    :signal_timeout: 2.5\n", "    :verbosity: 1\n", "  :respawn: true\n"]
    {
        assert!(state.starts_with("---\n:state:\n") && state.contains(line), "no {line:?} in {state}");
    }
    let help = command(&mut control, "help", &[]);
    assert!(help.lines().any(|line| line.starts_with("config [OPTIONS] ")), "{help}");
    assert_eq!(
        command(&mut control, "nonsense", &[]),
        format!("Unrecognized command: \"nonsense\"\n\n{help}")
    );
    assert_eq!(
        ask(&mut control, "no: command"),
        "No \"command\" parameter provided; not sure what you want me to do."
    );
    let farewell = command(&mut control, "die", &[]);
    assert!(farewell.starts_with("Einhorn is going down! "), "{farewell}");
    master.wait_exit_code(0);
}

fn json_is_answered_in_json_and_in_our_words() {
    let master = Master::builder().start();
    let mut control = master.control();
    let reply = control.ask("ehlo", &["100%"]);
    assert!(
        reply.message.starts_with("Welcome, 100%! You are speaking to the einhyrningsins master"),
        "{reply:?}"
    );
    control.send(r#"{"command":"#);
    assert_eq!(control.reply().ok, Some(false));
    // The same connection may change its language with every line.
    assert_eq!(command(&mut control, "louder", &[]), "Verbosity set to 0");
    assert_eq!(control.ask("quieter", &[]).message, "verbosity set to info");
}

fn a_master_that_was_called_as_einhorn_has_its_words_in_json_and_our_facts_beside_them() {
    let mut master = Master::builder().einhorn().workers(2).start();
    let pid = master.process().pid();
    let mut control = master.control();
    let reply = control.ask("ehlo", &["joe"]);
    assert!(
        reply
            .message
            .starts_with(&format!("Welcome, joe! You are speaking to Einhorn Master Process {pid}.\n"))
    );
    let reply = control.ask("inc", &[]);
    assert_eq!(reply.message, "Incrementing number of workers from 2 -> 3");
    assert_eq!((reply.ok, typed(reply)), (Some(true), Resized { from: 2, to: 3 }));
    assert!(control.ask("state", &[]).message.starts_with("---\n:state:\n  :children:\n"));
    control.send("nonsense");
    assert_eq!(self::reply(&mut control).message, "Could not parse command");
    control.send(r#"{"command":"nonsense"}"#);
    assert!(control.reply().message.starts_with("Unrecognized command: \"nonsense\"\n\n"));

    control.send(r#"{"command":"upgrade"}"#);
    let only = control.reply();
    assert_eq!(
        (only.message.as_str(), only.wait, only.ok),
        ("Upgrading smoothly, as commanded", false, Some(true))
    );
    master
        .wait_status("the upgrade's end", |status| status.upgrade.is_none() && status.master.generation == 2);
    let upgrade = master.ctl(["--json", "upgrade"]);
    assert!(upgrade.assert_code(0).stdout.contains("\"outcome\":\"done\""), "{upgrade}");
    let upgrade = master.ctl(["upgrade", "--fleet"]);
    upgrade.assert_code(0);
}

fn einhornsh_shows_einhorns_words_and_follows_an_upgrade() {
    let builder = Master::builder().einhorn();
    let link = builder.file("einhornsh");
    symlink(binaries::einhyrningsinsctl(), &link).expect("a link");
    let master = builder.start();
    let mut command = Command::new(link);
    command.arg("-d").arg(master.socket()).args(["-e", "inc; upgrade; config '{seconds: 2}'; state"]);
    let finished = run(command);
    finished.assert_code(0);
    for text in [
        "Incrementing number of workers from 1 -> 2\n",
        "Upgrading smoothly, as commanded\n",
        "===> Launched ",
        "Upgrade done\n",
        "options changed\n",
        "\n    :seconds: 2.0\n",
    ] {
        assert!(finished.stdout.contains(text), "no {text:?}\n{finished}");
    }
}

fn ids_come_back_by_either_name_and_type() {
    let master = Master::builder().start();
    let mut control = master.control();
    for (key, id) in
        [("id", "7"), ("id", "\"7\""), ("request_id", "a-b"), ("request_id", "\"1e3\""), (":id", "-1")]
    {
        send(&mut control, &format!("{key}: {id}\ncommand: version"));
        let line = control.line().expect("a reply");
        assert!(line.contains(&format!("%0Arequest_id: {id}%0A")), "{id}: {line}");
    }
}

fn an_upgrade_is_followed_to_its_end_by_who_gave_an_id() {
    let master = Master::builder().workers(2).start();
    let mut control = master.control();
    for (name, first) in
        [("upgrade", "Upgrading smoothly, as commanded"), ("upgrade_fleet", "Upgrading fleet, as commanded")]
    {
        send(&mut control, &format!("---\nid: abc\ncommand: {name}\n"));
        let mut replies = vec![reply(&mut control)];
        while replies.last().is_some_and(|reply| reply.wait) {
            replies.push(reply(&mut control));
        }
        assert_eq!(replies[0].message, first);
        assert_eq!(replies.last().expect("a last reply").message, "Upgrade done");
        assert!(replies.iter().any(|reply| reply.message.starts_with("===> Launched ")), "{replies:?}");
        assert!(
            replies.iter().all(|reply| reply.request_id == Some(RequestId::Text("abc".to_owned()))),
            "{replies:?}"
        );
    }
}

fn without_an_id_an_upgrade_is_confirmed_and_no_more() {
    let mut master = Master::builder().workers(2).start();
    let mut control = master.control();
    assert_eq!(ask(&mut control, "command: upgrade"), "Upgrading smoothly, as commanded");
    assert_eq!(command(&mut control, "signal", &["SIGFOO"]), "Invalid signal: \"FOO\"");
    master.wait_status("the end of the upgrade", |status| {
        status.upgrade.is_none() && status.master.generation == 2
    });
    assert_eq!(command(&mut control, "louder", &[]), "Verbosity set to 0");
}

fn a_failed_upgrade_ends_with_the_reason_and_a_refused_one_with_that() {
    let builder = Master::builder();
    let knobs = builder.file("knobs");
    fs::write(&knobs, "").expect("a file of knobs");
    let builder = builder.serve([format!("@{}", knobs.display())]).options(["--max-upgrade-additional", "1"]);
    let mut master = builder.workers(2).options(["-s", "0.01"]).start();
    fs::write(&knobs, "exit_before_ack=3").expect("a file of knobs");
    let mut control = master.control();
    send(&mut control, "command: upgrade\nid: 1\n");
    let last = loop {
        let reply = reply(&mut control);
        if !reply.wait {
            break reply;
        }
    };
    assert!(last.message.starts_with("Upgrade failed: ") && last.message.contains("status 3"), "{last:?}");
    let refused = ask(&mut control, "command: upgrade_fleet");
    assert!(refused.starts_with("fleet upgrade refused: "), "{refused}");
    fs::write(&knobs, "").expect("a file of knobs");
    master.assert_well(2);
}

fn the_answers_come_in_yaml_from_the_master_that_takes_this_ones_place() {
    let mut master = Master::builder().workers(2).start();
    let workers = master.workers_up();
    let mut control = master.control();
    let mut follower = master.control();
    send(&mut follower, "command: events\nid: 5\n");
    assert_eq!(reply(&mut follower).message, "following events");
    send(&mut control, "command: reload\nid: 7\n");
    let only = reply(&mut control);
    assert_eq!(
        (only.message.as_str(), only.request_id, only.wait),
        ("Reloading, as commanded", Some(7.into()), false)
    );
    assert_eq!(master.workers_up(), workers);
    loop {
        let event = reply(&mut follower);
        assert!(event.wait && event.request_id == Some(5.into()), "{event:?}");
        if event.message.starts_with("the master replaced itself") {
            break;
        }
    }
    assert_eq!(command(&mut control, "inc", &[]), "Incrementing number of workers from 2 -> 3");
}

fn an_upgrade_that_begins_with_the_master_itself_is_followed_to_its_end() {
    let itself = binaries::einhyrningsins();
    let master = Master::builder().workers(2).option("--reexec-as").option(itself).start();
    let mut control = master.control();
    send(&mut control, "id: 1\ncommand: upgrade\n");
    let mut messages = Vec::new();
    loop {
        let reply = reply(&mut control);
        messages.push(reply.message);
        if !reply.wait {
            break;
        }
    }
    assert_eq!(messages[0], "Upgrading smoothly, as commanded");
    assert!(messages.iter().any(|message| message.starts_with("the master replaced itself")), "{messages:?}");
    assert_eq!(messages.last().expect("a last reply"), "Upgrade done");
}

fn a_master_that_cannot_be_replaced_says_so() {
    let mut master = Master::builder().options(["--reexec-as", "false"]).start();
    let mut control = master.control();
    send(&mut control, "id: 1\ncommand: upgrade\n");
    let last = loop {
        let reply = reply(&mut control);
        if !reply.wait {
            break reply.message;
        }
    };
    assert!(last.starts_with("Upgrade failed before it began") && last.contains("status 1"), "{last}");
    let reload = command(&mut control, "reload", &[]);
    assert!(reload.starts_with("not reloaded: ") && reload.contains("status 1"), "{reload}");
    master.assert_well(1);
}

fn events_come_in_the_language_of_their_request() {
    let master = Master::builder().start();
    let mut control = master.control();
    send(&mut control, "command: events\nid: 5\n");
    assert_eq!(reply(&mut control).message, "following events");
    assert_eq!(master.control().ask("inc", &[]).ok, Some(true));
    let event = reply(&mut control);
    assert!(event.wait && event.message == "number of workers 1 -> 2", "{event:?}");
}

fn hostile_yaml_is_refused_and_hurts_nobody() {
    let mut master = Master::builder().start();
    let laughs: String = (1..9)
        .map(|level| format!("l{level}: &l{level} [{}]\n", vec![format!("*l{}", level - 1); 9].join(",")))
        .collect();
    let nested = |open: &str| open.repeat(60_000 / open.replace('\n', "%0A").len());
    let mut documents = vec![
        format!("l0: &l0 lol\n{laughs}"),
        "command: !ruby/object:Gem::Installer {}\n".to_owned(),
        "command: !!python/object/apply:os.abort []\n".to_owned(),
        "command: inc\ncommand: die\n".to_owned(),
        "<<: {command: die}\n".to_owned(),
        "%TAG !! tag:x,2000:\n---\ncommand: die\n".to_owned(),
        "---\na: b\n---\ncommand: die\n".to_owned(),
        "? {a: b}\n: c\n".to_owned(),
        "\"\\uD800\"".to_owned(),
        "\u{0}".to_owned(),
        "- ".repeat(YAML_BYTES_MAX / 2),
        "a".repeat(60_000),
    ];
    documents.extend(
        ["[", "{a: ", "- ", "? ", "[a, ", "&a [", "!a ", "\"", "'", "|\n", "{? ", "a: b\n"].map(nested),
    );
    let mut control = master.control();
    for document in &documents {
        let begin: String = document.chars().take(30).collect();
        let line = document.replace('%', "%25").replace('\n', "%0A");
        assert!(line.len() <= 64 * 1024, "{begin:?} is too long for a line");
        // What begins like JSON is answered like JSON.
        control.send(&line);
        let line = control.line().unwrap_or_else(|| panic!("{begin:?} ends the connection\n{master}"));
        let reply = Reply::from_line(line.as_bytes()).expect("a reply");
        let is_refused = reply.message == "Could not parse command" || reply.ok == Some(false);
        assert!(is_refused, "{begin:?}: {reply:?}");
    }
    for line in [&b"command: \xFF\xFE\n"[..], b"\xFF\xFE\xFD\n", b"\0\0\0\n", b"hello\n"] {
        control.send_bytes(line);
        assert_eq!(reply(&mut control).message, "Could not parse command");
    }
    assert_eq!(command(&mut control, "louder", &[]), "Verbosity set to 0");
    master.assert_well(1);
}
