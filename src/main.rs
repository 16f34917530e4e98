//! The whole life of the process: parse, load, log, build, run, drain, exit.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::exit;

use confluence_audit_agent::agent::Mode;
use confluence_audit_agent::cli::{
    self, Cli, Command, ConvertArgs, QuarantineCommand, RunArgs, SetupCommand, StateCommand, StateLocation,
};
use confluence_audit_agent::commands::output::{OptionalOutput, complain};
use confluence_audit_agent::commands::{check, convert, generate, quarantine, run, setup, state};
use confluence_audit_agent::config::ConfigErrors;
use confluence_audit_agent::{config, exit as code, telemetry};

fn main() {
    // What the agent writes is nobody else's to read.
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o077));
    no_core_files();
    let code = cli::parse().map_or_else(|code| code, dispatch);
    // Not by return: a sink that is stuck in a write must not keep the process.
    exit(code.into());
}

/// Tokens and passwords are in memory, and a core file would hold them.
///
/// The limit keeps files from being written; a handler that the kernel pipes cores to (systemd-coredump, apport) is told of it, and
/// may store one nevertheless: an empty filter leaves no memory to store. `PR_SET_DUMPABLE` would do both, but takes
/// `/proc/PID` from the agent's own user as well, with which it is looked after.
fn no_core_files() {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Lowering a limit cannot fail, and where /proc is not mounted the limit has to do.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let _ = std::fs::write("/proc/self/coredump_filter", "0");
}

fn dispatch(cli: Cli) -> u8 {
    match cli.command {
        Command::Run(args) => start(&args),
        Command::Convert(args) => converted(&args),
        Command::Check(args) => {
            let out = io::stdout().lock();
            let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            written(check::check(
                &args.options,
                args.fast,
                colour,
                &mut OptionalOutput::new(out),
            ))
        }
        Command::State(args) => stored(&args),
        Command::Quarantine(args) => quarantined(&args),
        Command::Setup(SetupCommand::Elasticsearch(args)) => written(setup::elasticsearch(
            &args,
            &mut OptionalOutput::new(io::stdout().lock()),
            &mut OptionalOutput::new(io::stderr()),
        )),
        Command::Completions { shell } => {
            written(generate::completions(shell, &mut io::stdout().lock()).map(|()| code::OK))
        }
        Command::Man { dir } => {
            written(generate::man(dir.as_deref(), &mut io::stdout().lock()).map(|()| code::OK))
        }
    }
}

fn start(args: &RunArgs) -> u8 {
    match config::load(&args.options) {
        Ok(config) => {
            let log = telemetry::log::init(&config.log);
            let once = args.once || args.dry_run && !args.follow;
            let dry_run = args.dry_run;
            run::run(&config, Mode { once, dry_run }, &log)
        }
        Err(errors) => refuse(&errors),
    }
}

fn converted(args: &ConvertArgs) -> u8 {
    let format = match config::format_kind(&args.format) {
        Ok(format) => format,
        Err(error) => return refuse(&ConfigErrors(vec![error])),
    };
    match convert::run(
        format,
        args.site.as_deref(),
        &args.files,
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
        &mut io::stderr(),
    ) {
        Ok(code) => code,
        Err(error) => {
            complain(&telemetry::chain(&error));
            code::TRY_AGAIN
        }
    }
}

fn stored(args: &StateCommand) -> u8 {
    let location = match args {
        StateCommand::Show(args) => &args.location,
        StateCommand::Forget(args) => &args.location,
        StateCommand::Export(args) => &args.location,
    };
    let dir = match config::state_dir(location) {
        Ok(dir) => dir,
        Err(errors) => return refuse(&errors),
    };
    let mut out = io::stdout().lock();
    match args {
        StateCommand::Show(args) => written(state::show(&dir, args.source.as_deref(), &mut out)),
        StateCommand::Forget(args) => written(state::forget(
            &dir,
            args.source.as_deref(),
            args.yes,
            &mut OptionalOutput::new(out),
        )),
        StateCommand::Export(_) => written(state::export(&dir, &mut out)),
    }
}

fn quarantined(args: &QuarantineCommand) -> u8 {
    let mut out = io::stdout().lock();
    let out = &mut out;
    match args {
        QuarantineCommand::List(args) => in_state_dir(&args.location, |dir| {
            quarantine::list(dir, &args.selection, args.json, out)
        }),
        QuarantineCommand::Show(args) => in_state_dir(&args.location, |dir| {
            quarantine::show(dir, &args.id, args.raw, out)
        }),
        // With `--to stdout` a person may drop what was printed.
        QuarantineCommand::Replay(args) => ended(quarantine::replay(args, out), code::TRY_AGAIN),
        QuarantineCommand::Drop(args) => in_state_dir(&args.location, |dir| {
            quarantine::discard(dir, &args.selection, args.yes, out)
        }),
    }
}

fn in_state_dir(location: &StateLocation, work: impl FnOnce(&Path) -> io::Result<u8>) -> u8 {
    match config::state_dir(location) {
        Ok(dir) => written(work(&dir)),
        Err(errors) => refuse(&errors),
    }
}

/// What is wrong with the configuration goes to stderr, one error a line.
fn refuse(errors: &ConfigErrors) -> u8 {
    let _ = writeln!(io::stderr(), "{errors}");
    errors.exit_code()
}

/// Of a command that only prints: a reader that has read enough (`… | head`) is no failure.
fn written(result: io::Result<u8>) -> u8 {
    ended(result, code::OK)
}

fn ended(result: io::Result<u8>, without_reader: u8) -> u8 {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    // What is still in memory is not written yet.
    let flushed = io::stdout().flush();
    match (result, flushed) {
        (Ok(code), Ok(())) => code,
        (Ok(code), Err(error)) if broken(&error) => code,
        (Err(error), _) if broken(&error) => without_reader,
        (Err(error), _) | (Ok(_), Err(error)) => {
            complain(&format!("failed to write: {error}"));
            code::TRY_AGAIN
        }
    }
}
