//! The format of every stored value: `{"version":1,"sum":"<xxh3-64>","value":…}`.
//!
//! The checksum covers version, name and value. A damaged value, or one stored under another name, is detected. This
//! format never changes, so that each release can distinguish a newer release's value from a damaged one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

#[derive(Deserialize)]
struct StoredValue<'a> {
    version: u32,
    sum: &'a str,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Why bytes cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// The checksum matches, but a newer release wrote the value; its version.
    Newer(u32),
    Damaged(String),
}

/// Encodes `value`, to be stored under `name`. Returns the bytes and the checksum.
pub(super) fn encode(name: &[u8], value: &impl Serialize) -> serde_json::Result<(Vec<u8>, u64)> {
    encode_as(super::VERSION, name, value)
}

/// Uses one buffer, because a value may be large. The checksum is filled in at the end.
fn encode_as(version: u32, name: &[u8], value: &impl Serialize) -> serde_json::Result<(Vec<u8>, u64)> {
    let mut bytes = format!(r#"{{"version":{version},"sum":""#).into_bytes();
    let sum_at = bytes.len();
    bytes.extend_from_slice(br#"0000000000000000","value":"#);
    let value_at = bytes.len();
    serde_json::to_writer(&mut bytes, value)?;
    let sum = sum(version, name, &bytes[value_at..]);
    bytes[sum_at..sum_at + 16].copy_from_slice(format!("{sum:016x}").as_bytes());
    bytes.push(b'}');
    Ok((bytes, sum))
}

/// Returns the value in `bytes`, which were stored under `name`, and its checksum.
pub(super) fn decode<T: DeserializeOwned>(name: &[u8], bytes: &[u8]) -> Result<(T, u64), DecodeError> {
    let damaged = |error: serde_json::Error| DecodeError::Damaged(error.to_string());
    let stored: StoredValue = serde_json::from_slice(bytes).map_err(damaged)?;
    let value = stored.value.get();
    let sum = sum(stored.version, name, value.as_bytes());
    if stored.sum != format!("{sum:016x}") {
        return Err(DecodeError::Damaged("its checksum does not match".to_owned()));
    }
    if stored.version > super::VERSION {
        return Err(DecodeError::Newer(stored.version));
    }
    serde_json::from_str(value).map(|value| (value, sum)).map_err(damaged)
}

fn sum(version: u32, name: &[u8], value: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&version.to_le_bytes());
    hash.update(&(name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update(value);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let (bytes, sum) = encode(b"name", &vec![1, 22, 333]).unwrap();
        assert_eq!(decode::<Vec<u32>>(b"name", &bytes), Ok((vec![1, 22, 333], sum)));
        assert!(decode::<Vec<u32>>(b"eman", &bytes).is_err());
        for at in 0..bytes.len() {
            for flip in [1, 0x10, 0x20, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                assert!(matches!(decode::<Vec<u32>>(b"name", &bytes), Err(DecodeError::Damaged(_))));
            }
            assert!(matches!(decode::<Vec<u32>>(b"name", &bytes[..at]), Err(DecodeError::Damaged(_))));
        }
    }

    #[test]
    fn a_newer_value_is_distinguished_from_a_damaged_one() {
        let value = serde_json::json!({"unknown": true});
        let (bytes, _) = encode_as(super::super::VERSION + 1, b"name", &value).unwrap();
        assert_eq!(decode::<Vec<u32>>(b"name", &bytes), Err(DecodeError::Newer(super::super::VERSION + 1)));
    }
}
