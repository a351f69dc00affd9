//! `state` as einhorn's clients load it: a text in Ruby's YAML, in the `message` of the answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use einhorn_proto::{MasterState, Status, short_signal_name, yaml_scalar};

use einhyrningsins_supervisor::{AckMode, WorkerDetail};

use super::verbosity_number;
use crate::manners::Facts;

/// YAML as Ruby writes what it has.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// `nil`.
    Nothing,
    /// A number, a truth value, a time: what needs no quotes.
    Bare(String),
    /// A `String`.
    Text(String),
    /// A `Symbol`, from a name that needs no quotes.
    Symbol(&'static str),
    /// An `Array`.
    List(Vec<Node>),
    /// A `Hash`, whose keys are YAML already.
    Map(Vec<(String, Node)>),
    /// A `Set` of strings that need no quotes. Since Ruby has had sets in C, they have had another tag of their
    /// own, and are read by this one too.
    Set(Vec<&'static str>),
}

impl Node {
    fn bare(value: &impl ToString) -> Self {
        Self::Bare(value.to_string())
    }

    fn text(value: impl Into<String>) -> Self {
        Self::Text(value.into())
    }

    /// With symbols as keys.
    fn symbols<const N: usize>(entries: [(&'static str, Node); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (format!(":{key}"), value)).collect())
    }

    /// Nothing, or what `node` makes of it.
    fn maybe<T>(value: Option<T>, node: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Nothing, node)
    }

    /// Appends what stands behind `key:` or `-`, and the newline; lists and maps begin a line of their own, at
    /// `indent`.
    fn write(&self, indent: usize, out: &mut String) {
        match self {
            Self::Nothing => out.push('\n'),
            Self::Bare(value) => out.push_str(&format!(" {value}\n")),
            Self::Text(text) => out.push_str(&format!(" {}\n", yaml_scalar(text))),
            Self::Symbol(name) => out.push_str(&format!(" :{name}\n")),
            Self::List(items) if items.is_empty() => out.push_str(" []\n"),
            Self::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
            Self::List(items) => {
                out.push('\n');
                for item in items {
                    out.push_str(&format!("{:indent$}-", ""));
                    item.write(indent + 2, out);
                }
            }
            Self::Map(entries) => {
                out.push('\n');
                for (key, value) in entries {
                    out.push_str(&format!("{:indent$}{key}:", ""));
                    value.write(indent + 2, out);
                }
            }
            Self::Set(names) => {
                let hash = names.iter().map(|name| ((*name).to_owned(), Self::bare(&true))).collect();
                out.push_str(" !ruby/object:Set");
                Self::Map(vec![("hash".to_owned(), Self::Map(hash))]).write(indent, out);
            }
        }
    }
}

/// Times in `state` are wall-clock times; ours are ages.
#[derive(Debug, Clone, Copy)]
struct WallClock(SystemTime);

impl WallClock {
    fn ago(self, age: Duration) -> Node {
        Node::bare(&humantime::format_rfc3339_micros(self.0.checked_sub(age).unwrap_or(self.0)))
    }

    fn ago_ms(self, age_ms: u64) -> Node {
        self.ago(Duration::from_millis(age_ms))
    }
}

/// The whole text.
pub(super) fn text(facts: &Facts<'_>) -> String {
    let status = facts.status;
    let clock = WallClock(SystemTime::now());
    let (bind, ports) = binds(status);
    let fds = status.listeners.iter().map(|listener| Node::bare(&listener.fd)).collect();
    let state = Node::symbols([
        ("children", children(status, facts.details, clock)),
        ("config", config(facts)),
        ("version", Node::bare(&status.master.generation)),
        ("bind", bind),
        ("bind_fds", Node::List(fds)),
        ("bound_ports", ports),
        ("cmd", Node::List(status.master.command.iter().map(Node::text).collect())),
        ("respawn", Node::bare(&(status.master.state != MasterState::Stopping))),
        ("upgrading", Node::bare(&status.upgrade.is_some())),
    ]);
    let mut text = "---".to_owned();
    Node::symbols([("state", state)]).write(0, &mut text);
    text
}

fn config(facts: &Facts<'_>) -> Node {
    let Facts { policy, control, .. } = facts;
    let seconds = |time: Duration| Node::bare(&format!("{:?}", time.as_secs_f64()));
    let path = |path: &PathBuf| Node::text(path.to_string_lossy());
    let ack_mode = match policy.ack {
        AckMode::Timer(after) => {
            Node::symbols([("type", Node::Symbol("timer")), ("timeout", seconds(after))])
        }
        AckMode::Manual(_) => Node::symbols([("type", Node::Symbol("manual"))]),
    };
    Node::symbols([
        ("number", Node::bare(&facts.status.master.wanted)),
        ("seconds", seconds(policy.seconds)),
        ("ack_mode", ack_mode),
        ("max_unacked", Node::bare(&policy.unacked_max)),
        ("max_upgrade_additional", Node::maybe(policy.upgrade_additional_max, |more| Node::bare(&more))),
        ("signal_timeout", Node::maybe(policy.grace, seconds)),
        ("verbosity", Node::bare(&verbosity_number(facts.verbosity))),
        ("command_name", Node::maybe(control.name.as_ref(), Node::text)),
        ("socket_path", path(&control.socket)),
        ("pidfile", Node::maybe(control.pidfile.as_ref(), path)),
        ("lockfile", Node::maybe(control.lockfile.as_ref(), path)),
        ("command_socket_as_fd", Node::bare(&control.socket_as_fd)),
    ])
}

fn children(status: &Status, details: &[WorkerDetail], clock: WallClock) -> Node {
    let details: HashMap<_, _> = details.iter().map(|detail| (detail.pid.as_raw(), detail)).collect();
    let children = status.workers.iter().filter_map(|worker| {
        let detail = details.get(&worker.pid)?;
        let child = Node::symbols([
            ("type", Node::Symbol("worker")),
            ("version", Node::bare(&worker.generation)),
            ("acked", Node::bare(&worker.boot_ms.is_some())),
            (
                "signaled",
                Node::Set(
                    detail.stop_signals.iter().map(|signal| short_signal_name(signal.as_str())).collect(),
                ),
            ),
            ("last_signaled_at", Node::maybe(detail.asked_to_stop, |age| clock.ago(age))),
            ("index", Node::bare(&worker.index)),
            ("spinup_time", clock.ago_ms(worker.age_ms)),
            ("pinged_at", Node::maybe(worker.pinged_ms, |age| clock.ago_ms(age))),
            ("pinged_request_id", Node::maybe(detail.ping_word.as_ref(), Node::text)),
        ]);
        Some((worker.pid.to_string(), child))
    });
    Node::Map(children.collect())
}

/// The addresses as host, port and flags; and the ports.
fn binds(status: &Status) -> (Node, Node) {
    let addresses: Vec<SocketAddr> =
        status.listeners.iter().filter_map(|listener| listener.address.parse().ok()).collect();
    let bind = addresses.iter().map(|address| {
        let host = Node::text(address.ip().to_string());
        Node::List(vec![host, Node::bare(&address.port()), Node::List(Vec::new())])
    });
    let ports = addresses.iter().map(|address| Node::bare(&address.port()));
    (Node::List(bind.collect()), Node::List(ports.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(node: &Node) -> String {
        let mut text = "---".to_owned();
        node.write(0, &mut text);
        text
    }

    #[test]
    fn a_child_is_written_as_ruby_writes_one() {
        let clock = WallClock(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        let child = Node::symbols([
            ("type", Node::Symbol("worker")),
            ("signaled", Node::Set(vec!["KILL", "USR2"])),
            ("unsignaled", Node::Set(Vec::new())),
            ("spinup_time", clock.ago_ms(1500)),
            ("pinged_at", Node::Nothing),
            (
                "list",
                Node::List(vec![
                    Node::bare(&1),
                    Node::List(vec![Node::text("a: b")]),
                    Node::List(Vec::new()),
                ]),
            ),
        ]);
        let expected = "---\n42:\n  :type: :worker\n  :signaled: !ruby/object:Set\n    hash:\n      KILL: true\n      \
                        USR2: true\n  :unsignaled: !ruby/object:Set\n    hash: {}\n  :spinup_time: \
                        1970-01-01T00:01:38.500000Z\n  :pinged_at:\n  :list:\n    - 1\n    -\n      - \"a: b\"\n    - \
                        []\n";
        assert_eq!(written(&Node::Map(vec![("42".to_owned(), child)])), expected);
    }
}
