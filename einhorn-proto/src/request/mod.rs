//! Requests: what a client sends, a line each.

mod error;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::error::RequestErrorKind;
use crate::Command;
#[cfg(feature = "yaml")]
use crate::Language;

/// Bytes of the longest id: it is kept with each request that waits, and repeated in each line of its progress.
pub const ID_BYTES_MAX: usize = 256;

/// A client's own name for a request. Each reply to it has the same as `request_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId {
    /// A number, kept as it was written.
    Number(serde_json::Number),
    /// A string.
    Text(String),
}

impl From<u64> for RequestId {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A command and the name that the client gave to its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Repeated in each reply.
    pub id: Option<RequestId>,
    /// The command, with its arguments.
    pub command: Command,
}

/// A line that is no valid request.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct RequestError {
    /// The request's id, if that could be read: the reply repeats it.
    pub id: Option<RequestId>,
    /// What is wrong with it.
    pub kind: RequestErrorKind,
}

impl Request {
    /// Reads one line of JSON.
    ///
    /// # Errors
    /// [`RequestError`] for anything that is no request. No input makes it panic.
    pub fn from_json(line: &[u8]) -> Result<Self, RequestError> {
        match crate::json::read(line) {
            Ok(value) => Self::from_value(value),
            Err(error) => Err(RequestError { id: None, kind: RequestErrorKind::NotJson(error) }),
        }
    }

    /// Reads one line, in either language, and returns the language of the reply with it.
    ///
    /// A JSON object or list is JSON. Anything else is einhorn's escaped YAML, within the limits of
    /// [`crate::YAML_BYTES_MAX`], [`crate::YAML_DEPTH_MAX`] and [`crate::YAML_NODES_MAX`]. A line that
    /// is neither gets its reply in the language that it looks like.
    ///
    /// ```
    /// use einhorn_proto::{Command, Language, Request};
    ///
    /// let (language, request) = Request::from_line(b"---%0Acommand: worker:ack%0Apid: 42%0A");
    /// assert_eq!((language, request.unwrap().command), (Language::Yaml, Command::WorkerAck { pid: 42 }));
    /// ```
    ///
    /// # Errors
    /// [`RequestError`] for anything that is no request. No input makes it panic.
    #[cfg(feature = "yaml")]
    pub fn from_line(line: &[u8]) -> (Language, Result<Self, RequestError>) {
        let refused = |kind| Err(RequestError { id: None, kind });
        let not_json = match Language::looks_like_json(line).then(|| crate::json::read(line)) {
            Some(Ok(value)) => return (Language::Json, Self::from_value(value)),
            Some(Err(error)) => Some(error),
            None => None,
        };
        match (crate::yaml::read(&crate::yaml::unescape(line), crate::yaml::Limits::REQUEST), not_json) {
            (Ok(value), _) => (Language::Yaml, Self::from_value(value)),
            (Err(_), Some(error)) => (Language::Json, refused(RequestErrorKind::NotJson(error))),
            (Err(error), None) => (Language::Yaml, refused(error.into())),
        }
    }

    fn from_value(value: Value) -> Result<Self, RequestError> {
        let Value::Object(fields) = value else {
            return Err(RequestError { id: None, kind: RequestErrorKind::NotAnObject });
        };
        let id = Self::id(&fields).map_err(|kind| RequestError { id: None, kind })?;
        match Self::command(&fields) {
            Ok(command) => Ok(Self { id, command }),
            Err(kind) => Err(RequestError { id, kind }),
        }
    }

    /// The request's `id`, which go-einhorn calls `request_id`. In a ping, `request_id` is an argument.
    fn id(fields: &Map<String, Value>) -> Result<Option<RequestId>, RequestErrorKind> {
        let is_ping = fields.get("command").and_then(Value::as_str) == Some("worker:ping");
        let names: &[&str] = if is_ping { &["id"] } else { &["id", "request_id"] };
        match names.iter().filter_map(|name| fields.get(*name)).find(|value| !value.is_null()) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(RequestId::Number(number.clone()))),
            Some(Value::String(text)) if text.len() > ID_BYTES_MAX => Err(RequestErrorKind::LongId),
            Some(Value::String(text)) => Ok(Some(RequestId::Text(text.clone()))),
            Some(_) => Err(RequestErrorKind::BadId),
        }
    }

    fn command(fields: &Map<String, Value>) -> Result<Command, RequestErrorKind> {
        match fields.get("command") {
            Some(Value::String(name)) => Command::from_fields(name, fields),
            _ => Err(RequestErrorKind::NoCommand),
        }
    }

    /// Writes the request as one line, with its newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut fields = self.command.to_fields();
        match &self.id {
            None => {}
            Some(RequestId::Number(number)) => {
                fields.insert("id".into(), Value::Number(number.clone()));
            }
            Some(RequestId::Text(text)) => {
                fields.insert("id".into(), text.as_str().into());
            }
        }
        format!("{}\n", Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UpgradeRequest;
    use crate::{MaxUnacked, SignalName};
    use proptest::prelude::*;
    use std::time::Duration;

    fn read(line: &str) -> Result<Request, String> {
        Request::from_json(line.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_einhorn_workers_ack_is_read() {
        let request = read(r#"{"command":"worker:ack","pid":4711}"#).unwrap();
        assert_eq!(request, Request { id: None, command: Command::WorkerAck { pid: 4711 } });
    }

    #[test]
    fn arguments_come_by_position_or_by_name() {
        let by_position = read(r#"{"command":"set_workers","args":["8"]}"#).unwrap();
        let by_name = read(r#"{"command":"set_workers","count":8}"#).unwrap();
        assert_eq!(by_position.command, Command::SetWorkers { count: 8 });
        assert_eq!(by_name, by_position);
    }

    #[test]
    fn signal_names_are_taken_in_any_case_with_or_without_sig() {
        let request = read(r#"{"command":"signal","args":["sigusr1","Term"]}"#).unwrap();
        let signals = vec![SignalName::new("USR1"), SignalName::new("TERM")];
        assert_eq!(request.command, Command::Signal { signals });
    }

    fn upgrade(fleet: bool, canary: Option<u32>, soak: Option<Duration>) -> Command {
        Command::Upgrade(UpgradeRequest { fleet, canary, soak, ..UpgradeRequest::default() })
    }

    #[test]
    fn a_fleet_upgrade_is_a_command_or_a_field() {
        let fleet = upgrade(true, None, None);
        assert_eq!(read(r#"{"command":"upgrade_fleet"}"#).unwrap().command, fleet);
        assert_eq!(read(r#"{"command":"upgrade","fleet":true}"#).unwrap().command, fleet);
        let canary = read(r#"{"command":"upgrade","canary":2,"soak":"1.5","fleet":false}"#).unwrap();
        let soak = Some(Duration::from_millis(1500));
        assert_eq!(canary.command, upgrade(false, Some(2), soak));
        let waiting = r#"{"command":"upgrade","wait":true,"keep_master":true,"drained":true,"label":"v2"}"#;
        let waiting = read(waiting).unwrap();
        let (wait, keep_master, drained) = (true, true, true);
        let label = Some("v2".to_owned());
        let plan = UpgradeRequest { wait, keep_master, drained, label, ..UpgradeRequest::default() };
        assert_eq!(waiting.command, Command::Upgrade(plan));
    }

    #[test]
    fn checks_of_canaries_need_canaries() {
        let line = r#"{"command":"upgrade","canary":1,"soak_check":"./errors","every":"2","check":"./try"}"#;
        let [check, soak_check] = ["./try", "./errors"].map(|command| Some(command.to_owned()));
        let every = Some(Duration::from_secs(2));
        let plan = UpgradeRequest { canary: Some(1), check, soak_check, every, ..UpgradeRequest::default() };
        assert_eq!(read(line).unwrap().command, Command::Upgrade(plan));
        for (fields, words) in [
            (r#""soak_check":"x""#, "it needs \"canary\""),
            (r#""canary":1,"every":"2""#, "every is about the checks of the canaries"),
            (r#""canary":1,"soak_failures":2"#, "it needs \"soak_check\""),
            (r#""check":"x","no_check":true"#, "no_check is the opposite of \"check\""),
        ] {
            let error = read(&format!(r#"{{"command":"upgrade",{fields}}}"#)).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn error_messages_name_the_mistake() {
        for (line, message) in [
            ("[]", "a request is a JSON object such as {\"command\":\"status\"}"),
            ("{}", "no \"command\" parameter provided; not sure what you want me to do"),
            (r#"{"command":7}"#, "no \"command\" parameter provided; not sure what you want me to do"),
            (r#"{"command":"x"}"#, "unrecognized command: \"x\"; \"help\" lists the commands"),
            (
                r#"{"command":"signal","args":["USR1","17"]}"#,
                "signal: signal must be names if there are several, and \"17\" is a number; a slot or a pid is given by \
                 name, as --slot or --pid",
            ),
            (
                r#"{"command":"signal_only","args":["USR1"],"slot":1,"pid":2}"#,
                "signal_only: workers must be named by one of \"slot\", \"pid\" and \"draining\"",
            ),
            (r#"{"command":"signal_only","slot":1}"#, "signal_only: signal is missing"),
            (r#"{"command":"replace","slot":-1}"#, "replace: slot must be the number of a slot, not \"-1\""),
            (
                r#"{"command":"config","number":2,"number":3}"#,
                "cannot parse the request: the key \"number\" twice at line 1 column 39",
            ),
            (r#"{"command":"restart"}"#, "unrecognized command: \"restart\"; did you mean \"upgrade\"?"),
            (r#"{"command":"status","id":[]}"#, "\"id\" must be a number or a string"),
            (r#"{"command":"worker:ack"}"#, "worker:ack: pid is missing"),
            (r#"{"command":"worker:ack","pid":-1}"#, "worker:ack: pid must be a process id, not \"-1\""),
            (
                r#"{"command":"inc","args":["0"]}"#,
                "inc: by must be a whole number from 1 to 10000, not \"0\"",
            ),
            (r#"{"command":"status","args":["now"]}"#, "status: args has \"now\" too many"),
            (r#"{"command":"inc","args":"1"}"#, "inc: args must be a list of strings"),
            (
                r#"{"command":"upgrade","soak":5}"#,
                "upgrade: soak says how long the canaries are watched, so it needs \"canary\"",
            ),
            (
                r#"{"command":"upgrade","canary":1,"soak":"-1"}"#,
                "upgrade: soak must be a number of seconds, not \"-1\"",
            ),
            (
                r#"{"command":"upgrade_fleet","canary":1}"#,
                "upgrade_fleet: canary comes before the rest, and a fleet comes all at once",
            ),
            (r#"{"command":"upgrade","fleet":1}"#, "upgrade: fleet must be true or false, not 1"),
            (r#"{"command":"upgrade","wait":"yes"}"#, "upgrade: wait must be true or false, not \"yes\""),
            (r#"{"command":"upgrade","label":""}"#, "upgrade: label must not be empty"),
            (
                "{\"command\":\"upgrade\",\"label\":\"v1\\u001b[2J\"}",
                "upgrade: label must be one line of visible characters",
            ),
        ] {
            assert_eq!(read(line).unwrap_err(), message, "for {line}");
        }
    }

    #[test]
    fn an_error_keeps_the_id_of_its_request() {
        let error = Request::from_json(br#"{"command":"x","id":"a"}"#).unwrap_err();
        assert_eq!(error.id, Some(RequestId::Text("a".into())));
    }

    #[test]
    fn a_soak_is_read_to_the_millisecond() {
        // A fast parser of decimals gets 8401268.163 wrong in its last digit.
        let soak = Some(Duration::from_millis(8_401_268_163));
        let request = Request { id: None, command: upgrade(false, Some(1), soak) };
        assert_eq!(Request::from_json(request.to_json().as_bytes()).unwrap(), request);
    }

    #[test]
    fn the_id_may_be_given_as_request_id() {
        let id = |line: &str| Request::from_json(line.as_bytes()).unwrap().id;
        assert_eq!(id(r#"{"command":"inc","request_id":"a"}"#), Some(RequestId::Text("a".into())));
        assert_eq!(id(r#"{"command":"inc","request_id":1,"id":2}"#), Some(2.into()));
        assert_eq!(id(r#"{"command":"worker:ack","pid":1,"request_id":3}"#), Some(3.into()));
        let ping = read(r#"{"command":"worker:ping","pid":1,"request_id":"a"}"#).unwrap();
        let command = Command::WorkerPing { pid: 1, request_id: Some("a".into()) };
        assert_eq!(ping, Request { id: None, command });
    }

    #[test]
    fn options_come_as_json_text_or_by_name() {
        let config = |settings| Request { id: None, command: Command::Config(settings) };
        let expected = crate::Settings { number: Some(4), verbosity: Some(0), ..crate::Settings::default() };
        assert_eq!(
            read(r#"{"command":"config","args":["{\"number\":4,\"verbosity\":0}"]}"#),
            Ok(config(expected))
        );
        assert_eq!(
            read(r#"{"command":"config","args":[{"number":9}],"number":4,"verbosity":"0"}"#),
            Ok(config(expected))
        );
        assert_eq!(
            read(r#"{"command":"config","args":["{\"number\":","4,","\"verbosity\":0}"]}"#),
            Ok(config(expected)),
            "as a shell splits it"
        );
        assert_eq!(read(r#"{"command":"config"}"#), Ok(config(crate::Settings::default())));
        for (line, message) in [
            (r#"{"command":"config","args":["7"]}"#, "config: args must be a map of options in YAML"),
            (r#"{"command":"config","args":["7",7]}"#, "config: args must be a map of options in YAML"),
            (r#"{"command":"config","args":[{"seconds":0}]}"#, "config: seconds must be > 0"),
            (
                r#"{"command":"config","number":2,"bogus":1}"#,
                "config: \"bogus\" is not an option; valid options: number, seconds, max_unacked, \
                 max_upgrade_additional, signal_timeout, verbosity",
            ),
            (
                r#"{"command":"config","args":[{"verbosity":3}]}"#,
                "config: verbosity must be 0 (debug), 1 (info) or 2 (error)",
            ),
            (
                r#"{"command":"config","args":[{"worker_uid":0}]}"#,
                "config: \"worker_uid\" is not an option; valid options: number, seconds, max_unacked, \
                 max_upgrade_additional, signal_timeout, verbosity",
            ),
            (
                r#"{"command":"config","max_unacked":"auto:0"}"#,
                "config: max_unacked must be a whole number from 1 to 10000, \"auto\", or \"auto:\" and the most \
                 of them, not \"auto:0\"",
            ),
        ] {
            assert_eq!(read(line).unwrap_err(), message, "for {line}");
        }
    }

    #[test]
    fn max_unacked_is_a_number_or_auto() {
        for (value, expected) in [
            ("3", MaxUnacked::Count(3)),
            ("\"3\"", MaxUnacked::Count(3)),
            ("\"auto\"", MaxUnacked::Auto(crate::WORKERS_MAX)),
            ("\"auto:8\"", MaxUnacked::Auto(8)),
        ] {
            let settings = crate::Settings { max_unacked: Some(expected), ..crate::Settings::default() };
            let line = format!(r#"{{"command":"config","max_unacked":{value}}}"#);
            assert_eq!(read(&line).map(|request| request.command), Ok(Command::Config(settings)));
        }
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let signal = "[A-RT-Z][A-Z0-9]{0,6}".prop_map(|name| SignalName::new(&name));
        prop_oneof![
            Just(Command::Help),
            Just(Command::Status),
            Just(Command::Events),
            Just(Command::UpgradeContinue),
            Just(Command::UpgradeAbort),
            Just(Command::UpgradeFollow),
            Just(Command::Rollback),
            Just(Command::History),
            any::<([bool; 4], Option<String>)>().prop_map(
                |([wait, keep_master, drained, no_check], check)| {
                    let check = check.filter(|_| !no_check);
                    let plan = UpgradeRequest {
                        fleet: true,
                        wait,
                        keep_master,
                        drained,
                        no_check,
                        check,
                        label: wait.then(|| "żółw 🦄".to_owned()),
                        ..UpgradeRequest::default()
                    };
                    Command::Upgrade(plan)
                }
            ),
            proptest::option::of((1_u32..=crate::WORKERS_MAX, proptest::option::of(0_u64..1 << 34)))
                .prop_map(|canary| upgrade(
                    false,
                    canary.map(|(slots, _)| slots),
                    canary.and_then(|(_, soak)| soak).map(Duration::from_millis),
                )),
            proptest::option::of(".{0,20}").prop_map(|user| Command::Ehlo { user }),
            (1_u32..=crate::WORKERS_MAX).prop_map(|by| Command::Inc { by }),
            (1_u32..=crate::WORKERS_MAX).prop_map(|count| Command::SetWorkers { count }),
            proptest::collection::vec(signal.clone(), 0..4).prop_map(|signals| Command::Signal { signals }),
            proptest::option::of(signal).prop_map(|signal| Command::Die { signal }),
            (proptest::option::of(1_u32..=crate::WORKERS_MAX), proptest::option::of(1_u64..1 << 34))
                .prop_map(|(count, milliseconds)| Command::Config(crate::Settings {
                    max_unacked: count.map(|count| match count % 2 {
                        0 => MaxUnacked::Count(count),
                        _ => MaxUnacked::Auto(count),
                    }),
                    signal_timeout: milliseconds.map(Duration::from_millis),
                    ..crate::Settings::default()
                })),
            (1..=i32::MAX, proptest::option::of(".{0,20}"))
                .prop_map(|(pid, request_id)| Command::WorkerPing { pid, request_id }),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::from_json(&bytes);
        }

        #[test]
        fn any_fields_are_read_or_refused(name in "[a-z_:]{0,12}", key in "[a-z]{1,8}", value in any::<i64>()) {
            let _ = read(&format!(r#"{{"command":"{name}","{key}":{value},"args":[{value},"{key}"]}}"#));
        }

        #[test]
        fn a_written_request_reads_back(command in any_command(), id in proptest::option::of(any::<u64>())) {
            let request = Request { id: id.map(RequestId::from), command };
            let line = request.to_json();
            prop_assert!(line.ends_with('\n') && !line[..line.len() - 1].contains('\n'));
            prop_assert_eq!(Request::from_json(line.as_bytes()).unwrap(), request);
        }
    }
}

#[cfg(all(test, feature = "yaml"))]
mod line_tests;
