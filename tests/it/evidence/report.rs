use super::{command, delivered};
use std::fs;
use std::path::Path;

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
        "<p class=\"result good\">Nothing was found</p>",
        "2026-01-01T00:00:00.000Z to 2026-02-01T00:00:00.000Z",
        "<td>2026-01-05</td>",
        "<rect class=\"file\"",
        "No byte of an audit file is known to be lost.",
        "PCI DSS 10.3.4",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("<script") && !text.contains("http://") && !text.contains("https://"));
    // An event was removed from the sink.
    let events = fs::read_to_string(host.output()).unwrap();
    let export = host.path("export.ndjson");
    fs::write(&export, events.split_once('\n').unwrap().1).unwrap();
    let once = of(&export);
    assert_eq!(once.code, 1);
    assert!(fs::read_to_string(&html).unwrap().contains("<p class=\"result bad\">1 found</p>"));
    // Without an export only the ledger is checked.
    let once = command(&arguments, &[Path::new("--state"), &state, Path::new("--html"), &html]);
    assert_eq!(once.code, 0, "{}", once.stderr);
    assert!(fs::read_to_string(&html).unwrap().contains("No export was given"));
    let nowhere = Path::new("/nowhere/report.html");
    let once = command(&arguments, &[Path::new("--state"), &state, Path::new("--html"), nowhere]);
    assert_eq!(once.code, 75);
    assert!(once.stderr.contains("failed to write `/nowhere/report.html`"), "{}", once.stderr);
}
