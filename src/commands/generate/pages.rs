//! The man pages of the program and its commands, generated from the definitions of the command line.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;

use super::config_page::escaped;

/// Files in the section FILES.
const FILES: [(&str, &str); 3] = [
    (crate::cli::CONFIG_PATH, "The configuration; see confluence-audit-agent.toml(5)."),
    (
        "/var/lib/confluence-audit-agent",
        "The state: what was delivered of each source, and events in quarantine.",
    ),
    ("/var/log/confluence-audit-agent", "The directory of events in the packaged configuration."),
];

/// Writes a page for the program and for each command to a directory.
pub(super) fn write(command: Command, dir: &Path) -> io::Result<()> {
    let main = built(command);
    let statuses = after_help(&main, "Exit codes:");
    write_all(&main, &main, &statuses, dir)
}

/// Writes the page of the program.
pub(super) fn main_page(command: Command, out: &mut dyn Write) -> io::Result<()> {
    let main = built(command);
    let statuses = after_help(&main, "Exit codes:");
    out.write_all(&page(&main, &main, &statuses)?)
}

fn built(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true).subcommand_help_heading("COMMANDS");
    command.build();
    command
}

fn write_all(command: &Command, main: &Command, statuses: &[String], dir: &Path) -> io::Result<()> {
    std::fs::write(dir.join(format!("{}.1", page_name(command))), page(command, main, statuses)?)?;
    visible(command).try_for_each(|inner| write_all(inner, main, statuses, dir))
}

fn page(command: &Command, main: &Command, statuses: &[String]) -> io::Result<Vec<u8>> {
    let name = page_name(command);
    // The title is at both ends of a header line of 80 columns, so the name of the program is shortened.
    let title = match name == crate::NAME {
        true => &name,
        false => name.trim_start_matches("confluence-audit-"),
    };
    let man = Man::new(command.clone().subcommand_help_heading("COMMANDS"));
    let (title, version) = (escaped(title), env!("CARGO_PKG_VERSION"));
    let mut out =
        format!(".TH {title} 1 \"\" \"{} {version}\" \"User Commands\"\n", crate::NAME).into_bytes();
    man.render_name_section(&mut out)?;
    out.write_all(synopsis(command).as_bytes())?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if visible(command).next().is_some() {
        man.render_subcommands_section(&mut out)?;
    }
    out.write_all(sections(command, main, statuses).as_bytes())?;
    Ok(out)
}

/// Writes the synopsis with each option and its value.
fn synopsis(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or(crate::NAME);
    let mut text = format!(".SH SYNOPSIS\n\\fB{}\\fR", escaped(name));
    let arguments =
        command.get_arguments().filter(|argument| !argument.is_hide_set() && argument.get_id() != "help");
    for argument in arguments {
        let word = match (argument.get_long(), values(argument)) {
            (Some(long), Some(values)) => format!("\\fB\\-\\-{}\\fR {values}", escaped(long)),
            (Some(long), None) => format!("\\fB\\-\\-{}\\fR", escaped(long)),
            (None, values) => values.unwrap_or_default(),
        };
        let (open, close) = match argument.is_required_set() {
            true => ("", ""),
            false => ("[", "]"),
        };
        let _ = write!(text, " {open}{word}{close}");
    }
    if command.has_subcommands() {
        text.push_str(" \\fICOMMAND\\fR");
    }
    text.push('\n');
    text
}

fn values(argument: &Arg) -> Option<String> {
    let takes_some = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let names = argument.get_value_names().filter(|_| takes_some)?;
    let many = argument.get_num_args().is_some_and(|count| count.max_values() > 1)
        || (argument.is_positional() && matches!(argument.get_action(), ArgAction::Append));
    let dots = if many { "..." } else { "" };
    Some(format!("\\fI{}\\fR{dots}", escaped(&names.join(" "))))
}

fn sections(command: &Command, main: &Command, statuses: &[String]) -> String {
    let mut text = String::new();
    let examples = after_help(command, "Examples:");
    if !examples.is_empty() {
        text.push_str(".SH EXAMPLES\n.nf\n");
        for example in &examples {
            let _ = writeln!(text, "{}", escaped(example));
        }
        text.push_str(".fi\n");
    }
    text.push_str(".SH EXIT STATUS\n");
    for line in statuses {
        match line.split_once("  ") {
            Some((code, meaning)) if code.bytes().all(|byte| byte.is_ascii_digit()) => {
                let _ = writeln!(text, ".TP\n.B {code}\n{}", escaped(meaning.trim()));
            }
            _ => {
                let _ = writeln!(text, "{}", escaped(line));
            }
        }
    }
    text.push_str(".SH FILES\n");
    for (path, what) in FILES {
        let _ = writeln!(text, ".TP\n.I {}\n{}", escaped(path), escaped(what));
    }
    let mut others: Vec<String> = match page_name(command) == crate::NAME {
        true => visible(main).map(page_name).collect(),
        false => std::iter::once(crate::NAME.to_owned()).chain(visible(command).map(page_name)).collect(),
    };
    others.iter_mut().for_each(|other| other.push_str(" (1)"));
    others.push(format!("{}.toml (5)", crate::NAME));
    text.push_str(".SH SEE ALSO\n");
    let last = others.len() - 1;
    for (number, other) in others.iter().enumerate() {
        let comma = if number == last { "" } else { "," };
        let _ = writeln!(text, ".BR {}{comma}", escaped(other));
    }
    text
}

/// The lines of the paragraph with this heading in the text after the help.
fn after_help(command: &Command, head: &str) -> Vec<String> {
    let Some(help) = command.get_after_help() else {
        return Vec::new();
    };
    let help = help.to_string();
    let mut lines = help.lines().skip_while(|line| *line != head).skip(1);
    lines.by_ref().take_while(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned()).collect()
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|inner| !inner.is_hide_set())
}

fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}
