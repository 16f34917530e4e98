//! Where the events that are asked for stand, each once: what `replay` sends and `drop` removes.

use super::{Failure, each};
use crate::cli::EventSelection;
use crate::quarantine::{Entry, QuarantineDirectory};
use crate::record::EventId;
use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::Range;

/// Events of one sink and source, oldest first.
pub struct QuarantineGroup {
    pub sink: String,
    pub source: String,
    pub events: Vec<QuarantinedEvent>,
}

pub struct QuarantinedEvent {
    pub id: EventId,
    /// Number among `Index::formats`.
    format: u32,
    /// Number of the file among `Index::names`, and the line in it. The last is the newest, and is sent.
    places: Vec<(u32, Range<u64>)>,
}

pub struct Index<'a> {
    pub directory: &'a QuarantineDirectory,
    pub groups: Vec<QuarantineGroup>,
    /// Lines that are no entries; they stay.
    pub damaged: u64,
    names: Vec<OsString>,
    formats: Vec<String>,
    /// Of each file: the lines that were removed already, as they stood when the index was made.
    removed: HashMap<u32, Vec<Range<u64>>>,
}

impl<'a> Index<'a> {
    /// For who has the lock.
    pub fn of(directory: &'a QuarantineDirectory, selection: &EventSelection) -> Result<Index<'a>, Failure> {
        let mut index = Index {
            directory,
            groups: Vec::new(),
            damaged: 0,
            names: Vec::new(),
            formats: Vec::new(),
            removed: HashMap::new(),
        };
        let mut known: HashMap<(usize, EventId), usize> = HashMap::new();
        index.damaged = each(directory, selection, &mut |place, entry| {
            let Some(id) = entry.event_id() else { return Ok(()) };
            if index.names.last().is_none_or(|last| last != place.name) {
                index.names.push(place.name.to_owned());
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
                events.push(QuarantinedEvent {
                    id,
                    format: 0,
                    places: Vec::new(),
                });
                events.len() - 1
            });
            events[at].format = format as u32;
            events[at]
                .places
                .push((index.names.len() as u32 - 1, place.range));
            Ok(())
        })?;
        Ok(index)
    }

    pub fn format(&self, item: &QuarantinedEvent) -> &str {
        &self.formats[item.format as usize]
    }

    pub fn count(&self) -> u64 {
        self.groups.iter().map(|group| group.events.len() as u64).sum()
    }

    /// How long its line is, in bytes.
    pub fn bytes(&self, item: &QuarantinedEvent) -> u64 {
        item.places.last().map_or(0, |(_, line)| line.end - line.start)
    }

    /// As it was set aside last. Only as long as nothing was removed of its file behind this index's back.
    pub fn entry(&self, item: &QuarantinedEvent) -> Result<Entry, Failure> {
        let (file, line) = item
            .places
            .last()
            .ok_or_else(|| std::io::Error::other("no place"))?;
        Ok(self
            .directory
            .entry(&self.names[*file as usize], &self.moved(*file, line))?)
    }

    /// Removes these events of a group from all files that they stand in.
    pub fn remove(&mut self, group: usize, events: &[usize]) -> Result<(), Failure> {
        let mut gone: HashMap<u32, Vec<Range<u64>>> = HashMap::new();
        for at in events {
            for (file, line) in &self.groups[group].events[*at].places {
                gone.entry(*file).or_default().push(line.clone());
            }
        }
        let mut files: Vec<(u32, Vec<Range<u64>>)> = gone.into_iter().collect();
        files.sort_by_key(|(file, _)| *file);
        for (file, mut lines) in files {
            lines.sort_by_key(|line| line.start);
            let now: Vec<Range<u64>> = lines.iter().map(|line| self.moved(file, line)).collect();
            self.directory.remove(&self.names[file as usize], &now)?;
            let removed = self.removed.entry(file).or_default();
            removed.append(&mut lines);
            removed.sort_by_key(|line| line.start);
        }
        Ok(())
    }

    /// Where a line stands after what was removed before it.
    fn moved(&self, file: u32, line: &Range<u64>) -> Range<u64> {
        let before = self.removed.get(&file).into_iter().flatten();
        let before = before.take_while(|removed| removed.start < line.start);
        let gap: u64 = before.map(|removed| removed.end - removed.start).sum();
        line.start - gap..line.end - gap
    }
}
