//! The one who asks the master: everybody else of `serve` asks here, and waits no longer than [`ANSWER_WITHIN`].
//!
//! It asks one question at a time, in a thread that may block, and answers all who wait for the same with it. So a master
//! is not asked more often because more people look, and one that hangs keeps no thread but that one.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use einhorn_proto::{Command, History, Metrics};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::error::{Error, with_causes};
use crate::live::{Link, Live, Picture};
use crate::metrics;
use crate::processes::Processes;
use crate::program::Program;
use crate::session::Session;
use crate::trust::Trust;

/// How long a master may take over one answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long anybody waits here. Source: Prometheus waits 10 s for a scrape by default.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// How many questions may wait: at most one of each connection, and one of the samples.
const WAITING_MAX: usize = 128;

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Picture,
    Metrics,
    History,
}

/// Its answer, or why there is none.
type Outcome = Result<Answer, Arc<str>>;

#[derive(Debug, Clone)]
enum Answer {
    /// How the pool is, and how long to rest until the next picture.
    Picture(Arc<Picture>, Duration),
    /// As text for Prometheus, and how the pool is.
    Metrics(Arc<str>, Arc<Picture>),
    History(Arc<History>),
}

/// A question, and who asked it.
#[derive(Debug)]
struct Asked {
    what: What,
    answer: oneshot::Sender<Outcome>,
}

/// Hands questions over.
#[derive(Debug, Clone)]
pub(super) struct Keeper(mpsc::Sender<Asked>);

impl Keeper {
    /// Starts it, in the runtime that runs.
    pub(super) fn start(socket: PathBuf, trust: Trust) -> Self {
        let (sender, questions) = mpsc::channel(WAITING_MAX);
        let asker = Asker {
            live: Live::new(Program::Ctl, socket.clone(), trust.clone()),
            session: Session::new(Program::Ctl, socket, trust).in_background(),
        };
        tokio::spawn(answer_all(questions, asker));
        Self(sender)
    }

    /// How the pool is, though the master may be lost; and how long to rest at least until the next picture.
    ///
    /// # Errors
    /// Why that cannot be known.
    pub(super) async fn picture(&self) -> Result<(Arc<Picture>, Duration), Arc<str>> {
        match self.ask(What::Picture).await? {
            Answer::Picture(picture, rest) => Ok((picture, rest)),
            other => Err(mixed_up(&other)),
        }
    }

    /// The text for Prometheus, and how the pool is.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn metrics(&self) -> Result<(Arc<str>, Arc<Picture>), Arc<str>> {
        match self.ask(What::Metrics).await? {
            Answer::Metrics(text, picture) => Ok((text, picture)),
            other => Err(mixed_up(&other)),
        }
    }

    /// The rollouts that have ended.
    ///
    /// # Errors
    /// Why they are not known.
    pub(super) async fn history(&self) -> Result<Arc<History>, Arc<str>> {
        match self.ask(What::History).await? {
            Answer::History(history) => Ok(history),
            other => Err(mixed_up(&other)),
        }
    }

    async fn ask(&self, what: What) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let asked = async {
            self.0.send(Asked { what, answer }).await.ok()?;
            outcome.await.ok()
        };
        match timeout(ANSWER_WITHIN, asked).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err("this server is ending".into()),
            Err(_) => {
                Err(format!("no answer from the master within {}s", ANSWER_WITHIN.as_secs_f64()).into())
            }
        }
    }
}

/// Never seen: a question has answers of its own kind only.
fn mixed_up(answer: &Answer) -> Arc<str> {
    format!("the answer to another question: {answer:?}").into()
}

/// Asks question after question, until nobody is left who could ask one.
async fn answer_all(mut questions: mpsc::Receiver<Asked>, mut asker: Asker) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match questions.recv().await {
                Some(asked) => waiting.push_back(asked),
                None => return,
            }
        }
        while let Ok(asked) = questions.try_recv() {
            waiting.push_back(asked);
        }
        // Those whose client has left meanwhile.
        waiting.retain(|asked| !asked.answer.is_closed());
        let Some(what) = waiting.front().map(|asked| asked.what) else { continue };
        let asked = spawn_blocking(move || {
            let outcome = asker.ask(what);
            (asker, outcome)
        });
        // It panics never; if it did, nobody could ask any more.
        let Ok((back, outcome)) = asked.await else { return };
        asker = back;
        let (answered, others): (VecDeque<Asked>, _) =
            waiting.into_iter().partition(|asked| asked.what == what);
        waiting = others;
        for asked in answered {
            let _ = asked.answer.send(outcome.clone());
        }
    }
}

/// What is asked with. It blocks.
#[derive(Debug)]
struct Asker {
    live: Live,
    /// For what a picture does not have.
    session: Session,
}

impl Asker {
    fn ask(&mut self, what: What) -> Outcome {
        match what {
            What::Picture => {
                let picture = Arc::new(self.live.look());
                Ok(Answer::Picture(picture, self.live.rest()))
            }
            What::Metrics => self.metrics(),
            What::History => {
                let history: History = self.typed(&Command::History)?;
                Ok(Answer::History(Arc::new(history)))
            }
        }
    }

    fn metrics(&mut self) -> Outcome {
        let picture = Arc::new(self.live.look());
        let status = match (&picture.link, &picture.status) {
            (Link::Found { .. }, Some(status)) => status,
            (Link::Lost { why, .. }, _) => return Err(why.as_str().into()),
            (Link::Found { .. }, None) => return Err("the master has not answered".into()),
        };
        let counted: Metrics = self.typed(&Command::Metrics)?;
        let processes = Processes::of(status, self.session.peer()).ok();
        let text = metrics::text(status, &counted, processes, false).into();
        Ok(Answer::Metrics(text, picture))
    }

    fn typed<T: serde::de::DeserializeOwned>(&mut self, command: &Command) -> Result<T, Arc<str>> {
        let why = |error: Error| with_causes(&error).into();
        let reply = self.session.request(command, Some(PATIENCE), &mut |_| Ok(())).map_err(why)?;
        let data = reply.data.as_deref().and_then(|data| serde_json::from_str(data.get()).ok());
        data.ok_or_else(|| match reply.message.trim_end() {
            message if reply.ok == Some(false) && !message.is_empty() => message.into(),
            _ => why(Error::unknown_answer()),
        })
    }
}
