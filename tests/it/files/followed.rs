//! Symbolic links on the way to audit files: whose are followed, and that `check` and `run` are of one mind about it.

use crate::rig::{Host, Writer, file_name, foreign_link, judge};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// How a link comes to be where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    /// Made by the user that runs the agent, in a directory that only its owner may write into.
    Own,
    /// Made by another user.
    Foreign,
    /// Own, but in a directory that everybody may write into.
    InOpen,
    /// The same with the sticky bit, as /tmp.
    InSticky,
    /// Own, but with a second name.
    TwoNames,
}

const REFUSED: [Link; 4] = [Link::Foreign, Link::InOpen, Link::InSticky, Link::TwoNames];

impl Link {
    /// Whether it could be made.
    fn make(self, to: &Path, link: &Path) -> bool {
        if self == Link::Foreign {
            return foreign_link(to, link);
        }
        symlink(to, link).unwrap();
        let mode = |mode| fs::set_permissions(link.parent().unwrap(), Permissions::from_mode(mode)).unwrap();
        match self {
            Link::InOpen => mode(0o777),
            Link::InSticky => mode(0o1777),
            Link::TwoNames => fs::hard_link(link, link.with_file_name("second name")).unwrap(),
            Link::Own | Link::Foreign => {}
        }
        true
    }

    /// What is said of it.
    fn expected_reason(self) -> &'static str {
        match self {
            Link::Own => "follows",
            Link::Foreign => "belongs to `nobody`",
            Link::InOpen | Link::InSticky => "is in a directory that everybody may write to",
            Link::TwoNames => "has more than one hard link",
        }
    }
}

/// Moves what is at `path` to another place and leaves a link there. Whether it could be made.
fn moved(host: &Host, path: &Path, link: Link) -> bool {
    let disk = host.path("disk");
    fs::create_dir(&disk).unwrap();
    let there = disk.join("moved");
    fs::rename(path, &there).unwrap();
    link.make(&there, path)
}

fn written(host: &Host) -> Writer {
    let (writer, _) = host.audit_file(1, 10);
    writer
}

/// `run --once` and `check` agree, and use the same words.
#[track_caller]
fn agree(host: &Host, writer: &Writer, link: Link, at: &Path, what: &str) {
    let (once, check) = (host.once(), host.check());
    let printed = format!("{what} {link:?}:\n{}\n{}", once.stderr, check.stdout);
    let shown = format!("`{}`", at.display());
    if link == Link::Own {
        assert_eq!((once.code, check.code), (0, 0), "{printed}");
        assert!(check.stdout.contains(&format!("follows the symbolic link {shown}")), "{printed}");
        assert!(check.stdout.contains("all readable"), "{printed}");
        judge(writer, &host.events()).is_exact();
    } else {
        let refusal = format!("{shown} is a symbolic link that {}", link.expected_reason());
        let refused =
            |text: &str| text.lines().find_map(|line| Some(line[line.find(&refusal)?..].to_owned()));
        assert_eq!(check.code, 75, "{printed}");
        let (by_run, by_check) = (refused(&once.stderr), refused(&check.stdout));
        let sentence = |text: &str| text.split(&[';', '='][..]).next().unwrap().to_owned();
        let (run, check) = (by_run.expect(&printed), by_check.expect(&printed));
        assert_eq!(sentence(&run), sentence(&check), "{printed}");
        assert_eq!(host.delivered(), 0, "{printed}");
    }
}

#[test]
fn f91_links_at_every_level_of_a_home() {
    for level in ["", "log", "log/audit"] {
        for link in [Link::Own].into_iter().chain(REFUSED) {
            let host = Host::new();
            let writer = written(&host);
            let at = host.home().join(level).components().collect::<PathBuf>();
            if moved(&host, &at, link) {
                let at = at.parent().unwrap().canonicalize().unwrap().join(at.file_name().unwrap());
                agree(&host, &writer, link, &at, level);
            }
        }
    }
}

#[test]
fn f91_an_audit_file_that_is_a_link() {
    for link in [Link::Own].into_iter().chain(REFUSED) {
        let host = Host::new();
        let writer = written(&host);
        let file = host.audit().canonicalize().unwrap().join(file_name(5, 0));
        if moved(&host, &file, link) {
            agree(&host, &writer, link, &file, "file");
        }
    }
}

/// Of a chain each link counts, and one that leads to itself leads nowhere.
#[test]
fn f91_chains_and_loops() {
    let home = |host: &Host| host.home().canonicalize().unwrap();
    let host = Host::new();
    let writer = written(&host);
    let (log, first, second) =
        (home(&host).join("log"), home(&host).join("first"), home(&host).join("second"));
    fs::rename(&log, home(&host).join("real")).unwrap();
    symlink("real", &second).unwrap();
    symlink(home(&host).join("./x/../second"), &first).unwrap();
    fs::create_dir(home(&host).join("x")).unwrap();
    symlink("first", &log).unwrap();
    agree(&host, &writer, Link::Own, &second, "chain");

    let host = Host::new();
    let writer = written(&host);
    let (log, inner) = (home(&host).join("log"), home(&host).join("inner"));
    fs::rename(&log, home(&host).join("real")).unwrap();
    symlink("inner", &log).unwrap();
    if foreign_link(Path::new("real"), &inner) {
        agree(&host, &writer, Link::Foreign, &inner, "chain");
    }

    let host = Host::new();
    let log = home(&host).join("log");
    fs::remove_dir_all(&log).unwrap();
    symlink("log", &log).unwrap();
    let (once, check) = (host.once(), host.check());
    for printed in [&once.stderr, &check.stdout] {
        assert!(printed.contains("symbolic link"), "{printed}");
    }
    assert_eq!((once.code, check.code), (75, 75));
}

/// Patterns: before the first wildcard, behind it, and the name.
#[test]
fn f91_links_in_patterns() {
    for (pattern, level) in [
        ("nodes/*/audit/*.audit.log", "nodes"),
        ("nodes/*/audit/*.audit.log", "nodes/one"),
        ("nodes/*/audit/*.audit.log", "nodes/one/audit"),
        ("nodes/one/audit/*.audit.log", "nodes/one"),
        ("nodes/?ne/audit/2026*", "nodes/one"),
    ] {
        for link in [Link::Own, Link::Foreign, Link::InSticky] {
            let mut host = Host::new();
            let root = host.path("").canonicalize().unwrap();
            let audit = root.join("nodes/one/audit");
            fs::create_dir_all(&audit).unwrap();
            host.set("files", &format!("[{:?}]", root.join(pattern)));
            let mut writer = Writer::new(&audit, 1);
            let file = writer.create(&file_name(5, 0));
            writer.append(&file, 10);
            let at = root.join(level);
            if moved(&host, &at, link) {
                agree(&host, &writer, link, &at, &format!("{pattern} {level}"));
            }
        }
    }
}

/// A second name for what is found anyway, by a link or a hard link, brings nothing twice.
#[test]
fn f91_a_file_with_several_names_is_read_once() {
    let host = Host::poll_only();
    let mut writer = Writer::new(&host.audit(), 1);
    let file = writer.create(&file_name(5, 1));
    writer.append(&file, 10);
    symlink(&file.path, host.audit().join(file_name(5, 0))).unwrap();
    fs::hard_link(&file.path, host.audit().join(file_name(4, 0))).unwrap();
    let mut agent = host.start();
    for _ in 0..3 {
        writer.append(&file, 10);
        agent.until("it is delivered", || host.delivered() >= writer.count());
    }
    // The name by which it is known goes.
    fs::remove_file(host.audit().join(file_name(4, 0))).unwrap();
    writer.append(&file, 10);
    agent.until("it goes on by another name", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
    assert!(agent.log_count("has another path") <= 1, "{}", agent.stderr());
}
