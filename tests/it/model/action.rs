//! What may happen in a case. `Debug` prints each value as Rust, so that a failing case is a test that can be run.

/// What stays the same during a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setup {
    pub input: Input,
    pub sink: Sink,
    /// Notifications, or sweeps alone.
    pub notify: bool,
    /// The audit directory is below a home; otherwise it is named by a pattern.
    pub home: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    Files,
    Api,
    Auto,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sink {
    /// It is never rotated.
    File,
    /// It is rotated after a few events, and compressed.
    RotatedFile,
    /// By HTTP; an event that comes again is recognised by its id.
    Idempotent,
    /// By HTTP; an event that comes again is stored again.
    Plain,
}

/// `file` is an index of the audit files by name, modulo their number. What cannot be done now is not done: an action
/// may be left out of a script without any other becoming wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    // Confluence writes. With an API the events are in the database too.
    Append {
        events: u8,
    },
    /// One event whose line is longer than what the agent reads at once.
    Long {
        kib: u8,
    },
    /// So much of a line; the next event is written after the rest of it.
    Half {
        percent: u8,
    },
    /// To the file before the newest one.
    Late {
        events: u8,
    },
    /// The event before once more: two events that are equal in everything.
    Twin,
    Rotate,
    NextDay,
    /// The node has another id from now on, as after a restart of Confluence.
    NewNode,
    /// Confluence's clock is so many minutes ahead from now on.
    ClockAhead {
        minutes: u8,
    },

    // Somebody touches the audit files.
    Rename {
        file: u8,
    },
    Truncate {
        file: u8,
        percent: u8,
    },
    Copy {
        file: u8,
    },
    CopyAndTruncate {
        file: u8,
    },
    /// Truncates it and writes other events over it.
    Overwrite {
        file: u8,
        events: u8,
    },
    Delete {
        file: u8,
    },
    /// Deletes it and makes another file, which may get its inode; under the same name, or the next.
    Replace {
        file: u8,
        events: u8,
        same_name: bool,
    },
    Gzip {
        file: u8,
    },
    MoveOut {
        file: u8,
    },
    MoveBack,
    DirectoryGone,
    DirectoryBack,

    // The API.
    /// In the database and in no file.
    Row {
        events: u8,
    },
    /// In a file and not in the database.
    FileOnly {
        events: u8,
    },
    /// A row that is visible seconds after its time.
    LateRow {
        seconds: u8,
    },
    PageCap {
        rows: u8,
    },
    ApiFault {
        fault: ApiFault,
        requests: u8,
    },
    ApiDown,
    ApiUp,

    // The sink.
    Refuse {
        requests: u8,
    },
    HangUp {
        requests: u8,
    },
    TakeAndHangUp {
        requests: u8,
    },
    Stall {
        requests: u8,
    },
    SinkDown,
    SinkUp,

    // The agent.
    /// Runs it until all is delivered.
    Once,
    /// The same, and it aborts at this hit of a failpoint.
    OnceCrash {
        failpoint: Failpoint,
        hit: u8,
    },
    Start,
    StartCrash {
        failpoint: Failpoint,
        hit: u8,
    },
    /// Waits until the running agent has delivered everything.
    Settle,
    Stop,
    /// SIGKILL, so many milliseconds from now.
    Kill {
        after_ms: u8,
    },
    /// Keeps a copy of the state.
    Backup,
    /// The last copy of the state takes the place of the state; without a copy, none does.
    Restore,
    /// A new release: other blocks, the other way of noticing changes.
    Upgrade,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ApiFault {
    Unavailable,
    TooManyRequests,
    NotJson,
    CutBody,
    Hangup,
    InsertBetweenPages,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failpoint {
    Read,
    Decode,
    Encode,
    BeforeSend,
    AfterSend,
    Sync,
    AfterAck,
    LedgerSynced,
    BeforeFlush,
    AfterFlush,
    Ask,
    CompressWritten,
    CompressRenamed,
    Compressed,
}

impl Failpoint {
    pub fn name(self) -> &'static str {
        match self {
            Failpoint::Read => "read",
            Failpoint::Decode => "decode",
            Failpoint::Encode => "encode",
            Failpoint::BeforeSend => "before_send",
            Failpoint::AfterSend => "after_send",
            Failpoint::Sync => "sync",
            Failpoint::AfterAck => "after_ack",
            Failpoint::LedgerSynced => "ledger_synced",
            Failpoint::BeforeFlush => "before_flush",
            Failpoint::AfterFlush => "after_flush",
            Failpoint::Ask => "ask",
            Failpoint::CompressWritten => "compress_written",
            Failpoint::CompressRenamed => "compress_renamed",
            Failpoint::Compressed => "compressed",
        }
    }
}
