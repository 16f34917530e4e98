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
    let mut env = ARRAY.new_environment();
    env.write(50);
    env.host.once_ok();
    let posts = env.collector.posts();
    assert!(posts.len() >= 3, "{}", posts.len());
    for post in posts {
        assert_eq!((post.method.as_str(), post.path.as_str()), ("PUT", "/"));
        assert_eq!(post.header("content-type"), Some("application/json"));
        assert_eq!(post.header("content-encoding"), Some("zstd"));
        assert!(post.wire_bytes * 3 < post.body.len());
    }
    let mut env = NDJSON.new_environment();
    env.write(5);
    env.host.once_ok();
    let post = &env.collector.posts()[0];
    assert_eq!((post.method.as_str(), post.path.as_str()), ("POST", "/audit?from=confluence"));
    assert_eq!(post.header("content-type"), Some("application/x-ndjson"));
}

#[test]
fn a_status_that_was_not_called_success_is_none() {
    let mut env = NDJSON.new_environment();
    env.host.remote.as_mut().unwrap().push_str("success = [202]\n");
    env.write(5);
    let run = env.host.once_code(75);
    run.logged("not in `success`");
}

#[test]
fn check_reports_whether_a_server_answers() {
    let mut env = NDJSON.new_environment();
    let check = |env: &Environment| env.host.check_sink();
    assert!(check(&env).starts_with("ok") && check(&env).contains("a server responds"));
    assert_eq!(env.collector.stored_count(), 0);
    env.collector.require_authorization(Some("Bearer another"));
    assert!(check(&env).starts_with("failure") && check(&env).contains("status 401"));
    env.collector.stop();
    assert!(check(&env).contains("nothing listens at that port"), "{}", check(&env));
}

/// What is said of a proxy names it and where it was configured; what is reached without one is so, as curl does.
#[test]
fn f100_proxies_of_the_environment() {
    use std::process::Command;
    let env = NDJSON.new_environment();
    let closed = crate::rig::free_port();
    let proxy = format!("http://{}", closed.address());
    let port = env.collector.url().rsplit_once(':').unwrap().1.to_owned();
    let check = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
        command.args(["check", "--config"]).arg(env.host.config());
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.env_remove("CONFLUENCE_HOME").envs(variables.iter().copied());
        let printed = crate::rig::unwrap_lines(&String::from_utf8(command.output().unwrap().stdout).unwrap());
        let line = printed.lines().find(|line| line.contains("sink local")).unwrap();
        line.to_owned()
    };
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let printed = check(&[(variable, &proxy)]);
        assert!(printed.starts_with("failure"), "{printed}");
        for expect in [&proxy, variable, "nothing listens", "NO_PROXY"] {
            assert!(printed.contains(expect), "{expect}: {printed}");
        }
    }
    let printed = check(&[("HTTP_PROXY", "http://proxy.invalid:3128")]);
    assert!(printed.contains("proxy.invalid:3128") && printed.contains("HTTP_PROXY"), "{printed}");
    for direct in ["*", "127.0.0.1", "127.0.0.0/8", &format!("127.0.0.1:{port}")] {
        for variable in ["NO_PROXY", "no_proxy"] {
            let printed = check(&[("HTTP_PROXY", &proxy), (variable, direct)]);
            assert!(printed.starts_with("ok"), "{direct}: {printed}");
        }
    }
    let printed = check(&[("HTTP_PROXY", &proxy), ("NO_PROXY", "127.0.0.1:1,10.0.0.0/8,localhost")]);
    assert!(printed.starts_with("failure"), "{printed}");
}
