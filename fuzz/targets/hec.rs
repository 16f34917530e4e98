//! Splunk's answers: only code 0 is a delivery, and only `true` for the id is an acknowledgement.

use super::{acknowledgement, classify};
use crate::fuzz::answers::{check_outcome, check_reason, response};
use crate::fuzz::input::Input;
use crate::fuzz::readers::json::{self, Json};
use crate::sink::outcome::{Outcome, RequestOutcome};

pub(crate) fn hec_answer(data: &[u8]) {
    let mut input = Input(data);
    let id = u64::from(input.byte());
    let response = response(&mut input);
    let text = String::from_utf8_lossy(&response.body);
    let json = json::read_repeated(&text);
    let outcome = classify(&response, 0);
    check_outcome(&outcome, &response, 1);
    // Half a surrogate pair, where nothing is read, is refused by the strict reader alone.
    let Ok(json) = json else {
        return;
    };
    if outcome == RequestOutcome::All(Outcome::Delivered) {
        assert_eq!(json.get("code").and_then(Json::number), Some("0"), "{text}");
    }
    let acknowledged = acknowledgement(&response, id, 0);
    check_reason(acknowledged.reason());
    if acknowledged == Outcome::Delivered {
        let acks = json.get("acks").map_or(&[][..], Json::members);
        let mut of_id = acks.iter().filter(|(name, _)| *name == id.to_string());
        assert!(of_id.next_back().is_some_and(|(_, value)| *value == Json::Bool(true)), "{text}");
    }
}
