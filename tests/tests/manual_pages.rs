//! The form of the manual pages: the footer, the order of sections, cross references, and what an option says of its
//! value.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::documentation::read;

tests::trials! {
    every_page_has_the_version_of_the_workspace_in_its_footer,
    every_page_has_its_examples_after_its_description,
    every_cross_reference_leads_to_a_page_or_a_section,
    the_first_option_of_the_daemons_page_is_bind,
    every_option_with_a_value_has_its_default_and_unit,
    no_flag_takes_the_words_after_it_for_flags,
}

/// Pages of other projects that ours refer to.
const FOREIGN: &[&str] = &[
    "PR_SET_NO_NEW_PRIVS 2const",
    "accept 2",
    "close_range 2",
    "curl 1",
    "env 1",
    "epoll 7",
    "flock 2",
    "initgroups 3",
    "listen 2",
    "logrotate 8",
    "memfd_create 2",
    "pidfd_open 2",
    "pidfd_send_signal 2",
    "poll 2",
    "proc_pid_oom_score_adj 5",
    "ps 1",
    "sd_listen_fds 3",
    "sd_notify 3",
    "sd_watchdog_enabled 3",
    "setlock 8",
    "setrlimit 2",
    "setsid 1",
    "shutdown 2",
    "signal 7",
    "ssh_config 5",
    "sudo 8",
    "systemd-notify 1",
    "systemd-socket-activate 1",
    "systemd.exec 5",
    "systemd.socket 5",
    "unix 7",
    "unshare 1",
];

/// The text of each page, by a name such as `einhorn 1`.
fn pages() -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../man");
    let files = fs::read_dir(directory).expect("the pages").map(|file| file.expect("a page").file_name());
    let pages: BTreeMap<_, _> = files
        .map(|file| {
            let file = file.into_string().expect("a name in UTF-8");
            let (name, section) = file.rsplit_once('.').expect("a section");
            (format!("{name} {section}"), read(&format!("man/{file}")))
        })
        .collect();
    assert!(pages.len() > 4, "{:?}", pages.keys());
    pages
}

/// The titles of the sections of `page`, and of their parts.
fn sections(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix(".Sh ").or_else(|| line.strip_prefix(".Ss "))).collect()
}

fn every_page_has_the_version_of_the_workspace_in_its_footer() {
    let workspace = read("Cargo.toml");
    let version = workspace.lines().find_map(|line| line.strip_prefix("version = ")).expect("a version");
    let footer = format!(".Os einhyrningsins {}", version.trim_matches('"'));
    for (name, page) in pages() {
        assert!(page.lines().any(|line| line == footer), "{name} has no line {footer:?}");
    }
}

fn every_page_has_its_examples_after_its_description() {
    for (name, page) in pages() {
        let heads = page.lines().filter_map(|line| line.strip_prefix(".Sh "));
        let after: Vec<_> = heads.skip_while(|head| *head != "DESCRIPTION").skip(1).take(1).collect();
        assert_eq!(after, ["EXAMPLES"], "{name}");
    }
}

/// What follows the macro `name` in `line`, up to the next macro or a mark of punctuation.
fn argument(line: &str, name: &str) -> Option<String> {
    let mut words = line.strip_prefix('.')?.split_whitespace().skip_while(|word| *word != name);
    words.next()?;
    let is_macro = |word: &str| matches!(word, "No" | "Ns" | "Pq" | "Xr" | "Sx" | "Cm" | "Fl" | "Pc");
    let words = words.take_while(|word| !is_macro(word) && !matches!(*word, "." | "," | ";" | ":" | ")"));
    Some(words.collect::<Vec<_>>().join(" ").trim_matches('"').to_owned())
}

/// What a page refers to that is nowhere.
fn dead_references(name: &str, pages: &BTreeMap<String, String>) -> Vec<String> {
    let lines: Vec<_> = pages[name].lines().collect();
    let is_section = |page: &str, title: &str| sections(&pages[page]).contains(&title);
    let mut dead = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let after = |count: usize| lines.get(index + count).copied().unwrap_or_default();
        if let Some(page) = argument(line, "Xr") {
            if !pages.contains_key(&page) && !FOREIGN.contains(&page.as_str()) {
                dead.push(format!(".Xr {page}"));
            }
            // "see einhorn-worker(7), ``PING AND STATUS''"
            let title = argument(after(1), "Dq").filter(|_| line.ends_with(" ,"));
            if let Some(title) = title.filter(|title| pages.contains_key(&page) && !is_section(&page, title))
            {
                dead.push(format!("{title} in {page}"));
            }
        }
        if let Some(title) = argument(line, "Sx") {
            // "CANARY in einhyrningsins(1)"
            let page = argument(after(2), "Xr").filter(|_| matches!(after(1), "in" | "of"));
            let page = page.unwrap_or_else(|| name.to_owned());
            if !pages.contains_key(&page) || !is_section(&page, &title) {
                dead.push(format!(".Sx {title}, in {page}"));
            }
        }
    }
    dead
}

fn every_cross_reference_leads_to_a_page_or_a_section() {
    let pages = pages();
    let dead: Vec<_> = pages.keys().map(|name| (name, dead_references(name, &pages))).collect();
    assert!(dead.iter().all(|(_, dead)| dead.is_empty()), "{dead:#?}");
    let used: BTreeSet<_> =
        pages.values().flat_map(|page| page.lines()).filter_map(|line| argument(line, "Xr")).collect();
    let unused: Vec<_> = FOREIGN.iter().filter(|name| !used.contains(**name)).collect();
    assert!(unused.is_empty(), "no page refers to {unused:?}");
}

/// Each item of a list of options: its head, and its text.
fn options(page: &str) -> Vec<(&str, String)> {
    let mut options: Vec<(&str, String)> = Vec::new();
    let mut is_open = false;
    for line in page.lines() {
        if [".It ", ".Sh ", ".Ss "].iter().any(|head| line.starts_with(head)) {
            is_open = line.starts_with(".It Fl ");
            if is_open {
                options.push((line, String::new()));
            }
        } else if let Some((_, text)) = options.last_mut().filter(|_| is_open) {
            text.push_str(line);
            text.push(' ');
        }
    }
    options
}

fn the_first_option_of_the_daemons_page_is_bind() {
    let page = read("man/einhyrningsins.1");
    let options = options(&page);
    let (head, _) = options.first().expect("options");
    assert!(head.starts_with(".It Fl b Ar "), "{head}");
}

fn every_option_with_a_value_has_its_default_and_unit() {
    for (name, page) in pages() {
        for (head, text) in options(&page).iter().filter(|(head, _)| head.contains(" Ar ")) {
            let is_told = |words: &[&str]| words.iter().any(|word| text.contains(word));
            assert!(is_told(&["default", "several times"]), "{name}: {head}\n{text}");
            let unit = match head.rsplit(' ').next().unwrap_or_default() {
                "MODE" | "MASK" => "octal",
                "SIZE" | "BYTES" => "bytes",
                _ => continue,
            };
            assert!(is_told(&[unit]), "{name}: {head} is not {unit}\n{text}");
        }
        let has_times = options(&page).iter().any(|(head, _)| head.contains("Ar SECONDS"));
        let has_unit = page.contains("number of seconds") || page.contains("einhyrningsins 1");
        assert!(!has_times || has_unit, "{name}: SECONDS without a word on their form");
    }
}

/// `.Fl t , cannot be asked` shows "-t, -cannot -be -asked".
fn no_flag_takes_the_words_after_it_for_flags() {
    let is_macro = |word: &str| word.len() == 2 && word.starts_with(|first: char| first.is_ascii_uppercase());
    let is_flag = |word: &str| word.len() == 1 || word.starts_with('-');
    for (name, page) in pages() {
        for line in page.lines().filter(|line| line.starts_with('.')) {
            let mut words = line[1..].split_whitespace();
            while words.any(|word| word == "Fl") {
                let flags: Vec<_> = words.clone().take_while(|word| !is_macro(word)).collect();
                assert!(flags.iter().all(|word| is_flag(word)), "{name}: {line}");
            }
        }
    }
}
