//! The life of the process: parse the command line, dispatch the command, exit with its code.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::exit;

use confluence_audit_agent::agent::Mode;
use confluence_audit_agent::cli::{
    self, Cli, Command, ConvertArgs, LedgerCommand, QuarantineCommand, RunArgs, SetupCommand, StateCommand,
    StateLocation, StatusArgs,
};
use confluence_audit_agent::commands::output::{OptionalOutput, print_error};
use confluence_audit_agent::commands::{
    check, convert, find, generate, ledger, prove, quarantine, reconcile, report, run, setup, state, status,
    support_bundle, verify,
};
use confluence_audit_agent::config::ConfigErrors;
use confluence_audit_agent::{config, exit as code, telemetry};

fn main() {
    // Only the agent's user may read what the agent writes.
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o077));
    prevent_core_dumps();
    let code = cli::parse().map_or_else(|code| code, dispatch);
    // Not `return`: a sink that is blocked in a write must not keep the process alive.
    exit(code.into());
}

/// Prevents core dumps, which would contain tokens and passwords.
///
/// The resource limit prevents core files. A handler that the kernel pipes cores to (systemd-coredump, apport) may
/// store one nevertheless, so the core filter excludes all memory. `PR_SET_DUMPABLE` would do both, but would also
/// deny `/proc/PID` to the agent's own user, who needs it for diagnosis.
fn prevent_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Lowering the limit cannot fail. If `/proc` is not mounted the limit alone has to suffice.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let _ = std::fs::write("/proc/self/coredump_filter", "0");
}

fn dispatch(cli: Cli) -> u8 {
    let wants_colour = !cli.no_color && std::env::var_os("NO_COLOR").is_none();
    let colour = wants_colour && io::stdout().is_terminal();
    match cli.command {
        Command::Run(args) => run_agent(&args),
        Command::Convert(args) => convert_files(&args),
        Command::Check(args) => {
            let out = OptionalOutput::new(io::stdout().lock());
            printed(check::check(&args.options, args.fast, colour, &mut { out }))
        }
        Command::Status(args) => show_status(&args, wants_colour),
        Command::State(args) => state_command(&args),
        Command::Quarantine(args) => quarantine_command(&args),
        Command::Reconcile(args) => printed(reconcile::reconcile(&args, &mut io::stdout().lock())),
        Command::Report(args) => printed(report::report(&args, &mut io::stdout().lock())),
        Command::Verify(args) => {
            let mut out = io::stdout().lock();
            printed(match (&args.proof, &args.report) {
                (Some(proof), _) => prove::verify_proof(proof, &args, &mut out),
                (None, Some(report)) => report::verify_report(report, &args, &mut out),
                (None, None) => verify::verify(&args, &mut out),
            })
        }
        Command::Find(args) => printed(find::find(&args, &mut io::stdout().lock())),
        // A proof that is cut off is none.
        Command::Prove(args) => {
            output_exit_code(prove::prove(&args, &mut io::stdout().lock()), code::TRY_AGAIN)
        }
        Command::Ledger(args) => ledger_command(&args),
        Command::SupportBundle(args) => {
            printed(support_bundle::write(&args, &mut OptionalOutput::new(io::stdout().lock())))
        }
        Command::Setup(SetupCommand::Elasticsearch(args)) => printed(setup::elasticsearch(
            &args,
            &mut OptionalOutput::new(io::stdout().lock()),
            &mut OptionalOutput::new(io::stderr()),
        )),
        Command::Completions { shell } => {
            printed(generate::completions(shell, &mut io::stdout().lock()).map(|()| code::OK))
        }
        Command::Man { dir } => {
            printed(generate::man(dir.as_deref(), &mut io::stdout().lock()).map(|()| code::OK))
        }
    }
}

fn run_agent(args: &RunArgs) -> u8 {
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

fn convert_files(args: &ConvertArgs) -> u8 {
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
            print_error(&telemetry::chain(&error));
            code::TRY_AGAIN
        }
    }
}

fn state_command(args: &StateCommand) -> u8 {
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
        StateCommand::Show(args) => printed(state::show(&dir, args.source.as_deref(), &mut out)),
        StateCommand::Forget(args) => {
            printed(state::forget(&dir, args.source.as_deref(), args.yes, &mut OptionalOutput::new(out)))
        }
        StateCommand::Export(_) => printed(state::export(&dir, &mut out)),
    }
}

fn show_status(args: &StatusArgs, wants_colour: bool) -> u8 {
    let is_terminal = io::stdout().is_terminal();
    let view = status::View {
        json: args.json,
        colour: wants_colour && is_terminal,
        error_colour: wants_colour && io::stderr().is_terminal(),
        is_terminal,
    };
    let out = &mut io::stdout().lock();
    match config::admin_endpoint(args) {
        Ok(endpoint) if args.watch => printed(status::watch(&endpoint, view, out)),
        Ok(endpoint) => printed(status::show(&endpoint, view, out)),
        Err(errors) => refuse(&errors),
    }
}

fn quarantine_command(args: &QuarantineCommand) -> u8 {
    let mut out = io::stdout().lock();
    let out = &mut out;
    match args {
        QuarantineCommand::List(args) => {
            with_state_dir(&args.location, |dir| quarantine::list(dir, &args.selection, args.json, out))
        }
        QuarantineCommand::Show(args) => {
            with_state_dir(&args.location, |dir| quarantine::show(dir, &args.id, args.raw, out))
        }
        // With `--to stdout` an operator may drop the printed events, so an incomplete output is a failure.
        QuarantineCommand::Replay(args) => output_exit_code(quarantine::replay(args, out), code::TRY_AGAIN),
        QuarantineCommand::Drop(args) => {
            with_state_dir(&args.location, |dir| quarantine::discard(dir, &args.selection, args.yes, out))
        }
    }
}

fn ledger_command(args: &LedgerCommand) -> u8 {
    let mut out = io::stdout().lock();
    match args {
        LedgerCommand::Key(args) => {
            with_state_dir(&args.location, |dir| ledger::key(dir, args.json, &mut out))
        }
        LedgerCommand::Show(args) => printed(ledger::show(args, &mut out)),
        LedgerCommand::Export(args) => printed(ledger::export(args, &mut out)),
    }
}

fn with_state_dir(location: &StateLocation, work: impl FnOnce(&Path) -> io::Result<u8>) -> u8 {
    match config::state_dir(location) {
        Ok(dir) => printed(work(&dir)),
        Err(errors) => refuse(&errors),
    }
}

/// Prints configuration errors to stderr, one per line.
fn refuse(errors: &ConfigErrors) -> u8 {
    let _ = writeln!(io::stderr(), "{errors}");
    errors.exit_code()
}

/// Exit code of a command that only prints. A closed pipe (`… | head`) is not a failure.
fn printed(result: io::Result<u8>) -> u8 {
    output_exit_code(result, code::OK)
}

fn output_exit_code(result: io::Result<u8>, if_pipe_closed: u8) -> u8 {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    // Buffered output counts as written only after the flush.
    let flushed = io::stdout().flush();
    match (result, flushed) {
        (Ok(code), Ok(())) => code,
        (Ok(code), Err(error)) if broken(&error) => code,
        (Err(error), _) if broken(&error) => if_pipe_closed,
        (Err(error), _) | (Ok(_), Err(error)) => {
            print_error(&format!("failed to write: {error}"));
            code::TRY_AGAIN
        }
    }
}
