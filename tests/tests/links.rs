//! The links between the Markdown pages: each leads to a file that exists, and to a heading in it.

use std::fs;
use std::path::{Path, PathBuf};

tests::trials! {
    every_link_between_the_pages_leads_somewhere,
}

/// The Markdown pages at or below a directory of the repository.
fn pages(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        !name.starts_with('.') && name != "target" && !path.is_symlink()
    };
    let found = paths.filter(is_ours).flat_map(|path| match path.extension() {
        _ if path.is_dir() => pages(&path),
        Some(extension) if extension == "md" => vec![path],
        _ => Vec::new(),
    });
    found.collect()
}

/// The targets of the links and pictures of a page, outside its blocks of code.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|prose| prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
    targets.filter(|target| !target.contains("://")).collect()
}

/// What follows `#` in a link to this heading.
fn anchor(heading: &str) -> String {
    let letters = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    letters.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

fn every_link_between_the_pages_leads_somewhere() {
    let read =
        |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut checked, mut broken) = (0, Vec::new());
    for page in pages(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")) {
        for link in links(&read(&page)) {
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, at)| (file, Some(at)));
            let target =
                if file.is_empty() { page.clone() } else { page.parent().expect("a directory").join(file) };
            let leads = target.exists()
                && heading.is_none_or(|heading| {
                    let text = read(&target);
                    let mut headings = text
                        .lines()
                        .filter(|line| line.starts_with('#'))
                        .map(|line| line.trim_start_matches('#'));
                    headings.any(|line| anchor(line) == heading)
                });
            checked += 1;
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(checked > 30, "only {checked} links were found");
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}
