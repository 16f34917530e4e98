//! A disk in memory that can lose what was not synced, as a disk does when the power is cut.
//!
//! It promises no more than POSIX does. `fsync` of a file makes its content durable, and not its name. A name that was
//! created, renamed or removed is durable once its directory is synced. Mode, owner and times are always durable.

use super::unsynced::{Change, Content, Loss, Names};
use crate::rig::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

pub const ROOT: u64 = 1;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NoPower,
    NotFound,
    Exists,
    NotEmpty,
    NotDirectory,
    IsDirectory,
    OtherDirectory,
}

enum Kind {
    File(Content),
    Directory(Names),
}

struct Inode {
    kind: Kind,
    attributes: Attributes,
    /// Tells it from an earlier one of the same number.
    generation: u64,
}

#[derive(Clone, Copy, Default)]
pub struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Time of the last change of the content, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// What is known of a file or directory.
pub struct Found {
    pub number: u64,
    pub generation: u64,
    pub length: u64,
    pub is_directory: bool,
    pub attributes: Attributes,
}

pub struct Disk {
    inodes: BTreeMap<u64, Inode>,
    created: u64,
    random: Random,
    has_power: bool,
    /// After so many more changes and syncs the power is cut.
    next_cut: Option<(u64, Loss)>,
    /// Changes that were lost in all cuts.
    pub lost: u64,
}

impl Disk {
    pub fn new(seed: u64, owner: (u32, u32)) -> Disk {
        let attributes = Attributes { mode: 0o700, uid: owner.0, gid: owner.1, modified_ms: 0 };
        let root = Inode { kind: Kind::Directory(Names::default()), attributes, generation: 0 };
        let inodes = BTreeMap::from([(ROOT, root)]);
        Disk { inodes, created: 0, random: Random::new(seed), has_power: true, next_cut: None, lost: 0 }
    }

    /// Cuts the power before the n-th change or sync from now.
    pub fn cut_before(&mut self, nth: u64, loss: Loss) {
        self.next_cut = Some((nth, loss));
    }

    pub fn has_power(&self) -> bool {
        self.has_power
    }

    pub fn power_on(&mut self) {
        (self.has_power, self.next_cut) = (true, None);
    }

    /// The lowest number that is free: as on most file systems, a new file may get that of one that is gone.
    fn free_number(&self) -> u64 {
        self.inodes
            .keys()
            .zip(ROOT..)
            .find(|(number, expected)| *number != expected)
            .map_or_else(|| self.inodes.len() as u64 + ROOT, |(_, free)| free)
    }

    fn read_allowed(&self) -> Result<(), Refused> {
        if self.has_power { Ok(()) } else { Err(Refused::NoPower) }
    }

    /// Counts a change or a sync, before which the power may be cut.
    fn before_change(&mut self) -> Result<(), Refused> {
        self.read_allowed()?;
        if let Some((nth, loss)) = &mut self.next_cut {
            *nth -= 1;
            if *nth == 0 {
                let loss = *loss;
                self.cut(loss);
                self.has_power = false;
            }
        }
        self.read_allowed()
    }

    /// What was not synced is lost, and the power is back.
    pub fn cut(&mut self, loss: Loss) {
        if loss == Loss::Nothing {
            return;
        }
        for inode in self.inodes.values_mut() {
            self.lost += match &mut inode.kind {
                Kind::File(content) => content.lose(loss, &mut self.random),
                Kind::Directory(names) => names.lose(loss, &mut self.random),
            };
        }
        self.forget_unreachable();
    }

    /// Forgets what has no name any more.
    fn forget_unreachable(&mut self) {
        let (mut reached, mut next) = (BTreeSet::new(), vec![ROOT]);
        while let Some(number) = next.pop() {
            if reached.insert(number)
                && let Some(Inode { kind: Kind::Directory(names), .. }) = self.inodes.get(&number)
            {
                next.extend(names.now().values());
            }
        }
        self.inodes.retain(|number, _| reached.contains(number));
    }

    fn content(&mut self, number: u64) -> Result<&mut Content, Refused> {
        match self.inodes.get_mut(&number).map(|inode| &mut inode.kind) {
            Some(Kind::File(content)) => Ok(content),
            Some(Kind::Directory(_)) => Err(Refused::IsDirectory),
            None => Err(Refused::NotFound),
        }
    }

    fn names(&mut self, number: u64) -> Result<&mut Names, Refused> {
        match self.inodes.get_mut(&number).map(|inode| &mut inode.kind) {
            Some(Kind::Directory(names)) => Ok(names),
            Some(Kind::File(_)) => Err(Refused::NotDirectory),
            None => Err(Refused::NotFound),
        }
    }

    pub fn find(&self, number: u64) -> Result<Found, Refused> {
        self.read_allowed()?;
        let inode = self.inodes.get(&number).ok_or(Refused::NotFound)?;
        let (length, is_directory) = match &inode.kind {
            Kind::File(content) => (content.now().len() as u64, false),
            Kind::Directory(_) => (0, true),
        };
        let Inode { attributes, generation, .. } = *inode;
        Ok(Found { number, generation, length, is_directory, attributes })
    }

    pub fn look_up(&mut self, directory: u64, name: &OsStr) -> Result<Found, Refused> {
        let number = self.names(directory)?.now().get(name).copied();
        self.find(number.ok_or(Refused::NotFound)?)
    }

    pub fn list(&mut self, directory: u64) -> Result<Vec<(OsString, Found)>, Refused> {
        let names: Vec<_> = self.names(directory)?.now().clone().into_iter().collect();
        names.into_iter().map(|(name, number)| Ok((name, self.find(number)?))).collect()
    }

    pub fn create(
        &mut self,
        directory: u64,
        name: &OsStr,
        is_directory: bool,
        attributes: Attributes,
    ) -> Result<Found, Refused> {
        self.before_change()?;
        if self.names(directory)?.now().contains_key(name) {
            return Err(Refused::Exists);
        }
        let number = self.free_number();
        let kind = match is_directory {
            true => Kind::Directory(Names::default()),
            false => Kind::File(Content::default()),
        };
        self.created += 1;
        self.inodes.insert(number, Inode { kind, attributes, generation: self.created });
        self.names(directory)?.change(vec![(name.to_owned(), Some(number))]);
        self.find(number)
    }

    pub fn remove(&mut self, directory: u64, name: &OsStr) -> Result<(), Refused> {
        self.before_change()?;
        let number = self.names(directory)?.now().get(name).copied().ok_or(Refused::NotFound)?;
        if self.names(number).is_ok_and(|names| !names.now().is_empty()) {
            return Err(Refused::NotEmpty);
        }
        self.names(directory)?.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    /// Renames within a directory.
    pub fn rename(
        &mut self,
        directory: (u64, u64),
        from: &OsStr,
        to: &OsStr,
        how: Rename,
    ) -> Result<(), Refused> {
        self.before_change()?;
        if directory.0 != directory.1 {
            return Err(Refused::OtherDirectory);
        }
        let names = self.names(directory.0)?;
        let number = names.now().get(from).copied().ok_or(Refused::NotFound)?;
        let other = names.now().get(to).copied();
        let left = match (how, other) {
            (Rename::Exchange, None) => return Err(Refused::NotFound),
            (Rename::Exchange, other) => other,
            (Rename::NoReplace, Some(_)) => return Err(Refused::Exists),
            (Rename::NoReplace | Rename::Replace, _) => None,
        };
        names.change(vec![(from.to_owned(), left), (to.to_owned(), Some(number))]);
        Ok(())
    }

    pub fn read(&mut self, number: u64, at: u64, length: usize) -> Result<&[u8], Refused> {
        self.read_allowed()?;
        let now = self.content(number)?.now();
        let start = now.len().min(at as usize);
        Ok(&now[start..now.len().min(start + length)])
    }

    pub fn write(&mut self, number: u64, at: u64, bytes: &[u8], now_ms: i64) -> Result<(), Refused> {
        self.before_change()?;
        self.content(number)?.change(Change::Write { at, bytes: bytes.to_owned() });
        self.set_attributes(number, |attributes| attributes.modified_ms = now_ms)
    }

    pub fn set_length(&mut self, number: u64, length: u64, now_ms: i64) -> Result<(), Refused> {
        self.before_change()?;
        self.content(number)?.change(Change::Length(length));
        self.set_attributes(number, |attributes| attributes.modified_ms = now_ms)
    }

    pub fn set_attributes(&mut self, number: u64, set: impl FnOnce(&mut Attributes)) -> Result<(), Refused> {
        self.read_allowed()?;
        set(&mut self.inodes.get_mut(&number).ok_or(Refused::NotFound)?.attributes);
        Ok(())
    }

    /// Syncs a file or a directory.
    pub fn sync(&mut self, number: u64) -> Result<(), Refused> {
        self.before_change()?;
        match &mut self.inodes.get_mut(&number).ok_or(Refused::NotFound)?.kind {
            Kind::File(content) => content.sync(),
            Kind::Directory(names) => names.sync(),
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    Replace,
    NoReplace,
    Exchange,
}
