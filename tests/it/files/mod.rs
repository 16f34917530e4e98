//! How files are found, followed and read, on the real binary.

mod framing;
mod rotation;
