//! The whole life of the process: parse, load, log, build, run, drain, exit.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use confluence_audit_agent::cli::{self, Command};
use confluence_audit_agent::commands::{check, generate};
use confluence_audit_agent::{config, exit, telemetry};

fn main() -> ExitCode {
    let code = cli::parse().map_or_else(|code| code, |cli| dispatch(cli.command));
    ExitCode::from(code)
}

fn dispatch(command: Command) -> u8 {
    let mut out = io::stdout().lock();
    match command {
        Command::Run(run) => match config::load(&run.options) {
            Ok(config) => {
                let _log = telemetry::log::init(&config.log);
                exit::OK
            }
            Err(errors) => refuse(&errors),
        },
        Command::Convert(_) | Command::State(_) => exit::OK,
        Command::Check(check) => {
            let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            written(check::check(&check.options, colour, &mut out))
        }
        Command::Completions { shell } => written(generate::completions(shell, &mut out).map(|()| exit::OK)),
        Command::Man { dir } => written(generate::man(dir.as_deref(), &mut out).map(|()| exit::OK)),
    }
}

/// What is wrong with the configuration goes to stderr, one error a line.
fn refuse(errors: &config::ConfigErrors) -> u8 {
    let _ = writeln!(io::stderr(), "{errors}");
    exit::CONFIG
}

/// A reader that has read enough (`… | head`) is no failure.
fn written(result: io::Result<u8>) -> u8 {
    match result {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            let _ = writeln!(io::stderr(), "failed to write: {error}");
            exit::TRY_AGAIN
        }
    }
}
