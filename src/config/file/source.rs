//! `[[source]]`.

use std::path::Path;
use std::time::Duration;

use super::{DAY, GIB, HOUR, KIB, Seen, absolute, belongs_to, name, set};
use crate::config::checked::*;
use crate::config::home::{self, HomeFound};
use crate::config::raw::{Problems, Table};

const SEC: Duration = Duration::from_secs(1);

/// `None` when something without which there is no source is missing or wrong; that has been reported then.
pub fn table(
    mut table: Table,
    seen: &mut Seen<String>,
    keys: &mut Vec<&'static str>,
    problems: &mut Problems,
) -> Option<SourceConfig> {
    let name = name(&mut table, "source", "wiki", &mut seen.names, problems);
    let kind = table.choice("type", &[("data_center", ())], &["cloud"], problems);
    if kind.is_none() && !table.had("type") {
        problems.add(
            &table.span,
            table.key("type"),
            "is missing; add `type = \"data_center\"`",
        );
    }
    table.choice("mode", &[("files", ())], &["api", "auto"], problems);
    let place = place(&mut table, seen, problems);

    let mut files = FilesConfig::new(Place::Files(Vec::new()));
    let starts = [("beginning", StartAt::Beginning), ("end", StartAt::End)];
    set(
        &mut files.start_at,
        table
            .choice("start_at", &starts, &[], problems)
            .map(|found| found.value),
    );
    let record_bytes_max = table.size("record_bytes_max", KIB..=GIB, problems);
    set(
        &mut files.record_bytes_max,
        record_bytes_max.map(|bytes| bytes as usize),
    );
    set(
        &mut files.sweep_interval,
        table.duration("sweep_interval", SEC / 10..=HOUR, problems),
    );
    set(
        &mut files.rotate_grace,
        table.duration("rotate_grace", Duration::ZERO..=DAY, problems),
    );
    set(
        &mut files.open_files_max,
        table.count("open_files_max", 1..=1000, problems),
    );
    set(
        &mut files.deleted_files_max,
        table.count("deleted_files_max", 0..=1000, problems),
    );
    set(
        &mut files.deleted_bytes_max,
        table.size("deleted_bytes_max", 0..=1024 * GIB, problems),
    );
    set(
        &mut files.deleted_age_max,
        table.duration("deleted_age_max", Duration::ZERO..=365 * DAY, problems),
    );
    set(
        &mut files.retention,
        table.duration("retention", HOUR..=3650 * DAY, problems),
    );
    set(
        &mut files.entries_vanished_max,
        table.count("entries_vanished_max", 0..=100_000, problems),
    );
    set(&mut files.notify, table.flag("notify", problems));
    let read_bytes = table.size("read_bytes", 4 * KIB..=64 << 20, problems);
    set(&mut files.read_bytes, read_bytes.map(|bytes| bytes as usize));
    *keys = table.finish(belongs_to, problems);

    files.place = place?;
    let name = name?;
    Some(SourceConfig {
        site: Some(name.clone()),
        name,
        files: Some(files),
        api: None,
    })
}

/// Where a source reads: homes and patterns must not be another source's.
fn place(table: &mut Table, seen: &mut Seen<String>, problems: &mut Problems) -> Option<Place> {
    let dir = table.text("home", home::DEFAULT_HOME, problems);
    let patterns = table.texts("files", "/srv/confluence/log/audit/*.audit.log", problems);
    let span = patterns
        .as_ref()
        .map_or(&table.span, |patterns| &patterns.span)
        .clone();
    let place = match (dir, patterns) {
        (Some(_), Some(patterns)) => {
            let message = "stands beside `home`, which finds the files itself; keep one of the two";
            problems.add(&patterns.span, patterns.key, message);
            return None;
        }
        (Some(dir), None) => Place::Home {
            dir: absolute(dir, problems)?.value,
            found: HomeFound::Setting,
        },
        (None, Some(patterns)) => {
            if let Err(message) = check_patterns(&patterns.value) {
                problems.add(&patterns.span, patterns.key, message);
                return None;
            }
            Place::Files(patterns.value)
        }
        (None, None) if table.had("home") || table.had("files") => return None,
        (None, None) => {
            let (dir, found) = home::find();
            Place::Home { dir, found }
        }
    };
    let same = match &place {
        Place::Home { dir, .. } => vec![dir.to_string_lossy().into_owned()],
        Place::Files(patterns) => patterns.clone(),
    };
    let own = table.key("");
    let own = own.trim_end_matches('.');
    if let Some((_, other)) = seen.places.iter().find(|(place, _)| same.contains(place)) {
        let message = format!(
            "reads the same files as `{other}` ({}), so each event would come twice; give each source its own `home` or `files`",
            same.join(", ")
        );
        problems.add(&span, own, message);
    }
    seen.places
        .extend(same.into_iter().map(|place| (place, own.to_string())));
    Some(place)
}

/// Says what is wrong with glob patterns.
pub fn check_patterns(patterns: &[String]) -> Result<(), String> {
    if patterns.is_empty() {
        return Err("names no file; write at least one pattern, or `home` instead".into());
    }
    for pattern in patterns {
        if let Err(error) = glob::Pattern::new(pattern) {
            return Err(format!(
                "`{pattern}` is no pattern: {} at character {}; quote a character as in `[[]`",
                error.msg,
                error.pos + 1
            ));
        }
        if !Path::new(pattern).is_absolute() {
            return Err(format!(
                "`{pattern}` is relative; write the whole path, from `/` on"
            ));
        }
    }
    Ok(())
}
