//! `einhyrningsinsctl top`, in a real terminal, against a real master.

use std::process::Command;

use einhorn_proto::Outcome;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::process::run;
use tests::terminal::Terminal;
use tests::{Gate, Master, Process, binaries};

tests::trials! {
    an_upgrade_by_keys_is_seen_live needs "tmux",
    an_upgrade_is_aborted_by_keys needs "tmux",
    workers_are_added_removed_and_replaced_by_keys needs "tmux",
    a_refusal_is_shown needs "tmux",
    a_master_that_is_lost_is_found_again needs "tmux",
    the_terminal_is_as_before_at_every_end needs "tmux",
    it_ends_when_its_terminal_has_gone needs "tmux",
    an_escape_alone_leaves_and_one_of_an_arrow_does_not needs "tmux",
    it_is_suspended_and_continued_by_a_shell needs "tmux",
    the_prompt_goes_on_after_it needs "tmux",
    a_window_of_another_size_is_drawn_on_anew needs "tmux",
    colours_are_as_elsewhere needs "tmux",
    tables_are_written_to_a_pipe,
    a_view_without_a_terminal_says_what_to_do,
}

const SIZE: (u16, u16) = (100, 30);

/// The keys, which are shown at last.
const KEYS: &str = "R replace   q quit";

/// The client's command line, for a shell.
fn client(master: &Master, words: &str) -> String {
    format!("'{}' -d '{}' {words}", binaries::einhyrningsinsctl().display(), master.socket().display())
}

/// A window with the view, once that is there.
#[track_caller]
fn top(master: &Master) -> Terminal {
    let terminal = Terminal::open(master, SIZE, &client(master, "top"));
    terminal.wait(KEYS);
    terminal
}

/// Presses a key, waits for the question, and answers it.
#[track_caller]
fn confirm(terminal: &Terminal, key: &str, question: &str) {
    terminal.press(&[key]);
    terminal.wait(&format!("{question} y/N"));
    terminal.press(&["y"]);
}

fn an_upgrade_by_keys_is_seen_live() {
    let builder = Master::builder().workers(2);
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start();
    let terminal = top(&master);
    let before = terminal.wait("workers   2 of 2 up, generation 1");
    for worker in master.workers_up() {
        assert!(before.contains(&format!(" {} ", worker.pid())), "{before}");
    }
    // No for an answer: nothing is sent.
    terminal.press(&["u"]);
    terminal.wait("replace 2 workers with ones from the current code? y/N");
    terminal.press(&["n"]);
    terminal.wait("upgrade: not done");
    assert_eq!(master.status().upgrade, None);

    gate.close();
    confirm(&terminal, "u", "replace 2 workers with ones from the current code?");
    terminal.wait("[....................] 0/2 acked");
    terminal.wait("upgrade to generation 2 of 2 workers began");
    terminal.wait("release   2 (");
    terminal.wait_screen("the slot that is waited for", |screen| {
        screen.contains(" starting (slot 0") && screen.contains("  starting ")
    });
    gate.open();
    terminal.wait_screen("the end", |screen| {
        let last = screen.trim_end().lines().next_back().unwrap_or_default();
        last.starts_with("upgrade to generation 2 done")
            && screen.contains("2 of 2 up, generation 2")
            && !screen.contains("/2 acked")
    });
    assert_eq!(master.wait_up(2).master.generation, 2);
}

fn an_upgrade_is_aborted_by_keys() {
    let builder = Master::builder().workers(2);
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start();
    let terminal = top(&master);
    gate.close();
    confirm(&terminal, "u", "replace 2 workers with ones from the current code?");
    terminal.wait("0/2 acked");
    confirm(&terminal, "a", "abort the upgrade to generation 2 and roll it back?");
    terminal.wait("last      upgrade to generation 2, failed");
    let status = master.wait_status("the end", |status| status.upgrade.is_none());
    assert_eq!(status.last_upgrade.map(|last| last.report.outcome), Some(Outcome::RolledBack));
    assert!(
        status
            .workers
            .iter()
            .all(|worker| worker.generation == 1 || worker.state != einhorn_proto::WorkerState::Up)
    );
    gate.open();
}

fn workers_are_added_removed_and_replaced_by_keys() {
    let mut master = Master::builder().workers(2).start();
    let terminal = top(&master);
    confirm(&terminal, "+", "add a worker: 2 -> 3?");
    terminal.wait("number of workers 2 -> 3");
    terminal.wait("3 of 3 up");
    confirm(&terminal, "-", "remove a worker, draining it: 3 -> 2?");
    terminal.wait("number of workers 3 -> 2");
    master.wait_up(2);
    let before = master.workers_up();
    terminal.press(&["Down"]);
    confirm(&terminal, "R", &format!("replace worker {} of slot 1, its successor first?", before[1].pid()));
    terminal.wait("will be replaced, its successor first");
    before[1].wait_gone();
    let after = master.wait("a successor", |master| {
        let workers = master.workers_up();
        (workers.len() == 2 && workers[1].pid() != before[1].pid()).then_some(workers)
    });
    assert_eq!(after[0].pid(), before[0].pid());
    terminal.wait(&format!(" {} ", after[1].pid()));
}

fn a_refusal_is_shown() {
    let mut master = Master::builder().workers(1).start();
    let terminal = top(&master);
    confirm(&terminal, "r", "go back to the previous release?");
    let refusal = master.ctl(["rollback"]);
    refusal.assert_code(1);
    let message = refusal.stderr.lines().next().unwrap_or_default();
    let message = message.strip_prefix("einhyrningsinsctl: ").expect("a message");
    // The rest of it is on the next line.
    let (beginning, _) = message.split_once(':').expect("what, and why");
    terminal.wait(beginning);
    assert_eq!(master.status().master.generation, 1);
}

fn a_master_that_is_lost_is_found_again() {
    let mut master = Master::builder().workers(2).start();
    let terminal = top(&master);
    let pid = master.process().pid();
    terminal.wait(&format!("master    pid {pid}, "));
    master.ctl(["die"]).assert_code(0);
    master.wait_exit_code(0);
    let lost = terminal.wait("lost      no answer for ");
    assert!(lost.contains(&format!("master    pid {pid}, ")), "what was known stays\n{lost}");
    terminal.press(&["u"]);
    terminal.wait("the master does not answer");
    let socket = master.socket().to_owned();
    let mut next = Master::builder()
        .without_socket()
        .workers(1)
        .options(["-d".as_ref(), socket.as_os_str()])
        .start_unready();
    next.at_socket(&socket);
    next.wait_up(1);
    let found = terminal.wait(&format!("master    pid {}, ", next.process().pid()));
    assert!(!found.contains("no answer for"), "{found}");
    terminal.wait("workers   1 of 1 up");
}

fn the_terminal_is_as_before_at_every_end() {
    let master = Master::builder().workers(1).start();
    let (before, after) = (master.file("before"), master.file("after"));
    let top = client(&master, "top");
    for (end, code) in
        [(None, 0), (Some(Signal::SIGTERM), 143), (Some(Signal::SIGINT), 130), (Some(Signal::SIGHUP), 129)]
    {
        let script = format!(
            "stty -g >'{}'; {top}; code=$?; stty -g >'{}'; echo \"ended with $code.\"; exec cat",
            before.display(),
            after.display()
        );
        let terminal = Terminal::open(&master, SIZE, &script);
        terminal.wait(KEYS);
        assert_eq!(
            (terminal.fact("alternate_on").as_str(), terminal.fact("cursor_flag").as_str()),
            ("1", "0")
        );
        let modes = || [&before, &after].map(|file| std::fs::read_to_string(file).expect("modes"));
        match end {
            None => terminal.press(&["q"]),
            Some(signal) => assert!(terminal.foreground().signal(signal)),
        }
        let screen = terminal.wait(&format!("ended with {code}."));
        assert!(!screen.contains("SLOT"), "what was on the screen before is there again\n{screen}");
        assert_eq!(
            (terminal.fact("alternate_on").as_str(), terminal.fact("cursor_flag").as_str()),
            ("0", "1")
        );
        let [before, after] = modes();
        assert_eq!(before, after, "{end:?}");
    }
}

/// Kills a process that a test which fails would leave behind.
struct Guarded(Process);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGKILL);
    }
}

fn it_ends_when_its_terminal_has_gone() {
    let master = Master::builder().workers(1).start();
    // Where SIGHUP is ignored, as under nohup, only the terminal itself says that it has gone. By then a key was read: a reader
    // that waits for more must notice.
    for before in ["", "trap '' HUP;"] {
        let script = format!("{before} {}; exit", client(&master, "top"));
        let terminal = Terminal::open(&master, SIZE, &script);
        terminal.wait(KEYS);
        let top = Guarded(terminal.foreground());
        terminal.press(&["a"]);
        terminal.wait("no upgrade runs");
        terminal.vanish();
        top.0.wait_gone();
    }
}

fn an_escape_alone_leaves_and_one_of_an_arrow_does_not() {
    let master = Master::builder().workers(3).start();
    let script = format!("{}; echo \"code $?.\"; exec cat", client(&master, "top"));
    let terminal = Terminal::open(&master, SIZE, &script);
    terminal.wait(KEYS);
    terminal.press(&["Down", "Down", "Up", "R"]);
    terminal.wait("of slot 1, its successor first? y/N");
    terminal.press(&["Escape"]);
    terminal.wait("replace: not done");
    terminal.press(&["Escape"]);
    terminal.wait("code 0.");
}

fn it_is_suspended_and_continued_by_a_shell() {
    let master = Master::builder().workers(1).start();
    let terminal = Terminal::open(&master, SIZE, "PS1='shell> ' exec sh -i");
    terminal.wait("shell>");
    let top = client(&master, "top");
    terminal.press(&[&top, "Enter"]);
    terminal.wait(KEYS);
    for stop in [None, Some(Signal::SIGTSTP)] {
        match stop {
            None => terminal.press(&["C-z"]),
            Some(signal) => assert!(terminal.foreground().signal(signal)),
        }
        terminal.wait_screen("the shell", |screen| {
            screen.contains("Stopped") && screen.trim_end().ends_with("shell>")
        });
        // The shell has the keys, and the terminal echoes them.
        terminal.press(&["echo $((6 * 7))", "Enter"]);
        terminal.wait("\n42\n");
        terminal.press(&["clear; fg", "Enter"]);
        terminal.wait(KEYS);
    }
    terminal.press(&["q"]);
    terminal.wait("shell>");
}

fn the_prompt_goes_on_after_it() {
    let master = Master::builder().workers(1).start();
    let terminal = Terminal::open(&master, SIZE, &client(&master, ""));
    let prompt = "einhyrningsins>";
    terminal.wait(prompt);
    for _ in 0..2 {
        terminal.press(&["top", "Enter"]);
        terminal.wait(KEYS);
        terminal.press(&["q"]);
        // The prompt has all the keys again: no thread of the view reads them.
        terminal.wait(prompt);
        terminal.press(&["reopen", "Enter"]);
        terminal.wait("reopen");
    }
    terminal.press(&["set_workers 2", "Enter"]);
    terminal.wait("number of workers 1 -> 2");
    terminal.press(&["events", "Enter"]);
    terminal.wait("following events");
    // Ctrl-C is a signal again, and ends the command alone.
    terminal.press(&["C-c"]);
    terminal.press(&["set_workers 3", "Enter"]);
    terminal.wait("number of workers 2 -> 3");
}

fn a_window_of_another_size_is_drawn_on_anew() {
    let master = Master::builder().workers(30).options(["--max-rss", "500M"]).start();
    let terminal = top(&master);
    let wide = terminal.wait("30 of 30 up");
    assert!(wide.contains("RESTARTS") && wide.lines().count() == 30, "{wide}");
    terminal.resize(60, 18);
    let small = terminal.wait_screen("all of it in 60 columns", |screen| {
        let last = screen.trim_end().lines().next_back().unwrap_or_default();
        screen.lines().count() == 18 && last.starts_with("u upgrade a abort")
    });
    assert!(!small.contains("RESTARTS") && small.contains("SLOT"), "{small}");
    assert!(small.lines().all(|line| line.chars().count() <= 60), "{small}");
    terminal.press(&["End"]);
    terminal.wait_screen("the last slot", |screen| screen.lines().any(|line| line.starts_with("  29  ")));
    terminal.resize(100, 50);
    terminal.wait_screen("all slots", |screen| {
        screen.lines().any(|line| line.starts_with("   0  ")) && screen.contains(KEYS)
    });
}

fn colours_are_as_elsewhere() {
    let master = Master::builder().workers(1).start();
    let is_coloured = |environment: &str, words: &str| {
        let script = format!("{environment} {}", client(&master, words));
        let terminal = Terminal::open(&master, SIZE, &script);
        terminal.wait(KEYS);
        // Green, in 16 colours or in 256.
        let text = terminal.coloured_text();
        ["[32m", "38;5;2m"].iter().any(|green| text.contains(green))
    };
    assert!(is_coloured("", "top"));
    assert!(!is_coloured("NO_COLOR=1", "top"));
    assert!(!is_coloured("", "top --color never"));
    assert!(is_coloured("NO_COLOR=1", "top --color always"));
}

fn tables_are_written_to_a_pipe() {
    let burn = ["sh", "-c", "while :; do :; done"];
    let mut master = Master::builder().without_ack_mode().timer_acks(0.1).workers(1).program(burn).start();
    let tables = master.ctl(["top", "--batch", "--count", "2", "--interval", "0.1"]);
    tables.assert_code(0);
    let text = &tables.stdout;
    assert_eq!(text.matches("\nworkers   1 of 1 up, generation 1, ").count(), 2, "{tables}");
    assert_eq!(text.matches("SLOT  ").count(), 2, "{tables}");
    assert!(!text.contains('\x1b'), "{tables}");
    let worker = master.workers_up()[0];
    let row = text.lines().find(|line| line.contains(&format!(" {} ", worker.pid()))).expect("a row");
    // The state, and then the share of a CPU, which a worker that never waits has some of.
    let cpu = row.split_whitespace().nth(4).expect("a share");
    assert!(cpu.ends_with('%') && cpu != "0.0%", "{row}");

    let lines = master.ctl(["top", "--batch", "--count", "1", "--json"]);
    lines.assert_code(0);
    let line: Value = serde_json::from_str(&lines.stdout).expect("one line of JSON");
    assert_eq!(line["status"]["workers"][0]["pid"], worker.pid());
    assert!(line["usages"][0]["cpu_percent"].as_f64().expect("a share") > 0.0, "{line}");
    assert_eq!((&line["total"]["workers"], &line["ok"]), (&1.into(), &true.into()));

    let command = master.ctl_command(["top", "--batch", "--count", "1"]);
    master.ctl(["die"]).assert_code(0);
    master.wait_exit_code(0);
    run(command).assert_code(3);
}

fn a_view_without_a_terminal_says_what_to_do() {
    let master = Master::builder().workers(1).start();
    master.ctl(["top"]).assert_code(2).assert_says("\"top --batch\" writes plain tables");
    master.ctl(["top", "--json"]).assert_code(2).assert_says("\"top --batch\"");
    master.ctl(["top", "--count", "2"]).assert_code(2).assert_says("--batch");
    let mut elsewhere = Command::new(binaries::einhyrningsinsctl());
    elsewhere.args(["-d", "/nonexistent/socket", "top", "--batch"]);
    run(elsewhere).assert_code(3);
}
