//! The positions of the selected events, without duplicates: what `replay` sends and `drop` removes.

use super::{QuarantineFailure, each};
use crate::cli::EventSelection;
use crate::quarantine::{Entry, QuarantineDirectory};
use crate::record::EventId;
use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::Range;

/// The events of one sink and source, oldest first.
pub(super) struct QuarantineGroup {
    pub sink: String,
    pub source: String,
    pub events: Vec<QuarantinedEvent>,
}

pub(super) struct QuarantinedEvent {
    pub id: EventId,
    /// Index in `QuarantineIndex::formats`.
    format: u32,
    /// Index in `QuarantineIndex::names`, and the position of the line. The last one is the newest, which is
    /// sent.
    positions: Vec<(u32, Range<u64>)>,
}

pub(super) struct QuarantineIndex<'a> {
    pub directory: &'a QuarantineDirectory,
    pub groups: Vec<QuarantineGroup>,
    /// Number of lines that are not entries. They are kept.
    pub damaged: u64,
    names: Vec<OsString>,
    formats: Vec<String>,
    /// The removed lines of each file, by their original positions.
    removed: HashMap<u32, Vec<Range<u64>>>,
}

impl<'a> QuarantineIndex<'a> {
    /// The caller must hold the lock.
    pub(super) fn of(
        directory: &'a QuarantineDirectory,
        selection: &EventSelection,
    ) -> Result<QuarantineIndex<'a>, QuarantineFailure> {
        let mut index = QuarantineIndex {
            directory,
            groups: Vec::new(),
            damaged: 0,
            names: Vec::new(),
            formats: Vec::new(),
            removed: HashMap::new(),
        };
        let mut known: HashMap<(usize, EventId), usize> = HashMap::new();
        index.damaged = each(directory, selection, &mut |position, entry| {
            let Some(id) = entry.event_id() else { return Ok(()) };
            if index.names.last().is_none_or(|last| last != position.name) {
                index.names.push(position.name.to_owned());
            }
            let is_format = |format: &String| *format == entry.format;
            let format = index.formats.iter().position(is_format).unwrap_or_else(|| {
                index.formats.push(entry.format.clone());
                index.formats.len() - 1
            });
            let is_of = |group: &QuarantineGroup| group.sink == entry.sink && group.source == entry.source;
            let group = index.groups.iter().position(is_of).unwrap_or_else(|| {
                index.groups.push(QuarantineGroup {
                    sink: entry.sink.clone(),
                    source: entry.source.clone(),
                    events: Vec::new(),
                });
                index.groups.len() - 1
            });
            let events = &mut index.groups[group].events;
            let at = *known.entry((group, id)).or_insert_with(|| {
                events.push(QuarantinedEvent { id, format: 0, positions: Vec::new() });
                events.len() - 1
            });
            events[at].format = format as u32;
            events[at].positions.push((index.names.len() as u32 - 1, position.range));
            Ok(())
        })?;
        Ok(index)
    }

    pub(super) fn format(&self, event: &QuarantinedEvent) -> &str {
        &self.formats[event.format as usize]
    }

    pub(super) fn count(&self) -> u64 {
        self.groups.iter().map(|group| group.events.len() as u64).sum()
    }

    /// Size of the event's line in bytes.
    pub(super) fn bytes(&self, event: &QuarantinedEvent) -> u64 {
        event.positions.last().map_or(0, |(_, line)| line.end - line.start)
    }

    /// The newest entry of the event. Requires that the file was only changed through this index.
    pub(super) fn entry(&self, event: &QuarantinedEvent) -> Result<Entry, QuarantineFailure> {
        let (file, line) = event.positions.last().ok_or_else(|| std::io::Error::other("no place"))?;
        Ok(self.directory.entry(&self.names[*file as usize], &self.current_position(*file, line))?)
    }

    /// Removes these events of a group from all files.
    pub(super) fn remove(&mut self, group: usize, events: &[usize]) -> Result<(), QuarantineFailure> {
        let mut lines_by_file: HashMap<u32, Vec<Range<u64>>> = HashMap::new();
        for at in events {
            for (file, line) in &self.groups[group].events[*at].positions {
                lines_by_file.entry(*file).or_default().push(line.clone());
            }
        }
        let mut files: Vec<(u32, Vec<Range<u64>>)> = lines_by_file.into_iter().collect();
        files.sort_by_key(|(file, _)| *file);
        for (file, mut lines) in files {
            lines.sort_by_key(|line| line.start);
            let now: Vec<Range<u64>> = lines.iter().map(|line| self.current_position(file, line)).collect();
            self.directory.remove(&self.names[file as usize], &now)?;
            let removed = self.removed.entry(file).or_default();
            removed.append(&mut lines);
            removed.sort_by_key(|line| line.start);
        }
        Ok(())
    }

    /// The current position of a line, after removals before it.
    fn current_position(&self, file: u32, line: &Range<u64>) -> Range<u64> {
        let before = self.removed.get(&file).into_iter().flatten();
        let before = before.take_while(|removed| removed.start < line.start);
        let gap: u64 = before.map(|removed| removed.end - removed.start).sum();
        line.start - gap..line.end - gap
    }
}
