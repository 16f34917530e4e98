//! Sequence number and checksum of a line, so that tests can detect missing and damaged lines.

pub const SEQ_KEY: &str = "com.example.generator.seq";
pub const CRC_KEY: &str = "com.example.generator.crc";

/// The sequence number of a numbered line (without its LF). `None` if any byte differs.
pub fn check(line: &[u8]) -> Option<u64> {
    let seq_at = find(line, SEQ_KEY)?;
    let digits = line[seq_at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let seq = std::str::from_utf8(&line[seq_at..seq_at + digits]).ok()?.parse().ok()?;
    let crc_at = find(line, CRC_KEY)?;
    let crc = std::str::from_utf8(line.get(crc_at..crc_at + 8)?).ok()?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    (crc == checksum(&line[..crc_at], &line[crc_at + 8..])).then_some(seq)
}

/// The position of the value of the attribute with this key.
fn find(line: &[u8], key: &str) -> Option<usize> {
    let needle = format!("\"nameI18nKey\":\"{key}\",\"value\":\"");
    line.windows(needle.len()).position(|w| w == needle.as_bytes()).map(|at| at + needle.len())
}

/// CRC-32 (ISO-HDLC) of both pieces, one after the other.
pub fn checksum(before: &[u8], after: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut c = i as u32;
            let mut bit = 0;
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                bit += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    let step = |c: u32, b: &u8| TABLE[((c ^ u32::from(*b)) & 0xff) as usize] ^ (c >> 8);
    !before.iter().chain(after).fold(!0, step)
}
