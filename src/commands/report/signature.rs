//! The signature of a report, in a file beside it: made by `report`, checked by `verify --report`.

use crate::cli::{LedgerLocation, Options, VerifyArgs};
use crate::commands::output::print_error;
use crate::commands::verify;
use crate::config;
use crate::evidence::ledgers::LedgerPlace;
use crate::exit;
use crate::ledger::{Signer, key, sign_file, verify_file};
use crate::telemetry::escape::{escape, escape_path};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The key of the agent. `Err`: why the report is not signed.
pub(super) fn signer(location: &LedgerLocation, place: &LedgerPlace) -> Result<Signer, String> {
    let LedgerPlace::State(state_dir) = place else {
        return Err("the key is in the state directory; give it with `--config` or `--state`".to_owned());
    };
    let published = key::published(state_dir).map_err(|error| error.to_string())?;
    let newest = published.last().ok_or("the agent has no key yet")?;
    let configured = match location.state.state {
        Some(_) => None,
        None => {
            let options = Options { config: location.state.config.clone(), ..Options::default() };
            config::load_file(&options).ok().and_then(|config| config.ledger.signing_key)
        }
    };
    let signer = match configured {
        Some(reference) => key::configured(&reference, newest.name()),
        None => key::open(state_dir, newest.name()),
    };
    let signer = signer.map_err(|error| format!("the key cannot be read: {error}"))?;
    if signer.verifier() == *newest {
        return Ok(signer);
    }
    Err("the key of the agent is in its configuration; give that with `--config`".to_owned())
}

/// Where the signature of a report is.
fn path(report: &Path) -> PathBuf {
    let mut name = OsString::from(report);
    name.push(".sig");
    name.into()
}

/// Writes the signature beside the report, or removes one of an earlier report.
pub(super) fn write(report: &Path, html: &str, signer: Option<&Signer>) -> Result<(), (PathBuf, io::Error)> {
    let path = path(report);
    let written = match signer {
        Some(signer) => std::fs::write(&path, sign_file(html.as_bytes(), signer)),
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    written.map_err(|error| (path, error))
}

/// Checks a report with its signature. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn verify_report(report: &Path, args: &VerifyArgs, out: &mut impl Write) -> io::Result<u8> {
    let keys = match verify::keys(&args.key) {
        Ok(keys) => keys,
        Err(code) => return Ok(code),
    };
    let signature = path(report);
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            print_error(&format!("cannot read `{}`: {error}", escape_path(path)));
            exit::TRY_AGAIN
        })
    };
    let (bytes, note) = match read(report).and_then(|bytes| Ok((bytes, read(&signature)?))) {
        Ok(read) => read,
        Err(code) => return Ok(code),
    };
    let result = verify_file(&bytes, &String::from_utf8_lossy(&note), &keys);
    match &result {
        Ok(key) if args.json => writeln!(out, "{}", json!({"signed_by": key.short()}))?,
        Ok(key) => {
            writeln!(out, "result: the report is what was signed by {}", escape(&key.short()))?;
        }
        Err(error) if args.json => {
            writeln!(out, "{}", json!({"signed_by": null, "problem": error.to_string()}))?;
        }
        Err(error) => writeln!(out, "result: {error}")?,
    }
    Ok(if result.is_ok() { exit::OK } else { exit::FINDINGS })
}
