//! `-H HOST`: the client on another host, by a real ssh to a real sshd on this one.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use tests::process::{Captured, run};
use tests::terminal::Terminal;
use tests::wait::wait_for;
use tests::{Finished, Master, binaries};

tests::trials! {
    a_command_is_carried_out_on_the_other_host_with_its_words_and_its_exit_code needs "mount namespace" "ssh",
    a_view_of_the_other_host_has_a_terminal needs "mount namespace" "ssh" "tmux",
    a_host_that_ssh_does_not_reach_is_exit_code_6 needs "mount namespace" "ssh",
    without_ssh_there_is_no_other_host,
}

/// The other host, under the name `there`: an sshd in a mount namespace of its own, in which ssh knows it.
struct Host {
    sshd: Child,
    log: Captured,
    _files: tempfile::TempDir,
}

impl Host {
    fn start() -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let path = |name: &str| files.path().join(name).display().to_string();
        for key in ["host_key", "user_key"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
            run(command).assert_code(0);
        }
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("it").port();
        let programs = binaries::einhyrningsinsctl().parent().expect("a directory").display().to_string();
        let server = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nPermitRootLogin yes\nSetEnv PATH={programs}:/usr/bin:/bin\n",
            path("host_key"),
            path("user_key.pub"),
        );
        // Nothing listens at port 1.
        let client = format!(
            "Host there\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {}\n\
             Host nowhere\n  HostName 127.0.0.1\n  Port 1\n\
             Host *\n  User root\n  BatchMode yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile {}\n  LogLevel ERROR\n",
            path("user_key"),
            path("known_hosts"),
        );
        fs::write(path("sshd_config"), server).expect("a file");
        fs::write(path("ssh_config"), client).expect("a file");
        let script = "mount -t tmpfs none /run; mkdir /run/sshd; mount -t tmpfs none \"$HOME/.ssh\" || true
                      mount --bind \"$1/ssh_config\" /etc/ssh/ssh_config; exec /usr/sbin/sshd -D -e -f \"$1/sshd_config\"";
        let log = Captured::new();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-e", "-c", script, "sh"]).arg(files.path());
        let sshd = command.stdin(Stdio::null()).stderr(log.writer()).spawn().expect("unshare");
        let host = Self { sshd, log, _files: files };
        wait_for("sshd", || host.log.text().contains("Server listening").then_some(()));
        host
    }

    /// This client, where ssh knows the host.
    fn ctl(&self, words: &[&str]) -> Finished {
        let [program, beginning @ ..] = &self.beginning()[..] else { unreachable!() };
        let mut command = Command::new(program);
        command.args(beginning).args(words);
        run(command)
    }

    /// How its command line begins.
    fn beginning(&self) -> [String; 5] {
        let client = binaries::einhyrningsinsctl().display().to_string();
        ["nsenter".to_owned(), "-t".to_owned(), self.sshd.id().to_string(), "--mount".to_owned(), client]
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

fn a_command_is_carried_out_on_the_other_host_with_its_words_and_its_exit_code() {
    let host = Host::start();
    let mut master = Master::builder().workers(2).start();
    let socket = master.socket().display().to_string();
    let done = host.ctl(&["-H", "there", "-d", &socket, "upgrade", "--label", "it's $(id) \"new\""]);
    done.assert_code(0);
    assert!(done.stdout.contains("upgrade to generation 2 done"), "{done}");
    let releases = master.status().releases;
    let label =
        releases.into_iter().find(|release| release.generation == 2).and_then(|release| release.label);
    assert_eq!(label.as_deref(), Some("it's $(id) \"new\""), "{done}\n{}", host.log.text());
    let refused = host.ctl(&["-d", &socket, "--host=root@there", "--json", "dec", "9"]);
    refused.assert_code(1);
    assert!(refused.stdout.contains("\"ok\":false") && !refused.stderr.contains("ssh"), "{refused}");
    host.ctl(&["-Hthere", "-d", &socket, "-e", "inc; dec"]).assert_code(0);
    host.ctl(&["-H", "there", "-d", "/nowhere/at/all", "status"]).assert_code(3);
    host.ctl(&["-H", "there", "-d", &socket, "signal", "USR1", "17"]).assert_code(2);
    master.assert_well(2);
}

fn a_view_of_the_other_host_has_a_terminal() {
    let host = Host::start();
    let master = Master::builder().workers(2).start();
    let script = format!("{} -H there -d {} top", host.beginning().join(" "), master.socket().display());
    let terminal = Terminal::open(&master, (100, 30), &format!("{script}; echo \"code $?.\"; exec cat"));
    terminal.wait(&format!("master    pid {}, ", master.process().pid()));
    terminal.wait("2 of 2 up");
    terminal.press(&["q"]);
    terminal.wait("code 0.");
    // Without a terminal there is none to have.
    let socket = master.socket().display().to_string();
    host.ctl(&["-H", "there", "-d", &socket, "top", "--batch", "--count", "1"]).assert_code(0);
    host.ctl(&["-H", "there", "-d", &socket, "top"]).assert_code(2).assert_says("top --batch");
}

fn a_host_that_ssh_does_not_reach_is_exit_code_6() {
    let host = Host::start();
    let lost = host.ctl(&["-H", "nowhere", "status"]);
    lost.assert_code(6).assert_says("Connection refused").assert_says("ssh did not reach nowhere");
    for bad in [["-H", ""], ["-H", "-oProxyCommand=true"]] {
        host.ctl(&[&bad[..], &["status"]].concat()).assert_code(2);
    }
}

fn without_ssh_there_is_no_other_host() {
    let mut command = Command::new(binaries::einhyrningsinsctl());
    command.args(["-H", "there", "status"]).env("PATH", "/nowhere");
    run(command).assert_code(6).assert_says("cannot run ssh");
}
