//! What is written about the programs, against the programs: options, commands, fields, the worker examples,
//! and the command that passes the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use einhorn_proto::{Argument, COMMANDS, CommandInfo, PROTOCOL_VERSION, Place};
use serde_json::Value;
use tests::process::run;
use tests::{Finished, Master, binaries};

tests::trials! {
    the_daemons_page_has_the_options_of_its_help_with_their_values_and_defaults,
    einhorns_page_has_the_options_of_its_help_with_their_values_and_defaults,
    the_clients_page_has_the_options_of_its_help_with_their_values_and_defaults,
    the_clients_page_has_every_command_that_people_type_and_no_other,
    the_protocols_page_lists_the_table_of_commands_in_its_order_with_its_arguments,
    the_protocols_page_tells_which_commands_each_version_has_added,
    every_field_of_a_status_is_in_the_protocols_page,
    every_metric_and_each_of_its_labels_is_in_the_pages,
    every_event_field_and_outcome_of_an_upgrade_and_its_rollback_is_in_the_protocols_page,
    the_workers_of_the_markdown_pages_are_those_of_the_manual,
    the_readmes_test_command_is_what_ci_runs,
    every_page_names_the_rust_that_cargo_asks_for,
    the_manual_pages_pass_the_lint_of_mandoc needs "mandoc",
    the_benchmarks_page_and_its_plots_show_the_results_that_are_kept needs "python3",
    the_readmes_picture_shows_the_run_that_is_kept needs "python3",
}

/// Reads a file of the repository.
pub(crate) fn read(path: &str) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let path = top.join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// One option, as help or a page has it.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Described {
    /// What it is called: `-n`, `--number`.
    names: BTreeSet<String>,
    /// The name of its value: `COUNT`.
    values: BTreeSet<String>,
    /// What is said of it.
    text: String,
}

/// Options by their longest name.
type Options = BTreeMap<String, Described>;

fn insert(options: &mut Options, option: Described) {
    let name = option.names.iter().max_by_key(|name| name.len()).expect("an option has a name").clone();
    let before = options.insert(name, option);
    assert!(before.is_none(), "described twice: {before:?}");
}

/// What `--help` says; that of a command, if one is named.
fn help_of(program: &Path, command_name: Option<&str>) -> Finished {
    let mut command = Command::new(program);
    command.args(command_name).arg("--help");
    run(command)
}

/// What help tells of each option.
fn options_in_help(help: &Finished) -> Options {
    let mut options = Options::new();
    let mut open: Option<Described> = None;
    for line in help.stdout.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        // An option stands at 2 or, without a short name, at 6; what is said of it at 10.
        if indent < 10 {
            open.take().into_iter().for_each(|option| insert(&mut options, option));
            if text.starts_with('-') {
                open = Some(option_in_help(text));
            }
        } else if let Some(option) = &mut open {
            option.text.push_str(text);
            option.text.push(' ');
        }
    }
    open.into_iter().for_each(|option| insert(&mut options, option));
    assert!(options.len() > 4, "no options in {help}");
    options
}

/// Reads `-n, --number <COUNT>` and `--watch[=<SECONDS>]`.
fn option_in_help(line: &str) -> Described {
    let mut option = Described::default();
    let names = line.split('<').next().unwrap_or_default().trim_end_matches(['[', '=', ' ']);
    for name in names.split(", ") {
        option.names.insert(name.trim_end_matches("...").to_owned());
    }
    option.values.extend(
        line.split_once('<')
            .map(|(_, value)| value.trim_end_matches(">]").trim_end_matches(['>', '.']).to_owned()),
    );
    option
}

/// What a page in mdoc(7) tells of each option: the items that begin with a flag.
fn options_in_page(page: &str) -> Options {
    let mut options = Options::new();
    let mut open: Option<Described> = None;
    for line in page.lines() {
        let is_item = line.starts_with(".It ") || line.starts_with(".El") || line.starts_with(".Sh ");
        if is_item {
            open.take().into_iter().for_each(|option| insert(&mut options, option));
        }
        if line.starts_with(".It Fl ") {
            open = Some(option_in_page(line));
        } else if let Some(option) = &mut open {
            option.text.push_str(line);
            option.text.push(' ');
        }
    }
    options
}

/// Reads `.It Fl n Ar COUNT , Fl -number Ar COUNT`.
fn option_in_page(line: &str) -> Described {
    let mut option = Described::default();
    let words: Vec<_> = line.split_whitespace().collect();
    for pair in words.windows(2) {
        match pair {
            ["Fl", name] => drop(option.names.insert(format!("-{name}"))),
            ["Ar", value] => drop(option.values.insert((*value).to_owned())),
            _ => {}
        }
    }
    option
}

/// The default that help tells, where it is a word and not a sentence.
fn default_in_help(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("[default: ")?;
    let (default, _) = rest.split_once(']')?;
    (!default.contains(' ')).then_some(default)
}

/// The options of `program`, or of one of its commands.
fn options_of(program: &Path, command: Option<&str>) -> Options {
    let help = help_of(program, command);
    help.assert_code(0);
    options_in_help(&help)
}

/// What a page says of the command `name`, or of none.
fn part_of_page(page: &str, name: Option<&str>) -> String {
    let mut current = None;
    let mut part = String::new();
    for line in page.lines() {
        if let Some(item) = line.strip_prefix(".It Cm ") {
            current = item.split_whitespace().next();
        } else if line.starts_with(".Sh ") {
            current = None;
        }
        if current == name {
            part.push_str(line);
            part.push('\n');
        }
    }
    part
}

/// Compares the options of a program's `help` with those of `page`, or of a part of it.
fn assert_same_options(help: &Options, page: &str, text: &str) {
    let described = options_in_page(text);
    let names = |options: &Options| -> BTreeSet<String> {
        options.values().flat_map(|option| option.names.clone()).collect()
    };
    let (in_help, in_page) = (names(help), names(&described));
    let missing: Vec<_> = in_help.difference(&in_page).collect();
    let surplus: Vec<_> = in_page.difference(&in_help).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "{page} lacks {missing:?} and has {surplus:?} too many"
    );
    for (name, option) in help {
        let described = &described[name];
        assert_eq!(option.names, described.names, "{page}: spellings of {name}");
        assert_eq!(option.values, described.values, "{page}: the value of {name}");
        if let Some(default) = default_in_help(&option.text) {
            let words = described.text.split([' ', ',', ';']).map(|word| word.trim_end_matches('.'));
            let is_told = words.into_iter().any(|word| word == default);
            assert!(is_told, "{page}: the default of {name}, {default}, is not in: {}", described.text);
        }
    }
}

fn the_daemons_page_has_the_options_of_its_help_with_their_values_and_defaults() {
    let page = "man/einhyrningsins.1";
    assert_same_options(&options_of(&binaries::einhyrningsins(), None), page, &read(page));
}

fn einhorns_page_has_the_options_of_its_help_with_their_values_and_defaults() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let link = directory.path().join("einhorn");
    symlink(binaries::einhyrningsins(), &link).expect("a link");
    let help = help_of(&link, None);
    help.assert_code(1);
    assert_same_options(&options_in_help(&help), "man/einhorn.1", &read("man/einhorn.1"));
}

fn the_clients_page_has_the_options_of_its_help_with_their_values_and_defaults() {
    let (program, page) = (binaries::einhyrningsinsctl(), "man/einhyrningsinsctl.1");
    let text = read(page);
    let general = options_of(&program, None);
    assert_same_options(&general, page, &part_of_page(&text, None));
    let of_command = |command| {
        let mut options = options_of(&program, Some(command));
        options.retain(|name, _| !general.contains_key(name));
        options
    };
    for command in ["status", "upgrade", "signal", "die", "probe", "top"] {
        assert_same_options(&of_command(command), page, &part_of_page(&text, Some(command)));
    }
    let upgrade = of_command("upgrade");
    assert!(of_command("rollback").keys().all(|name| upgrade.contains_key(name)));
}

/// The words that a page marks as commands, with those that have an item of their own.
fn commands_in_page(page: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let marked = page.lines().filter(|line| line.starts_with('.')).filter_map(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| word.ends_with("Cm")).and_then(|_| words.next())
    });
    let items = page.lines().filter_map(|line| line.strip_prefix(".It Cm ")?.split_whitespace().next());
    (marked.collect(), items.collect())
}

fn the_clients_page_has_every_command_that_people_type_and_no_other() {
    let page = read("man/einhyrningsinsctl.1");
    let (marked, items) = commands_in_page(&page);
    // The client's own commands, which no master has.
    let own = ["list", "probe", "serve", "top"];
    let known: BTreeSet<_> = COMMANDS.iter().map(|info| info.name).chain(own).collect();
    let typed = COMMANDS.iter().filter(|info| info.is_typed()).map(|info| info.name);
    let typed: BTreeSet<_> = typed.chain(own).collect();
    let missing: Vec<_> = typed.difference(&marked).collect();
    let surplus: Vec<_> = items.difference(&known).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "the page lacks {missing:?}, invents {surplus:?}");
}

/// A command's item in the protocol's page: `.It Cm inc Op Ar by`.
fn item(info: &CommandInfo) -> String {
    info.arguments.iter().fold(
        format!(".It Cm {}", info.name),
        |item, Argument { field, usage, place, .. }| {
            let optional = if usage.starts_with('[') { " Op" } else { "" };
            match place {
                Place::Next => format!("{item}{optional} Ar {field}"),
                // Its words are those of a shell; the page says so of options.
                Place::Rest if usage.ends_with("...]") => format!("{item}{optional} Ar {field} ..."),
                Place::Rest => format!("{item}{optional} Ar {field}"),
                Place::NamedOnly => item,
            }
        },
    )
}

fn the_protocols_page_lists_the_table_of_commands_in_its_order_with_its_arguments() {
    let page = read("man/einhorn-control.7");
    let mut lines = page.lines().skip_while(|line| *line != ".Sh COMMANDS");
    let commands: Vec<_> = lines.by_ref().skip(1).take_while(|line| !line.starts_with(".Sh ")).collect();
    let [_, people, programs] = commands.split(|line| line.starts_with(".Ss For p")).collect::<Vec<_>>()[..]
    else {
        panic!("COMMANDS has not the two parts that it should have");
    };
    for (part, is_for_people) in [(people, true), (programs, false)] {
        let items: Vec<_> = part.split(|line| line.starts_with(".It Cm ")).skip(1).collect();
        let heads: Vec<_> = part.iter().filter(|line| line.starts_with(".It Cm ")).collect();
        let rows = || COMMANDS.iter().filter(|info| info.is_typed() == is_for_people);
        assert_eq!(heads, rows().map(item).collect::<Vec<_>>().iter().collect::<Vec<_>>());
        for (info, text) in rows().zip(items) {
            for argument in info.arguments.iter().filter(|argument| argument.place == Place::NamedOnly) {
                let field = format!(".It Li {}", argument.field);
                assert!(text.contains(&&*field), "{} lacks {field}", info.name);
            }
            let since = format!("Since protocol version {}.", info.since);
            assert_eq!(text.contains(&&*since), info.since > 1, "{}: {since}", info.name);
        }
    }
}

fn the_protocols_page_tells_which_commands_each_version_has_added() {
    let page = read("man/einhorn-control.7");
    let (_, versions) = page.split_once("\n.Sh VERSIONS\n").expect("a part on versions");
    let (versions, _) = versions.split_once("\n.El\n").expect("a list of versions");
    // What stands before the list is about the command `version`.
    let items: Vec<_> = versions.split("\n.It ").skip(1).collect();
    assert_eq!(items.len(), PROTOCOL_VERSION as usize);
    for (item, version) in items.iter().zip(1..) {
        let named = item.lines().filter_map(|line| line.strip_prefix(".Cm ")?.split_whitespace().next());
        let named: BTreeSet<_> = named.collect();
        let added = COMMANDS.iter().filter(|info| info.since == version && version > 1);
        let added: BTreeSet<_> = added.map(|info| info.name).collect();
        let missing: Vec<_> = added.difference(&named).collect();
        assert!(missing.is_empty(), "version {version} lacks {missing:?}");
    }
}

/// The keys of `value` and of all that is in it.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

/// The words that the protocol's page marks as fields, values and events.
fn assert_marked(found: &BTreeSet<String>) {
    let page = read("man/einhorn-control.7");
    let marked: BTreeSet<_> = page
        .lines()
        .filter(|line| line.starts_with('.') && line.contains("Li "))
        .flat_map(|line| line.split([' ', '{', '}', ':', '"']))
        .collect();
    let missing: Vec<_> = found.iter().filter(|key| !marked.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "einhorn-control.7 lacks {missing:?}");
}

fn every_field_of_a_status_is_in_the_protocols_page() {
    let master = Master::builder().workers(2).options(["-b", "127.0.0.1:0,reuseport"]).start();
    let status = master.ctl(["--json", "status"]);
    status.assert_code(0);
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    let mut found = BTreeSet::new();
    keys(&status, &mut found);
    assert!(found.len() > 20, "{status}");
    assert_marked(&found);
}

fn every_metric_and_each_of_its_labels_is_in_the_pages() {
    let master = Master::builder().workers(2).options(["-b", "127.0.0.1:0,reuseport"]).start();
    let answer = master.ctl(["--json", "metrics"]);
    answer.assert_code(0);
    let mut found = BTreeSet::new();
    keys(&serde_json::from_str(&answer.stdout).expect("JSON"), &mut found);
    assert_marked(&found);
    let text = master.ctl(["metrics", "--pss"]).stdout;
    let page = read("man/einhyrningsinsctl.1");
    let (_, part) = page.split_once(".Sh METRICS").expect("a part on metrics");
    let (part, _) = part.split_once("\n.Sh ").expect("a part after it");
    let words: BTreeSet<_> = part.split([' ', '\n', '"']).collect();
    let families =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE einhyrningsins_")?.split(' ').next());
    let labels = text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| {
        let pairs = line.split_once('{').map_or("", |(_, rest)| rest).split("\",");
        pairs.filter_map(|pair| pair.split_once("=\"")).map(|(label, _)| label).filter(|label| *label != "le")
    });
    let named: BTreeSet<_> = families.chain(labels).collect();
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !words.contains(*name)).collect();
    assert!(missing.is_empty(), "einhyrningsinsctl.1 lacks {missing:?}");
}

fn every_event_field_and_outcome_of_an_upgrade_and_its_rollback_is_in_the_protocols_page() {
    let master = Master::builder().workers(2).start();
    let mut found = BTreeSet::new();
    for way in [&["upgrade", "--canary", "1", "--soak", "0.01"][..], &["rollback"][..]] {
        let told = master.ctl(["--json"].iter().chain(way));
        told.assert_code(0);
        for line in told.stdout.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            keys(&line, &mut found);
            for word in ["event", "kind", "outcome", "source"] {
                found.extend(line[word].as_str().map(str::to_owned));
            }
        }
    }
    for expected in ["soak_started", "soak_over", "done", "rollback", "took_ms", "counts"] {
        assert!(found.contains(expected), "{expected} is not in {found:?}");
    }
    assert_marked(&found);
}

/// The text between a line that is `open` and the next one that is `close`, after the line `heading`.
pub(crate) fn block<'a>(text: &'a str, heading: &str, open: &str, close: &str) -> Vec<&'a str> {
    let mut lines =
        text.lines().skip_while(|line| *line != heading).skip_while(|line| !line.starts_with(open));
    assert!(lines.next().is_some(), "there is no \"{open}\" after a line \"{heading}\"");
    lines.take_while(|line| *line != close).collect()
}

fn the_workers_of_the_markdown_pages_are_those_of_the_manual() {
    let (readme, workers) = (read("README.md"), read("einhyrningsins/doc/workers.md"));
    let page = read("man/einhorn-worker.7");
    let in_workers = |language: &str| block(&workers, &format!("## {language}"), "```", "```");
    assert_eq!(block(&readme, "### Python", "```", "```"), in_workers("Python"));
    for language in ["Rust", "Python", "Node", "Go", "Ruby"] {
        let in_page = block(&page, &format!(".Ss {language}"), ".Bd -literal", ".Ed");
        let in_page: Vec<_> =
            in_page.iter().map(|line| line.trim_start_matches("\\&").replace("\\e", "\\")).collect();
        assert!(in_page.len() > 5, "{language}: {in_page:?}");
        assert_eq!(in_workers(language), in_page, "{language}");
    }
}

fn the_manual_pages_pass_the_lint_of_mandoc() {
    let pages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../man")).expect("the pages");
    let mut lint = Command::new("mandoc");
    lint.args(["-T", "lint", "-W", "warning"]).args(pages.map(|page| page.expect("a page").path()));
    let output = run(lint);
    assert!([0, 2].contains(&output.code()), "{output}");
    // EXAMPLES stands near the top, where readers want it.
    let is_fault = |line: &&str| !line.contains("WARNING: sections out of conventional order");
    let faults: Vec<_> = output.stdout.lines().chain(output.stderr.lines()).filter(is_fault).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

fn the_readmes_test_command_is_what_ci_runs() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    let commands = block(&readme, "## Tests", "```", "```");
    let [command] = commands.as_slice() else { panic!("not one command: {commands:?}") };
    assert_eq!(*command, "tests/run --install");
    assert!(ci.lines().any(|line| line == *command), "{command} is not in .ci/run:\n{ci}");
}

fn every_page_names_the_rust_that_cargo_asks_for() {
    let workspace = read("Cargo.toml");
    let version = workspace.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.expect("rust-version").trim_matches('"');
    for page in ["README.md", "CONTRIBUTING.md", "einhorn-child/README.md"] {
        assert!(read(page).contains(&format!("Rust {version} or newer")), "{page}: Rust {version}");
    }
    assert!(read(".github/workflows/ci.yml").contains(&format!("\"{version}\"")), "ci.yml: Rust {version}");
    for package in ["einhorn-child", "einhorn-proto", "einhyrningsins", "einhyrningsinsctl"] {
        assert!(
            read(&format!("{package}/Cargo.toml")).contains("rust-version.workspace = true"),
            "{package}"
        );
    }
}

fn the_benchmarks_page_and_its_plots_show_the_results_that_are_kept() {
    let mut plot = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("plot"));
    plot.arg("--check");
    run(plot).assert_code(0);
}

fn the_readmes_picture_shows_the_run_that_is_kept() {
    let mut picture = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("picture"));
    picture.arg("--check");
    run(picture).assert_code(0);
    assert!(read("README.md").contains("](einhyrningsins/doc/rolled-back.svg)"));
}
