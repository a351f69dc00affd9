//! Real programs, in a process of their own with each test: it reaps whatever ends.

use std::fs::{self, read_to_string};
use std::mem::forget;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use einhorn_proto::Severity;
use mio::{Events, Poll};
use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::geteuid;

use super::*;
use crate::cli::LogFormat;
use crate::config::LogConfig;
use crate::master::children::Children;
use crate::release::{Attributes, ProcessOptions, Recipe};
use crate::sys::account::AccountSpec;
use crate::sys::inherit::{Inherited, naming};
use crate::sys::reap::Change;
use crate::sys::testing::{PATIENCE, eventually, isolated};
use crate::workers::WorkerOptions;

const KEY: JobKey = JobKey::Check(1);
const TIMEOUT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// Jobs, with what the loop has for them and a clock that stands still.
struct Play {
    jobs: Jobs,
    poll: Poll,
    ready: Ready,
    children: Children,
    spawner: Spawner,
    workers: Workers,
    log: Log,
    now: Moment,
}

impl Play {
    fn new() -> Self {
        Self::with_account(AccountSpec::default())
    }

    fn with_account(account: AccountSpec) -> Self {
        let recipe = Recipe {
            command: vec!["/bin/true".into()],
            directory: "/usr".into(),
            dropped: Vec::new(),
            drops_at_start: true,
            absolute_argv0: false,
            env_file: None,
            account,
        };
        let process = ProcessOptions { umask: Some(0o027), ..ProcessOptions::default() };
        let options = WorkerOptions {
            attributes: Attributes { process, ..Attributes::default() },
            open_files: None,
            ping_timeout: None,
            pass_fds: vec![2],
        };
        let (verbosity, format) = (Severity::Error, LogFormat::Text);
        Self {
            jobs: Jobs::default(),
            poll: Poll::new().unwrap(),
            ready: Ready::default(),
            children: Children::new(),
            spawner: Spawner::new().unwrap(),
            workers: Workers::new(recipe, options),
            log: Log::open(LogConfig { verbosity, format, syslog: false, file: None, has_colours: None }),
            now: forms::now(),
        }
    }

    fn start_as(&mut self, runs_as: RunsAs, command: &str, env: &[(&str, &str)]) -> Result<Pid, StartError> {
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let stdin = b"what it is given\n";
        let spec = JobSpec { key: KEY, command, stdin, timeout: TIMEOUT, runs_as, env: &env };
        self.jobs.start(self.now, &mut self.spawner, self.poll.registry(), &self.workers, &spec)
    }

    fn start(&mut self, script: &str) -> Pid {
        self.start_as(RunsAs::Master, &shell_words::join(["sh", "-c", script]), &[]).unwrap()
    }

    /// A round of the loop.
    fn turn(&mut self) -> Vec<Ended> {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(Duration::from_millis(1))).unwrap();
        events.iter().for_each(|event| self.ready.add(event));
        self.ready.children = true;
        let Self { jobs, ready, log, .. } = self;
        let before_reap = |pid| assert!(jobs.before_reap(pid));
        let changes = self.children.turn(Instant::now(), 0, ready, before_reap, log);
        let mut ended = jobs.turn(self.now, ready, log);
        for (pid, change) in changes {
            let Change::Ended(termination) = change else { panic!("{change:?}") };
            assert!(jobs.has(pid));
            ended.extend(jobs.on_reaped(pid, termination));
            assert!(!jobs.has(pid));
        }
        ended
    }

    /// The end of the only job.
    fn end(&mut self) -> Ended {
        let mut ended = Vec::new();
        eventually("its end", || {
            ended.extend(self.turn());
            !ended.is_empty()
        });
        let [ended] = <[_; 1]>::try_from(ended).unwrap();
        assert!(self.jobs.running.is_empty());
        ended
    }

    fn run(&mut self, script: &str) -> (Outcome, Vec<String>) {
        self.start(script);
        let Ended { key, outcome, output } = self.end();
        assert_eq!(key, KEY);
        (outcome, output.lines())
    }

    /// Waits until the only job has written so many whole lines.
    fn lines(&mut self, count: usize) -> Vec<String> {
        eventually("its output", || {
            assert_eq!(self.turn(), []);
            self.jobs.running[0].output.kept.split(|byte| *byte == b'\n').count() > count
        });
        String::from_utf8(self.jobs.running[0].output.kept.clone())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Waits until everybody that was killed is gone.
    fn settle(&mut self) {
        eventually("the death of those that were killed", || {
            assert_eq!(self.turn(), []);
            self.jobs.killed.is_empty()
        });
    }
}

fn alone(test: &str, body: impl FnOnce()) {
    isolated(&format!("master::jobs::tests::{test}"), body);
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn is_gone(pid: Pid) -> bool {
    let stat = read_to_string(format!("/proc/{pid}/stat"));
    stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn the_outcome_is_that_of_the_leader_with_its_last_lines() {
    alone("the_outcome_is_that_of_the_leader_with_its_last_lines", || {
        let mut play = Play::new();
        let open = open_descriptors();
        let lines = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(play.run("true"), (Outcome::Succeeded, vec![]));
        assert_eq!(play.run("cat"), (Outcome::Succeeded, lines(&["what it is given"])));
        let (outcome, output) = play.run("echo one; echo two >&2; printf 'th\\033ree'; exit 3");
        assert_eq!(outcome.to_string(), "exited with status 3");
        assert_eq!(output, ["one", "two", "th\\u{1b}ree"]);
        let (outcome, _) = play.run("kill -TERM $$");
        assert_eq!(outcome.to_string(), "was killed by SIGTERM");
        let (outcome, output) = play.run("exec >/dev/null 2>&1; exit 4");
        assert_eq!((outcome.to_string().as_str(), output.len()), ("exited with status 4", 0));
        assert_eq!(open_descriptors(), open);
    });
}

#[test]
fn of_ten_megabytes_the_last_eight_kilobytes_are_kept() {
    alone("of_ten_megabytes_the_last_eight_kilobytes_are_kept", || {
        let mut play = Play::new();
        let (outcome, output) = play.run("seq 1 1500000");
        assert_eq!(outcome, Outcome::Succeeded);
        let numbers: Vec<u32> = output.iter().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers.last(), Some(&1_500_000));
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        assert_eq!(numbers.len(), 8 * 1024 / 8);

        // What becomes longer when it is shown.
        let (_, output) = play.run("yes \"$(printf '\\377%.0s' $(seq 1 700))\" | head -n 1000");
        let bytes: usize = output.iter().map(String::len).sum();
        assert!(!output.is_empty() && bytes <= 8 * 1024, "{bytes}");
        let (_, output) = play.run("head -c 100000 /dev/zero");
        assert!(output.len() == 1 && output[0].len() <= 8 * 1024, "{output:?}");
    });
}

#[test]
fn what_a_job_leaves_in_its_group_is_killed_and_nobody_keeps_its_pipe_open() {
    alone("what_a_job_leaves_in_its_group_is_killed_and_nobody_keeps_its_pipe_open", || {
        let mut play = Play::new();
        let open = open_descriptors();
        let (outcome, output) = play.run(
            "sleep 1000 & echo $!; setsid sh -c 'echo $$; while echo; do sleep 0.01; done 2>/dev/null' &
             until [ -e /proc/$!/stat ] && [ \"$(cut -d' ' -f5 /proc/$!/stat)\" = $! ]; do :; done; sleep 0.1",
        );
        assert_eq!(outcome, Outcome::Succeeded);
        let mut left = output.iter().filter_map(|line| line.parse().ok()).map(Pid::from_raw);
        let [in_group, outside] = [left.next().unwrap(), left.next().unwrap()];
        eventually("the death of what is in its group", || is_gone(in_group));
        assert_eq!(open_descriptors(), open);
        // It can write to nobody.
        eventually("the death of what has left its group", || is_gone(outside));
    });
}

#[test]
fn a_job_that_hangs_ends_with_its_time_of_which_none_is_lost() {
    alone("a_job_that_hangs_ends_with_its_time_of_which_none_is_lost", || {
        let mut play = Play::new();
        let leader = play.start("trap '' TERM HUP INT; sleep 1000 & echo $!; wait");
        let sleeper = Pid::from_raw(play.lines(1)[0].parse().unwrap());
        play.now += TIMEOUT - SECOND;
        assert_eq!(play.turn(), []);
        assert!(play.jobs.deadline().unwrap() > Instant::now() + TIMEOUT / 2);
        play.jobs.on_time_lost(5 * SECOND);
        play.now += 5 * SECOND;
        assert_eq!(play.turn(), [], "it had a second left");
        play.now += SECOND;
        let Ended { outcome, output, .. } = play.turn().remove(0);
        assert_eq!(outcome, Outcome::TimedOut(TIMEOUT));
        assert_eq!((outcome.to_string().as_str(), output.lines().len()), ("did not end within 30.0s", 1));
        assert!(play.jobs.has(leader) && play.jobs.deadline().is_none());
        play.settle();
        assert!(is_gone(leader));
        eventually("the death of its group", || is_gone(sleeper));
    });
}

/// A job that has ended is not late, whatever the clock says, and its group is signalled no more once it is reaped.
#[test]
fn a_job_that_ends_with_its_time_has_ended() {
    alone("a_job_that_ends_with_its_time_has_ended", || {
        let mut play = Play::new();
        let leader = play.start("exit 5");
        eventually("its end", || is_gone(leader));
        play.now += 2 * TIMEOUT;
        let Ended { outcome, .. } = play.turn().remove(0);
        assert_eq!(outcome, Outcome::Failed(Termination::Exited(5)));
    });
}

#[test]
fn nothing_is_heard_of_a_job_that_was_ended() {
    alone("nothing_is_heard_of_a_job_that_was_ended", || {
        let mut play = Play::new();
        let (checks, open) = ([play.start("sleep 1000"), play.start("exit 0")], open_descriptors());
        eventually("its end", || is_gone(checks[1]));
        play.jobs.end_checks(&mut play.log);
        assert!(!play.jobs.are_any_running() && checks.iter().all(|check| play.jobs.has(*check)));
        assert_eq!(open_descriptors(), open - 2);
        play.settle();
        play.jobs.end(KEY, &mut play.log);
        assert_eq!(play.turn(), []);
    });
}

#[test]
fn a_fifth_job_is_refused_until_one_is_gone() {
    alone("a_fifth_job_is_refused_until_one_is_gone", || {
        let mut play = Play::new();
        for _ in 0..JOBS_MAX {
            play.start("sleep 1000");
        }
        let refused = |play: &mut Play| play.start_as(RunsAs::Master, "true", &[]).unwrap_err().to_string();
        assert_eq!(refused(&mut play), "4 other jobs have not ended yet");
        play.jobs.end(KEY, &mut play.log);
        assert_eq!(refused(&mut play), "4 other jobs have not ended yet");
        play.settle();
        assert_eq!(play.run("true").0, Outcome::Succeeded);
    });
}

#[test]
fn the_owner_of_a_job_that_was_killed_gets_no_other_until_it_is_gone() {
    alone("the_owner_of_a_job_that_was_killed_gets_no_other_until_it_is_gone", || {
        let mut play = Play::new();
        assert!(play.jobs.has_room_for(KEY));
        play.start("sleep 1000");
        assert!(!play.jobs.has_room_for(KEY) && play.jobs.has_room_for(JobKey::Hook));
        play.jobs.end(KEY, &mut play.log);
        assert!(!play.jobs.has_room_for(KEY) && play.jobs.has_room_for(JobKey::Hook));
        play.settle();
        assert!(play.jobs.has_room_for(KEY));
        for _ in 0..JOBS_MAX {
            play.start("sleep 1000");
        }
        assert!(!play.jobs.has_room_for(JobKey::Hook));
    });
}

#[test]
fn a_job_that_cannot_start_says_why_and_leaves_nothing() {
    alone("a_job_that_cannot_start_says_why_and_leaves_nothing", || {
        let mut play = Play::new();
        let open = open_descriptors();
        let generation = RunsAs::Worker(Generation(7));
        for (runs_as, command, reason) in [
            (RunsAs::Master, "check 'unclosed", "check 'unclosed: a quote is not closed"),
            (RunsAs::Master, " ", " : must name a program"),
            (RunsAs::Master, "no-such-program -x", "cannot find no-such-program in PATH (/bin:/usr/bin)"),
            (RunsAs::Master, "/no/such", "cannot execute /no/such, looked up from "),
            (RunsAs::Master, "/etc/passwd", "cannot execute /etc/passwd, looked up from "),
            (generation, "true", "the release of generation 7 is not known"),
        ] {
            let error =
                play.start_as(runs_as, command, &[("PATH", "/bin:/usr/bin")]).unwrap_err().to_string();
            assert!(error.starts_with(reason), "{error}");
        }
        assert!(!play.jobs.are_any_running());
        assert_eq!(open_descriptors(), open);
        assert_eq!(waitpid(None, None), Err(Errno::ECHILD));
    });
}

#[test]
fn a_job_has_its_own_group_its_three_streams_and_nothing_else_of_the_master() {
    alone("a_job_has_its_own_group_its_three_streams_and_nothing_else_of_the_master", || {
        let mut play = Play::new();
        let leader = play.start("echo /proc/$$/fd/*; cut -d' ' -f1,5 /proc/$$/stat");
        let output = play.end().output.lines();
        let streams = [0, 1, 2].map(|number| format!("/proc/{leader}/fd/{number}")).join(" ");
        // The descriptor with which the shell reads the directory.
        assert_eq!(output[0].trim_end_matches(&format!(" /proc/{leader}/fd/3")), streams);
        assert_eq!(output[1], format!("{leader} {leader}"));
    });
}

#[test]
fn a_job_has_the_environment_of_whom_it_runs_as_and_its_program_is_looked_up_there() {
    alone("a_job_has_the_environment_of_whom_it_runs_as_and_its_program_is_looked_up_there", || {
        // Readable to every user.
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("show");
        fs::write(&program, "#!/bin/sh\necho $0 $*\nid -u\npwd\numask\nenv\n").unwrap();
        for path in [directory.path(), &program] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // SAFETY: nothing else runs in this process.
        unsafe { std::env::set_var("LISTEN_FDS", "1") };
        let (mut uid, mut account) = (geteuid().as_raw(), AccountSpec::default());
        if geteuid().is_root() {
            uid = 54_321;
            account = AccountSpec { user: Some("54321".into()), group: Some("54322".into()) };
        }
        let mut play = Play::with_account(account);
        let generation = Generation(3);
        let exported = ["LISTEN_FDS", "EINHORN_FD_COUNT"].map(|name| (name.to_owned(), "1".to_owned()));
        play.workers.resolve(&mut play.spawner, generation, exported.into()).unwrap();

        let path = format!("/nowhere:{}:/bin:/usr/bin", directory.path().display());
        let env = [("PATH", path.as_str()), ("EINHORN_GENERATION", "3"), ("ADDRESS", "a b")];
        let here = std::env::current_dir().unwrap();
        let own_umask = read_to_string("/proc/self/status").unwrap();
        let own_umask = own_umask.lines().find_map(|line| line.strip_prefix("Umask:\t")).unwrap().to_owned();
        for (runs_as, uid, place, umask) in [
            (RunsAs::Master, geteuid().as_raw(), here.as_path(), own_umask.as_str()),
            (RunsAs::Worker(generation), uid, Path::new("/usr"), "0027"),
        ] {
            play.start_as(runs_as, "show 'one word' \"$HOME\" | more", &env).unwrap();
            let Ended { outcome, output, .. } = play.end();
            assert_eq!(outcome, Outcome::Succeeded, "{output:?}");
            let output = output.lines();
            let expected = [
                format!("{} one word $HOME | more", program.display()),
                uid.to_string(),
                place.display().to_string(),
                umask.to_owned(),
            ];
            assert_eq!(output[..4], expected);
            let has = |variable: &str| output[4..].iter().filter(|line| line.starts_with(variable)).count();
            assert_eq!(has(&format!("PATH={path}")), 1, "{output:?}");
            for (variable, count) in [
                ("PATH=", 1),
                ("EINHORN_GENERATION=3", 1),
                ("ADDRESS=a b", 1),
                ("LISTEN_", 0),
                ("EINHORN_FD", 0),
            ] {
                assert_eq!(has(variable), count, "{variable} in {output:?}");
            }
        }
    });
}

#[test]
fn a_job_survives_a_handover_with_what_it_has_written_and_the_rest_of_its_time() {
    alone("a_job_survives_a_handover_with_what_it_has_written_and_the_rest_of_its_time", || {
        let mut play = Play::new();
        let leader = play.start("echo before; kill -STOP $$; echo after; exit 3");
        // It stops itself in between.
        eventually("its first line", || {
            let _ = play.poll.poll(&mut Events::with_capacity(8), Some(Duration::ZERO));
            play.ready.jobs = true;
            assert_eq!(play.jobs.turn(play.now, &mut play.ready, &mut play.log), []);
            play.jobs.running[0].output.kept == b"before\n"
        });
        let gone = play.start("exit 0");
        let (state, named) = naming(|| serde_json::to_string(&play.jobs).unwrap());
        assert_eq!(named.len(), 2);
        let end_by = play.jobs.running[0].end_by;
        // An exec drops nothing.
        let Play { jobs, poll, now, .. } = play;
        forget((jobs, poll));

        let (jobs, _) = Inherited::new().unwrap().lend(|| serde_json::from_str::<Jobs>(&state));
        let mut play = Play { jobs: jobs.unwrap(), now, ..Play::new() };
        play.jobs.register(play.poll.registry()).unwrap();
        assert_eq!(play.jobs.running[0].end_by, end_by);
        // Another program reaped this one.
        waitpid(gone, None).unwrap();
        assert_eq!(play.jobs.find_unseen(), [gone]);
        let unseen = play.jobs.on_reaped(gone, Termination::Unseen).unwrap();
        assert_eq!(unseen.outcome.to_string(), "ended while the master was being replaced");
        kill(leader, Signal::SIGCONT).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let ended = loop {
            // Its stop and its continuation are no end.
            assert!(Instant::now() < deadline);
            let change =
                crate::sys::reap::next_change(Some(leader), |pid| assert!(play.jobs.before_reap(pid)));
            if let Some((_, Change::Ended(termination))) = change.unwrap() {
                break play.jobs.on_reaped(leader, termination).unwrap();
            }
        };
        assert_eq!(ended.outcome, Outcome::Failed(Termination::Exited(3)));
        assert_eq!(ended.output.lines(), ["before", "after"]);
    });
}
