//! One client: a request at a time, on a connection each or on one that it keeps.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use super::answer::{Answer, AnswerReader, Fault, WorkerId};
use super::report::{Answered, Failure, Mode, Report};
use super::{NOT_CONNECTED, NOT_WAITING, Shared};
use crate::stream::Stream;

pub(super) struct Client<'a> {
    number: usize,
    shared: &'a Shared,
    mode: Mode,
    kept: Option<Connection>,
    report: Report,
}

struct Connection {
    stream: Stream,
    made: Instant,
    answers: u64,
}

impl<'a> Client<'a> {
    pub(super) fn new(number: usize, shared: &'a Shared) -> Self {
        let mode = if number < shared.plan.fresh { Mode::Fresh } else { Mode::KeepAlive };
        Self { number, shared, mode, kept: None, report: Report::default() }
    }

    pub(super) fn run(mut self) -> Report {
        while self.shared.begin_request() {
            self.request();
            thread::sleep(self.shared.plan.pause);
        }
        self.report
    }

    fn request(&mut self) {
        let begun = Instant::now();
        let since = begun.duration_since(self.shared.start).as_micros() as u64;
        self.shared.waiting_since[self.number].store(since, Ordering::Release);
        let mut connection = self.kept.take();
        let mut worker = None;
        let outcome = self.exchange(&mut connection, begun, &mut worker);
        self.shared.waiting_since[self.number].store(NOT_WAITING, Ordering::Release);
        self.report.requests += 1;
        match outcome {
            Ok(answer) => {
                let at = begun.duration_since(self.shared.start);
                self.report.answered(answer.worker, Answered { at, latency: begun.elapsed() });
                self.shared.answered.fetch_add(1, Ordering::Relaxed);
                if self.mode == Mode::KeepAlive && !answer.close {
                    self.kept = connection;
                } else {
                    self.disconnected();
                }
            }
            Err(fault) => {
                self.disconnected();
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
                self.report.record(Failure {
                    fault,
                    mode: self.mode,
                    at: begun.duration_since(self.shared.start),
                    waited: begun.elapsed(),
                    worker,
                    answers_before: connection.as_ref().map_or(0, |connection| connection.answers),
                    connection_age: connection.map(|connection| connection.made.elapsed()),
                });
            }
        }
    }

    fn disconnected(&self) {
        self.shared.ports[self.number].store(NOT_CONNECTED, Ordering::Release);
    }

    fn exchange(
        &mut self,
        connection: &mut Option<Connection>,
        begun: Instant,
        worker: &mut Option<WorkerId>,
    ) -> Result<Answer, Fault> {
        let plan = &self.shared.plan;
        let connection = match connection {
            Some(connection) => connection,
            none => {
                let stream = plan.target.connect(plan.deadline).map_err(Fault::of_connect)?;
                self.report.connections += 1;
                let port = stream.port().map_err(Fault::Client)?;
                self.shared.ports[self.number].store(port, Ordering::Release);
                none.insert(Connection { stream, made: Instant::now(), answers: 0 })
            }
        };
        let close = if self.mode == Mode::Fresh { "Connection: close\r\n" } else { "" };
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n{close}\r\n", plan.path, plan.target);
        let stream = &connection.stream;
        stream.set_nodelay().map_err(Fault::Client)?;
        stream.set_write_timeout(Some(plan.deadline)).map_err(Fault::Client)?;
        (&mut &*stream).write_all(request.as_bytes()).map_err(Fault::of_transfer)?;
        let mut reader = AnswerReader::new(stream, begun + plan.deadline);
        let answer = reader.read();
        *worker = reader.worker;
        let answer = answer?;
        connection.answers += 1;
        if answer.status != 200 {
            return Err(Fault::Wrong(format!("status {}", answer.status)));
        }
        Ok(answer)
    }
}
