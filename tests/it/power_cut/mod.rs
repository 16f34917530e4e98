//! The power is cut, and whatever was not synced may be gone: no event is lost, and the output file holds none twice.
//!
//! State and output are on a [`disk`] that FUSE mounts. The real binary runs on it.

mod disk;
mod disk_tests;
mod mount;
mod single;
mod storage;
mod unsynced;
