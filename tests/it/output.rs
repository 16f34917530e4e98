//! The output file as others see it: who may read it, and what becomes of old ones.

use crate::rig::{Host, Writer, file_name, outputs, skip};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// The values of a field in the lines of a log that have this text.
fn fields<'a>(log: &'a str, text: &str, field: &str) -> Vec<&'a str> {
    let lines = log.lines().filter(|line| line.contains(text));
    lines
        .map(|line| {
            let (_, rest) = line.split_once(&format!(" {field}=")).unwrap_or_else(|| panic!("{line}"));
            rest.split(' ').next().unwrap()
        })
        .collect()
}

/// What is deleted may be the only copy: each file is named, with how much was in it and how old it was, and the sum is
/// kept.
#[test]
fn f113_deleted_outputs_are_reported_and_counted() {
    for compression in ["none", "gzip", "zstd"] {
        let mut host = Host::new();
        host.sink = format!(
            "rotate_bytes = \"20KiB\"\nrotate_daily = false\nrotated_files_max = 2\ncompression = \"{compression}\"\n"
        );
        let mut writer = Writer::new(&host.audit(), 113);
        let file = writer.create(&file_name(5, 0));
        let printed = "a rotated file was deleted";
        let (mut files, mut events) = (0, 0);
        for _ in 0..3 {
            // Some were written by this process, some by the one before.
            writer.append(&file, 200);
            let once = host.once_ok();
            let counts = fields(&once.stderr, printed, "events");
            assert!(counts.len() >= 3, "{}", once.stderr);
            files += counts.len();
            events += counts.iter().map(|count| count.parse::<usize>().unwrap()).sum::<usize>();
            for (path, age) in
                fields(&once.stderr, printed, "path").into_iter().zip(fields(&once.stderr, printed, "age"))
            {
                assert!(path.contains("/out/events.ndjson."), "{path}");
                assert!(!std::path::Path::new(path).exists(), "{path}");
                assert!(age.ends_with('s') || age.ends_with("min"), "{age}");
            }
            let left = outputs(&host);
            assert_eq!(left.len(), 3, "two and the one being written");
            let left: usize = left.iter().map(|text| text.split(|b| *b == b'\n').count() - 1).sum();
            assert_eq!(events + left, writer.count(), "{compression}: {}", once.stderr);
            let line = format!(
                "sink local: {files} rotated files with {events} events deleted, over `rotated_files_max`"
            );
            let shown = host.state_show();
            assert!(shown.contains(&line), "{line}: {shown}");
        }
    }
}

fn modes_and_groups(host: &Host) -> BTreeMap<String, (u32, u32)> {
    let dir = host.output().parent().unwrap().to_owned();
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let found = entry.metadata().unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, (found.mode() & 0o7777, found.gid()))
        })
        .collect()
}

/// What is written, what was rotated, what was compressed, and what an earlier run left, all alike.
#[test]
fn f116_outputs_have_the_mode_and_group_of_their_readers() {
    let own = rustix::process::getegid().as_raw();
    let gid = if rustix::process::geteuid().is_root() { 54_321 } else { own };
    for (compression, ending) in [("none", ""), ("gzip", ".gz"), ("zstd", ".zst")] {
        let mut host = Host::new();
        let mut writer = Writer::new(&host.audit(), 116);
        let file = writer.create(&file_name(5, 0));
        let sink =
            format!("rotate_bytes = \"20KiB\"\nrotate_daily = false\ncompression = \"{compression}\"\n");
        for (lines, expect) in [
            ("", (0o600, own)),
            ("mode = \"0640\"\n", (0o640, own)),
            (&format!("mode = \"0640\"\ngroup = \"{gid}\"\n")[..], (0o640, gid)),
            ("mode = \"0644\"\n", (0o644, gid)),
            ("mode = \"0600\"\n", (0o600, gid)),
        ] {
            host.sink = format!("{sink}{lines}");
            writer.append(&file, 100);
            let once = host.once();
            assert_eq!((once.code, once.stderr.contains("ERROR")), (0, false), "{}", once.stderr);
            let found = modes_and_groups(&host);
            // What a first run has rotated is compressed by the second.
            let compressed = found.keys().filter(|name| name.ends_with(ending)).count();
            assert!(compressed > 3 || lines.is_empty(), "{found:?}");
            // Without a group in the configuration a new file has the agent's, and an old one keeps what it has.
            let fits = |(mode, group): &(u32, u32)| *mode == expect.0 && [expect.1, own].contains(group);
            assert!(found.values().all(fits), "{lines}: {found:?}");
            if lines.contains("group") {
                assert!(found.values().all(|(_, group)| *group == gid), "{lines}: {found:?}");
            }
        }
        let delivered: usize =
            outputs(&host).iter().map(|text| text.split(|b| *b == b'\n').count() - 1).sum();
        assert_eq!(delivered, writer.count());
    }
}

/// Without a mode in the configuration nobody's work is undone.
#[test]
fn f116_a_mode_that_was_set_by_hand_stays() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(117, 3);
    host.once_ok();
    fs::set_permissions(host.output(), fs::Permissions::from_mode(0o640)).unwrap();
    writer.append(&file, 3);
    host.once_ok();
    assert_eq!(modes_and_groups(&host)["events.ndjson"].0, 0o640);
}

/// A group that cannot be had keeps readers out, and no event back.
#[test]
fn f116_a_group_that_is_not_there_holds_no_event_back() {
    let mut host = Host::new();
    host.sink =
        "rotate_bytes = \"20KiB\"\nrotate_daily = false\nmode = \"0640\"\ngroup = \"no-such-group\"\n".into();
    host.audit_file(118, 200);
    let once = host.once_ok();
    let printed = once.stderr.matches("there is no group `no-such-group`; run: groupadd no-such-group");
    assert_eq!(printed.count(), 1, "{}", once.stderr);
    let found = modes_and_groups(&host);
    assert!(found.len() > 3 && found.values().all(|(mode, _)| *mode == 0o600), "{found:?}");
    let check = host.check();
    assert_eq!(check.code, 75);
    assert!(check.stdout.contains("run: groupadd no-such-group"), "{}", check.stdout);
}

/// A group that the agent's user is not in.
#[test]
fn f116_a_group_of_others_is_reported_with_its_remedy() {
    if !rustix::process::geteuid().is_root() {
        return skip("root", "only root can become another user");
    }
    let mut host = Host::new();
    host.sink = "mode = \"0640\"\ngroup = \"daemon\"\n".into();
    host.audit_file(119, 3);
    host.config();
    fs::create_dir(host.state()).unwrap();
    for (path, mode) in [(host.path(""), 0o755), (host.path("out"), 0o700), (host.state(), 0o700)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if mode == 0o700 {
            std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
        }
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let output = host.command(&nobody, &["--once"]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.contains("is not in group `daemon`; run: usermod -aG daemon "), "{printed}");
    assert_eq!(modes_and_groups(&host)["events.ndjson"].0, 0o600, "{printed}");
    assert_eq!(host.delivered(), 3);
}

#[test]
fn f116_check_reports_who_may_read() {
    let mut host = Host::new();
    for (lines, printed) in [
        (
            "rotated_files_max = 7\n",
            "files get mode 0600; the newest 7 rotated files are kept, older ones are deleted, read or not",
        ),
        ("mode = \"0644\"\n", "files get mode 0644; "),
        ("mode = \"0640\"\ngroup = \"0\"\n", "files get mode 0640 and group `0`; "),
        ("group = \"0\"\n", "may not read the file: `mode` is \"0600\"; add `mode = \"0640\"`"),
        ("mode = \"0640\"\ngroup = \"54321\"\n", "group `54321` may read the files, but not list `"),
    ] {
        if lines.contains("54321") && !rustix::process::geteuid().is_root() {
            skip("root", "only root may give files to any group");
            continue;
        }
        host.sink = lines.into();
        host.config();
        let mode = if printed.contains("not list") { 0o700 } else { 0o755 };
        fs::set_permissions(host.path("out"), fs::Permissions::from_mode(mode)).unwrap();
        let check = host.check();
        assert!(check.stdout.contains(printed), "{printed}: {}", check.stdout);
    }
}

#[test]
fn f116_modes_and_groups_are_checked() {
    let mut host = Host::new();
    for (lines, printed) in [
        ("mode = \"0666\"\n", "`0666` is not known; write \"0600\", \"0640\" or \"0644\""),
        ("mode = \"0777\"\n", "write \"0600\", \"0640\" or \"0644\""),
        ("mode = \"640\"\n", "did you mean \"0640\"?"),
        ("mode = 0o640\n", "this is an integer; write \"0600\", \"0640\" or \"0644\""),
        ("mode = \"0640\"\ngroup = \"a b\"\n", "is no name of a group"),
        ("mode = \"0640\"\ngroup = \"\"\n", "is empty"),
        ("mode = \"0640\"\ngroup = 7\n", "this is an integer"),
    ] {
        host.sink = lines.into();
        let once = host.once();
        assert_eq!(once.code, 78, "{lines}: {}", once.stderr);
        assert!(once.stderr.contains(printed), "{lines}: {}", once.stderr);
    }
}

/// The unit forbids what `group` needs, and the recipe allows it. packaging/test tries the recipe's lines on a booted
/// machine.
#[test]
fn f116_the_recipe_opens_what_the_unit_closes() {
    let unit = include_str!("../../packaging/systemd/confluence-audit-agent.service");
    let guest = include_str!("../../packaging/test/guest.sh");
    let recipe = include_str!("../../docs/sinks/file.md");
    for (closed, opened) in [
        ("PrivateUsers=yes", "PrivateUsers=no"),
        ("SystemCallFilter=~@privileged @resources @keyring @setuid @chown", "SystemCallFilter=fchown"),
    ] {
        assert!(unit.contains(closed), "{closed}");
        assert!(recipe.contains(&format!("    {opened}\n")), "{opened}");
        assert!(guest.contains(opened), "{opened}");
    }
}
