//! What holds for every sink by HTTP, by one table of cases; each kind of server is a row in it.

use crate::rig::collector::{Collector, Do, Plain, Reply, Sent};
use crate::rig::oracle::{self, Judged};
use crate::rig::{Agent, Host, SOON, Writer, file_name, judge, until};
use std::fs;

mod elasticsearch;
mod http;
mod sentinel;
mod splunk_hec;

/// One kind of server.
struct Kind {
    name: &'static str,
    start: fn() -> Collector,
    /// The lines of `[[sink]]`; the token, where one is wanted, is in the file.
    sink: fn(&Collector, &std::path::Path) -> String,
    /// What a request with the token `first` has as `Authorization`.
    authorization: fn(&str) -> String,
    knows_ids: bool,
    names_events: bool,
    /// What it says of an event that it refuses.
    refusal: &'static str,
    /// A larger event is refused for its size.
    event_bytes_max: usize,
}

const KINDS: &[Kind] = &[
    http::NDJSON,
    http::ARRAY,
    elasticsearch::ELASTICSEARCH,
    elasticsearch::OPENSEARCH,
    splunk_hec::HEC,
    sentinel::SENTINEL,
];

/// Small requests, tried again soon.
const BATCHES: &str = "batch_wait = \"100ms\"\nbatch_events = 20\n";

/// Nothing lost, nothing damaged, nothing under two ids. Requests that are on their way at once may overtake each
/// other.
#[track_caller]
fn whole(env: &Environment) -> Judged {
    let judged = judge(&env.writer, &env.collector.events());
    let fine = judged.missing.is_empty() && judged.damaged.is_empty() && judged.id_conflicts.is_empty();
    assert!(fine, "{judged:?}");
    judged
}

/// And nothing twice.
#[track_caller]
fn exact(env: &Environment) {
    assert_eq!(whole(env).repeated, [0; 0]);
}

struct Environment {
    host: Host,
    collector: Collector,
    writer: Writer,
    file: crate::rig::LogFile,
}

impl Kind {
    fn new_environment(&self) -> Environment {
        self.environment_with((self.start)())
    }

    fn environment_with(&self, collector: Collector) -> Environment {
        eprintln!("sink: {}", self.name);
        let mut host = Host::new();
        let token = host.path("token");
        write_token(&token, "first");
        host.remote = Some((self.sink)(&collector, &token) + BATCHES);
        let mut writer = Writer::new(&host.audit(), 1);
        let file = writer.create(&file_name(5, 0));
        Environment { host, collector, writer, file }
    }
}

fn write_token(path: &std::path::Path, token: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
    std::io::Write::write_all(&mut file, token.as_bytes()).unwrap();
    fs::rename(new, path).unwrap();
}

impl Environment {
    fn write(&mut self, records: usize) {
        self.writer.append(&self.file, records);
    }

    #[track_caller]
    fn until_all_arrived(&self, agent: &mut Agent) {
        let count = self.writer.count();
        agent.until("all events are there", || self.collector.distinct() == count);
        whole(self);
    }
}

#[test]
fn events_arrive_once_and_with_their_credentials() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        let authorization = (kind.authorization)("first");
        env.collector.require_authorization(Some(&authorization));
        env.write(100);
        let run = env.host.once_ok();
        exact(&env);
        let again = env.host.once();
        assert_eq!((again.code, env.collector.stored_count()), (0, 100), "{}", again.stderr);
        assert!(!run.stderr.contains("first") && !again.stderr.contains("first"));
    }
}

#[test]
fn f50_store_then_drop() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        env.collector.script([Do::Take, Do::TakeAndHangUp, Do::HangUp, Do::Take, Do::TakeAndHangUp]);
        let mut agent = env.host.start();
        env.write(200);
        env.until_all_arrived(&mut agent);
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        // Without the checkpoint of the ledger, which may come at the stop.
        let stored = env.collector.events().len();
        match kind.knows_ids {
            true => assert_eq!(stored, 200),
            // Told again with the same id.
            false => assert!((201..=240).contains(&stored), "{stored}"),
        }
    }
}

#[test]
fn f47_refusals_for_a_while() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        let busy = || Do::Refuse(Reply { headers: vec![("retry-after", "1".into())], ..Reply::new(429, "") });
        env.collector.script([busy(), Do::Refuse(Reply::new(503, "starting")), Do::Take]);
        if kind.names_events {
            env.collector.script([Do::BusyInParts, Do::BusyInParts]);
        }
        let mut agent = env.host.start();
        env.write(100);
        env.until_all_arrived(&mut agent);
        // What the next requests heal is no error; whether it is a warning depends on how fast they are.
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        assert!(!agent.stderr().contains(" ERROR "), "{}", agent.stderr());
        exact(&env);
    }
}

#[test]
fn f48_poison_event() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        env.collector.refuse(|sent| number(sent) % 10 == 7);
        let poison = |env: &Environment| env.writer.count() - env.collector.distinct();
        let mut agent = env.host.start();
        env.write(100);
        agent.until("all but the refused are there", || poison(&env) == 10);
        agent.until("they are in quarantine", || env.host.quarantined().len() == 10);
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        agent.until_logged("are in quarantine");
        for entry in env.host.quarantined() {
            assert!(entry["reason"].as_str().unwrap().contains(kind.refusal), "{entry}");
            assert!(entry["event"].as_str().unwrap().contains(entry["id"].as_str().unwrap()));
        }
        // They are final: a new start does not send them again.
        let before = env.collector.post_count();
        env.host.once_ok();
        assert_eq!(env.collector.post_count(), before);
    }
}

/// Everything is refused, from the first request on or after some were taken: that is no fault of the events. The
/// server is left alone, and when it is well again each event arrives.
#[test]
fn f96_a_server_that_refuses_everything_gets_few_requests() {
    type Break = fn(&Collector);
    let breaks: [(&str, Break, Break); 2] = [
        ("refuses", |it| it.refuse(|_| true), |it| it.refuse(|_| false)),
        ("too large", |it| it.take_at_most(Some(1)), |it| it.take_at_most(None)),
    ];
    for kind in KINDS {
        for ((name, breaks, heals), taken) in breaks.iter().flat_map(|how| [(how, 0), (how, 40)]) {
            eprintln!("{name} after {taken}");
            let mut env = kind.new_environment();
            let mut agent = env.host.start();
            if taken > 0 {
                env.write(taken);
                env.until_all_arrived(&mut agent);
            }
            breaks(&env.collector);
            let before = env.collector.post_count();
            env.write(400);
            agent.until_logged("events are refused");
            heals(&env.collector);
            let requests = env.collector.post_count() - before;
            assert!(requests <= 50, "{requests} requests");
            // Changed credentials are tried at once.
            write_token(&env.host.path("token"), "first");
            env.until_all_arrived(&mut agent);
            assert_eq!(agent.stop(), 0, "{}", agent.stderr());
            assert_eq!(env.host.quarantined().len(), 0);
        }
    }
}

#[test]
fn f48_poison_event_stops_the_agent_where_that_is_wanted() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        env.host.remote.as_mut().unwrap().push_str("on_poison = \"stop\"\n");
        env.collector.refuse(|sent| number(sent) == 57);
        env.write(100);
        let run = env.host.once_code(75);
        assert!(run.stderr.contains(kind.refusal) && run.stderr.contains("on_poison"), "{}", run.stderr);
        assert_eq!(env.host.quarantined().len(), 0);
        // Corrected, it goes on, and nothing is missing.
        env.collector.refuse(|_| false);
        env.host.once_ok();
        whole(&env);
    }
}

#[test]
fn f49_too_large() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        env.collector.take_at_most(Some(6000));
        let mut agent = env.host.start();
        env.write(60);
        env.until_all_arrived(&mut agent);
        agent.until_logged("refused as too large");
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        assert_eq!(env.host.quarantined().len(), 0);
    }
}

#[test]
fn f51_a_server_that_is_away() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        let mut agent = env.host.start();
        env.write(30);
        env.until_all_arrived(&mut agent);
        env.collector.stop();
        for _ in 0..10 {
            env.write(100);
        }
        agent.until_logged("nothing listens at that port");
        let before_kb = stable_memory_kb(&mut agent);
        for _ in 0..50 {
            env.write(100);
        }
        // What is not read needs no memory: these are 5,000 events, 18 MB of ECS, and 3 MiB may be on their way.
        let after_kb = stable_memory_kb(&mut agent);
        assert!(after_kb < before_kb + 8 * 1024, "{before_kb} kB, {after_kb} kB");
        env.collector.start_again();
        env.until_all_arrived(&mut agent);
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    }
}

/// The memory of an agent that has read as much as it may, in kB.
fn stable_memory_kb(agent: &mut Agent) -> u64 {
    let (mut kb, mut looks) = (0, 0);
    until(SOON, "its memory does not grow any more", || {
        let now_kb = agent.status_kb("VmRSS");
        looks = if now_kb > kb { 0 } else { looks + 1 };
        kb = now_kb.max(kb);
        looks >= 50
    });
    kb
}

#[test]
fn f52_sigterm_while_a_server_is_away() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        env.host.root += "shutdown_timeout = \"1s\"\n";
        env.collector.stop();
        let mut agent = env.host.start();
        env.write(50);
        agent.until_logged("nothing listens at that port");
        assert_eq!(agent.stop(), 75, "{}", agent.stderr());
        env.collector.start_again();
        env.host.once_ok();
        exact(&env);
    }
}

#[test]
fn f55_sink_401() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        let second = (kind.authorization)("second");
        env.collector.require_authorization(Some(&second));
        let mut agent = env.host.start();
        env.write(50);
        agent.until_logged("until the operator acts");
        assert_eq!((env.collector.distinct(), env.host.quarantined().len()), (0, 0));
        // Corrected, it is used at once, without a restart.
        write_token(&env.host.path("token"), "second");
        env.until_all_arrived(&mut agent);
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        exact(&env);
    }
}

#[test]
fn f56_rotate_secret() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        env.collector.require_authorization(Some(&(kind.authorization)("first")));
        let mut agent = env.host.start();
        env.write(10);
        env.until_all_arrived(&mut agent);
        env.collector.require_authorization(Some(&(kind.authorization)("second")));
        write_token(&env.host.path("token"), "second");
        env.write(10);
        env.until_all_arrived(&mut agent);
        assert_eq!(agent.log_count("until the operator acts"), 0, "{}", agent.stderr());
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    }
}

/// A kill at any moment: every event arrives, repeated only with its own id.
#[test]
fn f22_kills_while_events_are_sent() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        let mut random = crate::rig::Random::new(crate::rig::seed("f22_kills_while_events_are_sent"));
        for round in 0..6u64 {
            let mut agent = env.host.start();
            env.write(100);
            let some = env.collector.distinct() + 1 + random.below(90) as usize;
            agent.until("some have arrived", || {
                env.collector.distinct() >= some.min(100 * (round as usize + 1))
            });
            agent.kill();
        }
        env.host.once_ok();
        match kind.knows_ids {
            true => exact(&env),
            false => drop(whole(&env)),
        }
    }
}

/// A line of 3 MiB between short ones, larger than a request is meant to be.
#[test]
fn a_long_event_is_sent_whole_and_alone() {
    for kind in KINDS {
        let mut env = kind.new_environment();
        env.write(30);
        let long =
            format!("{{\"auditType\":\"long\",\"text\":\"{}\"}}\n", "0123456789abcdef".repeat(200_000));
        crate::rig::append(&env.host.audit().join(file_name(5, 0)), long.as_bytes());
        let run = env.host.once();
        let taken = kind.event_bytes_max > 4 << 20;
        // What is refused is in quarantine, and the code says so.
        assert_eq!(run.code, if taken { 0 } else { 65 }, "{}", run.stderr);
        let expect = 30 + usize::from(taken);
        until(SOON, "all are stored", || env.collector.distinct() == expect);
        assert_eq!(env.host.quarantined().len(), usize::from(!taken));
        let sizes: Vec<usize> = env.collector.stored().iter().map(|sent| sent.text.len()).collect();
        assert_eq!(sizes.iter().filter(|&&size| size > 3_000_000).count(), usize::from(taken));
    }
}

/// Runs and failures at the level trace: neither output nor state has the secret, or what is made of it.
fn assert_output_has_no_secret(kind: &Kind) {
    const CANARY: &str = "cAnArYsInK7";
    let mut env = kind.new_environment();
    write_token(&env.host.path("token"), CANARY);
    let authorization = (kind.authorization)(CANARY);
    let repeated = format!("<html>Authorization: {authorization}");
    let replies = [
        Do::Take,
        Do::Refuse(Reply::new(401, "")),
        Do::Refuse(Reply::new(500, &*repeated)),
        Do::Refuse(Reply::new(200, &*repeated)),
        Do::HangUp,
    ];
    env.write(20);
    for reply in replies {
        env.write(5);
        env.collector.script([reply]);
        let arguments = ["--once", "--log-level", "trace"];
        let run = env.host.once_with(&arguments);
        assert!(!run.stderr.contains(CANARY) && !run.stdout.contains(CANARY), "{}", run.stderr);
    }
    whole(&env);
    let used = |post: &crate::rig::collector::Post| post.header("authorization") == Some(&authorization);
    assert!(env.collector.posts().iter().any(used));
    let mut open = vec![env.host.state()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = fs::read(&path).unwrap();
            assert!(memchr::memmem::find(&bytes, CANARY.as_bytes()).is_none(), "{path:?}");
        }
    }
}

/// A server repeats a secret in headers and bodies, in each form: neither log nor quarantine, nor what commands print,
/// has it.
#[test]
fn f99_no_form_of_a_secret_is_shown() {
    use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
    const CANARY: &str = "cAnArYsInK7/x+y";
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02X}")).collect();
    let percent: String = CANARY.bytes().map(|byte| format!("%{byte:02x}")).collect();
    // In base64: what each of these has whatever is next to it.
    let base64 = ["a", "ab", "abc"].map(|before| BASE64.encode(format!("{before}{CANARY}xyz")));
    let plain = [CANARY, &hex, &percent, "CANARYSINK7/X+Y"];
    let repeated: Vec<&str> = plain.into_iter().chain(base64.iter().map(String::as_str)).collect();
    let forms: Vec<&str> = plain.into_iter().chain(base64.iter().map(|form| &form[4..16])).collect();
    for kind in KINDS {
        let mut env = kind.new_environment();
        write_token(&env.host.path("token"), CANARY);
        let body = repeated.join(" and ");
        let headers = |location: String| vec![("location", location), ("x-printed", CANARY.to_owned())];
        let away =
            |location: String| Do::Refuse(Reply { headers: headers(location), ..Reply::new(302, &*body) });
        let replies = [
            away(format!("http://127.0.0.1:9/{CANARY}?{CANARY}")),
            away(format!("http://{hex}.example/")),
            Do::Refuse(Reply::new(400, &*body)),
            Do::Refuse(Reply::new(401, &*body)),
            Do::Refuse(Reply::new(503, &*body)),
        ];
        let mut printed = String::new();
        for reply in replies {
            env.write(3);
            // Longer than the agent tries.
            env.collector.script(vec![reply; 5]);
            let run = env.host.once_with(&["--once", "--log-level", "trace"]);
            printed += &(run.stderr + &run.stdout);
            env.collector.clear_script();
        }
        env.collector.refuse_with(Some(Reply::new(400, &*body)));
        env.collector.refuse(|sent| number(sent) == 2);
        let run = env.host.once_with(&["--once", "--log-level", "trace"]);
        printed += &(run.stderr + &run.stdout + &env.host.check_sink());
        for entry in env.host.quarantined() {
            printed += entry["reason"].as_str().unwrap();
        }
        let printed = printed.to_lowercase();
        for form in &forms {
            assert!(!printed.contains(&form.to_lowercase()), "{form}: {printed}");
        }
        assert!(printed.contains("***"), "{printed}");
    }
}

/// The number of the writer's record in an event; 0 in an event of the agent itself.
fn number(sent: &Sent) -> u64 {
    let events = oracle::events(format!("{}\n", sent.text).as_bytes());
    events.first().and_then(oracle::Event::seq).unwrap_or(0)
}
