//! The log: lines on standard error or in a file, and warnings and errors to syslog.
//!
//! The journal adds a time, a name and a pid to each line, so there a line has a priority instead. On a terminal it has
//! the time of day and a colour. The file is opened again on request, after another program has moved it away.
//!
//! A reader that stops reading must not stop the master, so no write blocks. A pipe or a terminal is opened a
//! second time with O_NONBLOCK, because the flag belongs to the open file and the workers share ours. A socket
//! is written to with MSG_DONTWAIT. A pipe or terminal of another user, which cannot be opened again, and the file of
//! `--log-file`, whose disk may hang, are left to a thread (`sys/writer.rs`). Unwritten text waits in a bounded buffer.
//! Lines that do not fit, or cannot be written, are dropped whole and counted; the count is logged when the reader or the
//! room is back.

mod line;
mod sink;
mod syslog;
mod warnings;

use std::collections::VecDeque;
use std::fmt::{Display, Write as _};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use einhorn_proto::{Notice, Severity, visible_line};
use mio::Interest;
use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

use crate::cli::LogFormat;
use crate::config::LogConfig;
use crate::einhorn;
use crate::forms;
use crate::sys::inherit::Kept;
use crate::sys::open::open_or_create;
use crate::sys::writer::{self, Target, Writer};

use line::{Dress, Line};
use sink::Sink;
use syslog::{SYSLOG_SOCKET, Syslog};
#[cfg(test)]
pub(crate) use warnings::WARN_EVERY;
pub(crate) use warnings::Warnings;

/// How many bytes wait for the reader before lines are dropped.
const PENDING_BYTES_MAX: usize = 256 * 1024;

/// Lines are written when so many bytes wait, and before clients are sent anything: many lines in one write.
const BATCH_BYTES: usize = 16 * 1024;

/// How long a process that ends waits for the reader of its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The name of the program in every line.
const PROGRAM: &str = "einhyrningsins";

/// Writes a line to standard error where there is no log, but does not wait for its reader for long.
pub fn say(line: impl Display) {
    writer::say(&format!("{line}\n"), Instant::now() + LAST_LINES);
}

/// The master's log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Log {
    config: LogConfig,
    #[serde(with = "forms::written")]
    pending: VecDeque<u8>,
    /// Lines dropped that no line of the log reports yet.
    lost: u64,
    /// Lines dropped since the master started.
    #[serde(default)]
    lost_in_all: u64,
    /// Lines dropped that the line at the front of `pending` reports.
    #[serde(default)]
    reported: u64,
    /// Why the last of them were dropped; `None` if the reader stopped reading.
    #[serde(skip)]
    failure: Option<Errno>,
    /// Whether the beginning of the line at the front of `pending` has been written.
    #[serde(default)]
    is_mid_line: bool,
    /// The file of `--log-file`, once it is open. The log then goes there instead of to standard error.
    #[serde(default)]
    file: Option<Kept<LogFile>>,
    /// Whether the writer is still busy with what was offered to it for a file that has been left since.
    #[serde(skip)]
    is_leaving: bool,
    #[serde(skip)]
    sink: Sink,
    #[serde(skip)]
    dress: Dress,
    #[serde(skip)]
    syslog: Option<Syslog>,
    #[serde(skip, default = "std::process::id")]
    pid: u32,
    /// Buffers for the line that is being written.
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    line: String,
}

#[derive(Debug)]
struct LogFile(Arc<File>);

impl From<OwnedFd> for LogFile {
    fn from(descriptor: OwnedFd) -> Self {
        Self(Arc::new(File::from(descriptor)))
    }
}

impl AsFd for LogFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Log {
    /// Opens the log.
    pub fn open(config: LogConfig) -> Self {
        let mut log = Self::to(Sink::default(), config);
        log.connect();
        log
    }

    /// Opens a log that was read from a state. A missing syslog is a warning, not an error.
    pub fn connect(&mut self) {
        self.sink = match &self.file {
            Some(file) => Sink::Thread(Writer::new(), Target::File(Arc::clone(&file.0))),
            None => Sink::of_stderr(),
        };
        self.dress = Dress::of_stderr(self.config.has_colours);
        if self.config.syslog {
            self.connect_to_syslog();
        }
    }

    fn connect_to_syslog(&mut self) {
        match Syslog::connect() {
            Ok(syslog) => self.syslog = Some(syslog),
            Err(error) => self.warn(format_args!("cannot log to syslog at {SYSLOG_SOCKET}: {error}")),
        }
    }

    /// Opens the file of `--log-file`, again if it is open, and returns where the log goes now.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened. The log then stays where it is.
    pub fn reopen(&mut self) -> anyhow::Result<String> {
        let Some(path) = &self.config.file else {
            bail!(
                "the log goes to standard error; start the master with --log-file FILE to have it in a file"
            );
        };
        let mut options = OpenOptions::new();
        options.append(true).mode(0o640).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let opened = open_or_create(&mut options, path)
            .with_context(|| format!("cannot open the log file {}", path.display()));
        let file = Arc::new(opened?);
        let target = Target::File(Arc::clone(&file));
        if let Sink::Thread(writer, before) = &mut self.sink {
            self.is_leaving = writer.is_busy();
            *before = target;
        } else {
            self.sink = Sink::Thread(Writer::new(), target);
        }
        let answer = format!("the log goes to {}", path.display());
        self.file = Some(Kept::Open(LogFile(file)));
        if !self.is_leaving {
            self.forget_begun_line();
        }
        Ok(answer)
    }

    /// The beginning of the line is in another file.
    fn forget_begun_line(&mut self) {
        if std::mem::take(&mut self.is_mid_line) {
            self.pending.drain(..self.line_bytes());
            self.lose(1);
        }
    }

    fn to(sink: Sink, config: LogConfig) -> Self {
        Self {
            config,
            pending: VecDeque::new(),
            lost: 0,
            lost_in_all: 0,
            reported: 0,
            failure: None,
            is_mid_line: false,
            file: None,
            is_leaving: false,
            sink,
            dress: Dress::default(),
            syslog: None,
            pid: std::process::id(),
            text: String::new(),
            line: String::new(),
        }
    }

    /// Logs an error: it should wake somebody.
    pub fn error(&mut self, message: impl Display) {
        self.write(Severity::Error, &message, None);
    }

    pub fn warn(&mut self, message: impl Display) {
        self.write(Severity::Warn, &message, None);
    }

    pub fn info(&mut self, message: impl Display) {
        self.write(Severity::Info, &message, None);
    }

    pub fn debug(&mut self, message: impl Display) {
        self.write(Severity::Debug, &message, None);
    }

    /// Logs an event of the pool.
    pub fn notice(&mut self, notice: &Notice) {
        match einhorn::words(notice).filter(|_| self.config.format == LogFormat::Einhorn) {
            Some(words) => self.write(notice.severity(), &words, Some(notice)),
            None => self.write(notice.severity(), notice, Some(notice)),
        }
    }

    /// Writes whole lines of a worker's output unchanged. Lines that do not fit are dropped and counted.
    pub fn pass_on(&mut self, lines: &[u8]) {
        if self.pending.len() > PENDING_BYTES_MAX {
            return self.lose(lines_of(lines.iter()));
        }
        self.pending.extend(lines);
        if self.pending.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// The lowest severity that is logged.
    pub fn verbosity(&self) -> Severity {
        self.config.verbosity
    }

    /// Sets the lowest severity that is logged.
    pub fn set_verbosity(&mut self, verbosity: Severity) {
        self.config.verbosity = verbosity;
    }

    /// Changes whether warnings and errors go to syslog. Returns whether they did.
    pub fn set_syslog(&mut self, is_wanted: bool) -> bool {
        let before = std::mem::replace(&mut self.config.syslog, is_wanted);
        if is_wanted && !before {
            self.connect_to_syslog();
        } else if !is_wanted {
            self.syslog = None;
        }
        before
    }

    /// The descriptor to wait on for the reader, and for what; `None` if there is none.
    pub fn descriptor(&self) -> Option<(RawFd, Interest)> {
        self.sink.descriptor()
    }

    /// Whether lines wait for the reader.
    #[cfg(test)]
    fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes as many waiting lines as the reader takes, and the number of those that were dropped. The loop calls it once
    /// in each round.
    pub fn flush(&mut self) {
        loop {
            if let Err(errno) = self.write_pending() {
                return self.drop_pending(errno);
            }
            if !self.pending.is_empty() || self.lost == 0 || self.config.verbosity < Severity::Warn {
                return;
            }
            self.reported = std::mem::take(&mut self.lost);
            self.write_line(Severity::Warn, &self.loss(), None);
        }
    }

    /// Writes what waits, but does not wait longer than this for the thread that writes it.
    pub fn finish(&mut self, within: Duration) {
        let until = Instant::now() + within;
        loop {
            self.flush();
            match &self.sink {
                Sink::Thread(writer, _) if writer.is_busy() && writer.wait(until) => {}
                _ => return,
            }
        }
    }

    fn write_pending(&mut self) -> Result<(), Errno> {
        while !self.pending.is_empty() {
            match self.sink.write(self.pending.make_contiguous()) {
                Ok(0) | Err(Errno::EAGAIN) => return Ok(()),
                Ok(count) => self.on_written(count),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            self.leave();
        }
        Ok(())
    }

    /// Notes what has become of the file that was left, once nothing is written to it any more.
    fn leave(&mut self) {
        if self.is_leaving && !matches!(&self.sink, Sink::Thread(writer, _) if writer.is_busy()) {
            self.is_leaving = false;
            self.forget_begun_line();
        }
    }

    fn on_written(&mut self, bytes: usize) {
        self.is_mid_line = self.pending[bytes - 1] != b'\n';
        if bytes >= self.line_bytes() && self.reported > 0 {
            let loss = self.loss();
            if let Some(syslog) = &mut self.syslog {
                syslog.send(Severity::Warn, &loss);
            }
            self.reported = 0;
        }
        self.pending.drain(..bytes);
    }

    /// Drops what cannot be written, except the rest of a line that has been begun.
    fn drop_pending(&mut self, errno: Errno) {
        let kept = if self.is_mid_line { self.line_bytes() } else { 0 };
        let mut lost = lines_of(self.pending.iter().skip(kept));
        self.pending.truncate(kept);
        if kept == 0 && self.reported > 0 {
            // The report was one of them.
            lost = lost.saturating_sub(1);
            self.lost += std::mem::take(&mut self.reported);
        }
        self.lose(lost);
        self.failure = Some(errno);
        self.leave();
    }

    fn lose(&mut self, lines: u64) {
        self.lost += lines;
        self.lost_in_all += lines;
    }

    /// How many lines were dropped since the master started.
    pub fn lost_in_all(&self) -> u64 {
        self.lost_in_all
    }

    /// The length of the first line that waits, with its newline.
    fn line_bytes(&self) -> usize {
        self.pending.iter().position(|byte| *byte == b'\n').map_or(self.pending.len(), |end| end + 1)
    }

    fn loss(&self) -> String {
        let why = match self.failure {
            Some(errno) => io::Error::from(errno).to_string(),
            None => "the reader of standard error stopped reading".to_owned(),
        };
        format!("{} log lines were dropped: {why}", self.reported)
    }

    fn write(&mut self, severity: Severity, message: &dyn Display, notice: Option<&Notice>) {
        if severity > self.config.verbosity {
            return;
        }
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let _ = write!(text, "{message}");
        self.write_text(severity, &text, notice);
        self.text = text;
    }

    fn write_text(&mut self, severity: Severity, text: &str, notice: Option<&Notice>) {
        // One line, whatever is in the names and texts of workers.
        let message = visible_line(text);
        if severity <= Severity::Warn
            && let Some(syslog) = &mut self.syslog
        {
            syslog.send(severity, &message);
        }
        if self.pending.len() > PENDING_BYTES_MAX {
            self.failure = None;
            return self.lose(1);
        }
        self.write_line(severity, &message, notice);
        if self.pending.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Appends a line to those that wait.
    fn write_line(&mut self, severity: Severity, message: &str, notice: Option<&Notice>) {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        let dress = if self.file.is_some() { Dress::Full } else { self.dress };
        // Writing to a string does not fail.
        let _ = Line { severity, message, notice, pid: self.pid }.write(&mut line, self.config.format, dress);
        self.pending.extend(line.as_bytes());
        self.line = line;
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.finish(LAST_LINES);
    }
}

fn lines_of<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;
    use crate::sys::testing::{fill_disk, isolated, set_disk};

    const CONFIG: LogConfig = LogConfig {
        verbosity: Severity::Info,
        format: LogFormat::Text,
        syslog: false,
        file: None,
        has_colours: None,
    };

    /// A log into a pipe that nobody reads yet.
    fn log_to_pipe(config: LogConfig) -> (Log, File) {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        (Log::to(Sink::Reopened(File::from(writer)), config), File::from(reader))
    }

    /// What has been written, and what was not yet.
    fn read_all(log: &mut Log, reader: &mut File) -> String {
        log.flush();
        let mut bytes = Vec::new();
        let error = reader.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_reader_that_stops_reading_loses_lines_and_gets_their_number() {
        let (mut log, mut reader) = log_to_pipe(CONFIG);
        let total = 5000;
        for number in 0..total {
            log.info(format_args!("{number} {}", "x".repeat(100)));
        }
        assert!(log.is_behind());
        assert!(log.pending.len() < PENDING_BYTES_MAX + 1000);
        let lost = log.lost;
        assert!(lost > 0);
        assert_eq!(log.lost_in_all(), lost);

        let mut text = String::new();
        while log.is_behind() {
            text += &read_all(&mut log, &mut reader);
        }
        text += &read_all(&mut log, &mut reader);
        let last = text.lines().last().unwrap();
        assert!(last.ends_with(&format!(
            "WARN: {lost} log lines were dropped: the reader of standard error stopped reading"
        )));
        assert_eq!(text.lines().count() as u64, total - lost + 1, "every other line must arrive whole");
    }

    #[test]
    fn lines_are_written_together_at_the_end_of_a_round_or_when_they_are_many() {
        let (mut log, mut reader) = log_to_pipe(CONFIG);
        let mut buffer = [0; 2 * BATCH_BYTES];
        for line in ["one", "two"] {
            log.info(line);
            assert!(reader.read(&mut buffer).is_err(), "not yet");
        }
        assert_eq!(read_all(&mut log, &mut reader).lines().count(), 2);
        for _ in 0..BATCH_BYTES / 100 {
            log.info("x".repeat(100));
        }
        assert!(reader.read(&mut buffer).unwrap() >= BATCH_BYTES, "without a flush");
    }

    #[test]
    fn a_missing_reader_is_not_an_error() {
        let (mut log, reader) = log_to_pipe(CONFIG);
        drop(reader);
        log.error("nobody hears this");
        log.flush();
        assert!(!log.is_behind());
    }

    #[test]
    fn a_full_disk_loses_whole_lines_and_each_is_counted_once() {
        isolated("logging::tests::a_full_disk_loses_whole_lines_and_each_is_counted_once", || {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            let (mut log, _reader) = log_to_pipe(LogConfig { file: Some(path.clone()), ..CONFIG });
            log.reopen().unwrap();
            let (mut total, mut reports, mut lost) = (0, 0, 0);
            fill_disk();
            for bytes in [0, 100, 150, 333, 1000, 5000] {
                set_disk(bytes);
                for _ in 0..7 {
                    log.info(format_args!("{total} {}", "x".repeat(total % 90)));
                    total += 1;
                }
                log.finish(Duration::from_secs(30));
            }
            set_disk(u64::from(u32::MAX));
            log.finish(Duration::from_secs(30));
            for line in fs::read_to_string(&path).unwrap().lines() {
                assert!(line.contains("INFO: ") || line.contains("WARN: "), "a piece of a line: {line}");
                if let Some((_, report)) = line.split_once("WARN: ") {
                    let (count, why) = report.split_once(' ').unwrap();
                    assert_eq!(why, "log lines were dropped: File too large (os error 27)");
                    (reports, lost) = (reports + 1, lost + count.parse::<usize>().unwrap());
                }
            }
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(
                reports > 0 && lines - reports + lost == total,
                "{lines} - {reports} + {lost} != {total}"
            );
            assert_eq!(log.lost_in_all(), lost as u64);
        });
    }

    #[test]
    fn a_json_line_has_the_notice_as_data() {
        let (mut log, mut reader) = log_to_pipe(LogConfig { format: LogFormat::Json, ..CONFIG });
        log.notice(&Notice::Resized { from: 1, to: 2 });
        let line: serde_json::Value = serde_json::from_str(&read_all(&mut log, &mut reader)).unwrap();
        assert_eq!(line["level"], "info");
        assert_eq!(line["message"], "number of workers 1 -> 2");
        assert_eq!(line["data"], serde_json::json!({ "event": "resized", "from": 1, "to": 2 }));
    }

    #[test]
    fn a_line_is_one_line_that_controls_no_terminal_in_each_form() {
        for format in [LogFormat::Text, LogFormat::Einhorn, LogFormat::Json] {
            let (mut log, mut reader) = log_to_pipe(LogConfig { format, ..CONFIG });
            log.info("worker \u{1b}[2J\u{202e}\n[MASTER 1] INFO: forged\u{9b}");
            let text = read_all(&mut log, &mut reader);
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(
                text.contains("\\u{1b}[2J") && !text.contains(['\u{1b}', '\u{202e}', '\u{9b}']),
                "{text}"
            );
        }
    }

    #[test]
    fn einhorns_form_uses_einhorns_words_if_there_are_any() {
        let (mut log, mut reader) = log_to_pipe(LogConfig { format: LogFormat::Einhorn, ..CONFIG });
        log.notice(&Notice::Spawned { slot: 0.into(), index: 3, pid: 42, generation: 1 });
        log.notice(&Notice::Resized { from: 1, to: 2 });
        log.warn("odd");
        let pid = std::process::id();
        assert_eq!(
            read_all(&mut log, &mut reader),
            format!(
                "[MASTER {pid}] INFO: ===> Launched 42 (index: 3)\n\
                 [MASTER {pid}] INFO: number of workers 1 -> 2\n\
                 [MASTER {pid}] WARN: odd\n"
            )
        );
    }

    #[test]
    fn lines_below_the_verbosity_are_not_written() {
        let (mut log, mut reader) = log_to_pipe(CONFIG);
        log.set_verbosity(Severity::Error);
        log.warn("too quiet for this");
        log.error("but not for this");
        let text = read_all(&mut log, &mut reader);
        assert!(text.ends_with("ERROR: but not for this\n") && text.lines().count() == 1, "{text}");
    }
}
