use super::*;
use crate::config::{Compression, HttpConfig, Reference};
use crate::secret::Secret;
use proptest::prelude::*;

fn config() -> ElasticsearchConfig {
    let host: url::Url = "https://e:9200".parse().unwrap();
    let key = Reference::Inline(Secret::new("key"));
    ElasticsearchConfig {
        http: HttpConfig::new(host.clone(), Auth::Scheme("ApiKey", key)),
        hosts: vec![host],
        target: Target::DataStream("logs-atlassian_confluence.audit-default".into()),
        compression: Compression::None,
        template: "confluence-audit".into(),
        pipeline: None,
    }
}

fn ids(count: usize) -> Vec<EventId> {
    (0..count as u128).map(EventId).collect()
}

fn classify_response(status: u16, body: &str, sent: usize) -> RequestOutcome {
    let response = http::Response { status, body: body.into(), ..http::Response::default() };
    classify(&response, &ids(sent), &config(), 0)
}

fn each(items: &str, sent: usize) -> Vec<Outcome> {
    match classify_response(200, &format!("{{\"errors\":true,\"items\":[{items}]}}"), sent) {
        RequestOutcome::Each(outcomes) => outcomes,
        other => panic!("{other:?}"),
    }
}

fn item(status: u16, kind: &str, reason: &str) -> String {
    serde_json::json!({"create": {"status": status, "error": {"type": kind, "reason": reason}}}).to_string()
}

/// The class and the reason of an outcome.
fn class(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Delivered => ("delivered", ""),
        Outcome::Duplicate => ("duplicate", ""),
        Outcome::Retry { reason, .. } => ("retry", reason),
        Outcome::Poison { reason } => ("poison", reason),
        Outcome::TooLarge { reason } => ("too large", reason),
        Outcome::Misconfigured { reason } => ("misconfigured", reason),
    }
}

#[test]
fn each_item_has_its_class() {
    let table = [
        (
            409,
            "version_conflict_engine_exception",
            "[x]: version conflict, document already exists",
            "duplicate",
            "",
        ),
        (409, "some_other_conflict", "", "retry", "some_other_conflict"),
        (429, "es_rejected_execution_exception", "rejected execution", "retry", "rejected execution"),
        (429, "circuit_breaking_exception", "[parent] Data too large", "retry", "Data too large"),
        (503, "unavailable_shards_exception", "primary shard is not active", "retry", "primary shard"),
        (500, "exception", "x", "retry", "status 500"),
        (400, "mapper_parsing_exception", "failed to parse field [a]", "poison", "failed to parse field [a]"),
        (400, "document_parsing_exception", "[1:9] failed to parse", "poison", "failed to parse"),
        (400, "strict_dynamic_mapping_exception", "dynamic introduction of [x]", "poison", "strict"),
        (
            400,
            "illegal_argument_exception",
            "Limit of total fields [1000] has been exceeded",
            "poison",
            "Limit",
        ),
        (
            400,
            "illegal_argument_exception",
            "pipeline with id [x] does not exist",
            "misconfigured",
            "pipeline",
        ),
        (
            400,
            "illegal_argument_exception",
            "only write ops with an op_type of create are allowed in data streams",
            "misconfigured",
            "setup elasticsearch",
        ),
        (
            400,
            "validation_exception",
            "this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum",
            "misconfigured",
            "maximum",
        ),
        (400, "index_closed_exception", "closed", "misconfigured", "closed"),
        (413, "x", "", "poison", "413"),
        (404, "index_not_found_exception", "no such index [logs]", "misconfigured", "setup elasticsearch"),
        (401, "security_exception", "", "misconfigured", "`encoded`"),
        (
            403,
            "security_exception",
            "action [indices:data/write/bulk[s]] is unauthorized",
            "misconfigured",
            "`create_doc`",
        ),
        (
            403,
            "cluster_block_exception",
            "index [x] blocked by: [FORBIDDEN/8/index write (api)];",
            "retry",
            "lift the block",
        ),
        (
            429,
            "cluster_block_exception",
            "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark]",
            "retry",
            "disk space",
        ),
        (
            403,
            "index_create_block_exception",
            "blocked by: [FORBIDDEN/10/cluster create-index blocked (api)]",
            "retry",
            "disk space",
        ),
    ];
    for (status, kind, reason, expect, words) in table {
        let outcomes = each(&item(status, kind, reason), 1);
        let (class, reason) = class(&outcomes[0]);
        assert_eq!(class, expect, "{status} {kind} {reason}");
        assert!(reason.contains(words), "{reason}");
    }
    let poison = r#"{"create":{"status":400,"error":{"type":"a","reason":"b","caused_by":{"reason":"c"}}}}"#;
    assert_eq!(class(&each(poison, 1)[0]), ("poison", "status 400, a: b: c"));
}

#[test]
fn f47_bulk_mixed() {
    let items = [
        r#"{"create":{"status":201}}"#.to_owned(),
        item(409, "version_conflict_engine_exception", "there"),
        item(429, "es_rejected_execution_exception", "busy"),
        item(400, "mapper_parsing_exception", "no"),
        item(503, "unavailable_shards_exception", "no shard"),
    ];
    let outcomes = each(&items.join(","), 5);
    let classes: Vec<&str> = outcomes.iter().map(|outcome| class(outcome).0).collect();
    assert_eq!(classes, ["delivered", "duplicate", "retry", "poison", "retry"]);
}

#[test]
fn f47_bulk_response() {
    let fine = r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}"#;
    assert_eq!(classify_response(200, fine, 2), RequestOutcome::Each(vec![Outcome::Delivered; 2]));
    // A response that does not cover each event delivers none.
    let none = [
        r#"{"errors":false}"#,
        r#"{"errors":false,"items":[]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}}]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}},{"create":{"status":201}}]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{}}]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}},{"index":{"status":201}}]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}},null]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":99999}}]}"#,
        "<html><body>please log in</body></html>",
        "",
        "null",
    ];
    for status in 200..300 {
        for body in none {
            assert!(
                matches!(classify_response(status, body, 2), RequestOutcome::All(Outcome::Retry { .. })),
                "{status} {body}"
            );
        }
    }
    for end in 0..fine.len() {
        assert!(
            matches!(classify_response(200, &fine[..end], 2), RequestOutcome::All(Outcome::Retry { .. })),
            "{end}"
        );
    }
    // A success with an error is not a delivery.
    assert_eq!(class(&each(&item(201, "x", "y"), 1)[0]).0, "retry");
}

#[test]
fn refusals_of_whole_requests_are_classified() {
    let error = |kind: &str, reason: &str| {
        serde_json::json!({"error": {"type": kind, "reason": reason}, "status": 0}).to_string()
    };
    let table = [
        (400, error("illegal_argument_exception", "Malformed action/metadata line [1]"), "halve"),
        (400, error("illegal_argument_exception", "contains unrecognized parameter: [x]"), "misconfigured"),
        (400, error("invalid_index_name_exception", "must be lowercase"), "misconfigured"),
        (400, "<html>".into(), "halve"),
        (401, error("security_exception", "unable to authenticate"), "misconfigured"),
        (401, "Unauthorized".into(), "misconfigured"),
        (403, error("security_exception", "no permissions for [indices:data/write/bulk]"), "misconfigured"),
        (403, error("cluster_block_exception", "blocked"), "retry"),
        (403, "<html>".into(), "misconfigured"),
        (404, error("index_not_found_exception", "no such index"), "misconfigured"),
        (413, String::new(), "too large"),
        (429, String::new(), "retry"),
        (502, "<html>".into(), "retry"),
        (503, error("cluster_block_exception", "no master"), "retry"),
    ];
    for (status, body, expect) in table {
        let found = match classify_response(status, &body, 3) {
            RequestOutcome::All(outcome) => class(&outcome).0,
            RequestOutcome::Halve { too_large: true, .. } => "too large",
            RequestOutcome::Halve { .. } => "halve",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expect, "{status} {body}");
    }
}

proptest! {
    /// Whatever the response: there are as many outcomes as events, or none is delivered. No success is
    /// invented.
    #[test]
    fn any_response_is_parsed_or_retried(
        statuses in prop::collection::vec(prop_oneof![Just(201u16), Just(409), 100u16..600], 0..8),
        sent in 0usize..8,
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let items: Vec<String> = statuses.iter().map(|status| match status {
            200..=299 => format!("{{\"create\":{{\"status\":{status}}}}}"),
            409 => item(409, "version_conflict_engine_exception", "there"),
            _ => item(*status, "some_exception", "for \"some\" reason"),
        }).collect();
        let body = format!("{{\"errors\":true,\"items\":[{}]}}", items.join(","));
        let delivered = |response: &RequestOutcome| match response {
            RequestOutcome::Each(outcomes) => outcomes.iter().filter(|o| matches!(o, Outcome::Delivered | Outcome::Duplicate)).count(),
            RequestOutcome::All(Outcome::Delivered | Outcome::Duplicate) => sent,
            _ => 0,
        };
        let read = classify_response(200, &body, sent);
        let fine = statuses.iter().filter(|status| matches!(status, 200 | 201 | 409)).count();
        prop_assert_eq!(delivered(&read), if statuses.len() == sent { fine } else { 0 });
        // A truncated response delivers nothing.
        let short = &body[..cut.index(body.len())];
        prop_assert_eq!(delivered(&classify_response(200, short, sent)), 0);
        let mut damaged = body.into_bytes();
        for (at, byte) in noise {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        let response = http::Response { status: 200, body: damaged, ..http::Response::default() };
        if let RequestOutcome::Each(outcomes) = classify(&response, &ids(sent), &config(), 0) {
            prop_assert_eq!(outcomes.len(), sent);
        }
    }
}

#[test]
fn f57_a_key_that_a_cluster_repeats_is_not_reported() {
    let bodies = [
        (200, "<html>Authorization: ApiKey c4nary".to_owned()),
        (200, r#""c4nary""#.into()),
        (200, format!("{{\"items\":[{}]}}", item(400, "c4nary", "no c4nary here"))),
        (403, r#"{"error":{"type":"security_exception","reason":"c4nary"}}"#.into()),
        (403, "c4nary".into()),
    ];
    for (status, body) in bodies {
        let mut response = http::Response { status, body: body.clone().into(), ..http::Response::default() };
        response.secrets.add([Secret::new("c4nary")]);
        let reported = format!("{:?}", classify(&response, &ids(1), &config(), 0));
        assert!(reported.contains("***") && !reported.contains("c4nary"), "{body}: {reported}");
    }
}

/// Items that are swapped, repeated or of another request deliver nothing.
#[test]
fn f97_an_item_with_another_id_delivers_nothing() {
    let item = |id: u128| {
        let id = String::from_utf8_lossy(&EventId(id).hex()).into_owned();
        serde_json::json!({"create": {"_id": id, "status": 201}}).to_string()
    };
    let response_with = |items: &[u128]| {
        let items: Vec<String> = items.iter().map(|id| item(*id)).collect();
        classify_response(200, &format!("{{\"errors\":false,\"items\":[{}]}}", items.join(",")), 3)
    };
    assert_eq!(response_with(&[0, 1, 2]), RequestOutcome::Each(vec![Outcome::Delivered; 3]));
    for wrong in [[0, 2, 1], [1, 1, 2], [0, 1, 7], [9, 9, 9]] {
        let RequestOutcome::All(Outcome::Retry { reason, .. }) = response_with(&wrong) else {
            panic!("{wrong:?}");
        };
        assert!(reason.contains("another id"), "{reason}");
    }
    // Some servers or filters return no ids.
    let without = r#"{"create":{"status":201}},{"create":{"_id":null,"status":201}}"#;
    assert_eq!(each(without, 2), [Outcome::Delivered, Outcome::Delivered]);
}

/// What a person has to do depends on the configuration.
#[test]
fn the_remedy_of_a_refusal_fits_the_configuration() {
    let refused = |status: u16, change: &dyn Fn(&mut ElasticsearchConfig)| {
        let mut config = config();
        change(&mut config);
        let body = format!("{{\"errors\":true,\"items\":[{}]}}", item(status, "some_exception", "why"));
        let response = http::Response { status: 200, body: body.into(), ..http::Response::default() };
        match classify(&response, &ids(1), &config, 0) {
            RequestOutcome::Each(outcomes) => {
                let (class, reason) = class(&outcomes[0]);
                assert_eq!(class, "misconfigured", "{status}");
                reason.to_owned()
            }
            other => panic!("{other:?}"),
        }
    };
    let basic = |config: &mut ElasticsearchConfig| {
        let password = Reference::Inline(Secret::new("password"));
        config.http.auth = Auth::Basic { user: "agent".into(), password };
    };
    for (status, change, remedy) in [
        (
            401,
            &(|config: &mut ElasticsearchConfig| config.http.auth = Auth::None)
                as &dyn Fn(&mut ElasticsearchConfig),
            "; set `api_key`",
        ),
        (401, &|_| (), "; correct `api_key`"),
        (401, &basic, "; correct the credentials"),
        (
            404,
            &|config: &mut ElasticsearchConfig| config.target = Target::Index("audit".into()),
            "; create the index `audit`",
        ),
        (402, &|_| (), "; correct the configuration"),
        (405, &|_| (), "; correct the configuration"),
        (407, &|_| (), "; correct the configuration"),
        (410, &|_| (), "; correct the configuration"),
        (412, &|_| (), "; correct the configuration"),
        (414, &|_| (), "; correct the configuration"),
        (421, &|_| (), "; correct the configuration"),
    ] {
        let reason = refused(status, change);
        assert!(reason.starts_with(&format!("status {status}, some_exception: why{remedy}")), "{reason}");
    }
}

#[test]
fn an_error_object_without_a_type_is_not_elasticsearchs() {
    let reason = |status, body: &str| match classify_response(status, body, 1) {
        RequestOutcome::All(outcome) => class(&outcome).1.to_owned(),
        RequestOutcome::Halve { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    let without_type = r#"{"error":{"reason":"of a proxy"}}"#;
    assert_eq!(reason(400, without_type), format!("status 400, response: {without_type}"));
    // With credentials that are not accepted there is often no object, and the remedy is known.
    assert_eq!(reason(401, "Unauthorized"), "status 401; correct `api_key`: it is the key's `encoded` form");
    let empty_cause =
        r#"{"create":{"status":400,"error":{"type":"a","reason":"b","caused_by":{"reason":""}}}}"#;
    assert_eq!(class(&each(empty_cause, 1)[0]), ("poison", "status 400, a: b"));
    assert_eq!(class(&each(r#"{"create":{"status":400}}"#, 1)[0]), ("poison", "status 400"));
}

/// The items are counted from 1.
#[test]
fn the_item_with_another_id_is_named() {
    let items = r#"{"create":{"status":201}},{"create":{"_id":"other","status":201}}"#;
    let RequestOutcome::All(outcome) = classify_response(200, &format!("{{\"items\":[{items}]}}"), 2) else {
        panic!()
    };
    assert!(class(&outcome).1.contains("its item 2 has another id"), "{outcome:?}");
}

#[test]
fn only_an_existing_data_stream_already_exists() {
    let error = |kind: &'static str, reason: &'static str| BulkError {
        kind: kind.into(),
        reason: reason.into(),
        caused_by: None,
    };
    let kind = "resource_already_exists_exception";
    assert!(error(kind, "data_stream [logs] already exists").is_already_exists());
    assert!(!error(kind, "index [logs] already exists").is_already_exists());
    assert!(!error("other_exception", "data_stream [logs] already exists").is_already_exists());
    assert!(error("cluster_block_exception", "").is_block() && !error("block", "").is_block());
}
