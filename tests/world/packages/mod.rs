//! Packages: what is in them, and what they leave behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tests::{Finished, Trial};

mod deb;
mod life;
mod musl;
mod reproducible;
mod rpm;
mod tarball;

pub(crate) fn trials() -> Vec<Trial> {
    [deb::trials(), life::trials(), musl::trials(), reproducible::trials(), rpm::trials(), tarball::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// Asserts that a program has ended with 0, and that its standard output holds `text`.
#[track_caller]
fn assert_prints(finished: &Finished, text: &str) {
    finished.assert_code(0);
    assert!(finished.stdout.contains(text), "no {text:?} in standard output\n{finished}");
}

/// What is below a directory: each path from it on, with what a link leads to, or how long a file is and when it was
/// written.
fn listing(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(parent) = open.pop() {
        for entry in fs::read_dir(&parent).expect("a directory") {
            let path = entry.expect("an entry").path();
            let about = fs::symlink_metadata(&path).expect("a file");
            let what = match () {
                () if about.is_symlink() => format!("-> {}", fs::read_link(&path).expect("a link").display()),
                () if about.is_dir() => String::from("directory"),
                () => format!("{} bytes of {:?}", about.len(), about.modified().expect("a time")),
            };
            let name = path.strip_prefix(directory).expect("below it").to_string_lossy().into_owned();
            found.insert(name, what);
            if about.is_dir() {
                open.push(path);
            }
        }
    }
    found
}
