//! The control client before a socket that may not be the master's: one of another user where anybody may put one, and
//! one that answers nothing, half an answer, nonsense, or without an end.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::process::run;
use tests::{Finished, Master, MasterBuilder, binaries, place_worker};

tests::trials! {
    a_master_of_another_user_is_refused_where_others_may_put_a_socket needs "root" "util-linux",
    every_directory_on_the_way_to_a_master_of_another_user_counts needs "root" "util-linux",
    the_master_of_a_service_is_trusted_in_a_directory_of_its_own_or_of_roots needs "root" "util-linux",
    a_named_owner_is_trusted_anywhere needs "root" "util-linux",
    einhornsh_warns_and_goes_on needs "root" "util-linux",
    a_silent_master_does_not_hold_a_question_up,
    an_answer_without_an_end_takes_no_more_than_its_bound needs "util-linux",
    nonsense_is_no_answer,
}

/// A user without an entry in /etc/passwd.
const SERVICE: u32 = 54_321;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
}

/// A master of the user [`SERVICE`], whose control socket is in `place`, which the user may write to for now; root owns
/// the directory above it.
fn master_of_another_user(place: &str) -> (Master, PathBuf) {
    let builder: MasterBuilder = Master::builder();
    let top = builder.file(place).parent().expect("a directory").to_owned();
    set_mode(&top, 0o755);
    place_worker(&top.join("serve"));
    let place = top.join(place);
    fs::create_dir(&place).expect("a directory");
    set_mode(&place, 0o1777);
    let socket = place.join("einhorn.sock");
    let user = SERVICE.to_string();
    let builder = builder.under(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
    let builder = builder.without_socket().option("-d").option(&socket).option("--chdir").option(&top);
    let mut master = builder.program(["./serve"]).start_unready();
    master.at_socket(&socket);
    master.wait_up(1);
    (master, place)
}

fn ctl(socket: &Path, args: &[&str]) -> Finished {
    let mut command = Command::new(binaries::einhyrningsinsctl());
    command.arg("-d").arg(socket).args(args).env_remove("EINHYRNINGSINS_TRUST_OWNER");
    run(command)
}

/// Asserts that root's client sends nothing to the master, and says why.
#[track_caller]
fn assert_refused(socket: &Path, why: &str) {
    for args in [&["upgrade"][..], &["status", "--ready"], &["--json", "status"], &["die"], &["events"]] {
        let refused = ctl(socket, args);
        refused.assert_code(1).assert_says(why).assert_says("54321 (uid 54321)");
        refused.assert_says(&socket.display().to_string()).assert_says("--trust-owner 54321");
        // The line in JSON is this client's own.
        assert_eq!(refused.stdout.is_empty(), args[0] != "--json", "{refused}");
    }
}

fn a_master_of_another_user_is_refused_where_others_may_put_a_socket() {
    let (mut master, place) = master_of_another_user("place");
    let socket = master.socket().to_owned();
    let link = place.parent().expect("a directory").join("link");
    symlink(&socket, &link).expect("a link");
    let why = format!("others may put a socket into {}", place.display());
    // As /tmp is, and one that a group shares.
    for mode in [0o1777, 0o1770] {
        set_mode(&place, mode);
        assert_refused(&socket, &why);
        assert_refused(&link, &why);
    }
    // Root has opened it on purpose.
    for mode in [0o777, 0o775] {
        set_mode(&place, mode);
        ctl(&socket, &["status", "--ready"]).assert_code(0).assert_says("warning: ").assert_says(&why);
    }
    master.assert_well(1);
    assert_eq!(master.status().master.generation, 1, "{master}");
}

fn every_directory_on_the_way_to_a_master_of_another_user_counts() {
    let (master, place) = master_of_another_user("place");
    let socket = master.socket();
    // The directory would do, but somebody else may have made it.
    chown(&place, Some(SERVICE), None).expect("its owner");
    set_mode(&place, 0o700);
    let top = place.parent().expect("a directory");
    set_mode(top, 0o1777);
    assert_refused(socket, &format!("others may put a socket into {}", top.display()));
    // Nobody else can have made it.
    set_mode(top, 0o755);
    ctl(socket, &["status", "--ready"]).assert_code(0);
    // A third user's word is worth nothing.
    chown(&place, Some(SERVICE + 1), None).expect("its owner");
    set_mode(&place, 0o711);
    assert_refused(socket, &format!("{} belongs to 54322 (uid 54322)", place.display()));
}

fn the_master_of_a_service_is_trusted_in_a_directory_of_its_own_or_of_roots() {
    let (mut master, place) = master_of_another_user("place");
    set_mode(&place, 0o755);
    for owner in [0, SERVICE] {
        chown(&place, Some(owner), Some(owner)).expect("its owner");
        ctl(master.socket(), &["status", "--ready"]).assert_code(0);
    }
    ctl(master.socket(), &["upgrade"]).assert_code(0);
    assert_eq!(master.status().master.generation, 2, "{master}");
}

fn a_named_owner_is_trusted_anywhere() {
    let (master, _) = master_of_another_user("place");
    let socket = master.socket();
    ctl(socket, &["--trust-owner", "54321", "status", "--ready"]).assert_code(0);
    ctl(socket, &["--trust-owner", "54322", "status", "--ready"]).assert_code(1);
    ctl(socket, &["--trust-owner", "nobody-of-this-name", "status"]).assert_code(2);
    for (value, code) in [("54321", 0), ("54322", 1), ("", 1), ("nobody-of-this-name", 2)] {
        let mut command = Command::new(binaries::einhyrningsinsctl());
        command.arg("-d").arg(socket).args(["status", "--ready"]).env("EINHYRNINGSINS_TRUST_OWNER", value);
        run(command).assert_code(code);
    }
}

fn einhornsh_warns_and_goes_on() {
    let (mut master, _) = master_of_another_user("place");
    let link = master.file("einhornsh");
    symlink(binaries::einhyrningsinsctl(), &link).expect("a link");
    let mut command = Command::new(link);
    command.arg("-d").arg(master.socket()).args(["-e", "inc"]).env_remove("EINHYRNINGSINS_TRUST_OWNER");
    let finished = run(command);
    finished.assert_code(0).assert_says("warning: the master at ").assert_says("54321 (uid 54321)");
    master.wait_up(2);
}

/// A socket on which `play` is what a client finds.
fn squat(play: impl Fn(UnixStream) + Send + 'static) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("einhorn.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    thread::spawn(move || listener.incoming().flatten().for_each(play));
    (directory, socket)
}

fn a_silent_master_does_not_hold_a_question_up() {
    let half = br#"{"message":"up","request_id":1,"ok":true,"data":{"#;
    // The whole answer counts, however often another part of it comes.
    let dripping = |mut stream: UnixStream| {
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    };
    let (_silent, silent) = squat(std::mem::forget);
    let (_halting, halting) = squat(|mut stream| {
        stream.write_all(half).expect("room");
        std::mem::forget(stream);
    });
    let (_dripping, dripping) = squat(dripping);
    let asked = [(silent.clone(), "status"), (silent, "inc"), (halting, "version"), (dripping, "status")];
    let asked = asked.map(|(socket, command)| {
        thread::spawn(move || {
            let begun = Instant::now();
            (ctl(&socket, &[command]), begun.elapsed())
        })
    });
    for asked in asked {
        let (finished, took) = asked.join().expect("a client");
        finished.assert_code(4).assert_says("within 10s");
        assert!(took >= Duration::from_secs(10), "{took:?}: {finished}");
    }
}

fn an_answer_without_an_end_takes_no_more_than_its_bound() {
    let endless = |bytes: &'static [u8]| {
        squat(move |mut stream| {
            let block = bytes.repeat(64 * 1024 / bytes.len());
            while stream.write_all(&block).is_ok() {}
        })
    };
    let (_line, line) = endless(b"x");
    let (_lines, lines) = endless(b"{\"message\":\"\",\"request_id\":77}\n");
    for (socket, limit, why) in [(line, "60", "line longer than 67108864 bytes"), (lines, "3", "within 3s")] {
        let mut command = Command::new("prlimit");
        command.arg("--as=536870912").arg(binaries::einhyrningsinsctl());
        command.arg("-d").arg(&socket).args(["--timeout", limit, "status"]);
        run(command).assert_code(4).assert_says(why);
    }
}

fn nonsense_is_no_answer() {
    for said in [
        &b"\0\0\0\0\n"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\xff\xfe\n",
        b"[[[[\n",
        b"",
        b"\x1b[2J\x1b]0;owned\x07\n",
    ] {
        let (_directory, socket) = squat(move |mut stream| drop(stream.write_all(said)));
        let finished = ctl(&socket, &["status"]);
        finished.assert_code(4);
        assert!(!finished.stderr.contains(['\x1b', '\x07', '\0']), "{finished}");
    }
}
