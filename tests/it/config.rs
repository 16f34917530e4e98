//! What the real binary says about a wrong configuration.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn agent(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .args(arguments)
        .current_dir(dir)
        .env_remove("CONFLUENCE_HOME")
        .output()
        .expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

/// Each wrong file of `fixtures/config-errors` has its messages next to it. `UPDATE_GOLDEN=1` writes them again: then
/// read them; each must name the line, the thing, and the way out.
#[test]
fn f63_config_errors() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config-errors");
    let mut files: Vec<PathBuf> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 30, "{} wrong files", files.len());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let output = agent(&dir, &["run", "--once", "--config", name]);
        let golden = file.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &output.stderr).unwrap();
        }
        assert_eq!(output.status.code(), Some(78), "{name}: {}", stderr(&output));
        assert_eq!(stderr(&output), std::fs::read_to_string(&golden).unwrap_or_default(), "{name}");
        assert!(output.stdout.is_empty(), "{name}");
        // What stands in the files where a secret is.
        assert!(!stderr(&output).contains("canary"), "{name}");
    }
}

#[test]
fn wrong_usage_is_64_and_wrong_values_are_78() {
    let dir = tempfile::tempdir().unwrap();
    let table: [(&[&str], i32, &str); 18] = [
        (&[], 64, "Usage"),
        (&["rum"], 64, "run"),
        (&["run", "--onec"], 64, "--once"),
        (&["run", "--home", "h", "--files", "f"], 64, "cannot be used with"),
        (&["state"], 64, "Usage"),
        (
            &["run", "--home", "h", "--sink", "kafka"],
            78,
            "`--sink`: `kafka` is no sink; write `stdout` or `file:PATH`",
        ),
        (
            &["run", "--home", "h", "--sink", "/x/y"],
            78,
            "`--sink`: `/x/y` is no sink; did you mean `file:/x/y`?",
        ),
        (
            &["run", "--home", "h", "--sink", "file:"],
            78,
            "`--sink`: `file:` names no file; write `file:PATH`",
        ),
        (
            &["run", "--home", "h", "--format", "esc"],
            78,
            "`--format`: `esc` is not known; did you mean \"ecs\"?",
        ),
        (
            &["run", "--home", "h", "--log-level", "inof"],
            78,
            "`--log-level`: `inof` is not known; did you mean \"info\"?",
        ),
        (
            &["run", "--home", "h", "--log-format", "xml"],
            78,
            "`--log-format`: `xml` is not known; write \"text\" or \"json\"",
        ),
        (&["run", "--files", "[", "--state", "s"], 78, "`--files`: "),
        (&["run", "--home", ""], 64, "--home"),
        (&["run", "--url", "https://c.example.com"], 64, "--token-file"),
        (
            &["run", "--url", "https://c.example.com", "--token-file", "t", "--home", "h"],
            64,
            "cannot be used with",
        ),
        (
            &["run", "--url", "c.example.com", "--token-file", "t"],
            78,
            "`--url`: has no scheme; begin it with `https://`",
        ),
        (
            &["run", "--config", "missing.toml"],
            78,
            "cannot read the configuration `missing.toml`: No such file",
        ),
        (&["check", "--config", "."], 78, "configuration"),
    ];
    for (arguments, code, message) in table {
        let output = agent(dir.path(), arguments);
        let printed = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {printed}");
        assert!(printed.contains(message), "{arguments:?}: {printed}");
    }
    // Nothing was touched.
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    for arguments in [["--help"], ["--version"]] {
        assert_eq!(agent(dir.path(), &arguments).status.code(), Some(0));
    }
}

#[test]
fn all_wrong_options_are_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        agent(dir.path(), &["run", "--home", "h", "--sink", "x", "--format", "y", "--log-level", "z"]);
    assert_eq!(output.status.code(), Some(78));
    let printed = stderr(&output);
    let options: Vec<&str> = printed.lines().map(|line| line.split('`').nth(1).unwrap()).collect();
    assert_eq!(options, ["--sink", "--format", "--log-level"]);
}

/// Options on top of a file that has two sources.
#[test]
fn an_option_that_cannot_tell_which_source_it_is_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = |name: &str| {
        format!("[[source]]\nname = \"{name}\"\ntype = \"data_center\"\nhome = \"/data/{name}\"\n")
    };
    let config = format!("{}{}[[sink]]\nname = \"out\"\ntype = \"stdout\"\n", source("one"), source("two"));
    std::fs::write(dir.path().join("two.toml"), config).unwrap();
    for (option, value, message) in [
        ("--home", "/data/three", "`--home`: the configuration has 2 sources"),
        ("--files", "/data/*.log", "`--files`: the configuration has 2 sources"),
        ("--sink", "file:/out/events", "put `{source}` into it"),
    ] {
        let output = agent(dir.path(), &["run", "--config", "two.toml", option, value]);
        assert_eq!(output.status.code(), Some(78), "{option}");
        assert!(stderr(&output).contains(message), "{option}: {}", stderr(&output));
    }
}

/// An agent whose state or output is where it reads would read itself.
#[test]
fn f20_self_include_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let audit = root.join("home/log/audit");
    std::fs::create_dir_all(&audit).unwrap();
    std::fs::create_dir_all(root.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(&audit, root.join("link")).unwrap();
    let files = format!("{}/elsewhere/*.ndjson", root.display());
    let table: [(&[&str], [&str; 2]); 6] = [
        (&["--home", "home", "--state", "home/log/audit/state"], ["home/log/audit", "home/log/audit/state"]),
        (&["--home", "home", "--state", "link/deep/state"], ["home/log/audit", "link/deep/state"]),
        (
            &["--home", "home", "--sink", "file:home/log/audit/events"],
            ["home/log/audit", "home/log/audit/events"],
        ),
        (&["--home", "home", "--sink", "file:link/events"], ["home/log/audit", "link/events"]),
        (&["--files", &files, "--sink", "file:elsewhere/out.ndjson"], ["elsewhere", "elsewhere/out.ndjson"]),
        (&["--files", "**/*.ndjson", "--sink", "file:later/out.ndjson"], ["**/*.ndjson", "later/out.ndjson"]),
    ];
    for (options, [watched, own]) in table {
        for command in ["run", "check"] {
            let mut arguments = vec![command];
            arguments.extend(options);
            if !options.contains(&"--state") {
                arguments.extend(["--state", "state"]);
            }
            let output = agent(&root, &arguments);
            let printed = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(78), "{arguments:?}: {printed}");
            for path in [watched, own] {
                assert!(
                    printed.contains(&format!("`{}`", root.join(path).display())),
                    "{arguments:?}: {path} in {printed}"
                );
            }
        }
    }
    assert_eq!(audit.read_dir().unwrap().count(), 0);
    assert!(!root.join("state").exists());
}

#[test]
fn stdout_into_what_is_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = std::fs::File::create(dir.path().join("events.ndjson")).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .args(["run", "--once", "--files", "*.ndjson", "--state", "../nowhere"])
        .current_dir(dir.path())
        .stdout(out)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(78));
}

/// What works and should not be is reported by `check`, and no secret with it.
#[test]
fn warnings_are_shown_by_check() {
    let dir = tempfile::tempdir().unwrap();
    let config = "state_dir = \"/none\"\n[[source]]\nname = \"wiki\"\ntype = \"data_center\"\nurl = \"http://127.0.0.1:1\"\n\
                  user = \"unused\"\npersonal_access_token = \"canary\"\n[[sink]]\nname = \"out\"\ntype = \"stdout\"\n";
    std::fs::write(dir.path().join("api.toml"), config).unwrap();
    let output = agent(dir.path(), &["check", "--config", "api.toml"]);
    let printed = stderr(&output) + &crate::rig::unwrap_lines(&String::from_utf8_lossy(&output.stdout));
    for expected in [
        "warning  configuration: api.toml:6: `source.wiki.user`: is not used",
        "warning  configuration: api.toml:7: `source.wiki.personal_access_token`: is in the configuration itself",
    ] {
        assert!(printed.contains(expected), "{printed}");
    }
    assert!(!printed.contains("canary"), "{printed}");
}
