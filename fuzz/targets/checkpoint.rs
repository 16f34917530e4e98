//! Stored values: damage is noticed and never a panic, and what is decoded is the same after it is stored again.

use super::keys;
use super::source_state::{SourceState, StateImage};
use super::state_files::Meta;
use super::stored_value::{decode, encode};
use super::write_batch::SourceHead;
use crate::fuzz::input::Input;
use crate::position::{
    ActiveInput, AgentUser, ApiCursor, AuditSettings, ClusterNodes, FileEntry, LedgerPosition, Loss, SinkMark,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::fmt::Debug;

pub(crate) fn checkpoint(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.below(13);
    let rest = input.0;
    if let Some((_, source)) = keys::parse(rest) {
        assert_eq!(keys::parse(&keys::head(&source)).map(|(_, source)| source), Some(source));
    }
    let text = std::str::from_utf8(rest).unwrap_or_default();
    let value: Option<&RawValue> = serde_json::from_str(text).ok();
    let check: fn(&[u8], Option<&RawValue>) = match kind {
        0 => check::<StateImage>,
        1 => check::<SourceState>,
        2 => check::<Meta>,
        3 => check::<SourceHead>,
        4 => check::<FileEntry>,
        5 => check::<SinkMark>,
        6 => check::<Loss>,
        7 => check::<ApiCursor>,
        8 => check::<ClusterNodes>,
        9 => check::<AgentUser>,
        10 => check::<ActiveInput>,
        11 => check::<AuditSettings>,
        _ => check::<LedgerPosition>,
    };
    check(rest, value);
}

fn check<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8], value: Option<&RawValue>) {
    let _ = decode::<T>(b"name", bytes);
    let Some(value) = value else {
        return;
    };
    // With a checksum that fits, the value itself is read.
    let Ok((stored, _)) = encode(b"name", &value) else {
        return;
    };
    assert!(decode::<T>(b"other", &stored).is_err());
    let Ok((decoded, _)) = decode::<T>(b"name", &stored) else {
        return;
    };
    let again = encode(b"name", &decoded).map(|(stored, _)| decode::<T>(b"name", &stored));
    match again {
        Ok(Ok((again, _))) => assert_eq!(again, decoded),
        other => panic!("{other:?} of {decoded:?}"),
    }
}
