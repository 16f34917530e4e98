//! The envelope around everything that is kept: `{"version":1,"sum":"<xxh3-64>","value":…}`.
//!
//! The sum covers version, name and value: a value that was damaged, or that turns up under another name, is not
//! believed. The envelope itself never changes, so that each release can tell a newer one's value from a damaged one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

#[derive(Deserialize)]
struct Envelope<'a> {
    version: u32,
    sum: &'a str,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Why sealed bytes give no value.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// The checksum holds; a newer release wrote it.
    Newer(u32),
    Damaged(String),
}

/// `value`, sealed under `name`, and its sum.
pub fn seal(name: &[u8], value: &impl Serialize) -> serde_json::Result<(Vec<u8>, u64)> {
    Ok(seal_text(super::VERSION, name, &serde_json::to_string(value)?))
}

pub fn seal_text(version: u32, name: &[u8], value: &str) -> (Vec<u8>, u64) {
    let sum = sum(version, name, value);
    (
        format!(r#"{{"version":{version},"sum":"{sum:016x}","value":{value}}}"#).into_bytes(),
        sum,
    )
}

/// The value in `bytes`, which were sealed under `name`, and its sum.
pub fn unseal<T: DeserializeOwned>(name: &[u8], bytes: &[u8]) -> Result<(T, u64), Broken> {
    let damaged = |error: serde_json::Error| Broken::Damaged(error.to_string());
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(damaged)?;
    let value = envelope.value.get();
    let sum = sum(envelope.version, name, value);
    if envelope.sum != format!("{sum:016x}") {
        return Err(Broken::Damaged("its checksum does not match".to_owned()));
    }
    if envelope.version > super::VERSION {
        return Err(Broken::Newer(envelope.version));
    }
    serde_json::from_str(value)
        .map(|value| (value, sum))
        .map_err(damaged)
}

fn sum(version: u32, name: &[u8], value: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&version.to_le_bytes());
    hash.update(&(name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update(value.as_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let (bytes, sum) = seal(b"name", &vec![1, 22, 333]).unwrap();
        assert_eq!(unseal::<Vec<u32>>(b"name", &bytes), Ok((vec![1, 22, 333], sum)));
        assert!(unseal::<Vec<u32>>(b"eman", &bytes).is_err());
        for at in 0..bytes.len() {
            for flip in [1, 0x10, 0x20, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                assert!(matches!(
                    unseal::<Vec<u32>>(b"name", &bytes),
                    Err(Broken::Damaged(_))
                ));
            }
            assert!(matches!(
                unseal::<Vec<u32>>(b"name", &bytes[..at]),
                Err(Broken::Damaged(_))
            ));
        }
    }

    #[test]
    fn a_newer_value_is_told_from_a_damaged_one() {
        let (bytes, _) = seal_text(super::super::VERSION + 1, b"name", r#"{"unknown":true}"#);
        assert_eq!(
            unseal::<Vec<u32>>(b"name", &bytes),
            Err(Broken::Newer(super::super::VERSION + 1))
        );
    }
}
