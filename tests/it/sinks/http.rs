//! The sink of type `http`.

use super::*;

pub const NDJSON: Kind = Kind {
    name: "http, lines",
    start: || Collector::start(Plain),
    sink: |collector, token| {
        format!(
            "type = \"http\"\nurl = \"{}/audit?from=confluence\"\ntoken = {{ file = {token:?} }}\n",
            collector.url()
        )
    },
    authorization: |token| format!("Bearer {token}"),
    knows_ids: false,
    names_events: false,
    refusal: "no such field",
    event_bytes_max: usize::MAX,
};

pub const ARRAY: Kind = Kind {
    name: "http, an array, zstd",
    sink: |collector, token| {
        let url = collector.url();
        format!(
            "type = \"http\"\nurl = \"{url}\"\nbody = \"array\"\ncompression = \"zstd\"\nmethod = \"PUT\"\nuser = \"agent\"\npassword = {{ file = {token:?} }}\n"
        )
    },
    authorization: |token| {
        use base64::prelude::*;
        format!("Basic {}", BASE64_STANDARD.encode(format!("agent:{token}")))
    },
    ..NDJSON
};

#[test]
fn what_is_sent_is_what_was_asked_for() {
    let mut scene = ARRAY.scene();
    scene.write(50);
    assert_eq!(scene.host.once().code, 0);
    let posts = scene.collector.posts();
    assert!(posts.len() >= 3, "{}", posts.len());
    for post in posts {
        assert_eq!((post.method.as_str(), post.path.as_str()), ("PUT", "/"));
        assert_eq!(post.header("content-type"), Some("application/json"));
        assert_eq!(post.header("content-encoding"), Some("zstd"));
        assert!(post.wire_bytes * 3 < post.body.len());
    }
    let mut scene = NDJSON.scene();
    scene.write(5);
    assert_eq!(scene.host.once().code, 0);
    let post = &scene.collector.posts()[0];
    assert_eq!(
        (post.method.as_str(), post.path.as_str()),
        ("POST", "/audit?from=confluence")
    );
    assert_eq!(post.header("content-type"), Some("application/x-ndjson"));
}

#[test]
fn a_status_that_was_not_called_success_is_none() {
    let mut scene = NDJSON.scene();
    scene.host.remote.as_mut().unwrap().push_str("success = [202]\n");
    scene.write(5);
    let run = scene.host.once();
    assert_eq!(run.code, 75, "{}", run.stderr);
    assert!(run.stderr.contains("not among `success`"), "{}", run.stderr);
}

#[test]
fn check_says_whether_a_server_answers() {
    let mut scene = NDJSON.scene();
    let check = |scene: &Scene| scene.host.check_sink();
    assert!(check(&scene).starts_with("ok") && check(&scene).contains("a server answers"));
    assert_eq!(scene.collector.stored_count(), 0);
    scene.collector.demand(Some("Bearer another"));
    assert!(check(&scene).starts_with("failure") && check(&scene).contains("status 401"));
    scene.collector.stop();
    assert!(
        check(&scene).contains("nothing listens at that port"),
        "{}",
        check(&scene)
    );
}
