//! Mounts a [`Disk`] by FUSE.

use super::disk::{Attributes, Disk, Found, Refused, Rename};
use confluence_audit_agent::clock;
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The kernel asks each time: it must not remember what a cut has taken.
const NOT_CACHED: Duration = Duration::ZERO;

/// Mounts the disk. It is unmounted when the value is dropped.
pub fn mount(disk: &Arc<Mutex<Disk>>, at: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("power-cut".to_owned()), MountOption::DefaultPermissions];
    fuser::spawn_mount(Mounted(disk.clone()), at, &config)
}

struct Mounted(Arc<Mutex<Disk>>);

impl Mounted {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }
}

impl From<Refused> for Errno {
    fn from(refused: Refused) -> Errno {
        match refused {
            Refused::NoPower => Errno::EIO,
            Refused::NotFound => Errno::ENOENT,
            Refused::Exists => Errno::EEXIST,
            Refused::NotEmpty => Errno::ENOTEMPTY,
            Refused::NotDirectory => Errno::ENOTDIR,
            Refused::IsDirectory => Errno::EISDIR,
            Refused::OtherDirectory => Errno::EXDEV,
        }
    }
}

fn attributes(found: &Found) -> FileAttr {
    let Attributes { mode, uid, gid, modified_ms } = found.attributes;
    let modified = UNIX_EPOCH + Duration::from_millis(modified_ms.max(0) as u64);
    FileAttr {
        ino: INodeNo(found.number),
        size: found.length,
        blocks: found.length.div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind: if found.is_directory { FileType::Directory } else { FileType::RegularFile },
        perm: mode as u16,
        nlink: if found.is_directory { 2 } else { 1 },
        uid,
        gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn new_attributes(request: &Request, mode: u32, umask: u32) -> Attributes {
    let mode = mode & !umask & 0o7777;
    Attributes { mode, uid: request.uid(), gid: request.gid(), modified_ms: clock::now_ms() }
}

fn answer(reply: ReplyEmpty, result: Result<(), Refused>) {
    match result {
        Ok(()) => reply.ok(),
        Err(refused) => reply.error(refused.into()),
    }
}

fn answer_entry(reply: ReplyEntry, result: Result<Found, Refused>) {
    match result {
        Ok(found) => reply.entry(&NOT_CACHED, &attributes(&found), Generation(found.generation)),
        Err(refused) => reply.error(refused.into()),
    }
}

fn answer_attributes(reply: ReplyAttr, result: Result<Found, Refused>) {
    match result {
        Ok(found) => reply.attr(&NOT_CACHED, &attributes(&found)),
        Err(refused) => reply.error(refused.into()),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(reply, self.disk().look_up(parent.0, name));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(reply, self.disk().find(number.0));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        length: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        let modified_ms = modified.map(|modified| match modified {
            TimeOrNow::SpecificTime(time) => {
                time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
            }
            TimeOrNow::Now => clock::now_ms(),
        });
        let result = length
            .map_or(Ok(()), |length| disk.set_length(number.0, length, clock::now_ms()))
            .and_then(|()| {
                disk.set_attributes(number.0, |attributes| {
                    attributes.mode = mode.map_or(attributes.mode, |mode| mode & 0o7777);
                    attributes.uid = uid.unwrap_or(attributes.uid);
                    attributes.gid = gid.unwrap_or(attributes.gid);
                    attributes.modified_ms = modified_ms.unwrap_or(attributes.modified_ms);
                })
            })
            .and_then(|()| disk.find(number.0));
        answer_attributes(reply, result);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let attributes = new_attributes(request, mode, umask);
        answer_entry(reply, self.disk().create(parent.0, name, true, attributes));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let attributes_of_new = new_attributes(request, mode, umask);
        match self.disk().create(parent.0, name, false, attributes_of_new) {
            Ok(found) => {
                let (attributes, generation) = (attributes(&found), Generation(found.generation));
                reply.created(&NOT_CACHED, &attributes, generation, FileHandle(0), FopenFlags::empty());
            }
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk().remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk().remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            Rename::Exchange
        } else if flags.contains(RenameFlags::RENAME_NOREPLACE) {
            Rename::NoReplace
        } else {
            Rename::Replace
        };
        answer(reply, self.disk().rename((parent.0, new_parent.0), name, new_name, how));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        at: u64,
        length: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().read(number.0, at, length as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        at: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(number.0, at, bytes, clock::now_ms()) {
            Ok(()) => reply.written(bytes.len() as u32),
            Err(refused) => reply.error(refused.into()),
        }
    }

    /// At each `close`, which makes nothing durable.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.disk().sync(number.0));
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.disk().sync(number.0));
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, after: u64, mut reply: ReplyDirectory) {
        let listed = self.disk().list(number.0);
        let mut listed = match listed {
            Ok(listed) => listed,
            Err(refused) => return reply.error(refused.into()),
        };
        // In an order that removals do not change.
        listed.sort_by_key(|(_, found)| found.number);
        for (name, found) in listed.iter().filter(|(_, found)| found.number > after) {
            let kind = if found.is_directory { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(found.number), found.number, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = 1 << 20;
        reply.statfs(blocks, blocks, blocks, blocks, blocks, 4096, 255, 4096);
    }
}
