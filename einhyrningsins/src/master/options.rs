//! The options file: read at the start and before each upgrade.
//!
//! It says what an upgrade changes, and the core changes it: when the upgrade begins to replace workers, and back if it turns
//! back. Then this part goes back to what was read before, so that the next upgrade sees the same change again. `Policy` is
//! the owner of the values; here are the lines that they came from.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use einhorn_proto::{
    MaxUnacked, OptionChange, OptionEffect, OptionStatus, Options as Answer, PastOutcome, visible_line,
};
use einhyrningsins_supervisor::{Generation, OptionsChange, Policy, RolloutRecord, Setting};
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::cli::{self, BadLine, Given, Merged, OptionLine};
use crate::config::{self, CommandLine, PartOptions, VerbosityChange};
use crate::forms;
use crate::sys::spawn::FIRST_SOCKET;

/// When an option takes effect whose lines have changed.
enum When {
    /// When the upgrade begins to replace workers, for the whole pool. This is its value in a policy.
    Pool(ValueOf),
    /// With the release that the upgrade brings, whose workers keep it.
    Release,
    /// The same. The core keeps it; this is its value in a policy.
    Terms(ValueOf),
    /// The same, unless this is so of the command lines before and after: then at the next start.
    ReleaseUnless(fn(&CommandLine, &CommandLine) -> bool),
    /// When the upgrade begins, for a part of the master.
    Part,
    /// At the next start.
    Start,
    /// The same. What a running master does is the same with and without it, so the master may run with its new lines.
    FirstStart,
}

/// Every option that a file may have. Those that wait for a start are about sockets, files and descriptors that the master has
/// had since then, or about the log, whose readers know its place and its form.
const OPTIONS: [(&str, When); 58] = [
    ("bind", When::Start),
    ("ipv4_only", When::Start),
    ("ipv6_only", When::Start),
    ("backlog", When::Start),
    ("number", When::Pool(|policy| Setting::Workers(policy.workers))),
    ("ack_mode", When::Terms(|policy| Setting::Ack(policy.ack))),
    ("ack_timeout", When::Terms(|policy| Setting::Ack(policy.ack))),
    ("manual", When::Terms(|policy| Setting::Ack(policy.ack))),
    ("retries", When::Pool(|policy| Setting::Retries(policy.retries))),
    ("seconds", When::Pool(|policy| Setting::Seconds(policy.seconds))),
    ("graceful_signal", When::Terms(|policy| Setting::GracefulSignal(policy.graceful_signal))),
    ("capture_startup", When::Release),
    ("log_workers", When::Release),
    ("signal_timeout", When::Pool(|policy| Setting::Grace(policy.grace))),
    ("stop_group", When::Terms(|policy| Setting::StopGroup(policy.stop_group))),
    ("drain_warning", When::Pool(|policy| Setting::DrainWarning(policy.drain_warning))),
    ("shrink_grace", When::Pool(|policy| Setting::ShrinkGrace(policy.shrink_grace))),
    (
        "max_unacked",
        When::Pool(|policy| Setting::Unacked { max: policy.unacked_max, by_cpus: policy.unacked_by_cpus }),
    ),
    (
        "max_upgrade_additional",
        When::Pool(|policy| Setting::UpgradeAdditional(policy.upgrade_additional_max)),
    ),
    ("kill_children_on_exit", When::Release),
    ("chdir", When::Release),
    ("env_file", When::Release),
    ("max_age", When::Pool(|policy| Setting::MaxAge(policy.recycling.max_age))),
    ("max_rss", When::Pool(|policy| Setting::MaxRss(policy.recycling.max_rss_bytes))),
    ("ping_timeout", When::Pool(|policy| Setting::PingTimeout(policy.recycling.ping_timeout))),
    ("drop_env_var", When::Release),
    ("nice", When::ReleaseUnless(has_other_nice)),
    ("check", When::Pool(|policy| Setting::Check(policy.check.clone()))),
    ("check_timeout", When::Pool(|policy| Setting::CheckTimeout(policy.check_timeout))),
    ("check_first", When::FirstStart),
    ("user", When::ReleaseUnless(locks_others_out)),
    ("group", When::ReleaseUnless(locks_others_out)),
    ("umask", When::Release),
    ("rlimit", When::Release),
    ("oom_score_adj", When::Release),
    ("cpu_affinity", When::Release),
    ("no_new_privs", When::Release),
    ("command_name", When::Start),
    ("socket_path", When::Start),
    ("control_mode", When::Start),
    ("control_group", When::Start),
    ("observe_group", When::Start),
    ("notify_mode", When::Start),
    ("pidfile", When::Start),
    ("lockfile", When::Start),
    ("keep_fd", When::Start),
    ("pass_fd", When::Start),
    ("command_socket_as_fd", When::ReleaseUnless(is_number_passed)),
    ("reexec_as", When::Part),
    ("reexec_timeout", When::Part),
    ("verbose", When::Part),
    ("quiet", When::Part),
    ("log_format", When::Start),
    ("log_file", When::Start),
    ("syslog", When::Part),
    ("history", When::Part),
    ("on_event", When::Pool(|policy| Setting::OnEvent(policy.on_event.clone()))),
    ("color", When::Start),
];

/// Whether the nice value of the master changes: one that is not root could not set the old one again.
fn has_other_nice(before: &CommandLine, after: &CommandLine) -> bool {
    let masters = |line: &CommandLine| line.args.nice.and_then(|nice| nice.master);
    masters(before) != masters(after)
}

/// Whether the notify socket is by `--notify-mode` for one user of workers alone. Otherwise it can be opened to others.
fn locks_others_out(before: &CommandLine, _after: &CommandLine) -> bool {
    before.args.notify_mode.is_some_and(|mode| mode & OTHERS_WRITE == 0)
}

/// Whether workers have a descriptor of `--pass-fd` at the number of their connection to the control socket.
fn is_number_passed(before: &CommandLine, _after: &CommandLine) -> bool {
    let after_sockets = usize::try_from(FIRST_SOCKET).unwrap_or(0) + before.args.bind.len();
    before.args.pass_fd.iter().any(|fd| usize::try_from(*fd) == Ok(after_sockets))
}

/// Takes the value of an option from a policy.
type ValueOf = fn(&Policy) -> Setting;

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Characters of a value that a report repeats.
const VALUE_CHARS_MAX: usize = 200;

/// The group and others may write, to the file or to the notify socket.
const OTHERS_WRITE: u32 = 0o022;

/// Why the file cannot be used; its name comes first.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionsError {
    #[error("{}: it cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: it is not a regular file", path.display())]
    NotRegular { path: PathBuf },
    #[error("{}: it belongs to user {owner}, and must belong to root or the master's user", path.display())]
    Owner { path: PathBuf, owner: u32 },
    #[error("{}: others may write to it (mode {mode:o}); \"chmod go-w\" ends that", path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("{}: it is longer than {FILE_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("{}: it is not UTF-8", path.display())]
    NotText { path: PathBuf },
    #[error("{}:{}: {bad}", path.display(), bad.line)]
    Line { path: PathBuf, bad: BadLine },
    #[error("{}: with the command line: {fault}", path.display())]
    Together { path: PathBuf, fault: String },
    #[error("the command line cannot be read again: {0}")]
    CommandLine(String),
}

/// Lines of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lines {
    /// As they were last read.
    read: Vec<OptionLine>,
    /// Those that the master runs with: of an option that takes effect at a start, the lines of the start.
    in_force: Vec<OptionLine>,
}

/// What was read for an upgrade that has yet to begin.
#[derive(Debug)]
struct Next {
    lines: Lines,
    parts: PartOptions,
}

/// What an upgrade has changed, as it was before.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    #[serde(flatten)]
    lines: Lines,
    /// An older master changed nothing that parts hold.
    #[serde(default)]
    parts: Option<PartOptions>,
}

/// The options file of a master, if it has one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Options {
    /// Absolute.
    #[serde(with = "forms::written")]
    file: Option<PathBuf>,
    #[serde(flatten)]
    lines: Lines,
    #[serde(skip)]
    next: Option<Next>,
    /// The upgrade that runs, and how it was before.
    before: Option<(Generation, Before)>,
}

impl Options {
    /// Reads the file that a command line names, if it names one, and returns the command line with the lines beneath it. A
    /// relative path starts at `directory`.
    pub(crate) fn at_start(
        line: CommandLine,
        argv: &[OsString],
        directory: &Path,
    ) -> Result<(CommandLine, Self), OptionsError> {
        let Some(file) = line.options_file.as_ref().map(|file| directory.join(file)) else {
            return Ok((line, Self::default()));
        };
        let read = read(&file)?;
        let line = merged(&file, argv, &read)?;
        let lines = Lines { in_force: read.clone(), read };
        Ok((line, Self { file: Some(file), lines, ..Self::default() }))
    }

    /// Whether an upgrade reads a file.
    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file for an upgrade: what that changes. It counts as read once the upgrade has begun. Relative paths start at
    /// `directory`.
    pub(super) fn read_again(
        &mut self,
        argv: &[OsString],
        directory: &Path,
    ) -> Result<OptionsChange, OptionsError> {
        let Some(file) = &self.file else { return Ok(OptionsChange::default()) };
        let read = read(file)?;
        // All of the lines must be right: the next start reads them.
        let (before, after) = (merged(file, argv, &self.lines.in_force)?, merged(file, argv, &read)?);
        let hidden = cli::hidden(argv).map_err(|answer| OptionsError::CommandLine(answer.fault()))?;
        let when = |id: &str| match when(id) {
            When::ReleaseUnless(waits) if waits(&before, &after) => &When::Start,
            when => when,
        };
        let (old, new) = (cli::values(&self.lines.read), cli::values(&read));
        let in_force = next_in_force(&self.lines.in_force, &read, |id| !matches!(when(id), When::Start));
        let line = merged(file, argv, &in_force)?;
        let policy = config::policy(&line);
        let mut change = OptionsChange::default();
        for id in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let value =
                |values: &BTreeMap<&str, (String, _)>| values.get(id).map(|(value, _)| shortened(value));
            if old.get(id).map(|(value, _)| value) == new.get(id).map(|(value, _)| value) {
                continue;
            }
            let effect = match when(id) {
                _ if hidden.contains(*id) => OptionEffect::Hidden,
                When::Start | When::FirstStart => OptionEffect::NextStart,
                When::Release | When::ReleaseUnless(_) | When::Part => OptionEffect::Now,
                When::Pool(setting) | When::Terms(setting) => {
                    let setting = setting(&policy);
                    if !change.settings.contains(&setting) {
                        change.settings.push(setting);
                    }
                    OptionEffect::Now
                }
            };
            change.changes.push(OptionChange {
                option: cli::option_name(id),
                from: value(&old),
                to: value(&new),
                place: new.get(id).map(|(_, lines)| place(file, lines)),
                effect,
            });
        }
        let mut parts = PartOptions::new(&line, directory)
            .map_err(|error| OptionsError::Together { path: file.clone(), fault: format!("{error:#}") })?;
        parts.verbosity = (before.verbosity != line.verbosity)
            .then_some(VerbosityChange { to: line.verbosity, from: None });
        self.next = Some(Next { lines: Lines { read, in_force }, parts });
        Ok(change)
    }

    /// What was read for the upgrade that begins, and what parts of the master hold of it.
    pub(super) fn take_next(&mut self) -> Option<(Lines, PartOptions)> {
        self.next.take().map(|Next { lines, parts }| (lines, parts))
    }

    /// The upgrade has begun, and the parts go by what was read. `before` is what they went by.
    pub(super) fn on_begun(&mut self, generation: Generation, lines: Lines, before: PartOptions) {
        let lines = std::mem::replace(&mut self.lines, lines);
        self.before = Some((generation, Before { lines, parts: Some(before) }));
    }

    /// A rollout has ended. Returns what the parts of the master go by again if it did not end well.
    pub(super) fn on_ended(&mut self, rollout: &RolloutRecord) -> Option<PartOptions> {
        let (_, before) = self.before.take_if(|(generation, _)| *generation == rollout.generation)?;
        if rollout.outcome == PastOutcome::Done {
            return None;
        }
        self.lines = before.lines;
        before.parts
    }

    /// The answer to `config_show`. `policy` is the core's, and `workers` the number that it was asked for.
    pub(super) fn show(
        &self,
        argv: &[OsString],
        policy: &Policy,
        workers: u32,
    ) -> Result<Answer, OptionsError> {
        let wrong = |answer: cli::Answer| OptionsError::CommandLine(answer.fault());
        let merged = Merged::new(argv, &self.lines.in_force).map_err(wrong)?;
        let typed = cli::on_command_line(argv).map_err(wrong)?;
        let hidden = cli::hidden(argv).map_err(wrong)?;
        let given = config::policy(&CommandLine::from(merged.args().map_err(wrong)?));
        let policy = Policy { workers, ..policy.clone() };
        let (in_force, read) = (cli::values(&self.lines.in_force), cli::values(&self.lines.read));
        let status = |Given { id, name, value }| {
            let setting = match when(&id) {
                When::Pool(setting) => Some(setting),
                _ => None,
            };
            let by_command = setting.and_then(|setting| {
                let (set, given) = (by_command(&setting(&policy))?, by_command(&setting(&given))?);
                (set != given).then_some(set)
            });
            let lines = in_force.get(id.as_str()).filter(|_| !hidden.contains(&id));
            let origin = match (&by_command, lines, &self.file) {
                (Some(_), ..) => "command".to_owned(),
                _ if typed.contains(&id) => "command line".to_owned(),
                (None, Some((_, lines)), Some(file)) => place(file, lines),
                _ => "default".to_owned(),
            };
            let text = |values: &BTreeMap<&str, (String, _)>| {
                values.get(id.as_str()).map(|(value, _)| value.clone())
            };
            let (now, later) = (text(&in_force), text(&read));
            let next = (now != later && !hidden.contains(&id))
                .then(|| later.unwrap_or_else(|| "default".to_owned()));
            OptionStatus { option: name, value: by_command.unwrap_or(value), origin, next }
        };
        Ok(Answer { options: merged.options().into_iter().map(status).collect() })
    }
}

/// The value of an option that clients can change, as it would be typed; `None` for every other option.
#[expect(clippy::option_option, reason = "no value is a value, too")]
fn by_command(setting: &Setting) -> Option<Option<String>> {
    let seconds = |time: &std::time::Duration| time.as_secs_f64().to_string();
    match setting {
        Setting::Workers(count) => Some(Some(count.to_string())),
        Setting::Seconds(time) => Some(Some(seconds(time))),
        Setting::Unacked { max, by_cpus } => Some(Some(match by_cpus {
            Some(_) => MaxUnacked::Auto(*max).to_string(),
            None => MaxUnacked::Count(*max).to_string(),
        })),
        Setting::UpgradeAdditional(max) => Some(max.map(|max| max.to_string())),
        Setting::Grace(time) => Some(time.as_ref().map(seconds)),
        _ => None,
    }
}

/// The row of an option.
fn when(id: &str) -> &'static When {
    OPTIONS.iter().find(|(option, _)| *option == id).map_or(&When::Start, |(_, when)| when)
}

/// The lines to run with once `read` is in force, as far as options change now.
fn next_in_force(
    in_force: &[OptionLine],
    read: &[OptionLine],
    changes_now: impl Fn(&str) -> bool,
) -> Vec<OptionLine> {
    let (old, new) = (cli::values(in_force), cli::values(read));
    let value = |values: &BTreeMap<&str, (String, Vec<usize>)>, id: &str| {
        values.get(id).map(|(value, _)| value.clone())
    };
    let is_taken = |id: &str| changes_now(id) || value(&old, id) == value(&new, id);
    let kept = in_force.iter().filter(|line| !is_taken(&line.id));
    kept.chain(read.iter().filter(|line| is_taken(&line.id))).cloned().collect()
}

fn merged(file: &Path, argv: &[OsString], lines: &[OptionLine]) -> Result<CommandLine, OptionsError> {
    let args = Merged::new(argv, lines).and_then(|merged| merged.args());
    args.map(CommandLine::from)
        .map_err(|answer| OptionsError::Together { path: file.to_owned(), fault: answer.fault() })
}

/// Reads the lines of the file at the absolute `path`, of which only root and the master's user may be the author.
fn read(path: &Path) -> Result<Vec<OptionLine>, OptionsError> {
    let path_buf = || path.to_owned();
    let unreadable = |source| OptionsError::Read { path: path_buf(), source };
    // Do not wait for the other end of a pipe.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(OptionsError::NotRegular { path: path_buf() });
    }
    if found.uid() != 0 && found.uid() != geteuid().as_raw() {
        return Err(OptionsError::Owner { path: path_buf(), owner: found.uid() });
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Err(OptionsError::Mode { path: path_buf(), mode: found.mode() & 0o7777 });
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(OptionsError::TooLong { path: path_buf() });
    }
    let text = String::from_utf8(text).map_err(|_| OptionsError::NotText { path: path_buf() })?;
    OptionLine::read_all(&text).map_err(|bad| OptionsError::Line { path: path_buf(), bad })
}

/// `FILE:LINE`, or `FILE:LINE,LINE`.
fn place(file: &Path, lines: &[usize]) -> String {
    let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    format!("{}:{}", file.display(), lines.join(","))
}

fn shortened(value: &str) -> String {
    visible_line(value).chars().take(VALUE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use tempfile::TempDir;

    use super::*;

    /// The upgrade for which the file was read begins.
    fn begin(options: &mut Options, generation: u64) {
        let (lines, parts) = options.take_next().unwrap();
        options.on_begun(Generation(generation), lines, parts);
    }

    fn argv(line: &str) -> Vec<OsString> {
        ["einhyrningsins"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect()
    }

    /// The options of a master that was started with this file and command line.
    fn started(text: &str, line: &str) -> (TempDir, Options) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("options"), text).unwrap();
        let argv = argv(&format!("--options-file options {line}"));
        let args = cli::Args::read(&argv).unwrap();
        let (_, options) = Options::at_start(CommandLine::from(args), &argv, directory.path()).unwrap();
        (directory, options)
    }

    fn read_again(directory: &TempDir, options: &mut Options, text: &str) -> OptionsChange {
        std::fs::write(directory.path().join("options"), text).unwrap();
        options.read_again(&argv("server"), directory.path()).unwrap()
    }

    /// Every option that a file may have.
    fn options() -> Vec<String> {
        let others = ["options_file", "dry_run", "help", "version", "command"];
        let parser = cli::Args::command();
        let ids = parser.get_arguments().filter(|arg| !arg.is_hide_set()).map(|arg| arg.get_id().to_string());
        ids.filter(|id| !others.contains(&id.as_str())).collect()
    }

    #[test]
    fn the_table_has_every_option_once() {
        let sorted = |mut ids: Vec<String>| {
            ids.sort();
            ids
        };
        let rows = OPTIONS.iter().map(|(id, _)| (*id).to_owned()).collect();
        assert_eq!(sorted(rows), sorted(options()));
    }

    #[test]
    fn the_page_says_when_each_option_takes_effect() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/man/einhyrningsins.1");
        let page = std::fs::read_to_string(page).unwrap();
        for (heading, is_there) in [
            ("For the pool, at an upgrade", (|when| matches!(when, When::Pool(_))) as fn(&When) -> bool),
            ("For the release of an upgrade", |when| {
                matches!(when, When::Release | When::ReleaseUnless(_) | When::Terms(_))
            }),
            ("For the master, at an upgrade", |when| matches!(when, When::Part)),
            ("With the next start", |when| matches!(when, When::Start | When::FirstStart)),
        ] {
            let (_, item) = page.split_once(&format!(".It {heading}\n")).unwrap();
            let item = item.split("\n.It ").next().and_then(|item| item.split("\n.El").next()).unwrap();
            let on_page = item.lines().filter_map(|line| line.strip_prefix(".Fl -")?.split(' ').next());
            let mut on_page: Vec<_> = on_page.map(|name| format!("--{name}")).collect();
            let in_table = OPTIONS.iter().filter(|(_, when)| is_there(when));
            let mut in_table: Vec<_> = in_table.map(|(id, _)| cli::option_name(id)).collect();
            on_page.sort();
            in_table.sort();
            assert_eq!(on_page, in_table, "{heading}");
        }
    }

    #[test]
    fn a_part_that_the_master_has_for_life_keeps_its_line_back() {
        for (before, after, options) in [
            ("--nice 0:1\n", "--nice 0:2\n", "--nice: 0:1 -> 0:2 (FILE:1)"),
            ("--nice 0:1\n", "--nice 1:2\n", "--nice: 0:1 -> 1:2 (FILE:1), takes effect at the next start"),
            ("--user 1:1\n", "--user 2:2\n", "--user: 1:1 -> 2:2 (FILE:1)"),
            (
                "--user 1:1\n--notify-mode 600\n",
                "--user 2:2\n--notify-mode 600\n",
                "--user: 1:1 -> 2:2 (FILE:1), takes effect at the next start",
            ),
            (
                "--pass-fd 5\n-b :0\n",
                "--pass-fd 5\n-b :0\n-g\n",
                "--command-socket-as-fd: not given -> true (FILE:3)",
            ),
            (
                "--pass-fd 4\n-b :0\n",
                "--pass-fd 4\n-b :0\n-g\n",
                "--command-socket-as-fd: not given -> true (FILE:3), takes effect at the next start",
            ),
            (
                "--check true\n--check-first\n",
                "--check true\n",
                "--check-first: true -> not given, takes effect at the next start",
            ),
        ] {
            let (directory, mut options_file) = started(before, "server");
            let change = read_again(&directory, &mut options_file, after);
            let file = directory.path().join("options").display().to_string();
            let words: Vec<_> =
                change.changes.iter().map(|change| change.to_string().replace(&file, "FILE")).collect();
            assert_eq!(words, [format!("option {options}")]);
        }
    }

    #[test]
    fn a_check_of_the_first_start_goes_with_its_check() {
        let (directory, mut options) = started("--check true\n--check-first\n", "server");
        let change = read_again(&directory, &mut options, "");
        assert_eq!(change.settings, [Setting::Check(None)]);
    }

    #[test]
    fn only_values_that_differ_from_the_last_read_change() {
        let (directory, mut options) = started("-n 2\n-s 1\n-4\n", "server");
        let change =
            read_again(&directory, &mut options, "# moved\n--number=2\n-s 3\n-t 5\n--control-mode 660\n");
        let settings = [
            Setting::Seconds(std::time::Duration::from_secs(3)),
            Setting::Grace(Some(std::time::Duration::from_secs(5))),
        ];
        assert_eq!(change.settings, settings);
        let words: Vec<_> = change.changes.iter().map(ToString::to_string).collect();
        let file = directory.path().join("options");
        let file = file.display();
        assert_eq!(
            words,
            [
                format!("option --control-mode: not given -> 660 ({file}:5), takes effect at the next start"),
                "option --ipv4-only: true -> not given, takes effect at the next start".to_owned(),
                format!("option --seconds: 1 -> 3 ({file}:3)"),
                format!("option --signal-timeout: not given -> 5 ({file}:4)"),
            ]
        );
        begin(&mut options, 2);
        assert_eq!(
            options.lines.in_force.iter().map(|line| line.id.as_str()).collect::<Vec<_>>(),
            ["ipv4_only", "number", "seconds", "signal_timeout"]
        );
        assert_eq!(
            read_again(&directory, &mut options, "-n 2\n-s 3\n-t 5\n--control-mode 660\n"),
            OptionsChange::default()
        );
        assert_eq!(
            read_again(&directory, &mut options, "-n 2\n-t 5\n--control-mode 660\n").settings,
            [Setting::Seconds(std::time::Duration::from_secs(1))]
        );
    }

    #[test]
    fn an_upgrade_that_fails_leaves_its_lines_to_the_next() {
        let (directory, mut options) = started("-n 2\n", "server");
        let change = read_again(&directory, &mut options, "-n 4\n");
        begin(&mut options, 2);
        let record = |generation, outcome| RolloutRecord {
            kind: einhorn_proto::RolloutKind::Upgrade,
            order: einhorn_proto::RolloutOrder::Smooth,
            generation: Generation(generation),
            from: Generation(1),
            label: None,
            requester: einhorn_proto::Requester::default(),
            took: std::time::Duration::ZERO,
            outcome,
            is_untouched: false,
            ended_by: None,
            listening: 0,
            reason: None,
        };
        options.on_ended(&record(2, PastOutcome::RolledBack));
        assert_eq!(read_again(&directory, &mut options, "-n 4\n"), change);
        begin(&mut options, 3);
        options.on_ended(&record(3, PastOutcome::Done));
        options.on_ended(&record(2, PastOutcome::Failed));
        assert_eq!(read_again(&directory, &mut options, "-n 4\n"), OptionsChange::default());
    }

    #[test]
    fn options_survive_a_handover() {
        let (directory, mut options) = started("-n 2\n", "server");
        read_again(&directory, &mut options, "-n 4\n");
        begin(&mut options, 2);
        let json = serde_json::to_string(&options).unwrap();
        let mut taken_over: Options = serde_json::from_str(&json).unwrap();
        assert_eq!(taken_over.lines, options.lines);
        assert_eq!(serde_json::to_string(&taken_over).unwrap(), json);
        assert_eq!(read_again(&directory, &mut taken_over, "-n 4\n"), OptionsChange::default());
    }
}
