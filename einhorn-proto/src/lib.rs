//! The control protocol of einhyrningsins: its messages, as types that do no I/O.
//!
//! A client sends one JSON object per line, a [`Request`]; the master answers each with one or more
//! [`Reply`] lines, of which exactly the last has no `wait`. [`LineBuffer`] cuts a byte stream into such
//! lines. [`COMMANDS`] is the table of commands: names, arguments, what each is for, and the protocol version
//! that added it. [`Status`] is the typed answer to `status`. [`Notice`] is an event, as sent to clients that
//! follow `events` or wait for a rollout.
//!
//! einhorn's clients send escaped YAML instead, and get their answers in it: see [`Language`]. Reading it needs the
//! feature `yaml`.
//!
//! ```
//! use einhorn_proto::{Command, Request};
//!
//! let request = Request::from_json(br#"{"command":"inc","args":["2"],"id":7}"#).unwrap();
//! assert_eq!(request.command, Command::Inc { by: 2 });
//! ```

mod command;
mod death;
mod display;
mod frame;
mod history;
mod json;
mod language;
mod metrics;
mod notice;
mod options;
mod reason;
mod recycling;
mod refusal;
mod reply;
mod request;
mod settings;
mod status;
mod target;
mod upgrade;
mod values;
mod visible;
mod yaml;

pub use command::{
    Argument, Audience, COMMANDS, Command, CommandClass, CommandInfo, PROTOCOL_VERSION, Place, SignalName,
    UpgradeRequest, command_elsewhere, command_info, short_signal_name,
};
pub use death::{Death, IN_BACKGROUND, Termination};
pub use display::{Seconds, Workers};
pub use frame::{LINE_BYTES_MAX, LineBuffer, LineTooLong};
pub use history::{History, LABEL_CHARS_MAX, PastOutcome, PastRollout, Requester, RolloutOrder, parse_label};
pub use language::Language;
pub use metrics::{Bucket, DeathKind, Deaths, EventCounts, Histogram, Metrics, Outcomes};
pub use notice::{AckSource, DrainEnding, Notice, Progress, Severity};
pub use options::{OptionChange, OptionEffect, OptionStatus, Options};
pub use reason::{
    DrainReason, ExitReason, Ignored, MISSED_BOOT_DEADLINE, NextStep, Serving, SignalReason, UpgradeFailure,
};
pub use recycling::{RecycleReason, Recycled};
pub use refusal::{Done, LastReply, NotStarted, Refusal, RefusalKind};
pub use reply::{Reply, Resized};
pub use request::{ID_BYTES_MAX, Request, RequestError, RequestErrorKind, RequestId};
pub use settings::{MaxUnacked, MaxUnackedError, Settings, VERBOSITY_MAX};
pub use status::{
    LastUpgrade, Lasting, LeftoverStatus, ListenerStatus, MasterState, MasterStatus, QueueStatus,
    ReleaseStatus, SlotListenerStatus, SlotStatus, Status, StopSignalStatus, WorkerState, WorkerStatus,
};
pub use target::{Target, WorkerSlot};
pub use upgrade::{
    CheckOutput, Counts, Left, Outcome, Pace, PaceReason, RolloutKind, UpgradeReport, UpgradeStage,
    UpgradeStatus,
};
pub use values::{
    DEFAULT_DIRECTORY, SOCKET_VARIABLE, SecondsError, SizeError, default_path, einhorns_directory,
    parse_master_name, parse_seconds, parse_seconds_above_zero, parse_size, socket_path,
};
pub use visible::{shortened, visible, visible_json, visible_line};
pub use yaml::yaml_scalar;
#[cfg(feature = "yaml")]
pub use yaml::{NotYaml, YAML_BYTES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX};

/// From the end of one check of canaries to the next, where nothing else is asked for. Source: this program;
/// einhyrningsinsctl(1), `upgrade`.
pub const SOAK_CHECK_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// The largest number of workers that one master runs.
///
/// Far more than one machine needs. It bounds tables and replies, and catches typing errors.
pub const WORKERS_MAX: u32 = 10_000;

/// The example of README.md, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
