//! The metrics of the process, under the names that Prometheus defines. They are read from `/proc` at each scrape.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::sync::OnceLock;

#[derive(Debug)]
pub(super) struct ProcessMetrics;

/// What `/proc/self` says.
#[derive(Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: f64,
    threads: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
    start_seconds: f64,
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(process) = read() else { return Ok(()) };
        let counter = ConstCounter::new(process.cpu_seconds);
        let help = "CPU time of user and system";
        counter.encode(encoder.encode_descriptor(
            "process_cpu",
            help,
            Some(&Unit::Seconds),
            counter.metric_type(),
        )?)?;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |open| open.count().saturating_sub(1));
        let gauges = [
            ("process_start_time", Some(Unit::Seconds), process.start_seconds, "Unix time of the start"),
            ("process_resident_memory", Some(Unit::Bytes), process.resident_bytes as f64, "Resident memory"),
            ("process_virtual_memory", Some(Unit::Bytes), process.virtual_bytes as f64, "Virtual memory"),
            ("process_threads", None, process.threads as f64, "Threads"),
            ("process_open_fds", None, descriptors as f64, "Open file descriptors"),
            ("process_max_fds", None, limit.map_or(-1.0, |limit| limit as f64), "Limit of file descriptors"),
        ];
        for (name, unit, value, help) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        Ok(())
    }
}

fn read() -> Option<Process> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let mut process = parse(&stat, ticks_per_second, rustix::param::page_size() as u64)?;
    process.start_seconds += boot_seconds();
    Some(process)
}

/// Parses `/proc/self/stat`. The start is in seconds since the boot of the machine.
fn parse(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Process> {
    // The second field is a name in parentheses and may contain anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // Field 3 of the manual is the first one here.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Process {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks_per_second as f64,
        threads: field(20)?,
        start_seconds: field(22)? as f64 / ticks_per_second as f64,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page_bytes,
    })
}

/// The Unix time of the boot. `/proc/stat` has it, but the sandbox of the unit hides that file. It is computed once: a
/// start that differs by a millisecond from the last scrape would be another start.
fn boot_seconds() -> f64 {
    static BOOT: OnceLock<f64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since_boot = since_boot.tv_sec as f64 + since_boot.tv_nsec as f64 / 1e9;
        super::seconds(crate::clock::now_ms()) - since_boot
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let stat =
            "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 15 0 4200 1000 3 18446744073709551615";
        let expected = Process {
            cpu_seconds: 3.0,
            threads: 15,
            start_seconds: 42.0,
            virtual_bytes: 1000,
            resident_bytes: 3 * 4096,
        };
        assert_eq!(parse(stat, 100, 4096), Some(expected));
        assert_eq!(parse("7 (a) S 1", 100, 4096), None);
    }

    #[test]
    fn the_start_is_before_now_and_after_the_boot() {
        let (process, now) = (read().unwrap(), super::super::seconds(crate::clock::now_ms()));
        assert!((now - 86_400.0..now + 1.0).contains(&process.start_seconds), "{process:?} at {now}");
        assert!(process.resident_bytes > 0 && process.threads > 0);
    }
}
