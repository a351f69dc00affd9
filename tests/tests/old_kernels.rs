//! Kernels and seccomp filters that lack what the master uses, down to Linux 5.4, the oldest kernel that is supported.
//!
//! A kernel without a system call returns ENOSYS. A filter that does not know a call, as of an old container runtime, returns
//! EPERM. Here, filters stand for both.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tests::faults::{Refusal, Strace, filter_wrapper};
use tests::{Master, MasterBuilder, Process, Releases, binaries};

use crate::checks::probe;

tests::trials! {
    a_pool_lives_on_a_kernel_that_lacks_any_of_them,
    a_pool_lives_under_a_filter_that_refuses_any_of_them,
    a_pool_lives_on_linux_5_4,
    a_pool_lives_under_a_filter_from_the_time_before_linux_5_4,
    where_no_thread_can_be_started_the_master_says_so_and_works_without,
    what_is_left_behind_is_shown_where_it_cannot_be_followed,
    the_old_program_comes_back_without_execveat needs "strace",
    every_system_call_of_the_master_is_known needs "strace",
}

/// A system call, or a flag or option of one, that not every kernel or filter knows.
struct New {
    name: &'static str,
    since: (u32, u32),
    call: c_long,
    /// Of a flag or option: which values of arguments, counted from 0, name it.
    arguments: &'static [(u8, u64)],
    /// What a kernel without it returns.
    errno: Errno,
}

const fn call(name: &'static str, since: (u32, u32), call: c_long) -> New {
    New { name, since, call, arguments: &[], errno: Errno::ENOSYS }
}

/// All such that the master uses, with its libraries, and that came after Linux 3.16.
///
/// `SOL_SOCKET` is 1. Sources of versions: `syscalls(2)`, and the history of the kernel.
const NEW: [New; 15] = [
    call("memfd_create", (3, 17), libc::SYS_memfd_create),
    call("getrandom", (3, 17), libc::SYS_getrandom),
    call("execveat", (3, 19), libc::SYS_execveat),
    call("statx", (4, 11), libc::SYS_statx),
    call("rseq", (4, 18), libc::SYS_rseq),
    call("pidfd_send_signal", (5, 1), libc::SYS_pidfd_send_signal),
    call("pidfd_open", (5, 3), libc::SYS_pidfd_open),
    call("clone3", (5, 3), libc::SYS_clone3),
    call("faccessat2", (5, 8), libc::SYS_faccessat2),
    call("close_range", (5, 9), libc::SYS_close_range),
    New {
        name: "CLOSE_RANGE_CLOEXEC",
        since: (5, 11),
        call: libc::SYS_close_range,
        arguments: &[(2, libc::CLOSE_RANGE_CLOEXEC as u64)],
        errno: Errno::EINVAL,
    },
    New {
        name: "SO_PASSPIDFD",
        since: (6, 5),
        call: libc::SYS_setsockopt,
        arguments: &[(1, 1), (2, 76)],
        errno: Errno::ENOPROTOOPT,
    },
    New {
        name: "SO_PEERPIDFD",
        since: (6, 5),
        call: libc::SYS_getsockopt,
        arguments: &[(1, 1), (2, 77)],
        errno: Errno::ENOPROTOOPT,
    },
    New {
        name: "PIDFD_SIGNAL_PROCESS_GROUP",
        since: (6, 9),
        call: libc::SYS_pidfd_send_signal,
        arguments: &[(3, 4)],
        errno: Errno::EINVAL,
    },
    New {
        name: "SO_PASSRIGHTS",
        since: (6, 16),
        call: libc::SYS_setsockopt,
        arguments: &[(1, 1), (2, 83)],
        errno: Errno::ENOPROTOOPT,
    },
];

/// The other calls of the master and its libraries, which every kernel since 3.16 has, on whichever architecture.
const OLD: &str = "
    accept accept4 access arch_prctl bind brk capget capset chdir chmod chown clock_getres clock_gettime clock_nanosleep clone close connect
    dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve exit exit_group faccessat fchdir fchmod
    fchmodat fchown fchownat fcntl flock fstat fstatfs ftruncate futex getcwd getdents64 getegid geteuid get_mempolicy getgid getgroups
    getpid getppid getpriority getsockname getsockopt gettid getuid inotify_add_watch inotify_init1 inotify_rm_watch ioctl
    ioprio_get kill linkat listen lseek lstat madvise mkdirat mmap mprotect mremap munmap nanosleep newfstatat openat pipe2 poll ppoll
    prctl pread64 prlimit64 pwrite64 read readlink readlinkat readv recvfrom recvmsg rename renameat renameat2 restart_syscall
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigtimedwait sched_getaffinity sched_setaffinity sched_yield
    sendmsg sendto set_robust_list set_tid_address setgroups setpgid setpriority setresgid setresuid setsockopt shutdown
    sigaltstack signalfd4 socket socketpair stat statfs symlinkat sysinfo tgkill umask uname unlink unlinkat wait4 waitid write
    writev
";

impl New {
    fn refused(&self, errno: Errno) -> Refusal {
        Refusal { name: self.name.to_owned(), call: self.call, arguments: self.arguments.to_vec(), errno }
    }
}

fn a_pool_lives_on_a_kernel_that_lacks_any_of_them() {
    for new in &NEW {
        assert_lives(&[new.refused(new.errno)]);
    }
}

fn a_pool_lives_under_a_filter_that_refuses_any_of_them() {
    // The workers of these tests have threads: of clone3 below.
    for new in NEW.iter().filter(|new| new.name != "clone3") {
        assert_lives(&[new.refused(Errno::EPERM)]);
    }
}

fn a_pool_lives_on_linux_5_4() {
    // All calls since then have the same number on each architecture; 435 is clone3.
    let mut refusals = later_calls(436, Errno::ENOSYS);
    refusals.extend(NEW.iter().filter(|new| new.since > (5, 4)).map(|new| new.refused(new.errno)));
    assert_lives(&refusals);
}

fn a_pool_lives_under_a_filter_from_the_time_before_linux_5_4() {
    // 424 is pidfd_send_signal, the first call with the same number everywhere.
    let mut refusals = later_calls(424, Errno::EPERM);
    refusals.retain(|refusal| refusal.call != libc::SYS_clone3);
    refusals.extend(refused("clone3", Errno::ENOSYS));
    assert_lives(&refusals);
}

/// One of [`NEW`].
fn refused(name: &str, errno: Errno) -> Vec<Refusal> {
    NEW.iter().filter(|new| new.name == name).map(|new| new.refused(errno)).collect()
}

/// Every call that has a number from `first` on, also those that nobody knows yet.
fn later_calls(first: c_long, errno: Errno) -> Vec<Refusal> {
    let refusal = |call| Refusal { name: "later".to_owned(), call, arguments: Vec::new(), errno };
    (first..600).map(refusal).collect()
}

/// Start, respawn, upgrade in each way with a check of the release, rollback, replacement of the master, stop.
#[track_caller]
fn assert_lives(refusals: &[Refusal]) {
    let builder =
        Master::builder().workers(2).options(["-b", "127.0.0.1:0,reuseport", "--stop-group", "-s", "0.05"]);
    let (pidfile, lockfile) = (builder.file("pid"), builder.file("lock"));
    let builder = builder.option("-e").option(&pidfile).option("-f").option(&lockfile);
    let builder = builder.options(["--check", &probe("http:/")]);
    let releases = Releases::new(builder.file("app"));
    let mut master = releases.run_by(builder.under(filter_wrapper(refusals))).start();
    // Only its descriptor leads to the program now.
    releases.remove_program(1);
    let worker = master.workers_up()[0];
    master.kill_worker(worker);
    master.assert_well(2);
    releases.add(2, "");
    releases.link(2);
    for upgrade in ["upgrade", "upgrade --fleet", "upgrade --canary 1 --soak 0.05", "rollback"] {
        master.ctl(upgrade.split(' ')).assert_code(0);
        releases.assert_all_run(&mut master, 2, 2);
    }
    let reload = master.ctl(["reload"]);
    match refusals {
        [refusal] if refusal.call == libc::SYS_memfd_create => {
            let errno = io::Error::from(refusal.errno);
            let why = format!("memfd_create: {errno} (does a seccomp filter refuse it?)");
            reload.assert_code(1).assert_says(&why);
        }
        _ => drop(reload.assert_code(0)),
    }
    master.upgrade();
    releases.assert_all_run(&mut master, 2, 2);
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(!pidfile.exists() && !lockfile.exists(), "{master}");
}

fn where_no_thread_can_be_started_the_master_says_so_and_works_without() {
    let refusals = refused("clone3", Errno::EPERM);
    let builder = Master::builder().workers(2);
    let log = builder.file("log");
    let builder = builder.option("--log-file").option(&log).program([binaries::worker("tiny")]);
    let mut master = builder.under(filter_wrapper(&refusals)).start();
    master.wait_up(2);
    send_descriptors(master.workers_up()[0]);
    for command in ["upgrade", "upgrade --fleet", "reload", "upgrade"] {
        master.ctl(command.split(' ')).assert_code(0);
        master.wait_up(2);
    }
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    let text = fs::read_to_string(log).expect("the log");
    for line in [
        "no thread can be started: clone3: Operation not permitted",
        "the master replaced itself",
        "exiting: the last worker has gone",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// Sends the master of `worker` more descriptors than may wait to be closed.
fn send_descriptors(worker: Process) {
    let environment = worker.environment();
    let path = environment.get("NOTIFY_SOCKET").expect("NOTIFY_SOCKET is set");
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the notify socket");
    let file = File::open("/dev/null").expect("a file");
    let descriptors = [file.as_raw_fd(); 200];
    for _ in 0..8 {
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"X=1\n")], &rights, MsgFlags::empty(), None)
            .expect("room for a datagram");
    }
}

fn what_is_left_behind_is_shown_where_it_cannot_be_followed() {
    for (name, errno) in [("pidfd_open", Errno::EPERM), ("pidfd_send_signal", Errno::ENOSYS)] {
        let refusals = refused(name, errno);
        let script = "(trap '' TERM; exec sleep 1000) & wait";
        let builder =
            Master::builder().option("--stop-group").timer_acks(0.0).program(["/bin/sh", "-c", script]);
        let mut master = builder.under(filter_wrapper(&refusals)).start();
        let left = child(&mut master);
        let pid = master.workers_up()[0].pid();
        // It holds a listener.
        master.ctl(["upgrade"]).assert_code(1).assert_says("left processes that hold a listener");
        assert_eq!(master.status().leftovers.len(), 1, "{master}");
        let why =
            format!("what worker {pid} left behind cannot be stopped: {name}: {}", io::Error::from(errno));
        assert!(master.log().contains(&why), "{master}");
        assert!(left.signal(Signal::SIGKILL));
        master.wait_status("nobody left behind", |status| status.leftovers.is_empty());
        let left = child(&mut master);
        master.signal(Signal::SIGTERM);
        master.wait_exit_code(0);
        assert!(left.signal(Signal::SIGKILL));
    }
}

/// The first child of the worker, once there is one.
fn child(master: &mut Master) -> Process {
    master.wait("a child of the worker", |master| {
        master.workers_up().first().and_then(|worker| worker.children().first().copied())
    })
}

fn the_old_program_comes_back_without_execveat() {
    for errno in [Errno::ENOSYS, Errno::EPERM] {
        let refusals = refused("execveat", errno);
        let mut master = Master::builder().under(filter_wrapper(&refusals)).start();
        let workers = master.workers_up();
        let strace =
            Strace::attach(master.process(), "epoll_create1:error=EMFILE:when=1", &master.file("strace"));
        let reply = master.control().ask("reload", &[]);
        strace.detach();
        assert_eq!(reply.ok, Some(false), "{reply:?}\n{master}");
        assert!(reply.message.contains("the new program failed right after the exec"), "{reply:?}\n{master}");
        assert_eq!(master.workers_up(), workers, "{master}");
        master.assert_well(1);
    }
}

/// Whoever makes the master use another call finds out since when kernels have it.
fn every_system_call_of_the_master_is_known() {
    let builder = Master::builder().workers(2).without_bind().program([binaries::worker("tiny")]);
    let (traces, variables) = (builder.file("traces"), builder.file("variables"));
    fs::create_dir(&traces).expect("a directory for the traces");
    fs::write(&variables, "NAME=value\n").expect("a file of variables");
    let builder = with_all_options(builder).option("--env-file").option(variables);
    let mut strace = vec!["strace".into(), "-D".into(), "-ff".into(), "-y".into(), "-qq".into(), "-o".into()];
    strace.push(traces.join("of").into_os_string());
    let mut master = builder.under(strace).start();
    master.wait_up(2);
    let worker = master.workers_up()[0];
    master.kill_worker(worker);
    master.wait_up(2);
    let commands = [
        "upgrade",
        "upgrade --fleet",
        "upgrade --canary 1 --soak 0.05 --soak-check true",
        "rollback",
        "inc",
        "dec",
        "state",
        "reload",
    ];
    for command in commands {
        master.ctl(command.split(' ')).assert_code(0);
        master.wait_up(if command == "inc" { 3 } else { 2 });
    }
    master.upgrade();
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    let made = calls_of_the_master(&traces);
    let known: BTreeSet<_> = OLD.split_whitespace().chain(NEW.iter().map(|new| new.name)).collect();
    let unknown: Vec<_> = made.iter().filter(|call| !known.contains(call.as_str())).collect();
    assert!(
        unknown.is_empty(),
        "unknown calls: {unknown:?}; those of Linux 3.16 or older go into OLD, newer ones into NEW, with what happens without"
    );
    for call in ["execveat", "memfd_create", "pidfd_open", "signalfd4", "epoll_ctl"] {
        assert!(made.contains(call), "the trace lacks {call}: {made:?}");
    }
}

fn with_all_options(builder: MasterBuilder) -> MasterBuilder {
    let files = ["pid", "lock", "log", "socket"].map(|name| builder.file(name).display().to_string());
    let [pidfile, lockfile, log, socket] = files;
    let binds =
        ["127.0.0.1:0", "127.0.0.1:0,reuseport", "udp:127.0.0.1:0,reuseport", &format!("unix:{socket}")]
            .map(str::to_owned);
    let builder = binds.iter().fold(builder, |builder, bind| builder.option("-b").option(bind));
    builder.options(["-e", &pidfile, "-f", &lockfile, "--log-file", &log]).options([
        "-g",
        "-k",
        "--stop-group",
        "--capture-startup",
        "--no-new-privs",
        "-s",
        "0.05",
        "--max-rss",
        "1G",
        "--max-age",
        "3600",
        "--ping-timeout",
        "3600",
        "--drain-warning",
        "1",
        "--nice",
        "0:1",
        "--check",
        "true",
        "--umask",
        "022",
        "--rlimit",
        "core=0",
        "--oom-score-adj",
        "500",
        "--cpu-affinity",
        "auto",
        "-c",
        "web",
    ])
}

/// What the master called, and each child until it executed its program.
fn calls_of_the_master(traces: &Path) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    for trace in fs::read_dir(traces).expect("the traces").flatten() {
        let text = fs::read(trace.path()).expect("a trace");
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((call, arguments)) = line.split_once('(') else { continue };
            if !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                continue;
            }
            made.insert(call.to_owned());
            let program = arguments.split('[').next().unwrap_or_default();
            let is_master =
                ["/einhyrningsins\"", "/einhyrningsins>"].iter().any(|name| program.contains(name));
            if call.starts_with("execve") && line.ends_with("= 0") && !is_master {
                break;
            }
        }
    }
    made
}
