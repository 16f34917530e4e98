//! The buffer that formats write to.

/// A long event is flushed between its pieces when the buffer is larger than this.
const FLUSH_BYTES_MIN: usize = 256 * 1024;

/// Longer values are written in pieces of this size.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

type Flush = Box<dyn FnMut(&mut Vec<u8>) + Send>;

/// A growing buffer. With a flush function, an event of 16 MiB is never in it as a whole.
#[derive(Default)]
pub struct EventBuffer {
    pub bytes: Vec<u8>,
    /// The event that is being written is long and the only one in the buffer, so it may be flushed in parts.
    pub in_parts: bool,
    flush: Option<Flush>,
}

impl EventBuffer {
    pub fn new() -> Self {
        EventBuffer::default()
    }

    /// `flush` consumes the buffer and empties it. It stores its errors until it is asked for them.
    pub fn with_flush(flush: impl FnMut(&mut Vec<u8>) + Send + 'static) -> Self {
        EventBuffer { bytes: Vec::new(), in_parts: false, flush: Some(Box::new(flush)) }
    }

    /// Flushes a large buffer. Called between the pieces of a long value.
    pub fn flush_if_large(&mut self) {
        if self.in_parts
            && self.bytes.len() > FLUSH_BYTES_MIN
            && let Some(flush) = &mut self.flush
        {
            flush(&mut self.bytes);
        }
    }

    pub fn put(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// For texts that may be long.
    pub fn put_long(&mut self, text: &str) {
        if text.len() <= PIECE_BYTES {
            return self.put(text);
        }
        for piece in text.as_bytes().chunks(PIECE_BYTES) {
            self.bytes.extend_from_slice(piece);
            self.flush_if_large();
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
