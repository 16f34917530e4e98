use super::{command, delivered, findings};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// It loads nothing, runs nothing, and is readable in the light and in the dark.
#[track_caller]
fn is_self_contained(html: &str) {
    for part in ["<script", "<link", "<img", "@import", "src=", "href=", "url(", "http://", "https://"] {
        assert!(!html.contains(part), "{part}\n{html}");
    }
    for part in ["color-scheme:light dark", "prefers-color-scheme:dark", "@media print", "default-src 'none'"]
    {
        assert!(html.contains(part), "{part}\n{html}");
    }
}

/// With the key alone, which finds a change of a byte.
#[track_caller]
fn is_signed(state: &Path, html: &Path) {
    let key = command(&["ledger", "key", "--state"], &[state]).stdout;
    let copy = html.with_file_name("copy.html");
    let verify = || command(&["verify", "--key", key.trim_end(), "--report"], &[&copy]);
    fs::copy(html, &copy).unwrap();
    let once = verify();
    assert_eq!(once.code, 75);
    assert!(once.stderr.contains("copy.html.sig`: No such file"), "{}", once.stderr);
    fs::copy(html.with_file_name("report.html.sig"), copy.with_file_name("copy.html.sig")).unwrap();
    let once = verify();
    assert_eq!(once.code, 0, "{}", once.stderr);
    assert!(once.stdout.starts_with("result: the report is what was signed by "), "{}", once.stdout);
    let text = fs::read_to_string(&copy).unwrap();
    fs::write(&copy, text.replace("No findings", "No  findings")).unwrap();
    let once = verify();
    assert_eq!((once.code, &*once.stdout), (1, "result: the report was changed after it was signed\n"));
}

/// Who has the ledger alone has no key.
#[test]
fn a_report_of_a_ledger_alone_is_not_signed_and_says_so() {
    let host = delivered(20, "");
    let (ledger, html) = (host.state().join("ledger"), host.path("report.html"));
    fs::write(host.path("report.html.sig"), "of an earlier one").unwrap();
    let once = command(&["report"], &[Path::new("--ledger"), &ledger, Path::new("--html"), &html]);
    assert_eq!(once.code, 0, "{}", once.stderr);
    assert!(
        once.stderr.contains("the report is not signed: the key is in the state directory"),
        "{}",
        once.stderr
    );
    assert!(fs::read_to_string(&html).unwrap().contains("This file itself is not signed"));
    assert!(!host.path("report.html.sig").exists());
}

#[test]
fn a_report_says_what_was_found_and_needs_no_script() {
    let host = delivered(200, "");
    let (state, html) = (host.state(), host.path("report.html"));
    let arguments = ["report", "--from", "2026-01-01", "--to", "2026-01-31"];
    let of = |export: &Path| {
        let paths = [Path::new("--state"), &state, Path::new("--html"), &html, Path::new("--export"), export];
        command(&arguments, &paths)
    };
    let once = of(&host.output());
    assert_eq!(once.code, 0, "{}", once.stderr);
    assert!(once.stdout.ends_with("/report.html: 0 findings\n"), "{}", once.stdout);
    let text = fs::read_to_string(&html).unwrap();
    for part in [
        "<p class=\"result good\">No findings</p>",
        "2026-01-01T00:00:00.000Z to 2026-02-01T00:00:00.000Z",
        "<td>2026-01-05</td>",
        "<rect class=\"file\"",
        "No byte of an audit file is known to be lost.",
        "PCI DSS 10.3.4",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    is_self_contained(&text);
    is_signed(&state, &html);
    // An event was removed from the sink.
    let events = fs::read_to_string(host.output()).unwrap();
    let export = host.path("export.ndjson");
    fs::write(&export, events.split_once('\n').unwrap().1).unwrap();
    let once = of(&export);
    assert_eq!(once.code, 1);
    assert!(fs::read_to_string(&html).unwrap().contains("<p class=\"result bad\">1 finding</p>"));
    // Without an export only the ledger is checked.
    let once = command(&arguments, &[Path::new("--state"), &state, Path::new("--html"), &html]);
    assert_eq!(once.code, 0, "{}", once.stderr);
    assert!(fs::read_to_string(&html).unwrap().contains("No sink was compared."));
    let nowhere = Path::new("/nowhere/report.html");
    let once = command(&arguments, &[Path::new("--state"), &state, Path::new("--html"), nowhere]);
    assert_eq!(once.code, 75);
    assert!(once.stderr.contains("failed to write `/nowhere/report.html`"), "{}", once.stderr);
}

#[test]
fn a_report_of_a_configuration_compares_its_output_and_has_the_numbers_of_the_ledger() {
    let host = delivered(1_234, "");
    let (config, html) = (host.config(), host.path("report.html"));
    let arguments = ["report", "--from", "2026-01-01"];
    let paths = [Path::new("--config"), &config, Path::new("--html"), &html];
    let once = command(&arguments, &paths);
    assert_eq!(once.code, 0, "{}", once.stderr);
    let text = fs::read_to_string(&html).unwrap();
    is_self_contained(&text);
    let state = host.state();
    let (state, output) = (state.to_str().unwrap(), host.output());
    let verify = ["verify", "--json", "--state", state, "--from", "2026-01-01", "--export"];
    let (_, summary) = findings(&command(&verify, &[&output]));
    let number = |count: &Value| {
        let count = count.as_u64().unwrap();
        if count < 1000 { count.to_string() } else { format!("{},{:03}", count / 1000, count % 1000) }
    };
    let total = &summary["export"]["total"];
    let key = command(&["ledger", "key", "--state", state], &[]).stdout;
    let checkpoint = fs::read_to_string(host.state().join("ledger/wiki/checkpoint")).unwrap();
    let newest = checkpoint.trim_end().rsplit("\n\n\n").next().unwrap();
    let root = newest.lines().find(|line| line.len() == 44).unwrap();
    for part in [
        "<tr><td>All</td><td class=\"n\">1,234</td>".to_owned(),
        format!(
            "<tr><td>sink local</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            number(&total["expected"]),
            number(&total["intact"])
        ),
        format!("<tr><td>wiki</td><td class=\"n\">{}</td>", number(&summary["ledgers"][0]["size"])),
        "0 minutes on the API, 0 switches".to_owned(),
        format!("<pre>{}</pre>", key.trim_end()),
        root.to_owned(),
        "NIST SP 800-53 AU-9(3)".to_owned(),
    ] {
        assert!(text.contains(&part), "{part}\n{text}");
    }
}
