//! Where formats write to.

/// More than this is handed on between the pieces of one event.
const ROOM_BYTES: usize = 256 * 1024;

/// Values longer than this are written in pieces of it.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

type HandOn = Box<dyn FnMut(&mut Vec<u8>) + Send>;

/// A buffer that grows; with a way out, an event of 16 MiB never has its whole text in it.
#[derive(Default)]
pub struct Out {
    pub bytes: Vec<u8>,
    /// The event being written is long and alone in the buffer: it may be handed on in parts.
    pub in_parts: bool,
    hand_on: Option<HandOn>,
}

impl Out {
    pub fn new() -> Self {
        Out::default()
    }

    /// `hand_on` takes what is in the buffer and empties it. It keeps its errors to itself until it is asked.
    pub fn with_hand_on(hand_on: impl FnMut(&mut Vec<u8>) + Send + 'static) -> Self {
        Out {
            bytes: Vec::new(),
            in_parts: false,
            hand_on: Some(Box::new(hand_on)),
        }
    }

    /// Hands on what is there if it is much. Called between the pieces of a long value.
    pub fn room(&mut self) {
        if self.in_parts
            && self.bytes.len() > ROOM_BYTES
            && let Some(hand_on) = &mut self.hand_on
        {
            hand_on(&mut self.bytes);
        }
    }

    pub fn put(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// For what may be long.
    pub fn put_long(&mut self, text: &str) {
        if text.len() <= PIECE_BYTES {
            return self.put(text);
        }
        for piece in text.as_bytes().chunks(PIECE_BYTES) {
            self.bytes.extend_from_slice(piece);
            self.room();
        }
    }

    pub fn put_signed(&mut self, number: i64) {
        if number < 0 {
            self.put("-");
        }
        self.put_number(number.unsigned_abs());
    }

    pub fn put_number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[at..]);
    }
}

/// Writes an object whose members may all be missing; then it is not written either.
pub(super) struct Object {
    open: &'static str,
    started: bool,
}

impl Object {
    /// `open` is what stands before the first member, for example `,"user":{`.
    pub fn new(open: &'static str) -> Self {
        Object { open, started: false }
    }

    /// Begins a member; `key` has a comma before it, quotes and a colon.
    pub fn key(&mut self, key: &str, out: &mut Out) {
        if self.started {
            return out.put(key);
        }
        self.started = true;
        out.put(self.open);
        out.put(&key[1..]);
    }

    /// Closes it if it was begun, and tells whether it was.
    pub fn end(self, out: &mut Out) -> bool {
        if self.started {
            out.put("}");
        }
        self.started
    }
}
