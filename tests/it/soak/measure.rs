//! What a process takes as time passes.

use std::fs;
use std::path::Path;

/// One moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Virtual days since the first one.
    pub day: f64,
    pub values: [f64; VALUES.len()],
}

/// What is measured, and how much more of it there may be at last than at first, however long the run was. Anonymous
/// memory is what no file backs. The ledger is left out: it is to grow.
pub const VALUES: [(&str, f64); 6] = [
    ("anonymous KiB", 8_192.0),
    ("resident KiB", 10_240.0),
    ("descriptors", 8.0),
    ("threads", 0.0),
    ("state KiB without ledger", 6_144.0),
    ("pruned output KiB", 4_096.0),
];

pub fn take(day: f64, pid: u32, state: &Path, pruned: &Path) -> Option<Sample> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64;
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    Some(Sample {
        day,
        values: [
            of("RssAnon:")?,
            of("VmRSS:")?,
            descriptors,
            of("Threads:")?,
            kib(bytes_in(state, &|name| name != "ledger")),
            kib(bytes_in(pruned, &|_| true)),
        ],
    })
}

/// Bytes of the files in a directory and below. A file may vanish meanwhile.
pub fn bytes_in(dir: &Path, counts: &dyn Fn(&str) -> bool) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path(), &|_| true),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    let entries = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(counts));
    entries.map(of_entry).sum()
}

/// The course of one value: its slope by least squares, and its median in the first and the last fifth.
#[derive(Debug)]
pub struct Course {
    pub per_day: f64,
    pub first: f64,
    pub last: f64,
    pub max: f64,
}

pub fn course(samples: &[Sample], at: usize) -> Course {
    let points: Vec<(f64, f64)> = samples.iter().map(|sample| (sample.day, sample.values[at])).collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let median = |part: &[(f64, f64)]| {
        let mut values: Vec<f64> = part.iter().map(|point| point.1).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let fifth = (points.len() / 5).max(1);
    Course {
        per_day: covariance / variance,
        first: median(&points[..fifth]),
        last: median(&points[points.len() - fifth..]),
        max: points.iter().map(|point| point.1).fold(0.0, f64::max),
    }
}
