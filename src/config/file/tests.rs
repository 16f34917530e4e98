use std::path::PathBuf;

use super::*;
use crate::config::{Compression, Reference, home};

const EXAMPLE: &str = include_str!("../../../packaging/confluence-audit-agent.toml");
const NO_FILE: &str = "example.toml";

/// `#key = value` is a default, `# words` a comment, `##key = value` an alternative that excludes another key. Tables
/// whose head is commented out are not there.
fn uncommented(mark: &str) -> String {
    let own = tables().filter(|table| !table.starts_with("##"));
    own.map(|table| without(mark, table)).collect::<Vec<_>>().join("\n")
}

/// The tables whose head is commented out. With `##` they have their examples, with `#` their defaults too.
fn example_tables(mark: &str) -> String {
    let examples = tables().filter(|table| table.starts_with("##"));
    let with_head = |table: &str| without(mark, &without("##", table).replace("##[[", "[["));
    let sink = "[[sink]]\nname = \"out\"\ntype = \"stdout\"\n".to_string();
    let all: Vec<String> = examples.map(with_head).chain([sink]).collect();
    all.join("\n")
}

/// The pieces of the example file that begin with a table's head, after that before the first.
fn tables() -> impl Iterator<Item = &'static str> {
    let heads = EXAMPLE.match_indices("\n").map(|(at, _)| at + 1);
    let heads = heads.filter(|at| EXAMPLE[*at..].trim_start_matches("##").starts_with('['));
    let mut at: Vec<usize> = [0].into_iter().chain(heads).collect();
    at.push(EXAMPLE.len());
    (1..at.len()).map(move |n| &EXAMPLE[at[n - 1]..at[n]])
}

/// Settings behind `mark` are no comments any more.
fn without(mark: &str, text: &str) -> String {
    let line = |line: &str| match line.strip_prefix(mark) {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => setting.to_string(),
        _ => line.to_string(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn parse(text: &str) -> Config {
    let config = read(Path::new(NO_FILE), text, false).unwrap_or_else(|errors| panic!("{errors}"));
    Config { warnings: Vec::new(), ..config }
}

fn minimal(location: &str) -> String {
    format!(
        "[[source]]\nname = \"wiki\"\ntype = \"data_center\"\n{location}\n\
         [[sink]]\nname = \"local\"\ntype = \"file\"\npath = \"/var/log/confluence-audit-agent/events.ndjson\"\n"
    )
}

#[test]
fn example_is_valid_as_shipped_and_means_the_defaults() {
    let home = format!("home = \"{}\"", home::DEFAULT_HOME);
    let mut shipped = read(Path::new(NO_FILE), EXAMPLE, false).unwrap();
    let expected = read(Path::new(NO_FILE), &minimal(&home), false).unwrap();
    // Where this host's Confluence is does not matter here.
    shipped.sources[0].files_mut().location = expected.sources[0].files.clone().unwrap().location;
    assert_eq!(shipped, expected);
}

#[test]
fn example_states_the_defaults() {
    let stated = parse(&uncommented("#"));
    let defaults = parse(&minimal(&format!("home = \"{}\"", home::DEFAULT_HOME)));
    assert_eq!(stated, defaults);
}

#[test]
fn examples_of_apis_work_and_state_the_defaults() {
    let [bare, stated] =
        ["##", "#"].map(|mark| read(Path::new(NO_FILE), &example_tables(mark), false).unwrap());
    let without_warnings = |config: Config| Config { warnings: Vec::new(), ..config };
    assert_eq!(without_warnings(stated), without_warnings(bare.clone()));
    let unused: Vec<&str> = bare.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(
        unused,
        ["source.intranet.user", "source.intranet.token", "sink.collector.user", "sink.collector.password"]
    );
    let ways = bare.sources.iter().map(|source| (source.api.is_some(), source.files.is_some()));
    assert_eq!(ways.collect::<Vec<_>>(), [(true, false), (true, true), (true, false)]);
}

const SECTIONS: [&str; 8] =
    ["[ledger]", "[admin]", "[heartbeat]", "[log]", "[event]", "[enrich]", "[[source]]", "[[sink]]"];

#[test]
fn example_has_every_key_and_no_other() {
    let example = uncommented("#").replace("##", "") + "\n" + &example_tables("#");
    let mut table = "";
    let mut there: Vec<(&str, &str)> = Vec::new();
    for line in example.lines() {
        if line.starts_with('[') {
            table = line;
            there.push(("", line.trim_matches(['[', ']'])));
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            there.push((table.trim_matches(['[', ']']), key));
        }
    }
    let asked = |section: &&'static str| {
        let table = section.trim_matches(['[', ']']);
        keys_of(section).into_iter().map(move |key| (table, key))
    };
    let mut asked: Vec<(&str, &str)> = SECTIONS.iter().chain(&[""]).flat_map(asked).collect();
    // Several tables stand there for a source, and each asks for all keys.
    for keys in [&mut asked, &mut there] {
        keys.sort();
        keys.dedup();
    }
    assert_eq!(there, asked);
}

/// A value that no key allows, of the type that the key has.
fn out_of_range(line: &str) -> String {
    let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
        return line.to_string();
    };
    let unit = value.trim_matches('"').trim_start_matches(|c: char| c.is_ascii_digit());
    let begins = value.trim_matches('"').starts_with(|c: char| c.is_ascii_digit());
    match unit {
        "ms" | "s" | "m" | "h" | "d" if begins => format!("{key} = \"999999d\""),
        "B" | "kB" | "MB" | "GB" | "KiB" | "MiB" | "GiB" if begins => format!("{key} = \"999999GiB\""),
        "" if begins && !value.starts_with('"') => format!("{key} = 999999999"),
        _ => line.to_string(),
    }
}

/// Above each key that has a range the example says it in the words of the error.
#[test]
fn example_states_the_ranges() {
    let mut stated = 0;
    for text in [uncommented("#"), example_tables("#")] {
        let lines: Vec<&str> = text.lines().collect();
        let wrong: Vec<String> = lines.iter().map(|line| out_of_range(line)).collect();
        let errors = read(Path::new(NO_FILE), &wrong.join("\n"), false).unwrap_err();
        for error in &errors.0 {
            let Some((_, range)) = error.message.split_once("is out of range; write ") else {
                continue;
            };
            let (_, line) = error.location.as_ref().expect("a line");
            let is_comment = |line: &&str| line.starts_with("# ");
            let above = lines[..line - 1].iter().rev().copied();
            let comments: Vec<&str> = above
                .skip_while(|line| !is_comment(line) && !line.is_empty())
                .take_while(is_comment)
                .collect();
            let comment: Vec<&str> = comments.iter().rev().map(|line| &line[2..]).collect();
            let comment = comment.join(" ");
            assert!(comment.contains(range), "{}: {range}: {comment}", error.key);
            stated += 1;
        }
    }
    assert!(stated >= 50, "{stated}");
}

#[test]
fn every_value_reaches_its_place() {
    let text = r#"
state_dir = "/s"
shutdown_timeout = "1s"
uncommitted_bytes_max = 2
checkpoint_interval = "3s"
ledger = { retention = "100d", bytes_max = "16MiB", seal_interval = "2h", signing_key = { file = "/k" } }
heartbeat.interval = "7s"
admin = { socket = "/r/a.sock", listen = "[::1]:9640", token = { file = "/t" }, certificate = "/a.pem", private_key = "/a.key", client_ca_file = "/ca.pem" }
log.format = "json"
log.level = "debug"
event = { tags = ["a", "b"], namespace = "production", preserve_original_event = false }
enrich = { geoip = false, geoip_city = "/g/c.mmdb", geoip_asn = "/g/a.mmdb", cloud_metadata = false, host_fields = "minimal" }

[[source]]
name = "one"
type = "data_center"
mode = "files"
files = ["/a/*.log", "/b/*.log"]
start_at = "end"
record_bytes_max = "4KiB"
sweep_interval = "5s"
rotate_grace = "6s"
open_files_max = 7
deleted_files_max = 0
deleted_bytes_max = "9MB"
deleted_age_max = "10m"
missing_files_retention = "11d"
missing_files_max = 12
notify = false
read_bytes = "64KiB"

[[sink]]
name = "out"
type = "stdout"
heartbeat = true

[[sink]]
name = "file"
type = "file"
path = "/o/{source}.ndjson"
format = "raw"
rotate_bytes = "14MiB"
rotate_daily = false
rotated_files_max = 15
compression = "zstd"
mode = "0640"
group = "readers"
"#;
    let config = parse(text);
    let secs = Duration::from_secs;
    let files = FilesConfig {
        location: FileLocation::Files(vec!["/a/*.log".into(), "/b/*.log".into()]),
        start_at: StartAt::End,
        record_bytes_max: 4096,
        sweep_interval: secs(5),
        rotate_grace: secs(6),
        open_files_max: 7,
        deleted_files_max: 0,
        deleted_bytes_max: 9_000_000,
        deleted_age_max: secs(600),
        missing_files_retention: secs(11 * 86_400),
        missing_files_max: 12,
        notify: false,
        read_bytes: 64 << 10,
    };
    let file = FileSinkConfig {
        path: "/o/{source}.ndjson".into(),
        rotate_bytes: 14 << 20,
        rotate_daily: false,
        rotated_files_max: 15,
        compression: Compression::Zstd,
        mode: Some(0o640),
        group: Some("readers".into()),
    };
    assert_eq!(file.path_for("one"), PathBuf::from("/o/one.ndjson"));
    let expected = Config {
        file: None,
        state_dir: "/s".into(),
        shutdown_timeout: secs(1),
        uncommitted_bytes_max: 2,
        checkpoint_interval: secs(3),
        ledger: LedgerConfig {
            retention: secs(100 * 86_400),
            bytes_max: 16 << 20,
            seal_interval: secs(7200),
            signing_key: Some(Reference::File("/k".into())),
        },
        heartbeat: HeartbeatConfig { interval: Some(secs(7)) },
        admin: AdminConfig {
            socket: Some("/r/a.sock".into()),
            listen: Some("[::1]:9640".parse().unwrap()),
            token: Some(Reference::File("/t".into())),
            tls: Some(AdminTls {
                certificate: "/a.pem".into(),
                private_key: "/a.key".into(),
                client_ca_file: Some("/ca.pem".into()),
            }),
        },
        log: LogConfig { format: LogFormat::Json, level: tracing::Level::DEBUG },
        event: EventConfig {
            tags: vec!["a".into(), "b".into()],
            namespace: "production".into(),
            preserve_original_event: false,
        },
        enrich: EnrichConfig {
            geoip: false,
            geoip_city: Some("/g/c.mmdb".into()),
            geoip_asn: Some("/g/a.mmdb".into()),
            cloud_metadata: false,
            host_fields: HostFields::Minimal,
        },
        sources: vec![SourceConfig {
            name: "one".into(),
            site: Some("one".into()),
            files: Some(files),
            api: None,
            fallback: FallbackConfig::default(),
        }],
        sinks: vec![
            SinkConfig {
                name: "out".into(),
                format: FormatKind::Ecs,
                kind: SinkKind::Stdout,
                heartbeat: true,
            },
            SinkConfig {
                name: "file".into(),
                format: FormatKind::Raw,
                kind: SinkKind::File(file),
                heartbeat: false,
            },
        ],
        warnings: Vec::new(),
        secret_files: vec!["/k".into(), "/t".into(), "/a.key".into()],
    };
    assert_eq!(config, expected);
}

#[test]
fn misplaced_keys_are_known_where_they_belong() {
    let tables = SECTIONS.map(|section| (section, keys_of(section)));
    assert!(tables[6].1.contains(&"nodes") && tables[6].1.contains(&"page_size"));
    let is_in_another = |own: &str, key| {
        let mut others = tables.iter().filter(|(table, _)| *table != own);
        others.any(|(_, keys)| keys.contains(key))
    };
    for (table, keys) in &tables {
        // Keys of more than one table are ambiguous.
        for key in keys.iter().filter(|key| **key != "name" && !is_in_another(table, key)) {
            if !["type", "format"].contains(key) {
                assert_eq!(table_of(key), Some(*table), "{key}");
            }
        }
    }
}

proptest::proptest! {
    /// Any mutation of the example is read, or its errors are reported with lines of the file.
    #[test]
    fn any_damage_is_reported(at in 0..EXAMPLE.len(), removed in 0..40usize, added in ".{0,12}") {
        let text = uncommented("#");
        let clamp = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let damaged = format!("{}{added}{}", &text[..clamp(at)], &text[clamp(at + removed)..]);
        let lines = damaged.lines().count().max(1);
        if let Err(errors) = read(Path::new(NO_FILE), &damaged, false) {
            proptest::prop_assert!(!errors.0.is_empty());
            for error in &errors.0 {
                let line = error.location.as_ref().unwrap().1;
                proptest::prop_assert!((1..=lines + 1).contains(&line), "{error}");
                proptest::prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
