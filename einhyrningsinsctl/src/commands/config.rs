//! `config`: changes options of the running master, or shows them all.

use clap::{Arg, ArgAction};
use einhorn_proto::{self as proto, OptionStatus, Options};

use super::plain::{self, Plain};
use super::{Context, Reader, Typed, typed};
use crate::error::Error;
use crate::table::{Align, Span, Style, Table};

const DETAILS: &str = "\
A change holds until the line of the option in the options file (--options-file) is edited and an upgrade reads it, or until \
the master exits. With --show, lists each option with its value and the origin of the value: \"default\", \"command line\", the \
line of the options file as FILE:LINE, or \"command\" for one that a client changed.";

/// What stands for no value.
const NONE: &str = "-";

pub(super) fn reader() -> Reader {
    Reader {
        define: |info, command| {
            let show = Arg::new("show")
                .long("show")
                .action(ArgAction::SetTrue)
                .conflicts_with("options")
                .help("Show every option, its value, and where that came from");
            // "[OPTIONS] [OPTIONS]" would read badly.
            let command = (plain::reader("").define)(info, command);
            command.mut_arg("options", |arg| arg.value_name("MAP")).arg(show)
        },
        read: |info, matches| match matches.get_flag("show") {
            true => Ok(Box::new(Show)),
            false => Ok(Box::new(Plain(plain::request(info, matches)?))),
        },
        details: DETAILS,
    }
}

/// `config --show`.
#[derive(Debug)]
struct Show;

impl Typed for Show {
    fn request(&self) -> Option<proto::Command> {
        Some(proto::Command::ConfigShow)
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let request = proto::Command::ConfigShow;
        if context.answer.json {
            return context.print(&request);
        }
        let reply = context.ask(&request, &mut |_| Ok(()))?;
        match reply.data.as_deref().and_then(typed::<Options>) {
            Some(Options { options }) => context.output.lines(&table(&options).lines()),
            None => context.output.text(&reply.message),
        }
    }
}

fn table(options: &[OptionStatus]) -> Table {
    let mut table = Table::new(&[
        ("OPTION", Align::Left),
        ("VALUE", Align::Left),
        ("FROM", Align::Left),
        ("", Align::Left),
    ]);
    for OptionStatus { option, value, origin, next } in options {
        let next = next.as_ref().map(|next| format!("at the next start: {next}"));
        table.row(vec![
            Span::plain(option),
            Span::plain(value.as_deref().unwrap_or(NONE)),
            Span::plain(origin),
            Span::new(next.as_deref().unwrap_or_default(), Style::Busy),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::table::paint;

    #[test]
    fn options_are_listed_with_their_origin() {
        let option = |option: &str, value: Option<&str>, origin: &str, next: Option<&str>| OptionStatus {
            option: option.to_owned(),
            value: value.map(str::to_owned),
            origin: origin.to_owned(),
            next: next.map(str::to_owned),
        };
        let options = [
            option("--bind", Some(":80"), "/etc/web.conf:2", Some(":80 :81")),
            option("--number", Some("4"), "command", None),
            option("--retries", None, "default", None),
        ];
        assert_snapshot!(paint(&table(&options).lines(), None, false), @r"
        OPTION     VALUE  FROM
        --bind     :80    /etc/web.conf:2  at the next start: :80 :81
        --number   4      command
        --retries  -      default
        ");
    }
}
