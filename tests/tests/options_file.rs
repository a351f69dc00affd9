//! Options in a file: what a start and an upgrade make of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use einhorn_proto::{OptionEffect, OptionStatus, Options, UpgradeReport};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{getuid, mkfifo};
use tests::control::typed;
use tests::load::Plan;
use tests::{Finished, Gate, Master, MasterBuilder, Releases};

tests::trials! {
    a_file_that_changes_five_times_under_load_loses_nothing_and_each_report_is_true,
    a_rollback_of_the_upgrade_puts_the_options_back_and_the_next_upgrade_changes_them_again,
    a_number_that_was_set_by_hand_stays_until_its_line_is_edited,
    an_option_on_the_command_line_hides_that_of_the_file,
    each_option_is_shown_with_where_it_came_from_and_a_reload_keeps_that,
    a_hangup_reads_the_file_and_a_reload_does_not,
    a_file_that_others_may_write_or_that_is_no_file_is_refused,
    a_file_of_another_user_is_refused needs "root",
    a_bad_line_is_named_at_the_start,
    an_upgrade_can_set_the_hook,
}

/// A master with an options file.
pub(crate) struct Pool {
    pub(crate) file: PathBuf,
    pub(crate) releases: Releases,
    pub(crate) master: Master,
}

impl Pool {
    /// `workers` is what `text`, the file, asks for.
    pub(crate) fn new(workers: u32, text: &str) -> Self {
        Self::with(Master::builder().workers(workers).without_number(), text)
    }

    pub(crate) fn with(builder: MasterBuilder, text: &str) -> Self {
        let file = builder.file("options");
        fs::write(&file, text).expect("an options file");
        let releases = Releases::new(builder.file("app"));
        let builder = builder.option("--options-file").option(&file);
        let master = releases.run_by(builder).start();
        Self { file, releases, master }
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(&self.file, text).expect("an options file");
    }

    /// Upgrades with this file, and gives what became of its options.
    #[track_caller]
    pub(crate) fn upgrade(&mut self, text: &str) -> Vec<(String, OptionEffect)> {
        self.write(text);
        effects(&self.master.upgrade())
    }

    pub(crate) fn ctl(&self, words: &[&str]) -> Finished {
        self.master.ctl(words)
    }

    /// An option as the master shows it: its value, and where that came from.
    pub(crate) fn shown(&self, option: &str) -> OptionStatus {
        let options: Options = typed(self.master.control().ask("config_show", &[]));
        options.options.into_iter().find(|shown| shown.option == option).expect("the option")
    }

    /// Asks every worker to stop, behind the back of the master, and waits for others.
    pub(crate) fn respawn(&mut self, workers: u32) {
        let old = self.master.workers_up();
        old.iter().for_each(|worker| assert!(worker.signal(Signal::SIGUSR2)));
        self.master.wait_reaped(&old);
        self.master.wait_up(workers);
    }

    #[track_caller]
    pub(crate) fn assert_shown(&self, option: &str, value: Option<&str>, origin: &str) {
        let shown = self.shown(option);
        let origin = origin.replace("FILE", &self.file.display().to_string());
        assert_eq!((shown.value.as_deref(), shown.origin.as_str()), (value, origin.as_str()), "{shown:?}");
    }
}

pub(crate) fn effects(report: &UpgradeReport) -> Vec<(String, OptionEffect)> {
    report.options.iter().map(|change| (change.option.clone(), change.effect)).collect()
}

pub(crate) fn one(option: &str, effect: OptionEffect) -> Vec<(String, OptionEffect)> {
    vec![(option.to_owned(), effect)]
}

fn a_file_that_changes_five_times_under_load_loses_nothing_and_each_report_is_true() {
    let builder = Master::builder().workers(3).without_number().without_bind();
    let mut pool = Pool::with(builder, "-b 127.0.0.1:0\n-s 0.01\n-n 3\n");
    let load = Plan { fresh: 4, keep_alive: 4, ..Plan::new(pool.master.address()) }.start();
    let now = OptionEffect::Now;

    let base = "# ours\n-b 127.0.0.1:0\n-s 0.01\n";
    assert_eq!(pool.upgrade(&format!("{base}-n 5\n")), one("--number", now));
    pool.releases.assert_all_run(&mut pool.master, 5, 1);
    load.wait_for_answers(50);

    assert_eq!(pool.upgrade(&format!("{base}-n 2\n")), one("--number", now));
    pool.releases.assert_all_run(&mut pool.master, 2, 1);
    load.wait_for_answers(50);

    let limits = format!("{base}-n 2\n--max-rss 1G\n-t 7\n--max-upgrade-additional 1 # one by one\n");
    let changed = pool.upgrade(&limits);
    let names = ["--max-rss", "--max-upgrade-additional", "--signal-timeout"];
    assert_eq!(changed, names.map(|name| (name.to_owned(), now)));
    pool.assert_shown("--signal-timeout", Some("7"), "FILE:6");
    load.wait_for_answers(50);

    let before = pool.master.workers_up();
    pool.write(&format!("{limits}--max-age soon\n"));
    let refused = pool.ctl(&["upgrade"]);
    refused.assert_code(1).assert_says(&format!("{}:8: ", pool.file.display())).assert_says("--max-age");
    assert_eq!(pool.master.workers_up(), before, "nothing was touched");
    load.wait_for_answers(50);

    let address = pool.master.address();
    let changed = pool.upgrade(&format!("{limits}-b 127.0.0.1:1\n--max-age 1h\n"));
    assert_eq!(changed, [("--bind".to_owned(), OptionEffect::NextStart), ("--max-age".to_owned(), now)]);
    pool.master.wait_log("takes effect at the next start");
    assert_eq!(pool.master.addresses(), [address]);
    pool.assert_shown("--bind", Some("127.0.0.1:0"), "FILE:2");
    assert_eq!(pool.shown("--bind").next.as_deref(), Some("127.0.0.1:0 127.0.0.1:1"));
    assert_eq!(pool.master.upgrade().options, [], "nothing has changed since");
    load.wait_for_answers(50);

    load.stop().assert_nothing_lost();
    pool.master.assert_well(2);
}

fn a_rollback_of_the_upgrade_puts_the_options_back_and_the_next_upgrade_changes_them_again() {
    let mut pool = Pool::new(2, "-n 2\n-s 0.01\n");
    let load = Plan { fresh: 4, keep_alive: 4, ..Plan::new(pool.master.address()) }.start();
    pool.releases.add(2, "exit_before_ack=9");
    let gate = Gate::closed(pool.master.file("gate"));
    pool.releases.add(3, &gate.knob());

    // The release fails.
    pool.releases.link(2);
    pool.write("-n 4\n-s 0.01\n-t 9\n");
    let failed = pool.ctl(&["upgrade"]);
    failed.assert_code(1).assert_says("option --number: 2 -> 4").assert_says("undone with the upgrade");
    assert_eq!(pool.master.wait_up(2).master.wanted, 2);
    pool.assert_shown("--number", Some("2"), "FILE:1");
    pool.assert_shown("--signal-timeout", None, "default");

    // Somebody aborts it.
    pool.releases.link(3);
    pool.ctl(&["upgrade", "--no-wait"]).assert_code(0);
    pool.master.wait_status("more workers", |status| status.master.wanted == 4);
    pool.assert_shown("--number", Some("4"), "FILE:1");
    pool.ctl(&["upgrade", "--abort"]).assert_code(0);
    assert_eq!(pool.master.wait_up(2).master.wanted, 2);

    // The same lines take effect with a good release, and stay when that is rolled back later.
    pool.releases.link(1);
    let report = pool.master.upgrade();
    assert_eq!(report.options.len(), 2, "{report:?}");
    pool.releases.assert_all_run(&mut pool.master, 4, 1);
    pool.ctl(&["rollback"]).assert_code(0);
    assert_eq!(pool.master.wait_up(4).master.wanted, 4);
    pool.assert_shown("--signal-timeout", Some("9"), "FILE:3");
    load.stop().assert_nothing_lost();
}

fn a_number_that_was_set_by_hand_stays_until_its_line_is_edited() {
    let mut pool = Pool::new(2, "-n 2\n-s 0.01\n");
    pool.ctl(&["set_workers", "3"]).assert_code(0);
    pool.ctl(&["config", "{signal_timeout: 4}"]).assert_code(0);
    pool.assert_shown("--number", Some("3"), "command");
    pool.assert_shown("--signal-timeout", Some("4"), "command");
    // Another line has changed, and the one about the number has moved.
    assert_eq!(pool.upgrade("-s 0.02\n--number 2\n"), one("--seconds", OptionEffect::Now));
    pool.releases.assert_all_run(&mut pool.master, 3, 1);
    pool.assert_shown("--number", Some("3"), "command");
    assert_eq!(pool.upgrade("-s 0.02\n-n 1\n"), one("--number", OptionEffect::Now));
    pool.releases.assert_all_run(&mut pool.master, 1, 1);
    pool.assert_shown("--number", Some("1"), "FILE:2");
    pool.assert_shown("--signal-timeout", Some("4"), "command");
}

fn an_option_on_the_command_line_hides_that_of_the_file() {
    let builder = Master::builder().workers(2).options(["--rlimit", "core=0"]);
    let mut pool = Pool::with(builder, "-n 7\n--rlimit nofile=64\n--ack-mode 1\n");
    pool.assert_shown("--number", Some("2"), "command line");
    pool.assert_shown("--rlimit", Some("core=0"), "command line");
    assert_eq!(
        pool.upgrade("-n 8\n--rlimit nofile=64\n--ack-mode 1\n"),
        one("--number", OptionEffect::Hidden)
    );
    pool.releases.assert_all_run(&mut pool.master, 2, 1);
}

fn each_option_is_shown_with_where_it_came_from_and_a_reload_keeps_that() {
    let mut pool = Pool::new(1, "-v\n\n-n 1\n-v\n");
    pool.upgrade("-v\n\n-n 2\n-v\n--log-format json\n");
    let shown = |pool: &Pool| {
        let shown = pool.ctl(&["config", "--show"]);
        shown.assert_code(0);
        shown.stdout.clone()
    };
    let text = shown(&pool);
    let file = pool.file.display();
    for (option, value, origin) in [
        ("--number", "2", format!("{file}:3")),
        ("--verbose", "2", format!("{file}:1,4")),
        ("--manual", "true", "command line".to_owned()),
        ("--retries", "-", "default".to_owned()),
        ("--ack-timeout", "60", "default".to_owned()),
    ] {
        let row = text.lines().find(|row| row.split_whitespace().next() == Some(option));
        let words: Vec<_> = row.unwrap_or_else(|| panic!("{option}: {text}")).split_whitespace().collect();
        assert_eq!(words[1..].join(" "), format!("{value} {origin}"), "{text}");
    }
    assert!(
        text.lines().any(|row| row.starts_with("--log-format ") && row.ends_with("at the next start: json")),
        "{text}"
    );
    let json = pool.ctl(&["config", "--show", "--json"]);
    let json: Options = serde_json::from_str(&json.assert_code(0).stdout).expect("the options");
    assert_eq!(json.options.len() + 1, text.lines().count());
    pool.ctl(&["reload"]).assert_code(0);
    assert_eq!(shown(&pool), text);
    assert_eq!(pool.master.upgrade().options, []);
}

fn a_hangup_reads_the_file_and_a_reload_does_not() {
    let mut pool = Pool::new(1, "-n 1\n");
    pool.write("-n 2\n");
    pool.ctl(&["reload"]).assert_code(0);
    assert_eq!(pool.master.status().master.wanted, 1);
    pool.master.signal(Signal::SIGHUP);
    pool.master.wait_log("upgrade to generation 2 done");
    pool.master.wait_up(2);
    pool.write("-n x\n");
    pool.master.signal(Signal::SIGHUP);
    pool.master.wait_log("upgrade refused: the options file cannot be used");
    pool.master.assert_well(2);
}

fn a_file_that_others_may_write_or_that_is_no_file_is_refused() {
    let pool = Pool::new(1, "-n 1\n");
    let refused = |says: &str| {
        pool.ctl(&["upgrade"]).assert_code(1).assert_says(says);
    };
    for mode in [0o620, 0o602] {
        fs::set_permissions(&pool.file, Permissions::from_mode(mode)).expect("its mode");
        refused("others may write to it");
    }
    fs::remove_file(&pool.file).expect("the file");
    refused("it cannot be read: No such file");
    mkfifo(&pool.file, Mode::S_IRWXU).expect("a pipe");
    refused("it is not a regular file");
    fs::remove_file(&pool.file).expect("the pipe");
    fs::create_dir(&pool.file).expect("a directory");
    refused("it is not a regular file");
    fs::remove_dir(&pool.file).expect("the directory");
    pool.write(&"#".repeat(64 * 1024 + 1));
    refused("it is longer than 65536 bytes");
    pool.write("-n 1\n");
    pool.ctl(&["upgrade"]).assert_code(0);
}

fn a_file_of_another_user_is_refused() {
    let pool = Pool::new(1, "-n 1\n");
    chown(&pool.file, Some(12_345), None).expect("its owner");
    pool.ctl(&["upgrade"]).assert_code(1).assert_says("it belongs to user 12345");
    chown(&pool.file, Some(getuid().as_raw()), None).expect("its owner");
    pool.ctl(&["upgrade"]).assert_code(0);
}

fn a_bad_line_is_named_at_the_start() {
    let builder = Master::builder();
    let file = builder.file("options");
    fs::write(&file, "-s 1\n--nmber 3\n").expect("an options file");
    let builder = builder.option("--options-file").option(&file);
    let failed = builder.run_to_end();
    failed.assert_code(1).assert_says(&format!("{}:2: unexpected argument '--nmber'", file.display()));
}

fn an_upgrade_can_set_the_hook() {
    let mut pool = Pool::new(1, "-n 1\n");
    let heard = pool.file.with_file_name("heard");
    let hook = format!("-n 1\n--on-event \"/bin/sh -c 'cat >>{}'\"\n", heard.display());
    assert_eq!(pool.upgrade(&hook), one("--on-event", OptionEffect::Now));
    let line =
        pool.master.wait("the hook", |_| fs::read_to_string(&heard).ok().filter(|line| line.ends_with('\n')));
    assert!(line.starts_with("{\"event\":\"upgrade_done\""), "{line}");
}
