//! What is on the disk of a file and of a directory, what is not yet, and what a cut leaves of that.

use crate::rig::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

const PAGE: u64 = 4096;
const SECTOR: u64 = 512;

/// What becomes of changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All are there: the process was killed, and the machine runs on.
    Nothing,
    /// None is there.
    All,
    /// Those before some moment are there. The last write is torn.
    Torn,
    /// Some pages and names are there, whatever their order was.
    Reordered,
}

/// A change of a file's content.
pub enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Length(u64),
}

#[derive(Default)]
pub struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

/// Names that change together. `None` removes a name.
pub type Renaming = Vec<(OsString, Option<u64>)>;

#[derive(Default)]
pub struct Names {
    now: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    unsynced: Vec<Renaming>,
}

impl Change {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => {
                let (at, end) = (at as usize, at as usize + bytes.len());
                content.resize(content.len().max(end), 0);
                content[at..end].copy_from_slice(&bytes);
            }
            Change::Length(length) => content.resize(length as usize, 0),
        }
    }
}

impl Content {
    pub fn now(&self) -> &[u8] {
        &self.now
    }

    pub fn sync(&mut self) {
        self.unsynced.drain(..).for_each(|change| change.apply(&mut self.durable));
    }

    pub fn change(&mut self, change: Change) {
        let copy = match &change {
            Change::Write { at, bytes } => Change::Write { at: *at, bytes: bytes.clone() },
            Change::Length(length) => Change::Length(*length),
        };
        copy.apply(&mut self.now);
        self.unsynced.push(change);
    }

    /// Returns how many changes were lost.
    pub fn lose(&mut self, loss: Loss, random: &mut Random) -> u64 {
        let unsynced = std::mem::take(&mut self.unsynced);
        let all = unsynced.len() as u64;
        let kept = match loss {
            Loss::Nothing => all,
            Loss::All => 0,
            Loss::Torn => self.keep_torn(unsynced, random),
            Loss::Reordered => self.keep_some(unsynced, random),
        };
        self.now.clone_from(&self.durable);
        all - kept
    }

    fn keep_torn(&mut self, unsynced: Vec<Change>, random: &mut Random) -> u64 {
        let kept = random.below(unsynced.len() as u64 + 1);
        for (index, change) in unsynced.into_iter().enumerate() {
            match change {
                change if (index as u64) < kept => change.apply(&mut self.durable),
                Change::Write { at, mut bytes } if index as u64 == kept => {
                    let whole = bytes.len() as u64;
                    let torn = random.below(whole + 1);
                    let torn = if random.below(2) == 0 { torn } else { torn - torn % SECTOR };
                    bytes.truncate(torn as usize);
                    Change::Write { at, bytes }.apply(&mut self.durable);
                    // The length may be on the disk before the rest of the page is.
                    if random.below(2) == 0 {
                        let length = (self.durable.len() as u64).max(at + whole);
                        Change::Length(length).apply(&mut self.durable);
                    }
                }
                _ => {}
            }
        }
        kept
    }

    /// Pages are written in any order. Lengths are kept in the order in which they were set: what follows a lost one
    /// was written to other blocks.
    fn keep_some(&mut self, unsynced: Vec<Change>, random: &mut Random) -> u64 {
        let one_in = 1 + random.below(4);
        let mut kept = 0;
        for change in unsynced {
            let Change::Write { at, bytes } = change else {
                if random.below(2) == 0 {
                    break;
                }
                change.apply(&mut self.durable);
                kept += 1;
                continue;
            };
            let (mut at, mut rest) = (at, &bytes[..]);
            while !rest.is_empty() {
                let (page, later) = rest.split_at(rest.len().min((PAGE - at % PAGE) as usize));
                if random.below(one_in) == 0 {
                    let torn = random.below(8) == 0;
                    let sectors = page.len() as u64 / SECTOR * SECTOR;
                    let length = if torn { random.below(sectors + 1) as usize } else { page.len() };
                    Change::Write { at, bytes: page[..length].to_owned() }.apply(&mut self.durable);
                    kept += u64::from(later.is_empty());
                }
                (at, rest) = (at + page.len() as u64, later);
            }
        }
        kept
    }
}

fn apply(renaming: Renaming, names: &mut BTreeMap<OsString, u64>) {
    for (name, number) in renaming {
        match number {
            Some(number) => names.insert(name, number),
            None => names.remove(&name),
        };
    }
}

impl Names {
    pub fn now(&self) -> &BTreeMap<OsString, u64> {
        &self.now
    }

    pub fn sync(&mut self) {
        self.unsynced.drain(..).for_each(|renaming| apply(renaming, &mut self.durable));
    }

    pub fn change(&mut self, renaming: Renaming) {
        apply(renaming.clone(), &mut self.now);
        self.unsynced.push(renaming);
    }

    /// A renaming is kept whole or not at all, and never without an earlier one of the same name.
    pub fn lose(&mut self, loss: Loss, random: &mut Random) -> u64 {
        let unsynced = std::mem::take(&mut self.unsynced);
        let all = unsynced.len() as u64;
        let prefix = if loss == Loss::Torn { random.below(all + 1) } else { 0 };
        let mut lost_names = BTreeSet::new();
        let mut kept = 0;
        for (index, renaming) in unsynced.into_iter().enumerate() {
            let depends = renaming.iter().any(|(name, _)| lost_names.contains(name));
            let keep = match loss {
                Loss::Nothing => true,
                Loss::All => false,
                Loss::Torn => (index as u64) < prefix,
                Loss::Reordered => !depends && random.below(2) == 0,
            };
            if keep {
                apply(renaming, &mut self.durable);
                kept += 1;
            } else {
                lost_names.extend(renaming.into_iter().map(|(name, _)| name));
            }
        }
        self.now.clone_from(&self.durable);
        all - kept
    }
}
