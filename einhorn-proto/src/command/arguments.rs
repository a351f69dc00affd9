//! Reads the arguments of a command from a request, and names what is wrong with them.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Command, CommandInfo, Place, SignalName, UpgradeRequest};
use crate::{
    MaxUnacked, MaxUnackedError, RequestErrorKind, SecondsError, Settings, Target, VERBOSITY_MAX,
    WORKERS_MAX, parse_label, parse_seconds,
};

/// The arguments of a request: a field by name wins over the positional one.
pub(super) struct Arguments<'a> {
    info: &'static CommandInfo,
    fields: &'a Map<String, Value>,
    positional: Vec<&'a Value>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(
        info: &'static CommandInfo,
        fields: &'a Map<String, Value>,
    ) -> Result<Self, RequestErrorKind> {
        let positional = match fields.get("args") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(args)) => args.iter().collect(),
            Some(_) => return Err(bad(info, "args", "must be a list of strings")),
        };
        Ok(Self { info, fields, positional })
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        let by_name = self.fields.get(name).filter(|value| !value.is_null());
        by_name.or_else(|| {
            let position = self.info.arguments.iter().position(|argument| argument.field == name)?;
            let is_positional = self.info.arguments[position].place == Place::Next;
            self.positional.get(position).copied().filter(|_| is_positional)
        })
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, RequestErrorKind> {
        self.value(name).map(|value| self.text_of(name, value)).transpose()
    }

    fn text_of(&self, name: &str, value: &Value) -> Result<String, RequestErrorKind> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(bad(self.info, name, "must be a string")),
        }
    }

    pub(super) fn count(&self, name: &str) -> Result<Option<u32>, RequestErrorKind> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.trim().parse::<u32>() {
            Ok(count) if (1..=WORKERS_MAX).contains(&count) => Ok(Some(count)),
            _ => Err(bad(
                self.info,
                name,
                &format!("must be a whole number from 1 to {WORKERS_MAX}, not \"{text}\""),
            )),
        }
    }

    pub(super) fn upgrade(&self, fleet: bool) -> Result<Command, RequestErrorKind> {
        let (canary, soak) = (self.count("canary")?, self.seconds("soak")?);
        if fleet && canary.is_some() {
            return Err(bad(self.info, "canary", "comes before the rest, and a fleet comes all at once"));
        }
        if soak.is_some() && canary.is_none() {
            return Err(bad(
                self.info,
                "soak",
                "says how long the canaries are watched, so it needs \"canary\"",
            ));
        }
        let (wait, keep_master) = (self.flag("wait")?, self.flag("keep_master")?);
        let drained = self.flag("drained")?;
        let label = self.text("label")?.map(|text| parse_label(&text)).transpose();
        let label = label.map_err(|why| bad(self.info, "label", &why))?;
        let (check, no_check) = (self.text("check")?, self.flag("no_check")?);
        if check.is_some() && no_check {
            return Err(bad(self.info, "no_check", "is the opposite of \"check\""));
        }
        let (soak_check, every) = (self.text("soak_check")?, self.positive_seconds("every")?);
        let soak_failures = self.count("soak_failures")?;
        if soak_check.is_some() && canary.is_none() {
            return Err(bad(self.info, "soak_check", "checks the canaries, so it needs \"canary\""));
        }
        for (name, is_given) in [("every", every.is_some()), ("soak_failures", soak_failures.is_some())] {
            if is_given && soak_check.is_none() {
                return Err(bad(
                    self.info,
                    name,
                    "is about the checks of the canaries, so it needs \"soak_check\"",
                ));
            }
        }
        Ok(Command::Upgrade(UpgradeRequest {
            fleet,
            canary,
            soak,
            wait,
            keep_master,
            drained,
            check,
            no_check,
            soak_check,
            every,
            soak_failures,
            label,
        }))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, RequestErrorKind> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(bad(self.info, name, &format!("must be true or false, not {other}"))),
        }
    }

    /// A time, rounded to the millisecond, so that a written one reads back the same whatever happened to its last
    /// binary digit.
    fn seconds(&self, name: &str) -> Result<Option<Duration>, RequestErrorKind> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match parse_seconds(text.trim()) {
            Ok(seconds) => {
                let rounded = seconds + Duration::from_micros(500);
                Ok(Some(Duration::new(rounded.as_secs(), rounded.subsec_millis() * 1_000_000)))
            }
            Err(SecondsError::TooLong) => Err(bad(self.info, name, &SecondsError::TooLong.to_string())),
            Err(_) => Err(bad(self.info, name, &format!("must be a number of seconds, not \"{text}\""))),
        }
    }

    pub(super) fn settings(&self) -> Result<Settings, RequestErrorKind> {
        let mut options = match self.positional.as_slice() {
            [] => Map::new(),
            [Value::Object(options)] => options.clone(),
            words => {
                // Without quotes, a shell has split the text at its blanks.
                let words: Option<Vec<_>> = words.iter().map(|word| word.as_str()).collect();
                let words =
                    words.ok_or_else(|| bad(self.info, "args", "must be a map of options in YAML"))?;
                self.options(&words.join(" "))?
            }
        };
        let by_name =
            self.fields.iter().filter(|(name, _)| !["command", "id", "args"].contains(&name.as_str()));
        options.extend(by_name.map(|(name, value)| (name.clone(), value.clone())));
        if let Some(name) = options.keys().find(|name| !Settings::NAMES.contains(&name.as_str())) {
            let why = format!("is not an option; valid options: {}", Settings::NAMES.join(", "));
            return Err(bad(self.info, &format!("\"{name}\""), &why));
        }
        let options = Arguments { info: self.info, fields: &options, positional: Vec::new() };
        Ok(Settings {
            number: options.count("number")?,
            seconds: options.positive_seconds("seconds")?,
            max_unacked: options.max_unacked()?,
            max_upgrade_additional: options.count("max_upgrade_additional")?,
            signal_timeout: options.positive_seconds("signal_timeout")?,
            verbosity: options.verbosity()?,
        })
    }

    /// The options in `text`, which is JSON, or YAML with the feature `yaml`.
    fn options(&self, text: &str) -> Result<Map<String, Value>, RequestErrorKind> {
        #[cfg(feature = "yaml")]
        let read = crate::yaml::read(text.as_bytes(), crate::yaml::Limits::REQUEST);
        #[cfg(not(feature = "yaml"))]
        let read = crate::json::read(text.as_bytes());
        match read {
            Ok(Value::Object(options)) => Ok(options),
            Ok(_) => Err(bad(self.info, "args", "must be a map of options in YAML")),
            Err(error) => Err(bad(self.info, "args", &format!("cannot be parsed: {error}"))),
        }
    }

    fn positive_seconds(&self, name: &str) -> Result<Option<Duration>, RequestErrorKind> {
        match self.seconds(name)? {
            Some(Duration::ZERO) => Err(bad(self.info, name, "must be > 0")),
            seconds => Ok(seconds),
        }
    }

    fn max_unacked(&self) -> Result<Option<MaxUnacked>, RequestErrorKind> {
        let Some(text) = self.text("max_unacked")? else { return Ok(None) };
        let wrong =
            |error: MaxUnackedError| bad(self.info, "max_unacked", &format!("{error}, not \"{text}\""));
        text.trim().parse().map(Some).map_err(wrong)
    }

    fn verbosity(&self) -> Result<Option<u8>, RequestErrorKind> {
        let Some(text) = self.text("verbosity")? else { return Ok(None) };
        match text.trim().parse() {
            Ok(level) if level <= VERBOSITY_MAX => Ok(Some(level)),
            _ => Err(bad(self.info, "verbosity", "must be 0 (debug), 1 (info) or 2 (error)")),
        }
    }

    pub(super) fn pid(&self, name: &str) -> Result<Option<i32>, RequestErrorKind> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.trim().parse::<i32>() {
            Ok(pid) if pid > 0 => Ok(Some(pid)),
            _ => Err(bad(self.info, name, &format!("must be a process id, not \"{text}\""))),
        }
    }

    /// The signals of `args`, after one that is given by `name`.
    pub(super) fn signals(&self, name: &str) -> Result<Vec<SignalName>, RequestErrorKind> {
        let by_name = self.text(name)?.into_iter().map(Ok);
        let rest = self.positional.iter().map(|value| self.text_of(name, value));
        let signals = by_name.chain(rest).map(|signal| Ok(SignalName::new(&signal?)));
        let signals: Vec<_> = signals.collect::<Result<_, RequestErrorKind>>()?;
        let is_number = |signal: &&SignalName| signal.as_str().bytes().all(|byte| byte.is_ascii_digit());
        match signals.iter().find(is_number) {
            // "signal USR1 17" may mean a slot, a pid or SIGCHLD.
            Some(number) if signals.len() > 1 => {
                let why = format!(
                    "must be names if there are several, and \"{}\" is a number; a slot or a pid is given by name, as \
                     --slot or --pid",
                    number.as_str()
                );
                Err(bad(self.info, name, &why))
            }
            _ => Ok(signals),
        }
    }

    /// The workers that the request names, by exactly one field.
    pub(super) fn target(&self) -> Result<Target, RequestErrorKind> {
        let slot = self.text("slot")?.map(|text| {
            let slot = text.trim().parse().ok().filter(|slot| *slot < WORKERS_MAX);
            slot.ok_or_else(|| {
                bad(self.info, "slot", &format!("must be the number of a slot, not \"{text}\""))
            })
        });
        let named = [
            slot.transpose()?.map(Target::Slot),
            self.pid("pid")?.map(Target::Pid),
            self.flag("draining")?.then_some(Target::Draining),
        ];
        match named.into_iter().flatten().collect::<Vec<_>>()[..] {
            [target] => Ok(target),
            _ => Err(bad(self.info, "workers", "must be named by one of \"slot\", \"pid\" and \"draining\"")),
        }
    }

    /// Reads the argument `name` as `read` does; it must be there.
    pub(super) fn required<T>(
        &self,
        name: &str,
        read: impl Fn(&Self, &str) -> Result<Option<T>, RequestErrorKind>,
    ) -> Result<T, RequestErrorKind> {
        read(self, name)?.ok_or_else(|| bad(self.info, name, "is missing"))
    }

    /// The error that an argument cannot be as it is.
    pub(super) fn refused(&self, argument: &str, why: &str) -> RequestErrorKind {
        bad(self.info, argument, why)
    }

    pub(super) fn check_surplus(&self) -> Result<(), RequestErrorKind> {
        if self.info.arguments.iter().any(|argument| argument.place == Place::Rest) {
            return Ok(());
        }
        let taken = self.info.arguments.iter().filter(|argument| argument.place == Place::Next).count();
        match self.positional.get(taken) {
            None => Ok(()),
            Some(surplus) => Err(bad(self.info, "args", &format!("has {surplus} too many"))),
        }
    }
}

fn bad(info: &CommandInfo, argument: &str, why: &str) -> RequestErrorKind {
    let argument = crate::shortened(argument).into();
    RequestErrorKind::BadArgument { command: info.name.into(), argument, why: why.into() }
}
