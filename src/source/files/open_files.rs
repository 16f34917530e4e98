//! Which files are held open: as many as may be, those that are to be read next.

use super::Files;
use super::compressed::Compression;
use super::tail::Tail;
use super::tracked::Tracked;

impl Files {
    /// Whether another file may be opened. If need be one is closed that was read to its end: the rotated file that has
    /// been quiet for longest, or a live one, for there may be more directories than files that may be open.
    pub(super) fn room_for_one_more(&mut self) -> bool {
        if self.open_tails() < self.config.open_files_max {
            return true;
        }
        let at_its_end = |t: &Tracked| {
            let Some(tail) = &t.tail else { return false };
            let read = tail.framer.waiting_bytes() == 0 && tail.framer.boundary() == t.entry.size;
            t.listed && read && t.retry.is_none() && t.compression.is_none()
        };
        let idle: Vec<usize> = (0..self.tracked.len())
            .filter(|&at| at_its_end(&self.tracked[at]))
            .collect();
        let (mut rotated, mut live): (Vec<usize>, Vec<usize>) =
            idle.into_iter().partition(|&at| self.succeeded(at));
        rotated.retain(|&at| self.tracked[at].quiet_since.is_some());
        rotated.sort_by_key(|&at| self.tracked[at].quiet_since);
        // The last, not the first: most of those that are looked at in turn stay open then.
        live.reverse();
        for at in rotated.into_iter().chain(live) {
            let tracked = &mut self.tracked[at];
            // Deleted since the last sweep: this descriptor is all that is left of it.
            let named = |tail: &mut Tail| tail.look(&tracked.entry.path).is_ok_and(|look| look.names > 0);
            if tracked.tail.as_mut().is_some_and(named) {
                tracked.note_position();
                tracked.tail = None;
                return true;
            }
        }
        false
    }

    /// Opens what is to be read next, so that a deletion does not take it away before.
    pub(super) fn pin(&mut self) {
        for at in self.reading_order() {
            if self.open_tails() >= self.config.open_files_max {
                break;
            }
            if !self.tracked[at].is_open()
                && self.tracked[at].cut_off.is_none()
                && self.tracked[at].retry.is_none()
                && self.folders[self.tracked[at].folder].begun
            {
                // A failure is told when the file's turn to be read comes.
                let _ = match self.tracked[at].compression {
                    None => self.open(at).map(drop),
                    Some(Compression::Unsupported) => Ok(()),
                    Some(_) => self.begin_scan(at).map(|scan| self.tracked[at].scan = scan),
                };
            }
        }
    }

    fn open_tails(&self) -> usize {
        self.tracked.iter().filter(|t| t.is_open()).count()
    }
}
