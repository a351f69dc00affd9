use einhorn_proto::{Left, Request, Resized, RolloutKind};

use super::*;

fn resized(from: u32, to: u32) -> LastReply {
    LastReply::Done(Done::Resized(Resized { from, to }))
}

fn notice() -> Notice {
    Notice::Decided { message: "ours".to_owned() }
}

fn ended(outcome: Outcome, reason: Option<&str>) -> LastReply {
    let report = UpgradeReport {
        is_untouched: false,
        kind: RolloutKind::Upgrade,
        outcome,
        generation: 2,
        reason: reason.map(str::to_owned),
        death: None,
        check: None,
        upgraded: 0,
        wanted: 2,
        draining: 0,
        took_ms: 1,
        left: Left::default(),
        pace: None,
        options: Vec::new(),
        hint: None,
    };
    LastReply::Upgrade { ok: true, report: Box::new(report), notice: notice() }
}

#[test]
fn last_replies_use_einhorns_words() {
    let stopping = || LastReply::Done(Done::Stopping { signal: Some("SIGUSR2"), workers: 2 });
    let why = || "why".to_owned();
    let cases = [
        ("inc", resized(1, 2), "Incrementing number of workers from 1 -> 2"),
        ("dec", resized(2, 1), "Decrementing number of workers from 2 -> 1"),
        ("set_workers", resized(1, 4), "Altering worker count, 1 -> 4. Will spin up additional workers."),
        ("set_workers", resized(4, 2), "Altering worker count, 4 -> 2. Will gracefully terminate workers."),
        ("set_workers", resized(4, 4), ""),
        ("upgrade", ended(Outcome::Done, None), "Upgrade done"),
        (
            "upgrade",
            ended(Outcome::RolledBack, Some("it died")),
            "Upgrade failed: it died; the release before serves",
        ),
        (
            "upgrade",
            ended(Outcome::Failed, Some("it died")),
            "Upgrade failed: it died; the rollback failed too",
        ),
        ("upgrade", LastReply::Refused(Refusal::MasterExits), "Upgrade failed: the master exits"),
        (
            "upgrade",
            LastReply::Refused(Refusal::MasterKept(why())),
            "Upgrade failed before it began, and nothing was changed: why",
        ),
        ("upgrade", LastReply::Refused(Refusal::Stopping), "refused: the master is stopping"),
        ("reload", LastReply::Done(Done::Reloaded(Box::new(notice()))), "Reloading, as commanded"),
        ("reload", LastReply::Refused(Refusal::NotReloaded(why())), "not reloaded: why"),
        ("die", stopping(), "Einhorn is going down! (stopping: SIGUSR2 to 2 workers)"),
        ("die", LastReply::Refused(Refusal::Stopping), "refused: the master is stopping"),
        ("status", stopping(), "stopping: SIGUSR2 to 2 workers"),
    ];
    for (command, answer, expected) in cases {
        assert_eq!(Einhorn.last_words(command, &answer), expected, "for {command}");
    }
}

#[test]
fn a_bad_request_gets_einhorns_answer() {
    let error = |line: &str| {
        let (_, request) = Request::from_line(line.as_bytes());
        Einhorn.bad_request(&request.expect_err("a bad request").kind)
    };
    assert_eq!(error("a: ["), "Could not parse command");
    assert_eq!(error("{{"), "Could not parse command");
    assert_eq!(error("hello"), "Could not parse command");
    assert_eq!(error("a: b"), "No \"command\" parameter provided; not sure what you want me to do.");
    let unknown = error("command: x");
    assert!(unknown.starts_with("Unrecognized command: \"x\"\n\nstatus "), "{unknown}");
}

#[test]
fn einhorn_has_three_verbosities() {
    for number in 0..=2 {
        assert_eq!(verbosity_number(verbosity_from(number)), number);
    }
    assert_eq!(Einhorn.next_verbosity(Severity::Error, true), Severity::Info);
    assert_eq!(Einhorn.next_verbosity(Severity::Warn, true), Severity::Info);
    assert_eq!(Einhorn.next_verbosity(Severity::Info, true), Severity::Debug);
    assert_eq!(Einhorn.next_verbosity(Severity::Debug, false), Severity::Info);
    assert_eq!(Einhorn.next_verbosity(Severity::Info, false), Severity::Error);
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[test]
fn the_name_of_the_program_decides_the_dialect() {
    let dialect = |name: &str| Dialect::called_as(&words(&[name, "-m", "manual", "server"]));
    for name in ["einhorn", "/usr/local/bin/einhorn", "./einhorn"] {
        assert_eq!(dialect(name), Dialect::Einhorn, "{name}");
    }
    for name in ["einhyrningsins", "/opt/einhorn/bin/einhyrningsins", "einhornsh", ""] {
        assert_eq!(dialect(name), Dialect::Native, "{name}");
    }
}

#[test]
fn a_takeover_shows_in_both_dialects() {
    for name in ["einhorn", "einhyrningsins"] {
        let read = |line: &[&str]| {
            let line = words(line);
            let line = Dialect::called_as(&line).manners().read(&line).unwrap();
            line.args.handover.takeover()
        };
        let takeover =
            read(&[name, "--with-state-fd", "9", "--returned", "SIGSEGV", "--", "server"]).unwrap();
        assert_eq!((takeover.state_fd, takeover.returned.as_deref()), (Some(9), Some("SIGSEGV")));
        assert_eq!(read(&[name, "server"]), None);
    }
}
