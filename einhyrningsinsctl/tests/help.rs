//! The help of this program, word by word.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use einhorn_proto::COMMANDS;
use insta::assert_snapshot;

/// What the program prints when it is called as `name` with `args`. It cannot see a terminal, so the width is fixed.
fn printed(name: &str, args: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_einhyrningsinsctl"));
    let output = program.arg0(name).args(args).env_remove("COLUMNS").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    without_trailing_blanks(&String::from_utf8(output.stdout).unwrap())
}

/// clap leaves blanks at the ends of some lines, which an editor may remove from this file.
fn without_trailing_blanks(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The end of every command's help: the options that all commands share.
const SHARED: &str = "\
  -c, --command-name <NAME>
          Name of the master: short for -d /tmp/einhorn-NAME.sock

      --color <WHEN>
          When to use colours: auto, always or never

          [default: auto]

  -d, --socket-path <PATH>
          Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or
          /tmp/einhorn.sock]

      --json
          Print each reply as JSON, one per line

      --timeout <SECONDS>
          Give up on the answer after this many seconds [default: 10, but no limit for upgrades and
          other rollouts, reload and events]

      --trust-owner <USER>
          Trust a master of this user, by name or number, even if others may put a socket into the
          directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]

  -h, --help
          Print help (see a summary with '-h')";

/// The same where no option has a second paragraph.
const SHARED_SHORT: &str = "\
  -c, --command-name <NAME>  Name of the master: short for -d /tmp/einhorn-NAME.sock
      --color <WHEN>         When to use colours: auto, always or never [default: auto]
  -d, --socket-path <PATH>   Control socket of the master [default: the value of
                             EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]
      --json                 Print each reply as JSON, one per line
      --timeout <SECONDS>    Give up on the answer after this many seconds [default: 10, but no
                             limit for upgrades and other rollouts, reload and events]
      --trust-owner <USER>   Trust a master of this user, by name or number, even if others may put
                             a socket into the directory, as in /tmp [default: the value of
                             EINHYRNINGSINS_TRUST_OWNER]
  -h, --help                 Print help";

/// The help of a command, up to the options that all commands share.
fn help(command: &str) -> String {
    let text = printed("einhyrningsinsctl", &[command, "--help"]);
    let own = text.strip_suffix(SHARED).or_else(|| text.strip_suffix(SHARED_SHORT));
    own.unwrap_or_else(|| panic!("{command} lacks the options that all commands share:\n{text}")).to_owned()
}

#[test]
fn of_the_program() {
    assert_snapshot!(printed("einhyrningsinsctl", &["--help"]), @r#"
    Control a running einhyrningsins master

    With a COMMAND, sends it, prints the answer and exits. Without one, opens a prompt; if standard
    input is a file or a pipe, runs its lines as commands, up to the first that fails.

    Usage: einhyrningsinsctl [OPTIONS] [COMMAND]

    Commands:
      status         Show the master, its listeners and every worker
      upgrade        Replace every worker with one from the current code, one by one
      upgrade_fleet  Replace every worker, all new ones at once
      rollback       Go back to the previous release
      inc            Add COUNT workers [default: 1]
      dec            Remove COUNT workers, draining them [default: 1]
      set_workers    Set the number of workers
      respawn        Fill empty slots now, including those that were given up
      signal         Send signals to every worker; without any, list the signals
      replace        Replace one worker, its successor first
      die            Stop the workers gracefully, then the master
      reload         Replace the master itself and keep the workers
      history        Show the last rollouts: when, who asked, which release, and how each ended
      metrics        Show counts, queues, memory and CPU time, for Prometheus
      events         Show events as they happen
      state          Show the master's whole state, for programs and bug reports
      louder         Make the master's log more verbose
      quieter        Make the master's log less verbose
      reopen         Open the log file again, after a rotation
      version        Show the versions of the master and the protocol
      help           List the commands
      config         Change options of the running master, by a map in YAML
      list           List the masters that you may control
      probe          Check a server over HTTP
      serve          Serve metrics and a page over HTTP
      top            Watch a master, full-screen, with keys to control it

    Options:
      -H, --host <[USER@]HOST>
              Run the command on HOST: short for ssh -- HOST einhyrningsinsctl COMMAND

      -e, --execute <COMMANDS>
              Run these commands, separated by ";", up to the first that fails

      -c, --command-name <NAME>
              Name of the master: short for -d /tmp/einhorn-NAME.sock

          --color <WHEN>
              When to use colours: auto, always or never

              [default: auto]

      -d, --socket-path <PATH>
              Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or
              /tmp/einhorn.sock]

          --json
              Print each reply as JSON, one per line

          --timeout <SECONDS>
              Give up on the answer after this many seconds [default: 10, but no limit for upgrades and
              other rollouts, reload and events]

          --trust-owner <USER>
              Trust a master of this user, by name or number, even if others may put a socket into the
              directory, as in /tmp [default: the value of EINHYRNINGSINS_TRUST_OWNER]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Exit codes:
      0  done
      1  refused or failed
      2  bad usage
      3  no master there
      4  the connection broke or the time ran out before the answer
      5  refused because another upgrade or rollback is running
      6  ssh did not reach the host of -H
    "#);
}

#[test]
fn of_einhornsh() {
    assert_snapshot!(printed("einhornsh", &["--help"]), @r#"
    Send commands to a running einhorn master

    With -e, sends them, prints the answers and exits. Without it, opens a prompt; if standard input is
    a file or a pipe, sends its lines. The commands are the master's: "help" lists them.

    Usage: einhornsh [OPTIONS] [NAME]

    Arguments:
      [NAME]
              The same as -c NAME; -d overrides -c, and -c overrides this

    Options:
      -c, --command-name <NAME>
              Name of the master: short for -d $TMPDIR/einhorn-NAME.sock

      -d, --socket-path <PATH>
              Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or einhorn.sock
              in $TMPDIR or /tmp]

      -e, --execute <COMMANDS>
              Send these commands, separated by ";", and exit

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Exit codes:
      0  the master refused no command
      1  it refused a command, or failed
      2  bad usage
      3  no master there
      4  the connection broke or the time ran out before the answer
    "#);
}

#[test]
fn of_the_prompt() {
    assert_snapshot!(printed("einhyrningsinsctl", &["-e", "help"]), @r#"
    Commands:
      status              Show the master, its listeners and every worker
      upgrade             Replace every worker with one from the current code, one
                          by one
      upgrade_fleet       Replace every worker, all new ones at once
      rollback            Go back to the previous release
      inc [COUNT]         Add COUNT workers [default: 1]
      dec [COUNT]         Remove COUNT workers, draining them [default: 1]
      set_workers COUNT   Set the number of workers
      respawn             Fill empty slots now, including those that were given up
      signal [SIGNAL...]  Send signals to every worker; without any, list the
                          signals
      replace             Replace one worker, its successor first
      die [SIGNAL]        Stop the workers gracefully, then the master
      reload              Replace the master itself and keep the workers
      history             Show the last rollouts: when, who asked, which release,
                          and how each ended
      metrics             Show counts, queues, memory and CPU time, for Prometheus
      events              Show events as they happen
      state               Show the master's whole state, for programs and bug
                          reports
      louder              Make the master's log more verbose
      quieter             Make the master's log less verbose
      reopen              Open the log file again, after a rotation
      version             Show the versions of the master and the protocol
      help                List the commands
      config [OPTIONS]    Change options of the running master, by a map in YAML
      list                List the masters that you may control
      probe               Check a server over HTTP
      serve               Serve metrics and a page over HTTP
      top                 Watch a master, full-screen, with keys to control it

    Each takes --json and --timeout SECONDS; "help COMMAND" shows its help.
    ";" separates commands on one line; "quit", "exit" or Ctrl-D leaves.
    "#);
    assert_snapshot!(printed("einhyrningsinsctl", &["-e", "help set_workers"]), @r"
    Set the number of workers

    Usage: set_workers [OPTIONS] <COUNT>

    Arguments:
      <COUNT>
              The new number of workers

    Options:
          --json
              Print each reply as JSON, one per line

          --timeout <SECONDS>
              Give up on the answer after this many seconds [default: 10, but no limit for upgrades and
              other rollouts, reload and events]

      -h, --help
              Print help
    ");
}

#[test]
fn of_status() {
    assert_snapshot!(help("status"), @r"
    Show the master, its listeners and every worker

    Shows the cause and age of a slot's last death, and when an empty slot is filled again. On a narrow
    terminal, INDEX, CPU, RESTARTS, GEN, AGE and RSS are left out before long causes are cut; output to
    a pipe is complete. If the table fills the screen, the summary is repeated below it.

    Usage: einhyrningsinsctl status [OPTIONS]

    Options:
          --ready
              Print nothing; for probes: exit with 0 if every slot has a worker up and the master is not
              stopping, otherwise with 1 and the reason on standard error

          --brief
              Show only the summary: the master, its workers in numbers, the upgrade, and warnings

          --state <STATE>
              Show only workers in this state, or only slots without a worker

              Possible values:
              - starting: Workers that have not acked
              - up:       Workers that have acked
              - draining: Workers that were asked to stop
              - empty:    Slots without a worker

          --watch[=<SECONDS>]
              Repeat until Ctrl-C, every 2 seconds or as often as given
    ");
}

#[test]
fn of_upgrade() {
    assert_snapshot!(help("upgrade"), @r#"
    Replace every worker with one from the current code, one by one

    Shows progress and returns when the upgrade has ended, with exit code 0 only if every worker runs
    the new release and takes traffic. If the new release fails, the master rolls back by itself; the
    reason is printed, and the exit code is 1. After Ctrl-C the upgrade continues in the master.

    Usage: einhyrningsinsctl upgrade [OPTIONS]

    Options:
          --fleet
              Start all new workers at once; the old ones stop when all new ones have acked

          --canary <COUNT>
              Replace this many workers first, and the rest after the soak

              If one of them dies during the soak, the upgrade has failed.

          --soak <SECONDS>
              How long the soak lasts [default: until "upgrade --continue"]

          --wait
              If other upgrades run or wait, begin after them instead of being refused

              At most 16 upgrades wait, first come, first served. A rollback, an abort or a stop of the
              master cancels them, with exit code 1; an upgrade that fails does not.

          --keep-master
              Upgrade the workers even if the master cannot be replaced

              An upgrade replaces the master first if the program on disk has changed. Without this
              option, the upgrade fails if that program cannot take over.

          --drained
              Return when the last old worker has exited, however long that takes

              Without this option, the answer waits for old workers at most a second.

          --check <CMDLINE>
              Check the new release with this command, in place of the master's own (--check)

              The master accepts it only from its own user and root: the command runs as the workers'
              user.

          --no-check
              Do not check the new release, even if the master has the option --check

          --soak-check <CMDLINE>
              Check the canaries with this command during the soak, at once and then repeatedly

              If it fails, the upgrade is rolled back. The master accepts it only from its own user and
              root.

          --every <SECONDS>
              Time from the end of one check of the canaries to the start of the next [default: 10]

          --soak-failures <COUNT>
              Fail the upgrade after this many failed checks of the canaries [default: 1]

          --label <TEXT>
              Name of the release in "history" [default: RELEASE of --env-file, or the directory's name]

          --continue
              End the soak of the running upgrade and replace the rest

          --abort
              Abort the running upgrade and roll it back; exit code 0 once that is done

          --follow
              Follow the running upgrade until it ends

          --no-wait
              Return as soon as the upgrade has begun or is in the queue

          --quiet
              Print no progress, only how it ended
    "#);
}

#[test]
fn of_upgrade_fleet() {
    assert_snapshot!(help("upgrade_fleet"), @r#"
    Replace every worker, all new ones at once

    The same as "upgrade --fleet".

    Usage: einhyrningsinsctl upgrade_fleet [OPTIONS]

    Options:
          --no-wait
              Return as soon as the upgrade has begun or is in the queue

          --quiet
              Print no progress, only how it ended
    "#);
}

#[test]
fn of_upgrade_continue() {
    assert_snapshot!(help("upgrade_continue"), @r#"
    End the soak of the running upgrade and replace the rest

    The same as "upgrade --continue".

    Usage: einhyrningsinsctl upgrade_continue [OPTIONS]

    Options:
          --no-wait
              Return as soon as the upgrade has begun or is in the queue

          --quiet
              Print no progress, only how it ended
    "#);
}

#[test]
fn of_upgrade_abort() {
    assert_snapshot!(help("upgrade_abort"), @r#"
    Abort the running upgrade and roll it back

    The same as "upgrade --abort".

    Usage: einhyrningsinsctl upgrade_abort [OPTIONS]

    Options:
          --no-wait
              Return as soon as the upgrade has begun or is in the queue

          --quiet
              Print no progress, only how it ended
    "#);
}

#[test]
fn of_upgrade_follow() {
    assert_snapshot!(help("upgrade_follow"), @r#"
    Follow the running upgrade until it ends

    The same as "upgrade --follow".

    Usage: einhyrningsinsctl upgrade_follow [OPTIONS]

    Options:
          --no-wait
              Return as soon as the upgrade has begun or is in the queue

          --quiet
              Print no progress, only how it ended
    "#);
}

#[test]
fn of_rollback() {
    assert_snapshot!(help("rollback"), @r#"
    Go back to the previous release

    Aborts a running upgrade, as "upgrade --abort" does. After an upgrade, replaces every worker with
    one from the previous release, which is kept until the next upgrade begins. The exit code is 0 only
    if every worker runs that release and takes traffic.

    Usage: einhyrningsinsctl rollback [OPTIONS]

    Options:
          --no-wait
              Return as soon as the upgrade has begun or is in the queue

          --quiet
              Print no progress, only how it ended
    "#);
}

#[test]
fn of_inc() {
    assert_snapshot!(help("inc"), @r"
    Add COUNT workers [default: 1]

    Usage: einhyrningsinsctl inc [OPTIONS] [COUNT]

    Arguments:
      [COUNT]  How many

    Options:
    ");
}

#[test]
fn of_dec() {
    assert_snapshot!(help("dec"), @r"
    Remove COUNT workers, draining them [default: 1]

    Usage: einhyrningsinsctl dec [OPTIONS] [COUNT]

    Arguments:
      [COUNT]  How many

    Options:
    ");
}

#[test]
fn of_set_workers() {
    assert_snapshot!(help("set_workers"), @r"
    Set the number of workers

    Usage: einhyrningsinsctl set_workers [OPTIONS] <COUNT>

    Arguments:
      <COUNT>  The new number of workers

    Options:
    ");
}

#[test]
fn of_respawn() {
    assert_snapshot!(help("respawn"), @r"
    Fill empty slots now, including those that were given up

    Usage: einhyrningsinsctl respawn [OPTIONS]

    Options:
    ");
}

#[test]
fn of_signal() {
    assert_snapshot!(help("signal"), @r#"
    Send signals to every worker; without any, list the signals

    A number is accepted only alone: in "signal USR1 17" it could be a slot, a pid or SIGCHLD.

    Usage: einhyrningsinsctl signal [OPTIONS] [SIGNAL]...

    Arguments:
      [SIGNAL]...
              Names of signals, in any case, with or without SIG; a number only alone

    Options:
          --slot <SLOT>
              Signal only the worker in this slot

          --pid <PID>
              Signal only the worker with this pid

          --draining
              Signal only workers that are draining
    "#);
}

#[test]
fn of_replace() {
    assert_snapshot!(help("replace"), @r#"
    Replace one worker, its successor first

    A successor from the same release takes the slot when it acks, and then the worker drains, as with
    --max-age. One worker is replaced at a time, and none while an upgrade runs. Returns as soon as the
    worker is in the queue; "status" shows the rest.

    Usage: einhyrningsinsctl replace [OPTIONS] <--slot <SLOT>|--pid <PID>>

    Options:
          --slot <SLOT>
              The worker in this slot

          --pid <PID>
              The worker with this pid
    "#);
}

#[test]
fn of_die() {
    assert_snapshot!(help("die"), @r"
    Stop the workers gracefully, then the master

    Returns when the master has begun to stop; with --wait, when it has exited.

    Usage: einhyrningsinsctl die [OPTIONS] [SIGNAL]

    Arguments:
      [SIGNAL]
              The signal to stop the workers with [default: the master's graceful signal]

    Options:
          --delay <SECONDS>
              Wait this long before stopping it, so that load balancers can take it out first

          --wait
              Return when the master has exited
    ");
}

#[test]
fn of_reload() {
    assert_snapshot!(help("reload"), @r"
    Replace the master itself and keep the workers

    Returns with exit code 0 once the new master runs. If that cannot continue from the old master's
    state, the old master stays, the reason is printed, and the exit code is 1.

    Usage: einhyrningsinsctl reload [OPTIONS]

    Options:
    ");
}

#[test]
fn of_history() {
    assert_snapshot!(help("history"), @r#"
    Show the last rollouts: when, who asked, which release, and how each ended

    Lists the last 100 upgrades and rollbacks that have ended, oldest first. Times are UTC. "alice as
    root" is a user who logged in as alice and ran the command as root, for example with sudo; "-"
    stands for something unknown. A reload keeps the history; a stop of the master loses it, except with
    the master's option --history.

    Usage: einhyrningsinsctl history [OPTIONS]

    Options:
    "#);
}

#[test]
fn of_metrics() {
    assert_snapshot!(help("metrics"), @r"
    Show counts, queues, memory and CPU time, for Prometheus

    Writes the text format of Prometheus, version 0.0.4. Memory and CPU time come from /proc, if this
    program runs in the pid namespace of the master; otherwise a line on standard error gives the
    reason. With --json, writes the master's counters.

    Usage: einhyrningsinsctl metrics [OPTIONS]

    Options:
          --output <FILE>
              Write to FILE, which is replaced atomically; for the textfile collector of node_exporter,
              its name ends in .prom

          --pss
              Also write each worker's proportional memory (PSS), which takes the kernel a millisecond
              or more per worker
    ");
}

#[test]
fn of_events() {
    assert_snapshot!(help("events"), @r"
    Show events as they happen

    Ends with Ctrl-C, or when the master exits.

    Usage: einhyrningsinsctl events [OPTIONS]

    Options:
    ");
}

#[test]
fn of_state() {
    assert_snapshot!(help("state"), @r"
    Show the master's whole state, for programs and bug reports

    Usage: einhyrningsinsctl state [OPTIONS]

    Options:
    ");
}

#[test]
fn of_louder() {
    assert_snapshot!(help("louder"), @r"
    Make the master's log more verbose

    Usage: einhyrningsinsctl louder [OPTIONS]

    Options:
    ");
}

#[test]
fn of_quieter() {
    assert_snapshot!(help("quieter"), @r"
    Make the master's log less verbose

    Usage: einhyrningsinsctl quieter [OPTIONS]

    Options:
    ");
}

#[test]
fn of_reopen() {
    assert_snapshot!(help("reopen"), @r"
    Open the log file again, after a rotation

    Usage: einhyrningsinsctl reopen [OPTIONS]

    Options:
    ");
}

#[test]
fn of_version() {
    assert_snapshot!(help("version"), @r"
    Show the versions of the master and the protocol

    Shows this client's version first, which needs no master.

    Usage: einhyrningsinsctl version [OPTIONS]

    Options:
    ");
}

#[test]
fn of_help() {
    assert_snapshot!(help("help"), @r"
    List the commands

    Lists the commands of this client, which needs no master; with --master, those of the master.

    Usage: einhyrningsinsctl help [OPTIONS] [COMMAND]

    Arguments:
      [COMMAND]
              Show the help of this command

    Options:
          --master
              Ask the master
    ");
}

#[test]
fn of_config() {
    assert_snapshot!(help("config"), @r#"
    Change options of the running master, by a map in YAML

    A change holds until the line of the option in the options file (--options-file) is edited and an
    upgrade reads it, or until the master exits. With --show, lists each option with its value and the
    origin of the value: "default", "command line", the line of the options file as FILE:LINE, or
    "command" for one that a client changed.

    Usage: einhyrningsinsctl config [OPTIONS] [MAP]...

    Arguments:
      [MAP]...
              A map of options in YAML

    Options:
          --show
              Show every option, its value, and where that came from
    "#);
}

#[test]
fn of_list() {
    assert_snapshot!(help("list"), @r"
    List the masters that you may control

    Looks at the socket of -d, -c or EINHYRNINGSINS_SOCKET, at einhorn.sock and einhorn-*.sock in /tmp
    and in XDG_RUNTIME_DIR, and at *.sock in /run/einhyrningsins, in the directory einhyrningsins of
    XDG_RUNTIME_DIR, and in their subdirectories. Does not show masters whose sockets you may not open.

    Usage: einhyrningsinsctl list [OPTIONS]

    Options:
    ");
}

#[test]
fn of_probe() {
    assert_snapshot!(help("probe"), @r#"
    Check a server over HTTP

    Sends a GET request to the server itself; no master is needed. Exits with 0 if the status of the
    answer is 2xx, or the one of --status, and its body contains the text of --contains. Otherwise exits
    with 1 and prints the request, what was wrong and the beginning of the body. --timeout limits each
    request, from before it connects; its default is 5 here. Does not retry, follow redirects or speak
    TLS; use curl for these.

    Usage: einhyrningsinsctl probe [OPTIONS] <http:/PATH>

    Arguments:
      <http:/PATH>
              Path to request, such as http:/healthz

    Options:
          --addr <N|ADDRESS>
              Address of the server as -b takes it, such as 127.0.0.1:8000 or unix:/run/web.sock; or N,
              for the address in EINHORN_CHECK_ADDR_N

              [default: 0]

          --status <CODE>
              Require this status, rather than any 2xx

          --contains <TEXT>
              Require this text in the body, of which at most 1 MiB is read

          --header <HEADER>
              Send this header, such as "Host: example.org" [default host: the address, or localhost for
              a Unix socket]

          --times <COUNT>
              Require this many good answers in a row, each on a new connection

              [default: 1]
    "#);
}

#[test]
fn of_serve() {
    assert_snapshot!(help("serve"), @r"
    Serve metrics and a page over HTTP

    Serves /metrics for Prometheus and a page about the pool at /, until SIGTERM or Ctrl-C. Nothing
    there changes the pool. The page, /status.json, /history.json and /events need a token; without
    --token-file, one is made and printed as part of the page's address. Asks the master at each request
    for metrics, and every 5 seconds while somebody has the page open.

    Usage: einhyrningsinsctl serve [OPTIONS]

    Options:
          --listen <ADDRESS>
              Where to listen: an IP address and a port, such as 127.0.0.1:9180, unix:PATH, or systemd
              for the sockets of a socket unit

              [default: 127.0.0.1:9180]

          --host <NAME>
              Also answer requests to this host, besides localhost and loopback addresses; may be
              repeated

          --token-file <FILE>
              Read the token from FILE, which must not be readable by everybody; required if other
              machines can connect
    ");
}

#[test]
fn of_top() {
    assert_snapshot!(help("top"), @r"
    Watch a master, full-screen, with keys to control it

    Shows the master, its listeners, every slot, a running upgrade and the last events until q, Esc or
    Ctrl-C. Keys: u upgrade, a abort, r rollback, + and - one worker more or less, R replace the
    selected worker; each asks before it does anything. Arrows, Page Up and Page Down select a slot. If
    the master is lost, waits for it to come back.

    Usage: einhyrningsinsctl top [OPTIONS]

    Options:
          --batch
              Write plain text each time, for pipes and files; with --json, a line of JSON

          --count <COUNT>
              With --batch: exit after this many samples

          --interval <SECONDS>
              How often to look at the master [default: 2, or longer if that would take more than 2 % of
              a CPU]
    ");
}

#[test]
fn of_every_command_is_above() {
    let above = [
        "status",
        "upgrade",
        "upgrade_fleet",
        "upgrade_continue",
        "upgrade_abort",
        "upgrade_follow",
        "rollback",
        "inc",
        "dec",
        "set_workers",
        "respawn",
        "signal",
        "replace",
        "die",
        "reload",
        "history",
        "metrics",
        "events",
        "state",
        "louder",
        "quieter",
        "reopen",
        "version",
        "help",
        "config",
    ];
    let typed: Vec<_> = COMMANDS.iter().filter(|info| info.is_typed()).map(|info| info.name).collect();
    assert_eq!(above[..], typed[..]);
}
