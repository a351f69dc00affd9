use einhorn_proto::{Request, Resized, RolloutKind};

use super::*;

fn resized(from: u32, to: u32) -> ReplyData {
    ReplyData::Resized(Resized { from, to })
}

fn report(outcome: Outcome, reason: Option<&str>) -> ReplyData {
    ReplyData::Upgrade(UpgradeReport {
        kind: RolloutKind::Upgrade,
        outcome,
        generation: 2,
        reason: reason.map(str::to_owned),
        death: None,
        upgraded: 0,
        wanted: 2,
        draining: 0,
        took_ms: 1,
    })
}

#[test]
fn last_replies_use_einhorns_words() {
    let cases = [
        ("inc", Some(resized(1, 2)), "Incrementing number of workers from 1 -> 2"),
        ("dec", Some(resized(2, 1)), "Decrementing number of workers from 2 -> 1"),
        (
            "set_workers",
            Some(resized(1, 4)),
            "Altering worker count, 1 -> 4. Will spin up additional workers.",
        ),
        (
            "set_workers",
            Some(resized(4, 2)),
            "Altering worker count, 4 -> 2. Will gracefully terminate workers.",
        ),
        ("set_workers", Some(resized(4, 4)), ""),
        ("upgrade", Some(report(Outcome::Done, None)), "Upgrade done"),
        (
            "upgrade",
            Some(report(Outcome::RolledBack, Some("it died"))),
            "Upgrade failed: it died; the release before serves",
        ),
        (
            "upgrade",
            Some(report(Outcome::Failed, Some("it died"))),
            "Upgrade failed: it died; so did the way back",
        ),
        ("upgrade", None, "ours"),
        ("reload", None, "Reloading, as commanded"),
        ("die", None, "Einhorn is going down! (ours)"),
        ("status", None, "ours"),
    ];
    for (command, data, expected) in cases {
        assert_eq!(
            Einhorn.last_words(command, true, "ours".to_owned(), data.as_ref()),
            expected,
            "for {command}"
        );
    }
    let before = Einhorn.last_words("upgrade", false, "upgrade failed before it began: why".to_owned(), None);
    assert_eq!(before, "Upgrade failed before it began: why");
    assert_eq!(
        Einhorn.last_words("reload", false, "not reloaded: why".to_owned(), None),
        "not reloaded: why"
    );
    assert_eq!(Einhorn.last_words("die", false, "ours".to_owned(), None), "ours");
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
