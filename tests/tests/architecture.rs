//! The structure that `ARCHITECTURE.md` describes, against the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

tests::trials! {
    each_module_of_the_daemon_uses_only_those_below_it,
    every_file_of_master_and_supervisor_has_its_row,
    every_source_begins_with_a_header,
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn sources() -> PathBuf {
    top().join("einhyrningsins/src")
}

/// The paths in the first column of the table after `heading`, one entry per row: `cli/`, `config.rs`.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(top().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let (_, rest) =
        page.split_once(heading).unwrap_or_else(|| panic!("{heading:?} is not in ARCHITECTURE.md"));
    let table =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = table.skip(2).map(|row| row.split('|').nth(1).expect("a first column"));
    cells.map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()).collect()
}

/// The sources at or below `path`, without tests in files of their own.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries =
        fs::read_dir(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_source = |path: &PathBuf| match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("tests") => false,
        _ => path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"),
    };
    paths.filter(is_source).flat_map(|path| files(&path)).collect()
}

/// The modules of the daemon that a source names outside its tests and comments.
fn uses(path: &Path) -> BTreeSet<String> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let code = text.split("#[cfg(test)]\nmod tests {").next().expect("a first part");
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = lines.flat_map(|line| line.split("crate::").skip(1));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    names.map(|name| name.split(|c| !is_name(c)).next().expect("a first part").to_owned()).collect()
}

/// `cli/` and `config.rs` are the modules `cli` and `config`.
fn module(path: &str) -> &str {
    path.trim_end_matches('/').trim_end_matches(".rs")
}

fn each_module_of_the_daemon_uses_only_those_below_it() {
    let rows = rows("### The daemon");
    let mut above = BTreeSet::new();
    for row in &rows {
        for path in row {
            let files = files(&sources().join(path));
            assert!(!files.is_empty(), "{path}");
            for file in files {
                let upward: Vec<_> = uses(&file).intersection(&above).cloned().collect();
                assert!(upward.is_empty(), "{} uses {upward:?}, which stand above it", file.display());
            }
        }
        above.extend(row.iter().map(|path| module(path).to_owned()));
    }
    for path in fs::read_dir(sources()).expect("the sources").map(|entry| entry.expect("an entry").path()) {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        assert!(above.contains(name), "{name} has no row");
    }
}

fn every_file_of_master_and_supervisor_has_its_row() {
    every_file_has_its_row("master", &sources().join("master"));
    let supervisor = "einhyrningsins/supervisor/src";
    every_file_has_its_row(supervisor, &top().join(supervisor));
}

fn every_file_has_its_row(folder: &str, sources: &Path) {
    let told = rows(&format!("Inside `{folder}/`:")).into_iter().flatten();
    let told: BTreeSet<_> = told.map(|path| module(&path).to_owned()).collect();
    for name in &told {
        let path = sources.join(name);
        assert!(path.is_dir() || path.with_extension("rs").is_file(), "{folder}/{name} is not there");
    }
    for file in files(sources) {
        let path = file.strip_prefix(sources).expect("a path below it").to_str().expect("text");
        let has_row = told.contains(module(path))
            || path.split_once('/').is_some_and(|(in_it, _)| told.contains(in_it));
        assert!(has_row, "{folder}/{path} has no row");
    }
}

/// A header is the first thing that a reader of a file needs, and the only place that describes the files of a folder
/// that has one row.
fn every_source_begins_with_a_header() {
    let crates = [
        "einhorn-child",
        "einhorn-proto",
        "einhyrningsins",
        "einhyrningsins/supervisor",
        "einhyrningsinsctl",
    ];
    for path in crates.iter().flat_map(|name| files(&top().join(name).join("src"))) {
        let text = fs::read_to_string(&path).expect("a source");
        assert!(text.starts_with("//! "), "{} does not say what it is", path.display());
    }
}
