//! The help of both command lines, word by word.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use insta::assert_snapshot;

/// What the program prints, and its exit code, when it is called as `name`. It cannot see a terminal, so the width is
/// fixed.
fn printed(name: &str, args: &[&str]) -> (String, Option<i32>) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_einhyrningsins"));
    let output = program.arg0(name).args(args).env_remove("COLUMNS").output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    // clap leaves blanks at the ends of some lines, which an editor may remove from this file.
    let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    (text, output.status.code())
}

#[test]
fn of_the_native_command_line() {
    let (text, code) = printed("einhyrningsins", &["--help"]);
    assert_eq!(code, Some(0));
    assert_snapshot!(text, @r#"
    Run COUNT copies of a server on shared listening sockets, and replace them without dropping a
    connection

    The master binds the sockets once and passes them to every worker, from descriptor 3 upward in the
    order of --bind. Workers find them by the variables of einhorn, systemd socket activation or
    Server::Starter. See einhyrningsins(1), and einhorn-worker(7) for the worker's side.

    Usage: einhyrningsins [OPTIONS] [--] PROGRAM [ARGS]...
           einhyrningsins -b :8080 -n 4 ./server --options-of-its-own

    Arguments:
      [PROGRAM [ARGS]]...
              The program to run, and its arguments. The first word that is not an option is the
              program. With a slash, it is a path, relative to the directory of --chdir; otherwise it is
              looked up in PATH

    Sockets:
      -b, --bind <ADDR:PORT[,OPT...]>
              Address to listen on, repeatable: IP:PORT, [V6]:PORT, NAME:PORT, :PORT, udp:ADDRESS,
              unix:PATH, unix:@NAME, seqpacket:PATH, or passed to the master: fd:N, systemd,
              systemd:NAME; then options, separated by commas: n (O_NONBLOCK), r (SO_REUSEADDR, which is
              always set), name=NAME, backlog=N, nodelay, defer, fastopen[=N], freebind, mark=N,
              device=NAME, reuseport (a socket for each slot), rcvbuf=BYTES, sndbuf=BYTES, keepalive,
              mode=MODE, user=USER, group=GROUP

      -4, --ipv4-only
              Listen on IPv4 addresses only

      -6, --ipv6-only
              Listen on IPv6 addresses only

      -l, --backlog <N>
              Length of the queue of connections that wait for a worker [default: the system's maximum]

    Workers:
      -n, --number <COUNT|auto>
              Number of workers

              With "auto", one for each CPU that the affinity mask and the cgroup allow.

              [default: 1]

          --ack-mode <SECONDS|manual>
              Consider a worker up after SECONDS alive, or, with "manual", only when it acks

              [default: 1]

          --ack-timeout <SECONDS>
              In manual mode: how long a worker may take to ack; 0 for no limit

              [default: 60]

      -r, --retries <COUNT>
              Spawns in a row without an ack after which a slot is given up [default: 3 at the first
              start and in an upgrade, no limit once the release has been up]

      -s, --seconds <SECONDS>
              Shortest time between two spawns of one slot

              [default: 1]

          --graceful-signal <SIGNAL|SERVER>
              Signal that asks a worker to stop, or the name of a server, for the signal on which that
              drains: apache, gunicorn, haproxy, hypercorn, nginx, php-fpm, puma, starlet, starman,
              unicorn, uvicorn. --stop-signal is the same option [default: each worker's own convention]

          --capture-startup
              Show the last lines that a failed worker wrote

              This is for a worker that dies before its ack, and shows its standard error. With this
              option, the standard error of each worker goes through the master as long as the worker
              lives.

      -t, --signal-timeout <SECONDS>
              Kill a worker this long after its stop signal

              Only a worker that still runs is killed. [default: never]

          --stop-group
              Send stop signals to the process group of a worker, not to the worker alone

              Use this if the worker starts the server as another process, like "npm start" or a shell
              script without exec. Processes of the group that outlive the worker are killed after the
              time of -t, and a stop waits for them. Processes in other groups or sessions get no
              signal.

          --drain-warning <SECONDS>
              Log a warning if old workers still serve this long after their stop signal; 0 for never

              [default: 30]

          --shrink-grace <SECONDS>
              With reuseport in -b: how long a worker whose slot is removed still serves connections
              that are on their way to it, before it is asked to stop

              [default: 5]

          --max-unacked <N|auto[:MAX]>
              How many workers may be unacked at a time, except at the first start and in fleets

              "auto": enough to keep the CPUs busy, as measured at earlier boots, if they fit into
              memory; "auto:MAX": the same, but at most MAX. [default: auto]

          --max-upgrade-additional <N>
              How many workers above COUNT may live during an upgrade, including draining ones [default:
              no limit]

      -k, --kill-children-on-exit
              Send the workers the graceful signal when the master dies, for whatever reason

          --chdir <DIR>
              Directory to run in, resolved again at each upgrade [default: the current one, by its name
              in PWD]

          --env-file <FILE>
              File of variables for the workers, as lines NAME=value, which override inherited ones.
              Read again at each upgrade; a relative path is relative to the directory of --chdir

          --max-age <SECONDS[:JITTER]>
              Replace a worker that has been up for SECONDS, plus a random part of JITTER; one worker at
              a time, after its successor has acked [default: never]

          --max-rss <SIZE>
              Replace a worker that uses more than SIZE of memory (RSS), in bytes, or with K, M, G or T
              for powers of 1024 [default: never]

          --ping-timeout <SECONDS>
              Replace, then kill, a worker that has pinged (worker:ping or WATCHDOG=1) and then been
              silent for SECONDS [default: never]

          --drop-env-var <VAR>
              Inherited variable to hide from the workers, repeatable

          --nice <MASTER[:WORKER]>
              Nice values of the master and of the workers

      -m, --manual
              Consider a worker up only when it acks

              The same as --ack-mode manual.

          --check <CMDLINE>
              Command that checks a new release, on a trial worker of its own, before an upgrade
              replaces the first worker

              The trial worker gets private copies of the sockets, and the command gets their addresses
              in EINHORN_CHECK_ADDR_0, EINHORN_CHECK_ADDR_1 and so on. If the command does not exit with
              status 0, the upgrade fails and touches no worker. CMDLINE is split into words as a shell
              does, and runs without a shell, as the workers' user.

          --check-timeout <SECONDS>
              How long the check of a release may take before it counts as failed

              [default: 30]

          --check-first
              Also check the release of the first start

              Connections wait until then. If the check fails, the master exits with 1.

    Worker processes:
          --user <USER[:GROUP]>
              User and group of the workers, by name or number, with the user's supplementary groups.
              The master keeps its own [default: the master's]

          --group <GROUP>
              Group of the workers, by name or number [default: the user's]

          --umask <MASK>
              File mode creation mask of the workers, in octal [default: the master's]

          --rlimit <NAME=SOFT[:HARD]>
              Resource limit of the workers, repeatable: NAME is that of setrlimit(2) without RLIMIT_,
              such as nofile; limits are numbers or "infinity". SOFT alone sets both

          --oom-score-adj <N>
              How readily the kernel kills the workers when memory runs out, from -1000 to 1000
              [default: the master's]

          --cpu-affinity <SETS|auto>
              CPUs of the workers by slot: sets such as 0,1,2-3 or 0+4,1+5, the first for slot 0 and so
              on in turn; "auto" for one CPU each [default: the master's]

          --no-new-privs
              Keep the workers from gaining privileges through programs that they execute, such as
              set-user-ID ones

    Control:
      -c, --command-name <NAME>
              Name of this master, for ps and for its control socket, /tmp/einhorn-NAME.sock

      -d, --socket-path <PATH>
              Control socket [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]

          --control-mode <MODE>
              Mode of the control socket, in octal, such as 660; only owner and group may have access
              [default: 600]

          --control-group <GROUP>
              Group of the control socket, by name or number; with --control-mode [default: the
              master's]

          --observe-group <GROUP>
              Group, by name or number, whose members may ask questions on the control socket, and
              nothing else; not with --control-mode

          --notify-mode <MODE>
              Mode of the notify socket, in octal, such as 666 for workers that change their user
              themselves [default: 600, or 666 if master and workers are root and there is no --user]

      -e, --pidfile <FILE>
              File to write the master's pid to

      -f, --lockfile <FILE>
              File to lock as long as the master lives

          --keep-fd <FD>
              Inherited descriptor to keep open, such as that of a lock; repeatable. The master closes
              other inherited descriptors that it does not use

          --pass-fd <FD>
              Inherited descriptor to keep open and to pass to the workers, with the same number;
              repeatable

      -g, --command-socket-as-fd
              Give each worker a connection to the control socket; its descriptor is in EINHORN_SOCK_FD

          --reexec-as <CMDLINE>
              Command to run in the master's place when it replaces itself, split into words as a shell
              does; the options of the re-exec follow it [default: the program as it was called]

          --reexec-timeout <SECONDS>
              How long the check of a new master may take before it counts as failed

              [default: 60]

    Log:
      -v, --verbose...
              Log more; repeatable

      -q, --quiet...
              Log less: warnings and errors; twice: only errors

          --log-format <FORMAT>
              Format of the log on standard error

              Possible values:
              - text: A line for people
              - json: A JSON object per line

              [default: text]

          --log-file <FILE>
              File for the log, instead of standard error; "einhyrningsinsctl reopen" opens it again

          --syslog
              Send warnings and errors to syslog as well

          --log-workers <WHERE>
              Where workers write: "inherit", to the master's standard output and error, or
              "journal[=NAME]", to journald

              In the journal, each line has the name of its worker's slot, such as web/3, and the
              process that wrote it. NAME is by default that of -c or of the program. Without journald,
              workers write as with "inherit", and the log has a warning. [default: inherit]

          --history <FILE>
              File that keeps the history of "einhyrningsinsctl history" when the master stops

          --on-event <CMDLINE>
              Command to run when all workers are up, an upgrade is done or has failed, a worker has
              died, or a slot was given up

              It runs for one event at a time, as the master's user. EINHORN_EVENT has the name of the
              event, and standard input has the event as a line of JSON. CMDLINE is split into words as
              a shell does, and runs without a shell.

    Others:
      -h, --help
              Print help (-h: the usual options, --help: all)

      -V, --version
              Print the version

          --options-file <FILE>
              File of options, one per line as on the command line, read at the start and at each
              upgrade

              Changed lines take effect with the upgrade that reads them; options that need a restart
              are named. An option on the command line overrides the file. The file must belong to root
              or the master's user, and nobody else may be able to write to it.

          --dry-run
              Check whether a start would work, and spawn nothing

              Exits with 0, or with the error of a start. Addresses and files of a running master with
              the same control socket count as free. TCP addresses are bound, but nothing listens on
              them. For UDP and reuseport, only the host and the options are checked, not whether the
              port is free.

          --color <WHEN>
              When to use colours: in help, in errors, and in the log on a terminal

              [default: auto]
              [possible values: auto, always, never]

    Times are in seconds, or have units: 500ms, 1m30s, 1h, 2d.
    Signals: INT, USR2, TERM stop gracefully; QUIT exits at once; HUP upgrades; TTIN adds a worker, TTOU
    removes one; USR1 goes to every worker.
    Exit codes: 0 done, 1 failed, 2 bad usage.
    "#);
}

/// One screen: what people use, with an example, and `-b` first.
#[test]
fn of_the_native_command_line_in_short() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_einhyrningsins"));
    let output = program.arg("-h").env("COLUMNS", "80").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() <= 24 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let options: Vec<_> = text.lines().filter(|line| line.trim_start().starts_with('-')).collect();
    assert!(options[0].starts_with("  -b, --bind <"), "{text}");
    let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_snapshot!(text, @r"
    Run COUNT copies of a server on shared listening sockets, and replace them
    without dropping a connection

    Usage: einhyrningsins [OPTIONS] [--] PROGRAM [ARGS]...
           einhyrningsins -b :8080 -n 4 ./server --options-of-its-own

    Sockets:
      -b, --bind <ADDR:PORT[,OPT...]>  Address to listen on, as :8080 or unix:PATH

    Workers:
      -n, --number <COUNT|auto>       Number of workers [default: 1]
          --capture-startup           Show the last lines that a failed worker wrote
      -t, --signal-timeout <SECONDS>  Kill a worker this long after its stop signal
      -m, --manual                    Consider a worker up only when it acks

    Control:
      -c, --command-name <NAME>  Name of this master, for ps and for its control
                                 socket, /tmp/einhorn-NAME.sock
      -d, --socket-path <PATH>   Control socket [default: /tmp/einhorn.sock]

    Others:
      -h, --help     Print help (-h: the usual options, --help: all)
      -V, --version  Print the version
          --dry-run  Check whether a start would work, and spawn nothing
    ");
}

#[test]
fn of_einhorns_command_line() {
    let (text, code) = printed("einhorn", &["--help"]);
    assert_eq!(code, Some(1));
    assert_snapshot!(text, @r#"
    ## Usage

    Runs copies of a server on shared sockets, and replaces them without dropping a
    connection:

        einhorn [OPTIONS] [--] PROGRAM [ARGS]...

    The first word that is not an option is PROGRAM. Long options may be abbreviated.

        einhorn -n 4 -b 127.0.0.1:8080,r,n -m manual ./server --its-own-options

    Each worker has the sockets from descriptor 3 upward, given by EINHORN_FD_0,
    EINHORN_FD_1... and EINHORN_FD_COUNT. `einhornsh` controls the master.
    See einhorn(1), and einhyrningsins(1) for the options that einhorn lacks.

    Sockets:
      -b, --bind <HOST:PORT[,FLAG...]>
              Address to listen on, repeatable: IP:PORT, [V6]:PORT, NAME:PORT, :PORT; then flags,
              separated by commas, in any case: n or o_nonblock, r or so_reuseaddr (always set),
              name=NAME; unknown ones are ignored. The other addresses and options of einhyrningsins(1)
              work too

      -4, --ipv4-only
              Listen on IPv4 addresses only

      -6, --ipv6-only
              Listen on IPv6 addresses only

      -l, --backlog <N>
              Length of the queue of connections that wait for a worker

              [default: 100]

    Workers:
      -n, --number <N>
              Number of workers

              [default: 1]

      -m, --ack-mode <SECONDS|manual>
              Consider a worker up after SECONDS alive, or, with "manual", only when it acks

              [default: 1]

          --ack-timeout <SECONDS>
              In manual mode: how long a worker may take to ack [default: no limit]

          --retries <COUNT>
              Spawns in a row without an ack after which a slot is given up [default: 10 in an upgrade,
              else no limit]

      -s, --seconds <SECONDS>
              Shortest time between two spawns of one slot

              [default: 1]

          --graceful-signal <SIGNAL|SERVER>
              Signal that asks a worker to stop, or the name of a server, for the signal on which that
              drains: apache, gunicorn, haproxy, hypercorn, nginx, php-fpm, puma, starlet, starman,
              unicorn, uvicorn. --stop-signal is the same option

              [default: USR2]

          --capture-startup
              Show the last lines that a failed worker wrote

              This is for a worker that dies before its ack, and shows its standard error. With this
              option, the standard error of each worker goes through the master as long as the worker
              lives.

      -t, --signal-timeout <SECONDS>
              Kill a worker this long after its stop signal

              Only a worker that still runs is killed. [default: never]

          --stop-group
              Send stop signals to the process group of a worker, not to the worker alone

              Use this if the worker starts the server as another process, like "npm start" or a shell
              script without exec. Processes of the group that outlive the worker are killed after the
              time of -t, and a stop waits for them. Processes in other groups or sessions get no
              signal.

          --drain-warning <SECONDS>
              Log a warning if old workers still serve this long after their stop signal; 0 for never

              [default: 30]

          --shrink-grace <SECONDS>
              With reuseport in -b: how long a worker whose slot is removed still serves connections
              that are on their way to it, before it is asked to stop

              [default: 5]

          --max-unacked <N|auto[:MAX]>
              How many workers may be unacked at a time, except at the first start and in fleets;
              einhyrningsins(1) describes "auto" [default: the number of available CPUs]

          --max-upgrade-additional <N>
              How many workers above COUNT may live during an upgrade, including draining ones [default:
              no limit]

      -k, --kill-children-on-exit
              Send the workers the graceful signal when the master dies, for whatever reason

          --chdir <DIR>
              Directory to run in, resolved again at each upgrade [default: the current one, by its name
              in PWD]

          --env-file <FILE>
              File of variables for the workers, as lines NAME=value, which override inherited ones.
              Read again at each upgrade; a relative path is relative to the directory of --chdir

          --max-age <SECONDS[:JITTER]>
              Replace a worker that has been up for SECONDS, plus a random part of JITTER; one worker at
              a time, after its successor has acked [default: never]

          --max-rss <SIZE>
              Replace a worker that uses more than SIZE of memory (RSS), in bytes, or with K, M, G or T
              for powers of 1024 [default: never]

          --ping-timeout <SECONDS>
              Replace, then kill, a worker that has pinged (worker:ping or WATCHDOG=1) and then been
              silent for SECONDS [default: never]

          --drop-env-var <VAR>
              Variable to remove from the environment at the next upgrade; the first start keeps it;
              repeatable

          --nice <MASTER[:WORKER[:RENICE_CMD]]>
              Nice values of the master and of the workers; RENICE_CMD is not needed, and ignored

      -p, --preload <PATH>
              Ruby code to load before the workers are forked: accepted and ignored

          --gc-before-fork
              Accepted and ignored

    Worker processes:
          --user <USER[:GROUP]>
              User and group of the workers, by name or number, with the user's supplementary groups.
              The master keeps its own [default: the master's]

          --group <GROUP>
              Group of the workers, by name or number [default: the user's]

          --umask <MASK>
              File mode creation mask of the workers, in octal [default: the master's]

          --rlimit <NAME=SOFT[:HARD]>
              Resource limit of the workers, repeatable: NAME is that of setrlimit(2) without RLIMIT_,
              such as nofile; limits are numbers or "infinity". SOFT alone sets both

          --oom-score-adj <N>
              How readily the kernel kills the workers when memory runs out, from -1000 to 1000
              [default: the master's]

          --cpu-affinity <SETS|auto>
              CPUs of the workers by slot: sets such as 0,1,2-3 or 0+4,1+5, the first for slot 0 and so
              on in turn; "auto" for one CPU each [default: the master's]

          --no-new-privs
              Keep the workers from gaining privileges through programs that they execute, such as
              set-user-ID ones

    Control:
      -c, --command-name <NAME>
              Name of this master, for ps and for its files

      -d, --socket-path <PATH>
              Control socket [default: the value of EINHYRNINGSINS_SOCKET, or einhorn.sock or
              einhorn-NAME.sock in TMPDIR or /tmp]

          --control-mode <MODE>
              Mode of the control socket, in octal, such as 660; only owner and group may have access
              [default: 600]

          --control-group <GROUP>
              Group of the control socket, by name or number; with --control-mode [default: the
              master's]

          --observe-group <GROUP>
              Group, by name or number, whose members may ask questions on the control socket, and
              nothing else; not with --control-mode

          --notify-mode <MODE>
              Mode of the notify socket, in octal, such as 666 for workers that change their user
              themselves [default: 600, or 666 if master and workers are root and there is no --user]

      -e, --pidfile <FILE>
              File to write the master's pid to [default: einhorn.pid or einhorn-NAME.pid, in TMPDIR or
              /tmp]

      -f, --lockfile <FILE>
              File to lock while the control socket is made [default: einhorn.lock or einhorn-NAME.lock,
              in TMPDIR or /tmp]

          --keep-fd <FD>
              Inherited descriptor to keep open, such as that of a lock; repeatable. The master closes
              other inherited descriptors that it does not use

          --pass-fd <FD>
              Inherited descriptor to keep open and to pass to the workers, with the same number;
              repeatable

      -g, --command-socket-as-fd
              Give each worker a connection to the control socket; its descriptor is in EINHORN_SOCK_FD

          --reexec-as <CMDLINE>
              Command to run in the master's place when it replaces itself, split into words as a shell
              does; the options of the re-exec follow it [default: the program as it was called]

          --reexec-timeout <SECONDS>
              How long the check of a new master may take before it counts as failed

              [default: 60]

    Log:
      -v, --verbose...
              Log more

      -q, --quiet...
              Log less

          --log-format <FORMAT>
              Format of the log on standard error [default: einhorn's]

              Possible values:
              - text: A line for people
              - json: A JSON object per line

          --log-file <FILE>
              File for the log, instead of standard error; "einhyrningsinsctl reopen" opens it again

          --syslog
              Send warnings and errors to syslog as well

    Others:
      -h, --help
              Print this help; the exit code is 1

          --version
              Print the version

    Signals: INT, USR2 stop with USR2, TERM with TERM, and again each time; QUIT exits at once; HUP,
    ALRM upgrade; TTIN adds a worker, TTOU removes one; USR1 goes to every worker.
    Exit codes: 0 when the last worker has exited, 1 after QUIT or a failed start.
    "#);
}

#[test]
fn of_einhorns_command_line_without_a_program() {
    let (text, code) = printed("einhorn", &[]);
    assert_eq!(code, Some(1));
    assert_snapshot!(text, @r"
    ## Usage

    Runs copies of a server on shared sockets, and replaces them without dropping a
    connection:

        einhorn [OPTIONS] [--] PROGRAM [ARGS]...

    `einhorn -h` lists the options.
    ");
}
