//! The page `/` of the admin endpoint.

use super::*;
use crate::rig::admin::Answer;
use crate::rig::free_port;
use flate2::read::ZlibDecoder;
use std::io::Read;

/// Top left pixel in light and dark, as in page.css.
const LIGHT: [u8; 3] = [0xf3, 0xf5, 0xf7];
const DARK: [u8; 3] = [0x14, 0x17, 0x1a];

/// Everything is in the page itself: no script, no picture, no font, no link that a browser follows by itself.
#[track_caller]
fn assert_self_contained(page: &str) {
    for outside in
        ["<script", "<img", "<link", "<iframe", "src=", "href=", "url(", "@import", "http://", "https://"]
    {
        assert!(!page.contains(outside), "{outside}: {page}");
    }
}

#[test]
fn the_page_shows_each_source_and_sink_and_loads_nothing() {
    let (host, mut server, (mut writer, file)) = with_dead_server();
    server.start_again();
    let mut agent = host.start();
    until_status(&host, &mut agent, "all is delivered", |status| {
        status["health"] == "ok" && status["sources"][0]["sinks"][0]["activity"]["events"] == 10
    });
    let Answer { status, head, body: page } = get(&socket(&host), "/").unwrap();
    assert_eq!(status, 200);
    for text in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ] {
        assert!(head.contains(text), "{text}: {head}");
    }
    for text in [
        "<meta http-equiv=\"refresh\" content=\"10\">",
        "all is well",
        "<h2>Source wiki</h2> <span class=\"state\">ok</span>",
        "<h3>Sink local</h3> <span class=\"state\">ok</span>",
        "Events a minute in the last hour, 10 at most",
        "<rect ",
        "<dt>Ledger entries</dt>",
        "<dt>Positions stored</dt>",
    ] {
        assert!(page.contains(&text.replace("> <", "><")), "{text}: {page}");
    }
    assert_self_contained(&page);
    server.stop();
    writer.append(&file, 1);
    let mut shown = String::new();
    agent.until("the outage is shown", || {
        shown = get(&socket(&host), "/").unwrap().body;
        shown.contains("1 failure: sink local")
    });
    assert!(shown.contains("<p>What to do: "), "{shown}");
    assert_self_contained(&shown);
}

/// Headless Chromium draws it: light, dark and as narrow as a phone. It must obey the content security policy.
#[test]
fn chromium_draws_the_page() {
    if Command::new("chromium").arg("--version").output().is_err() {
        return skip("chromium", "no Chromium draws the page");
    }
    let port = free_port();
    let mut host = Host::new();
    host.root += &format!("admin = {{ listen = \"127.0.0.1:{port}\", socket = {:?} }}\n", socket(&host));
    host.audit_file(7, 500);
    let mut agent = host.start();
    until_status(&host, &mut agent, "all is delivered", |status| {
        status["sources"][0]["sinks"][0]["activity"]["events"] == 500
    });
    // `SCREENSHOTS` names a directory for who wants to look at them.
    let dir = std::env::var_os("SCREENSHOTS").map_or_else(|| host.path("shots"), PathBuf::from);
    fs::create_dir_all(&dir).unwrap();
    for (name, width, height, scheme, expected) in
        [("light", 1100, 900, "1", LIGHT), ("dark", 1100, 900, "0", DARK), ("phone", 390, 1400, "1", LIGHT)]
    {
        let file = dir.join(format!("{name}.png"));
        let shot = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--enable-logging=stderr",
            ])
            .args(["--disable-background-networking", "--no-first-run"])
            .arg(format!("--user-data-dir={}", host.path("chromium").display()))
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .arg(format!("--screenshot={}", file.display()))
            .arg(format!("http://127.0.0.1:{port}/"))
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&shot.stderr);
        assert!(shot.status.success() && file.exists(), "{log}");
        assert!(!log.contains("Refused to") && !log.contains("Content Security Policy"), "{log}");
        let picture = Picture::read(&fs::read(&file).unwrap());
        assert_eq!((picture.width, picture.height), (width, height), "{name}");
        assert_eq!(picture.corner, expected, "{name}");
        assert!(picture.bytes > 10_000, "{name}: nothing is drawn, {} bytes", picture.bytes);
    }
}

/// What is known of a PNG file without a decoder.
struct Picture {
    width: u32,
    height: u32,
    /// The first pixel. No filter changes it.
    corner: [u8; 3],
    bytes: usize,
}

impl Picture {
    fn read(png: &[u8]) -> Picture {
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert!(png.starts_with(b"\x89PNG") && &png[12..16] == b"IHDR");
        let mut at = 8;
        while &png[at + 4..at + 8] != b"IDAT" {
            at += 12 + number(at) as usize;
        }
        let mut first = [0; 4];
        ZlibDecoder::new(&png[at + 8..]).read_exact(&mut first).unwrap();
        Picture {
            width: number(16),
            height: number(20),
            corner: [first[1], first[2], first[3]],
            bytes: png.len(),
        }
    }
}
