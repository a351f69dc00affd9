//! `metrics`: what a master has counted, and how its workers are, for Prometheus.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use einhorn_proto::{self as proto, Metrics, Status};

use super::{Context, Typed, typed};
use crate::error::{Error, note};
use crate::metrics;
use crate::processes::Processes;

pub(super) const DETAILS: &str = "\
Writes the text format of Prometheus, version 0.0.4. Memory and CPU time come from /proc, if this program runs in the pid \
namespace of the master; otherwise a line on standard error gives the reason. With --json, writes the master's counters.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write to FILE, which is replaced atomically; for the textfile collector of node_exporter, its name ends in .prom
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Also write each worker's proportional memory (PSS), which takes the kernel a millisecond or more per worker
    #[arg(long)]
    pss: bool,
}

impl Typed for Args {
    fn request(&self) -> Option<proto::Command> {
        Some(proto::Command::Metrics)
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let request = proto::Command::Metrics;
        if context.answer.json && self.output.is_some() {
            return Err(Error::Usage(
                "--output takes Prometheus' format; with --json, redirect standard output".to_owned(),
            ));
        }
        if context.answer.json {
            return context.print(&request);
        }
        let counted = context.ask(&request, &mut |_| Ok(()))?;
        let answer = context.ask(&proto::Command::Status, &mut |_| Ok(()))?;
        let counted = counted.data.as_deref().and_then(typed::<Metrics>);
        let status = answer.data.as_deref().and_then(typed::<Status>);
        let (Some(counted), Some(status)) = (counted, status) else {
            return Err(Error::unknown_answer());
        };
        let processes = Processes::of(&status, context.session.peer()).inspect_err(|why| {
            note(
                context.session.program(),
                &format!("no memory and CPU time of the workers of master {}: {why}", status.master.pid),
            );
        });
        let text = metrics::text(&status, &counted, processes.ok(), self.pss);
        match &self.output {
            Some(path) => replace(path, &text).map_err(|source| Error::File { path: path.clone(), source }),
            None => context.output.raw(&text),
        }
    }
}

/// Writes a file that is either there whole or as it was before. Everybody may read it, as far as the umask lets them.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".einhyrningsins-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
