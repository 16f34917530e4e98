//! Drains a backlog of files to a local file of ECS events, compared with a loop that only parses and
//! serialises.

use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};

use confluence_audit_agent::clock;

use crate::agent::{Agent, Events};
use crate::limit_event;
use crate::rig::{self, MIB, Result, Target, row, setting};

const ROUNDS: usize = 3;

pub fn measure() -> Result<()> {
    let bytes = setting("BENCH_BYTES", 1024 * MIB);
    let dir = rig::directory()?;
    let files = rig::write_files(dir.path(), bytes.div_ceil(100_000_000) as u32, bytes)?;
    let (mut ratios, mut peaks_kib) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let disk_mb_s = disk(dir.path(), bytes / 4)?;
        let limit = limit(&files)?;
        let drain = drain(dir.path(), &limit)?;
        println!(
            "round {round}: {} lines of {:.0} bytes; limit {:.0} MB/s, {:.2} µs a line; \
             drain {:.0} MB/s, {:.2} µs CPU a line; {:.2} bytes out for one in",
            limit.lines,
            limit.bytes / limit.lines,
            limit.bytes / limit.s / 1e6,
            limit.s / limit.lines * 1e6,
            limit.bytes / drain.wall_s / 1e6,
            drain.cpu_s / limit.lines * 1e6,
            drain.out_bytes / limit.bytes,
        );
        let bound_mb_s = disk_mb_s / (drain.out_bytes / limit.bytes);
        let bound = if bound_mb_s < limit.bytes / limit.s / 1e6 {
            "BELOW the limit: the disk may be what is measured, see BENCH_DIR"
        } else {
            "above the limit"
        };
        println!(
            "  disk: {disk_mb_s:.0} MB/s by plain write and fdatasync, enough for a drain of {bound_mb_s:.0} MB/s, {bound}"
        );
        ratios.push(limit.s / drain.wall_s);
        peaks_kib.push(drain.peak_rss_kib);
    }
    ratios.sort_by(f64::total_cmp);
    peaks_kib.sort_by(f64::total_cmp);
    row(
        "backlog drain over the one-core limit, median of 3",
        rig::quantile(&ratios, 0.5),
        "",
        Target::AtLeast(0.7),
    );
    row("  best", rig::quantile(&ratios, 1.0), "", Target::None);
    row("peak memory in that run", rig::quantile(&peaks_kib, 1.0) / 1024.0, "MiB", Target::AtMost(24.0));
    Ok(())
}

struct Limit {
    lines: f64,
    bytes: f64,
    s: f64,
}

/// Encodes each line of each file in memory, on one core. Reading the files is not timed.
fn limit(files: &[PathBuf]) -> Result<Limit> {
    let mut limit = Limit { lines: 0.0, bytes: 0.0, s: 0.0 };
    let mut out = Vec::with_capacity(2 << 20);
    for file in files {
        let content = fs::read(file)?;
        let start = clock::monotonic();
        for line in content.split_inclusive(|b| *b == b'\n') {
            let before = out.len();
            limit_event::line_to_event(&line[..line.len() - 1], &mut out);
            if out.len() <= before {
                return Err("the limit loop has left a line out".into());
            }
            limit.lines += 1.0;
            if out.len() > 1 << 20 {
                black_box(&out);
                out.clear();
            }
        }
        limit.s += start.elapsed().as_secs_f64();
        limit.bytes += content.len() as f64;
    }
    Ok(limit)
}

struct Drain {
    wall_s: f64,
    cpu_s: f64,
    peak_rss_kib: f64,
    out_bytes: f64,
}

/// One run from an empty state to an empty backlog. Its files are removed.
fn drain(dir: &Path, limit: &Limit) -> Result<Drain> {
    let taken = Agent::drain(dir)?;
    let (mut events, mut out_bytes) = (0, 0);
    // The output may have been rotated.
    for file in fs::read_dir(dir.join("out"))? {
        let file = file?;
        events += Events::at(file.path()).count()?;
        out_bytes += file.metadata()?.len();
    }
    if events as f64 != limit.lines {
        return Err(format!("{events} events of {} lines", limit.lines).into());
    }
    fs::remove_dir_all(dir.join("out"))?;
    fs::remove_dir_all(dir.join("state"))?;
    Ok(Drain {
        wall_s: taken.wall_s,
        cpu_s: taken.cpu_s,
        peak_rss_kib: taken.peak_rss_kib,
        out_bytes: out_bytes as f64,
    })
}

/// Write speed of the disk in MB per second, with one `fdatasync` at the end.
fn disk(dir: &Path, bytes: u64) -> Result<f64> {
    let path = dir.join("plain");
    let block = vec![b'x'; MIB as usize];
    let blocks = bytes.div_ceil(MIB);
    let mut file = fs::File::create(&path)?;
    let start = clock::monotonic();
    for _ in 0..blocks {
        file.write_all(&block)?;
    }
    file.sync_data()?;
    let s = start.elapsed().as_secs_f64();
    fs::remove_file(&path)?;
    Ok((blocks * MIB) as f64 / s / 1e6)
}
