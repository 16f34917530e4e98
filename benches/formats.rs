//! The cost of each format relative to ECS: CPU time to parse and encode the same lines in memory.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use confluence_audit_agent::format::{Agent, Context, Event, EventBuffer, Format, FormatKind, Origin};
use confluence_audit_agent::record::{IdHasher, Scratch, parse};

use crate::limit_event;
use crate::rig::{self, MIB, Result, Target, row, setting};

const ROUNDS: usize = 5;

pub fn measure() -> Result<()> {
    let bytes = setting("BENCH_BYTES", 1024 * MIB).min(64 * MIB);
    let dir = rig::directory()?;
    let files = rig::write_files(dir.path(), 1, bytes)?;
    // In turns, so that other load on the machine affects all of them.
    let mut ratios: [Vec<f64>; FormatKind::ALL.len()] = Default::default();
    for _ in 0..ROUNDS {
        let ecs_s = seconds(FormatKind::Ecs, &files)?;
        for (ratios, name) in ratios.iter_mut().zip(FormatKind::ALL) {
            ratios.push(seconds(name, &files)? / ecs_s);
        }
    }
    for (mut ratios, name) in ratios.into_iter().zip(FormatKind::ALL) {
        ratios.sort_by(f64::total_cmp);
        let target = match name {
            FormatKind::Ecs => Target::None,
            _ => Target::AtMost(1.25),
        };
        row(
            &format!("{name:?}: CPU to parse and write, over ECS, median of {ROUNDS}"),
            rig::quantile(&ratios, 0.5),
            "",
            target,
        );
    }
    Ok(())
}

fn seconds(name: FormatKind, files: &[PathBuf]) -> Result<f64> {
    let agent = limit_event::AGENT;
    let format = Format::new(
        name,
        &Context {
            tags: None,
            namespace: "default".to_owned(),
            site: None,
            agent: Agent {
                id: agent.id.to_owned(),
                ephemeral_id: agent.ephemeral_id.to_owned(),
                name: agent.name.to_owned(),
                version: agent.version.to_owned(),
            },
            host: None,
            cloud: None,
            geo: None,
            preserve_original_event: true,
        },
    );
    let (mut ids, mut scratch, mut out) = (IdHasher::new(None), Scratch::default(), EventBuffer::new());
    let path_json = format!("\"{}\"", limit_event::PATH);
    let mut s = 0.0;
    for file in files {
        let content = fs::read(file)?;
        let start = on_cpu_s()?;
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            let parsed = &parse(&line[..line.len() - 1], &mut scratch);
            let item = Event {
                content: parsed,
                id: ids.id(parsed),
                origin: Origin::File {
                    path_json: &path_json,
                    offset: limit_event::OFFSET,
                    unterminated: false,
                },
                self_poll: false,
                read_at_ms: 1_767_323_045_678,
            };
            format.write(&item, &mut out);
            if out.bytes.len() > 1 << 20 {
                black_box(&out.bytes);
                out.bytes.clear();
            }
        }
        s += on_cpu_s()? - start;
    }
    Ok(s)
}

/// CPU time of this thread, without other load on the machine.
fn on_cpu_s() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: f64 = text.split(' ').next().unwrap_or("").parse()?;
    Ok(ns / 1e9)
}
