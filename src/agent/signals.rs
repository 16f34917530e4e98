//! Signals: which ones stop the agent in order, and which ones only log a warning. None ends it silently.
//!
//! Every signal that a person or a script may send is caught. Not caught are signals that report a defect (SIGSEGV,
//! SIGABRT, …), those of job control, and SIGXCPU, because SIGKILL follows it anyway.

use rustix::process::Signal;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Stop,
    /// The terminal was closed: like `Stop`, but never the second signal, because kernel and shell both send it.
    Hangup,
    /// It is logged and has no effect: no file is reopened and no configuration is read again.
    Nothing,
}

#[derive(Clone, Debug)]
pub(super) struct Received {
    pub name: String,
    pub meaning: Meaning,
}

/// Starts to catch signals. They arrive in the returned queue.
pub(super) fn listen() -> io::Result<UnboundedReceiver<Received>> {
    let ignored = std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored(&status));
    // Under a service manager there is no terminal: SIGHUP is an attempt to reload there.
    let supervised = std::env::var_os("NOTIFY_SOCKET").is_some();
    // If SIGXFSZ is caught, a write beyond the file size limit fails with an error, which is reported like a full disk.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    // Grows by one message for each signal at most; the supervisor handles them at once.
    let (sender, received) = unbounded_channel();
    for (name, number, meaning) in caught(ignored, supervised) {
        let mut signals = match signal(SignalKind::from_raw(number)) {
            Ok(signals) => signals,
            // C libraries keep some of the real-time signals for themselves.
            Err(_) if number >= REALTIME_MIN => continue,
            Err(error) => return Err(error),
        };
        let (sender, received) = (sender.clone(), Received { name, meaning });
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if sender.send(received.clone()).is_err() {
                    return;
                }
            }
        });
    }
    Ok(received)
}

const REALTIME_MIN: i32 = 34;
const REALTIME_MAX: i32 = 64;

/// Names, numbers and meanings of the caught signals.
fn caught(ignored: u64, supervised: bool) -> Vec<(String, i32, Meaning)> {
    let mut all: Vec<(String, i32, Meaning)> = [
        ("SIGTERM", Signal::TERM, Meaning::Stop),
        ("SIGINT", Signal::INT, Meaning::Stop),
        ("SIGQUIT", Signal::QUIT, Meaning::Stop),
        ("SIGUSR1", Signal::USR1, Meaning::Nothing),
        ("SIGUSR2", Signal::USR2, Meaning::Nothing),
        ("SIGALRM", Signal::ALARM, Meaning::Nothing),
        ("SIGVTALRM", Signal::VTALARM, Meaning::Nothing),
        ("SIGPROF", Signal::PROF, Meaning::Nothing),
        ("SIGIO", Signal::IO, Meaning::Nothing),
        ("SIGPWR", Signal::POWER, Meaning::Nothing),
        ("SIGSTKFLT", Signal::STKFLT, Meaning::Nothing),
    ]
    .map(|(name, signal, meaning)| (name.to_owned(), signal.as_raw(), meaning))
    .into();
    let hangup = Signal::HUP.as_raw();
    // `nohup` ignores SIGHUP for its child, so the agent does not catch it.
    if ignored & (1 << (hangup - 1)) == 0 {
        let meaning = if supervised { Meaning::Nothing } else { Meaning::Hangup };
        all.push(("SIGHUP".to_owned(), hangup, meaning));
    }
    for number in REALTIME_MIN..=REALTIME_MAX {
        let name = format!("SIGRTMIN+{}", number - REALTIME_MIN);
        all.push((name, number, Meaning::Nothing));
    }
    all
}

/// The signals that the parent process set to be ignored, one bit each, from `/proc/self/status`.
fn ignored(status: &str) -> u64 {
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hangup(ignored: u64, supervised: bool) -> Option<Meaning> {
        let all = caught(ignored, supervised);
        let found = all.into_iter().find(|(name, ..)| name == "SIGHUP");
        found.map(|(.., meaning)| meaning)
    }

    #[test]
    fn f110_an_ignored_hangup_stays_ignored() {
        assert_eq!(hangup(0, false), Some(Meaning::Hangup));
        assert_eq!(hangup(0, true), Some(Meaning::Nothing));
        let nohup = ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t00\n");
        assert_eq!((nohup, hangup(nohup, false)), (0x1001, None));
        assert_eq!(hangup(0x1000, false), Some(Meaning::Hangup), "SIGPIPE alone");
    }
}
