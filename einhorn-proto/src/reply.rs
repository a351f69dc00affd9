//! Replies: what the master sends, a line each.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;

use crate::yaml::{escape_into, yaml_scalar};
use crate::{Language, RefusalKind, RequestId};

/// One line of the master's answer to a request.
///
/// A long command sends lines with `wait`, and then exactly one without, which has `ok`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply<D = serde_json::Value> {
    /// For people; may have several lines.
    pub message: String,
    /// The request's `id`, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Whether more lines will come for this request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
    /// In the last line: whether the command did what was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// In the last line of a refusal: its reason, where programs act on that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusalKind>,
    /// For programs; its type depends on the command: [`crate::Status`] for `status`, [`Resized`] for `inc`,
    /// `dec` and `set_workers`, [`crate::Notice`] in events, [`crate::Progress`] while a rollout runs and
    /// [`crate::UpgradeReport`] at its end.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub data: Option<D>,
}

/// `#[serde(default)]` alone would require `D: Default`.
fn none<D>() -> Option<D> {
    None
}

impl<D: Serialize> Reply<D> {
    /// The last line of an answer.
    pub fn last(
        request_id: Option<RequestId>,
        ok: bool,
        message: impl Into<String>,
        data: Option<D>,
    ) -> Self {
        Self { message: message.into(), request_id, wait: false, ok: Some(ok), refused: None, data }
    }

    /// A line that is not the last.
    pub fn progress(request_id: Option<RequestId>, message: impl Into<String>, data: Option<D>) -> Self {
        Self { message: message.into(), request_id, wait: true, ok: None, refused: None, data }
    }

    /// Appends the reply to `out` as one line, with its newline, in `language`.
    ///
    /// In YAML it has the fields of einhorn's replies: `message`, `request_id`, and `wait` only beside a `request_id`.
    ///
    /// # Panics
    /// If `D` cannot be written as JSON, which the types of this crate always can.
    pub fn write_in(&self, language: Language, out: &mut Vec<u8>) {
        match language {
            Language::Json => self.write_to(out),
            Language::Yaml => self.write_yaml(out),
        }
    }

    fn write_yaml(&self, out: &mut Vec<u8>) {
        let mut document = format!("---\nmessage: {}\n", yaml_scalar(&self.message));
        match &self.request_id {
            None => {}
            Some(RequestId::Number(number)) => document.push_str(&format!("request_id: {number}\n")),
            Some(RequestId::Text(text)) => {
                document.push_str(&format!("request_id: {}\n", yaml_scalar(text)));
            }
        }
        // A client that sends no id does not wait.
        if self.wait && self.request_id.is_some() {
            document.push_str("wait: true\n");
        }
        escape_into(&document, out);
        out.push(b'\n');
    }

    /// Appends the reply to `out` as one line of JSON, with its newline.
    ///
    /// `%` and `+` in strings are written as `\u0025` and `\u002b`: einhorn's clients may send JSON too, and
    /// decode their escapes in the reply.
    ///
    /// # Panics
    /// If `D` cannot be written as JSON, which the types of this crate always can.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Undecodable);
        self.serialize(&mut serializer).expect("reply types serialise to JSON");
        out.push(b'\n');
    }
}

impl Reply {
    /// Reads one line, in either language.
    ///
    /// # Errors
    /// If the line is no reply. No input makes it panic.
    #[cfg(feature = "yaml")]
    pub fn from_line(line: &[u8]) -> Result<Self, crate::RequestErrorKind> {
        use crate::RequestErrorKind::NotJson;

        if Language::looks_like_json(line) {
            return serde_json::from_slice(line).map_err(NotJson);
        }
        serde_json::from_value(crate::yaml::read(&crate::yaml::unescape(line), crate::yaml::Limits::REPLY)?)
            .map_err(NotJson)
    }
}

/// Formats JSON so that nothing in it looks like one of einhorn's escapes.
struct Undecodable;

impl Formatter for Undecodable {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for piece in fragment.split_inclusive(['%', '+']) {
            let (rest, escape) = match piece.as_bytes() {
                [rest @ .., b'%'] => (rest, "\\u0025"),
                [rest @ .., b'+'] => (rest, "\\u002b"),
                rest => (rest, ""),
            };
            writer.write_all(rest)?;
            writer.write_all(escape.as_bytes())?;
        }
        Ok(())
    }
}

/// The data of an answer to `inc`, `dec` or `set_workers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resized {
    /// The number of workers before.
    pub from: u32,
    /// The number of workers now.
    pub to: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_has_ok_and_only_the_others_have_wait() {
        let mut out = Vec::new();
        Reply::<()>::progress(Some(3.into()), "half", None).write_to(&mut out);
        Reply::last(Some(3.into()), true, "whole", Some(Resized { from: 1, to: 2 })).write_to(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"message":"half","request_id":3,"wait":true}"#,
                "\n",
                r#"{"message":"whole","request_id":3,"ok":true,"data":{"from":1,"to":2}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_reply_of_einhorn_is_read() {
        let reply: Reply = serde_json::from_str(r#"{"message":"hi"}"#).unwrap();
        assert!(!reply.wait && reply.ok.is_none() && reply.data.is_none());
    }

    #[cfg(feature = "yaml")]
    #[test]
    fn a_reply_may_be_longer_than_any_request_is() {
        let text = "x: y\n".repeat(40_000);
        let reply = Reply::<()>::last(Some(3.into()), true, text.clone(), None);
        let mut line = Vec::new();
        reply.write_in(Language::Yaml, &mut line);
        assert_eq!(Reply::from_line(line.trim_ascii_end()).unwrap().message, text);
    }
}
