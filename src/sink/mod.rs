//! Where events go. A sink takes batches in order and says of each when all of its events are final.

pub mod file;
pub mod stdout;

use crate::position::SinkMark;

/// Consecutive events of one source as one sink's format wrote them, each ended by LF.
#[derive(Debug, Default)]
pub struct Batch {
    /// `None` for a part of what the next numbered batch ends.
    pub number: Option<u64>,
    pub bytes: Vec<u8>,
    /// Where each event ends in `bytes`. Bytes after the last end belong to an event that goes on in the next batch.
    pub ends: Vec<u32>,
    /// The source has not yet passed all events that stood in the output at start. Until then the checkpoint must not say
    /// that the output is longer than it said before.
    pub behind: bool,
}

/// What a sink's thread is told.
pub enum Message {
    Batch(Batch),
    /// Nothing more will come.
    End,
    /// The sink's own: what was written before is on the disk now.
    Synced(std::io::Result<()>),
}

/// What a sink tells.
pub enum Report {
    /// The batch's bytes are written and its memory is free again; it may not be durable yet.
    Written(Vec<u8>),
    /// Every event of the batch is final.
    Final {
        number: u64,
        events: u64,
        mark: Option<SinkMark>,
    },
}
