//! Pages for users: the blocks of code in them, and the marks that say where each block runs.
//!
//! A mark is a comment on the line above the block, which nobody sees who reads the page:
//!
//! | mark | the block |
//! |---|---|
//! | `<!-- run: PLACE -->` | runs in that place: `here`, `machine` or `podman` |
//! | `<!-- run: PLACE, fails -->` | runs there, and fails |
//! | `<!-- run: PLACE, any output -->` | runs there; what it prints is not compared with what the page shows |
//! | `<!-- run: PLACE, until "TEXT" -->` | goes on running; the next block comes when it has printed the text |
//! | `<!-- file: PLACE PATH -->` | is a file that the reader writes |
//! | `<!-- validate: kubernetes -->` | is a manifest, or commands of `kubectl`, which are checked and not run |
//! | `<!-- tested: FILE -->` | is tested by that file of the repository |
//! | `<!-- shown: REASON -->` | is only shown |
//!
//! `tests/tests/page_blocks.rs` holds that each block has one, `tests/world/tutorials` does what they say.

use std::fmt;
use std::fs;
use std::path::Path;

/// Where blocks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// On this machine, in a copy of the repository, with nothing that it does left afterwards.
    Here,
    /// In a machine of its own, with systemd and the packages beside.
    Machine,
    /// On this machine, with podman.
    Podman,
}

/// What is held of a block that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// It succeeds, and prints what the page shows.
    Succeeds,
    /// Its last command fails, and it prints what the page shows.
    Fails,
    /// It succeeds.
    AnyOutput,
    /// It goes on running after it has printed this.
    Until(String),
}

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// `run:`
    Run(Place, Run),
    /// `file:`
    File(Place, String),
    /// `validate: kubernetes`
    Kubernetes,
    /// `tested:`
    Tested(String),
    /// `shown:`
    Shown(String),
}

/// A block of code of a page.
#[derive(Debug, Clone)]
pub struct Block {
    /// The page and the line of the block's first fence: `README.md:31`.
    pub at: String,
    /// What the fence names: `sh`, `console`, `python`.
    pub language: String,
    /// What is between the fences.
    pub text: String,
    /// What its mark says; else what is wrong with it.
    pub mark: Result<Mark, String>,
    /// What the page says between the block before and this one.
    pub before: String,
}

/// A command of a block, with what the page shows of its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What is typed; of several lines if they end in backslashes.
    pub command: String,
    /// The lines below.
    pub output: Vec<String>,
}

/// The top of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The pages whose blocks have marks: `README.md` and the tutorials.
#[must_use]
pub fn marked() -> Vec<String> {
    let tutorials = "einhyrningsins/doc/tutorials";
    let entries = fs::read_dir(repository().join(tutorials)).into_iter().flatten();
    let names = entries.map(|entry| entry.expect("a tutorial").file_name().to_string_lossy().into_owned());
    let mut pages: Vec<_> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("{tutorials}/{name}")).collect();
    pages.push("README.md".into());
    pages.sort_unstable();
    pages
}

/// The blocks of a page of the repository.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(repository().join(page));
    blocks_of(page, &text.unwrap_or_else(|error| panic!("cannot read {page}: {error}")))
}

/// The blocks of the page `page` that says `text`.
#[must_use]
pub fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut before, mut above) = (String::new(), "");
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside: Vec<_> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            blocks.push(Block {
                at: format!("{page}:{}", number + 1),
                language: language.to_owned(),
                text: inside.join("\n") + "\n",
                mark: mark_of(above),
                before: std::mem::take(&mut before),
            });
        } else {
            before.push_str(line);
            before.push('\n');
        }
        above = line;
    }
    blocks
}

/// What the line above a block says.
fn mark_of(line: &str) -> Result<Mark, String> {
    let inside = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->"));
    let inside = inside.ok_or("the line above has no mark, such as <!-- run: machine -->")?;
    let (kind, rest) = inside.split_once(": ").ok_or_else(|| format!("no \": \" in the mark {inside:?}"))?;
    match (kind, rest) {
        ("run", _) => {
            let (place, how) = rest.split_once(", ").unwrap_or((rest, ""));
            Ok(Mark::Run(place_of(place)?, run_of(how)?))
        }
        ("file", _) => {
            let (place, path) = rest.split_once(' ').ok_or_else(|| format!("no path in {inside:?}"))?;
            Ok(Mark::File(place_of(place)?, path.to_owned()))
        }
        ("validate", "kubernetes") => Ok(Mark::Kubernetes),
        ("tested", _) => Ok(Mark::Tested(rest.to_owned())),
        ("shown", _) => Ok(Mark::Shown(rest.to_owned())),
        _ => Err(format!("an unknown mark: {inside:?}")),
    }
}

fn place_of(word: &str) -> Result<Place, String> {
    match word {
        "here" => Ok(Place::Here),
        "machine" => Ok(Place::Machine),
        "podman" => Ok(Place::Podman),
        _ => Err(format!("an unknown place: {word:?}; places are here, machine and podman")),
    }
}

fn run_of(how: &str) -> Result<Run, String> {
    match how {
        "" => Ok(Run::Succeeds),
        "fails" => Ok(Run::Fails),
        "any output" => Ok(Run::AnyOutput),
        _ => match how.strip_prefix("until \"").and_then(|text| text.strip_suffix('"')) {
            Some(text) => Ok(Run::Until(text.to_owned())),
            None => Err(format!("not known how it runs: {how:?}")),
        },
    }
}

impl Block {
    /// The commands of a block in the language `console`, which begin with `$ `.
    ///
    /// # Errors
    /// If it does not begin with one.
    pub fn commands(&self) -> Result<Vec<Shown>, String> {
        let mut commands: Vec<Shown> = Vec::new();
        let mut is_open = false;
        for line in self.text.lines() {
            if is_open {
                let command = &mut commands.last_mut().expect("a command is open").command;
                command.push('\n');
                command.push_str(line);
                is_open = line.ends_with('\\');
            } else if let Some(command) = line.strip_prefix("$ ") {
                commands.push(Shown { command: command.to_owned(), output: Vec::new() });
                is_open = line.ends_with('\\');
            } else if let Some(last) = commands.last_mut() {
                last.output.push(line.to_owned());
            } else {
                return Err(format!("{} does not begin with a command: {line:?}", self.at));
            }
        }
        Ok(commands)
    }
}

impl Shown {
    /// The lines that the page shows and `printed` lacks.
    ///
    /// Lines are compared [as they read](loosely), in any order, and more may be printed; `...` stands for that.
    #[must_use]
    pub fn missing(&self, printed: &str) -> Vec<&str> {
        let mut printed: Vec<_> = printed.lines().map(loosely).collect();
        let shown = self.output.iter().filter(|line| !line.trim().is_empty() && line.trim() != "...");
        let missing = shown.filter(|line| {
            let line = loosely(line);
            let found = printed.iter().position(|printed| *printed == line);
            // Two such lines must be printed twice.
            found.map(|index| printed.swap_remove(index)).is_none()
        });
        missing.map(String::as_str).collect()
    }
}

/// A line without what differs from run to run: numbers of two digits or more, or with a fraction or a unit, such as pids,
/// times and sizes; numbers of slots and indexes; all numbers of a line that begins with two of them, which is a row of a
/// table; names of months and days; whether old workers still finish their requests; and the width of space. Other numbers of one digit stay: generations, exit codes, how many workers are up.
#[must_use]
pub fn loosely(line: &str) -> String {
    let line = match line.split_once("; ") {
        Some((done, rest)) if rest.contains(" old worker") => done,
        _ => line,
    };
    let mut words: Vec<String> = line.split_whitespace().map(loose_word).collect();
    let is_number =
        |word: Option<&String>| word.is_some_and(|word| word == "#" || word.parse::<u32>().is_ok());
    let is_row = is_number(words.first()) && is_number(words.get(1));
    for index in 0..words.len() {
        let is_named = index > 0 && ["slot", "index"].contains(&words[index - 1].as_str());
        let digits = words[index].trim_end_matches([',', ':', ';']);
        if (is_row || is_named) && digits.parse::<u32>().is_ok() {
            words[index] = words[index].replace(|char: char| char.is_ascii_digit(), "#");
        }
    }
    words.join(" ")
}

/// What `date` calls months and days.
const DATES: &str = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec Mon Tue Wed Thu Fri Sat Sun";

/// A word with `#` for each number in it that is not a single digit alone.
fn loose_word(word: &str) -> String {
    if DATES.split(' ').any(|date| date == word) {
        return "#".to_owned();
    }
    let mut loose = String::new();
    let mut rest = word;
    while let Some(start) = rest.find(|char: char| char.is_ascii_digit()) {
        let (head, tail) = rest.split_at(start);
        loose.push_str(head);
        let digits = tail.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(tail.len());
        let digits = tail[..digits].trim_end_matches('.').len();
        let after = &tail[digits..];
        let unit = after.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(after.len());
        let is_unit = (1..=3).contains(&unit);
        let is_single = digits == 1 && !is_unit && !head.ends_with(|char: char| char.is_ascii_alphabetic());
        loose.push_str(if is_single { &tail[..1] } else { "#" });
        rest = if is_unit { &after[unit..] } else { after };
    }
    loose + rest
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here => "here",
            Self::Machine => "machine",
            Self::Podman => "podman",
        })
    }
}
