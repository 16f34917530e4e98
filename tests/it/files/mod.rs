//! How files are found, followed and read, on the real binary.

mod copies;
mod framing;
mod inode;
mod limits;
mod links;
mod long;
mod once;
mod rotation;
mod start;
