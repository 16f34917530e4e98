//! Writes audit files as Confluence Data Center does, with content of our own, as many bytes as are asked for.
//!
//! ```text
//! cargo run --release --example audit_log_gen -- --bytes 1GiB --dir target/audit
//! cargo run --release --example audit_log_gen -- --follow --rate 10 --dir target/audit
//! ```

mod lines;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use confluence_audit_agent::clock;

use lines::Lines;

#[derive(Parser)]
#[command(about = "Writes Confluence audit files of its own making; the same arguments give the same bytes")]
struct Arguments {
    /// Stop at the first line that reaches this many bytes: 1GiB, 300MB, 5000
    #[arg(long, value_parser = size, conflicts_with = "lines")]
    bytes: Option<u64>,
    /// Stop after this many lines
    #[arg(long)]
    lines: Option<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write files with Confluence's names into this directory, a new one each day and each `--file-bytes`
    #[arg(long, required_unless_present = "out", conflicts_with = "out")]
    dir: Option<PathBuf>,
    /// Write all to this file, `-` for stdout
    #[arg(long)]
    out: Option<PathBuf>,
    /// Confluence starts a new file at 100 MB
    #[arg(long, value_parser = size, default_value = "100MiB")]
    file_bytes: u64,
    /// Names as `20260105-00000.audit.log` instead of `20260105.00000.audit.log`
    #[arg(long)]
    dash: bool,
    /// Give each line a sequence number and a checksum as extra attributes
    #[arg(long)]
    numbered: bool,
    /// Go on appending, opening and closing the file for each batch; time stamps are of now
    #[arg(long, requires = "dir")]
    follow: bool,
    /// Lines a second with `--follow`, at most ten batches a second
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    rate: f64,
    /// With `--follow`: a batch may end anywhere in a line, the next begins with the rest
    #[arg(long, requires = "follow")]
    torn: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    eprintln!("seed {}", arguments.seed);
    let done = match (&arguments.out, &arguments.dir) {
        (Some(out), _) => to_one(&arguments, out),
        (None, Some(dir)) if arguments.follow => follow(&arguments, dir),
        (None, Some(dir)) => to_dir(&arguments, dir),
        (None, None) => Err(io::Error::other("give `--dir` or `--out`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the pipe has closed it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How much is left to write.
struct Limit {
    bytes: u64,
    lines: u64,
}

impl Limit {
    /// Without a limit only `--follow` and a pipe make sense, and both are ended from outside.
    fn of(arguments: &Arguments) -> Limit {
        Limit { bytes: arguments.bytes.unwrap_or(u64::MAX), lines: arguments.lines.unwrap_or(u64::MAX) }
    }

    fn reached(&self) -> bool {
        self.bytes == 0 || self.lines == 0
    }

    /// Appends a line to `batch` and counts it.
    fn write(&mut self, lines: &mut Lines, batch: &mut Vec<u8>) {
        let before = batch.len();
        lines.write(batch);
        self.bytes = self.bytes.saturating_sub((batch.len() - before) as u64);
        self.lines -= 1;
    }
}

fn lines_of(arguments: &Arguments) -> Lines {
    if arguments.numbered { Lines::numbered(arguments.seed) } else { Lines::new(arguments.seed) }
}

const BATCH_BYTES: usize = 1 << 20;

fn to_one(arguments: &Arguments, out: &Path) -> io::Result<()> {
    let mut out: Box<dyn Write> = match out.to_str() {
        Some("-") => Box::new(io::stdout().lock()),
        _ => Box::new(fs::File::create(out)?),
    };
    let (mut lines, mut limit) = (lines_of(arguments), Limit::of(arguments));
    let mut batch = Vec::with_capacity(BATCH_BYTES + 4096);
    while !limit.reached() {
        while !limit.reached() && batch.len() < BATCH_BYTES {
            limit.write(&mut lines, &mut batch);
        }
        out.write_all(&batch)?;
        batch.clear();
    }
    out.flush()
}

fn to_dir(arguments: &Arguments, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let (mut lines, mut limit) = (lines_of(arguments), Limit::of(arguments));
    let mut batch = Vec::with_capacity(BATCH_BYTES + 4096);
    let mut number = 0;
    while !limit.reached() {
        let day_ms = lines.now_ms();
        let mut file = fs::File::create(dir.join(lines::file_name(day_ms, number, arguments.dash)))?;
        let mut file_bytes = 0;
        while !limit.reached() && file_bytes < arguments.file_bytes && lines::same_day(day_ms, lines.now_ms())
        {
            let before = batch.len();
            limit.write(&mut lines, &mut batch);
            file_bytes += (batch.len() - before) as u64;
            if batch.len() >= BATCH_BYTES {
                file.write_all(&batch)?;
                batch.clear();
            }
        }
        file.write_all(&batch)?;
        batch.clear();
        number = if lines::same_day(day_ms, lines.now_ms()) { number + 1 } else { 0 };
    }
    eprintln!("{} lines", lines.count());
    Ok(())
}

fn follow(arguments: &Arguments, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let (mut lines, mut limit) = (lines_of(arguments), Limit::of(arguments));
    let start = clock::monotonic();
    let (mut day_ms, mut number) = (clock::now_ms(), 0);
    // After a restart Confluence continues with the newest file of the day.
    while dir.join(lines::file_name(day_ms, number + 1, arguments.dash)).exists() {
        number += 1;
    }
    let mut batch = Vec::new();
    let mut cut = lines::Random::new(arguments.seed);
    let mut full = false;
    while !limit.reached() {
        let now_ms = clock::now_ms();
        lines.set_now_ms(now_ms);
        let due = (start.elapsed().as_secs_f64() * arguments.rate) as u64;
        while lines.count() <= due && !limit.reached() {
            limit.write(&mut lines, &mut batch);
        }
        // The last batch of a file is complete: a line is never split across two files.
        let last = full || limit.reached() || !lines::same_day(day_ms, now_ms);
        let bytes =
            if arguments.torn && !last { cut.below(batch.len() as u64 + 1) as usize } else { batch.len() };
        let path = dir.join(lines::file_name(day_ms, number, arguments.dash));
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        file.write_all(&batch[..bytes])?;
        batch.drain(..bytes);
        if last {
            (day_ms, number) =
                if lines::same_day(day_ms, now_ms) { (day_ms, number + 1) } else { (now_ms, 0) };
        }
        full = !last && file.metadata()?.len() >= arguments.file_bytes;
        drop(file);
        std::thread::sleep(Duration::from_secs_f64((1.0 / arguments.rate).max(0.1)));
    }
    eprintln!("{} lines", lines.count());
    Ok(())
}

/// Parses a number of bytes with an optional unit.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => {
            return Err(format!("`{other}` is no unit; B, kB, MB, GB, KiB, MiB and GiB are"));
        }
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("`{text}` is no number of bytes"))
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| format!("`{text}` is no rate above 0"))
}
