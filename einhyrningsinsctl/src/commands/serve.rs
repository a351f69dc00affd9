//! `serve`: metrics and a page over HTTP, until a signal ends it.

use std::path::PathBuf;

use serde_json::json;
use serde_json::value::to_raw_value;

use super::line::Line;
use super::{Context, Own, Typed};
use crate::error::{Error, note, with_causes};
use crate::serve::{Listen, Plan, Server, parse_host};

const NAME: &str = "serve";

pub(super) const OWN: Own = Own::of::<Serve>(NAME, "Serve metrics and a page over HTTP", DETAILS);

const DETAILS: &str = "\
Serves /metrics for Prometheus and a page about the pool at /, until SIGTERM or Ctrl-C. Nothing there changes the pool. The \
page, /status.json, /history.json and /events need a token; without --token-file, one is made and printed as part of the page's \
address. Asks the master at each request for metrics, and every 5 seconds while somebody has the page open.";

#[derive(Debug, clap::Args)]
struct Serve {
    /// Where to listen: an IP address and a port, such as 127.0.0.1:9180, unix:PATH, or systemd for the sockets of a socket
    /// unit
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180")]
    listen: Listen,

    /// Also answer requests to this host, besides localhost and loopback addresses; may be repeated
    #[arg(long = "host", value_name = "NAME", value_parser = parse_host)]
    hosts: Vec<String>,

    /// Read the token from FILE, which must not be readable by everybody; required if other machines can connect
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Typed for Serve {
    fn request(&self) -> Option<einhorn_proto::Command> {
        None
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        if context.is_line {
            return Err(Error::Usage(
                "serve runs until a signal ends it; give it on the command line".to_owned(),
            ));
        }
        let failed = |error: crate::serve::ServeError| Error::Refused {
            message: with_causes(&error),
            details: Vec::new(),
        };
        let server = Server::open(Plan {
            socket: context.session.socket().to_owned(),
            trust: context.session.trust().clone(),
            listen: self.listen.clone(),
            hosts: self.hosts.clone(),
            token_file: self.token_file.clone(),
        });
        let server = server.map_err(failed)?;
        let places = server.places();
        let message = places.join("\n");
        if context.answer.json {
            let data = to_raw_value(&json!({ "addresses": places })).ok();
            context.line(Line::last(self.name(), Some(true), &message), data.as_deref())?;
        } else {
            context.output.text(&message)?;
        }
        if server.is_nameless() {
            let text = "only requests to a loopback address are answered; give --host NAME for others";
            note(context.session.program(), text);
        }
        server.run().map_err(failed)
    }
}
