//! The disk on which the state and the output of a host are.

use super::disk::Disk;
use super::mount;
use super::unsynced::Loss;
use crate::rig::{Host, copy_tree, skip};
use fuser::BackgroundSession;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

pub struct Storage {
    disk: Arc<Mutex<Disk>>,
    mounted: Option<BackgroundSession>,
    /// Disks that have the device numbers of earlier mounts.
    others: Vec<BackgroundSession>,
    mountpoint: PathBuf,
}

impl Storage {
    /// Puts state and output of the host on a disk of their own. `None`: nothing can be mounted here.
    pub fn of(host: &mut Host, seed: u64) -> Option<Storage> {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        if !user.is_root() {
            skip("fuse", "only root can mount");
            return None;
        }
        if let Err(error) = fs::File::options().read(true).write(true).open("/dev/fuse") {
            skip("fuse", &format!("no FUSE: {error}"));
            return None;
        }
        let mountpoint = host.path("disk");
        fs::create_dir(&mountpoint).unwrap();
        let disk = Arc::new(Mutex::new(Disk::new(seed, (user.as_raw(), group.as_raw()))));
        let mounted = Some(mount::mount(&disk, &mountpoint).unwrap());
        host.storage = Some(mountpoint.join("var/lib"));
        Some(Storage { disk, mounted, others: Vec::new(), mountpoint })
    }

    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Cuts the power while nothing runs.
    pub fn cut(&self, loss: Loss) {
        self.disk().cut(loss);
    }

    /// After a boot a disk may have another device number.
    pub fn mount_as_other_device(&mut self, host: &Host) {
        let mountpoint = self.mountpoint.clone();
        let device = || fs::metadata(&mountpoint).unwrap().dev();
        let before = device();
        while device() == before {
            self.mounted.take().unwrap().umount_and_join().unwrap();
            let path = host.path(&format!("other.{}", self.others.len()));
            fs::create_dir(&path).unwrap();
            let other = Arc::new(Mutex::new(Disk::new(0, (0, 0))));
            self.others.push(mount::mount(&other, &path).unwrap());
            self.mounted = Some(mount::mount(&self.disk, &self.mountpoint).unwrap());
        }
    }

    /// Leaves a copy to whoever has to find out what went wrong.
    pub fn keep(&self, host: &mut Host) {
        self.disk().power_on();
        copy_tree(&self.mountpoint, &host.path("left"));
        host.keep();
        eprintln!("what is left is in {}", host.path("left").display());
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        for mounted in self.mounted.take().into_iter().chain(self.others.drain(..)) {
            let _ = mounted.umount_and_join();
        }
    }
}
