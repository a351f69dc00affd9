//! Reads the YAML of requests and replies, within limits.
//!
//! A line may come from anyone who can connect, so it accepts little: one document of maps, lists and scalars, within
//! [`Limits`]; no anchors, aliases, merge keys, duplicate keys or directives; and no tags except those that state the
//! obvious. The parser hands over one event at a time, and reading stops at the first refusal.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Number, Value};

/// The longest document, in bytes: a quarter of a line. The worst document of this length takes two milliseconds to
/// read; requests have a few hundred bytes.
pub const YAML_BYTES_MAX: usize = 16 * 1024;

/// How deep lists and maps may be nested. Requests have two levels.
pub const YAML_DEPTH_MAX: usize = 16;

/// How many scalars, lists and maps a document may have, keys included. The longest requests name signals.
pub const YAML_NODES_MAX: usize = 1024;

/// How much to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    bytes: usize,
    nodes: usize,
}

impl Limits {
    /// For requests, which may come from anyone.
    pub(crate) const REQUEST: Self = Self { bytes: YAML_BYTES_MAX, nodes: YAML_NODES_MAX };
    /// For replies, which come from the master that a client chose, and may list every worker.
    pub(crate) const REPLY: Self = Self { bytes: 16 * 1024 * 1024, nodes: 1024 * 1024 };
}

/// Why a text is not accepted as YAML.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotYaml {
    /// It is not UTF-8.
    #[error("not UTF-8")]
    Encoding(#[from] std::str::Utf8Error),
    /// It breaks the rules of YAML.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// From 1, in the document.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// It is empty.
    #[error("an empty document")]
    Empty,
    /// Another document follows the first.
    #[error("more than one document")]
    SeveralDocuments,
    /// It is too long; the limit for requests is [`YAML_BYTES_MAX`].
    #[error("longer than {bytes} bytes")]
    TooLong {
        /// The limit, in bytes.
        bytes: usize,
    },
    /// Lists and maps are nested deeper than [`YAML_DEPTH_MAX`].
    #[error("deeper than {YAML_DEPTH_MAX} levels")]
    TooDeep,
    /// It has too many scalars, lists and maps; the limit for requests is [`YAML_NODES_MAX`].
    #[error("more than {nodes} values")]
    TooMany {
        /// The limit.
        nodes: usize,
    },
    /// A line that begins with `%`: it could give a tag another meaning.
    #[error("directives are not accepted")]
    Directive,
    /// An anchor, an alias or a merge key.
    #[error("anchors, aliases and merge keys are not accepted")]
    Reference,
    /// A tag that asks for a type.
    #[error("the tag {tag} is not accepted")]
    Tag {
        /// The tag.
        tag: String,
    },
    /// A key that is a list or a map.
    #[error("a key that is not a string")]
    Key,
    /// One key twice in one map.
    #[error("the key \"{key}\" twice")]
    KeyTwice {
        /// The key.
        key: String,
    },
}

impl From<ScanError> for NotYaml {
    fn from(error: ScanError) -> Self {
        let at = error.marker();
        Self::Syntax { line: at.line(), column: at.col() + 1, reason: error.info().to_owned() }
    }
}

/// Reads one document.
///
/// Keys and values may be Ruby's symbols, which are strings here. Plain scalars mean what they mean in JSON:
/// numbers without an exponent, `true`, `false` and `null`; `~` and an empty value are null too. Any other is a string,
/// also `yes` and dates.
///
/// # Errors
/// [`NotYaml`] for anything else, whatever the bytes.
pub(crate) fn read(text: &[u8], limits: Limits) -> Result<Value, NotYaml> {
    if text.len() > limits.bytes {
        return Err(NotYaml::TooLong { bytes: limits.bytes });
    }
    let text = std::str::from_utf8(text)?;
    if text.split(['\n', '\r']).any(|line| line.starts_with('%')) {
        return Err(NotYaml::Directive);
    }
    let mut builder = Builder { open: Vec::new(), nodes: 0, nodes_max: limits.nodes, document: None };
    for event in Parser::new_from_str(text) {
        builder.take(event?.0)?;
    }
    builder.document.ok_or(NotYaml::Empty)
}

/// Builds values from events. Its stack is on the heap and bounded, so deep documents cause no deep recursion.
#[derive(Debug)]
struct Builder {
    open: Vec<Open>,
    nodes: usize,
    nodes_max: usize,
    document: Option<Value>,
}

/// A list or a map that is still open.
#[derive(Debug)]
enum Open {
    List(Vec<Value>),
    /// With the key of the next value.
    Map(Map<String, Value>, Option<String>),
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), NotYaml> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.document.is_some() => Err(NotYaml::SeveralDocuments),
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(_) => Err(NotYaml::Reference),
            Event::Scalar(text, style, anchor, tag) => {
                self.enter(anchor)?;
                let is_string = check_tag(tag.as_deref(), "str")?;
                let is_plain = style == ScalarStyle::Plain && !is_string;
                if self.awaits_key() { self.key(&text, is_plain) } else { self.put(scalar(&text, is_plain)) }
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq")?;
                self.open(anchor, Open::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map")?;
                self.open(anchor, Open::Map(Map::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(list)) => self.put(Value::Array(list)),
                Some(Open::Map(map, _)) => self.put(Value::Object(map)),
                None => Ok(()),
            },
        }
    }

    fn enter(&mut self, anchor: usize) -> Result<(), NotYaml> {
        if anchor != 0 {
            return Err(NotYaml::Reference);
        }
        self.nodes += 1;
        if self.nodes > self.nodes_max { Err(NotYaml::TooMany { nodes: self.nodes_max }) } else { Ok(()) }
    }

    fn open(&mut self, anchor: usize, open: Open) -> Result<(), NotYaml> {
        self.enter(anchor)?;
        if self.awaits_key() {
            return Err(NotYaml::Key);
        }
        if self.open.len() == YAML_DEPTH_MAX {
            return Err(NotYaml::TooDeep);
        }
        self.open.push(open);
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map(_, None)))
    }

    fn key(&mut self, text: &str, is_plain: bool) -> Result<(), NotYaml> {
        if is_plain && text == "<<" {
            return Err(NotYaml::Reference);
        }
        let name = if is_plain { symbol(text).unwrap_or(text) } else { text };
        match self.open.last_mut() {
            Some(Open::Map(map, _)) if map.contains_key(name) => {
                Err(NotYaml::KeyTwice { key: name.to_owned() })
            }
            Some(Open::Map(_, key)) => {
                *key = Some(name.to_owned());
                Ok(())
            }
            Some(Open::List(_)) | None => Err(NotYaml::Key),
        }
    }

    fn put(&mut self, value: Value) -> Result<(), NotYaml> {
        match self.open.last_mut() {
            None => self.document = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => {
                map.insert(key.take().ok_or(NotYaml::Key)?, value);
            }
        }
        Ok(())
    }
}

/// Whether `tag`, on a node of `kind`, makes a scalar a string.
fn check_tag(tag: Option<&Tag>, kind: &str) -> Result<bool, NotYaml> {
    let Some(tag) = tag else { return Ok(false) };
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        // The non-specific tag: do not resolve the scalar.
        ("!", "") | ("", "!") => Ok(true),
        ("tag:yaml.org,2002:", suffix) if suffix == kind => Ok(true),
        ("!", "ruby/symbol" | "ruby/sym") if kind == "str" => Ok(true),
        _ => Err(NotYaml::Tag { tag: tag.to_string() }),
    }
}

fn scalar(text: &str, is_plain: bool) -> Value {
    if !is_plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        text => match number(text) {
            Some(number) => Value::Number(number),
            None => Value::String(symbol(text).unwrap_or(text).to_owned()),
        },
    }
}

/// A number that every reader takes for the same number and writes back unchanged. Others stay strings: `017`, `0x1F`,
/// `1_000`, `.inf`, and above all `1e3`, which is a string in Ruby, for instance the start of a hexadecimal id.
fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    let number: Number = serde_json::from_str(text).ok()?;
    (number.to_string() == text).then_some(number)
}

/// The name of the symbol that Ruby writes as `:name` or `:"name"`.
fn symbol(text: &str) -> Option<&str> {
    let name = text.strip_prefix(':').filter(|name| !name.is_empty())?;
    Some(name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name))
}

#[cfg(test)]
mod tests;
