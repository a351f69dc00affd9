//! Lines in either language, and the answers to them.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Command, Reply, Settings, SignalName};

fn read(line: &str) -> (Language, Result<Request, String>) {
    let (language, request) = Request::from_line(line.as_bytes());
    (language, request.map_err(|error| error.to_string()))
}

fn request(line: &str) -> Request {
    let (language, request) = read(line);
    assert_eq!(language, Language::Yaml, "for {line}");
    request.unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn written(reply: &Reply, language: Language) -> String {
    let mut out = Vec::new();
    reply.write_in(language, &mut out);
    String::from_utf8(out).expect("replies are UTF-8")
}

#[test]
fn a_json_object_is_json_and_everything_else_is_yaml() {
    let ack = Request { id: None, command: Command::WorkerAck { pid: 42 } };
    assert_eq!(read(r#"  {"command":"worker:ack","pid":42}"#), (Language::Json, Ok(ack.clone())));
    assert_eq!(request("---%0Acommand: worker:ack%0Apid: 42%0A"), ack);
    assert_eq!(request("--- {\"command\": \"worker:ack\", \"pid\": 42}"), ack);
    assert_eq!(request("{command: worker:ack, pid: 42}"), ack);
    assert_eq!(request("{%0A  \"command\": \"worker:ack\",%0A  \"pid\": 42%0A}"), ack);
    assert_eq!(request("---%0A:command: worker:ack%0A:pid: '42'%0A"), ack);
}

#[test]
fn what_cannot_be_read_is_answered_in_the_language_that_it_looks_like() {
    let refused = |line: &str| {
        let (language, request) = read(line);
        (language, request.unwrap_err())
    };
    let (language, why) = refused(r#"{"command":"#);
    assert!(language == Language::Json && why.starts_with("cannot parse the request: EOF"), "{why}");
    let (language, why) = refused("a: [");
    assert!(language == Language::Yaml && why.starts_with("cannot parse the request: line 2"), "{why}");
    assert_eq!(refused("[]").0, Language::Json);
    assert_eq!(refused("status").0, Language::Yaml);
    assert_eq!(refused("a: b").1, "no \"command\" parameter provided; not sure what you want me to do");
}

#[test]
fn arguments_and_ids_are_read_as_einhorns_clients_send_them() {
    let signals = vec![SignalName::new("USR1"), SignalName::new("TERM")];
    assert_eq!(
        request("---%0Aid: 5f4dcc%0Acommand: signal%0Aargs:%0A- usr1%0A- SIGTERM%0A"),
        Request { id: Some(RequestId::Text("5f4dcc".into())), command: Command::Signal { signals } }
    );
    assert_eq!(
        request("---%0Acommand: set_workers%0Aargs:%0A- '5'%0Arequest_id: 7%0A"),
        Request { id: Some(7.into()), command: Command::SetWorkers { count: 5 } }
    );
    assert_eq!(
        request("---%0Acommand: ehlo%0Auser: 100%25 +b%0Aid: ~%0A"),
        Request { id: None, command: Command::Ehlo { user: Some("100% +b".into()) } }
    );
}

#[test]
fn options_come_as_yaml_text_in_yaml() {
    let settings = Settings {
        number: Some(3),
        signal_timeout: Some(std::time::Duration::from_millis(1500)),
        ..Settings::default()
    };
    let line =
        "---%0Acommand: config%0Aargs:%0A- |%0A  :number: 3%0A  :signal_timeout: 1.5%0A  seconds: ~%0A";
    assert_eq!(request(line).command, Command::Config(settings));
    let (_, refused) = read("---%0Acommand: config%0Aargs:%0A- 'a: *b'%0A");
    assert!(refused.unwrap_err().starts_with("config: args cannot be parsed: "));
}

#[test]
fn a_reply_in_yaml_has_message_id_and_wait() {
    let last = Reply::last(Some(RequestId::Text("1e3".into())), true, "Upgrade done", Some(json!(1)));
    assert_eq!(
        written(&last, Language::Yaml),
        "---%0Amessage: Upgrade done%0Arequest_id: \"1e3\"%0A\n",
        "`ok` and `data` are not einhorn's"
    );
    let progress = Reply::progress(Some(3.into()), "1\n+50%", None);
    assert_eq!(
        written(&progress, Language::Yaml),
        "---%0Amessage: \"1\\n\\u002B50\\u0025\"%0Arequest_id: 3%0Await: true%0A\n"
    );
    assert_eq!(
        written(&progress, Language::Json),
        "{\"message\":\"1\\n\\u002b50\\u0025\",\"request_id\":3,\"wait\":true}\n"
    );
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Request::from_line(&line);
        let _ = Reply::from_line(&line);
    }

    #[test]
    fn a_written_reply_is_read_in_either_language(
        message in "(?s).{0,80}",
        id in proptest::option::of(prop_oneof![
            any::<u64>().prop_map(RequestId::from),
            "(?s).{0,12}".prop_map(RequestId::Text),
        ]),
        wait: bool,
    ) {
        let wait = wait && id.is_some();
        let reply: Reply = Reply { message, request_id: id, wait, ok: None, refused: None, data: None };
        for language in [Language::Json, Language::Yaml] {
            let line = written(&reply, language);
            prop_assert!(line.ends_with('\n') && !line[..line.len() - 1].contains('\n'));
            prop_assert_eq!(&Reply::from_line(line.trim_end_matches('\n').as_bytes()).unwrap(), &reply);
            // As go-einhorn decodes it.
            let decoded = line.replace('+', " ");
            prop_assert_eq!(&Reply::from_line(decoded.trim_end_matches('\n').as_bytes()).unwrap(), &reply);
        }
    }
}
