//! How files are found, followed and read, on the real binary.

mod ahead;
mod broken;
mod copies;
mod edited;
mod followed;
mod framing;
mod inode;
mod limits;
mod links;
mod long;
mod names;
mod once;
mod remount;
mod rotation;
mod sparse;
mod start;
