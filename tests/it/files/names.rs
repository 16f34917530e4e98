//! Names that are no text, and files with more than one name.

use crate::rig::{Host, Writer, append, file_name, judge, skip};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::chown;
use std::path::PathBuf;

const NOBODY: u32 = 65534;

fn path_with_bytes(host: &Host, name: &[u8]) -> PathBuf {
    host.audit().join(OsStr::from_bytes(name))
}

/// Found, read, followed over restarts and under another such name, and printed with what is no text escaped.
#[test]
fn f94_a_name_that_is_no_text_is_a_name() {
    let host = Host::poll_only();
    let mut writer = Writer::new(&host.audit(), 1);
    let mut file = writer.create("made.as.text");
    let name =
        |last: u8| path_with_bytes(&host, &[b"20260105.\xff\xfe", &[last][..], b".audit.log"].concat());
    fs::rename(&file.path, name(b'a')).unwrap();
    file.path = name(b'a');
    writer.append(&file, 10);
    let mut agent = host.start();
    agent.until("it is delivered", || host.delivered() == 10);
    assert_eq!(agent.stop(), 0);
    let mut agent = host.start();
    writer.append(&file, 10);
    agent.until("it goes on after a restart", || host.delivered() == 20);
    fs::rename(&file.path, name(b'b')).unwrap();
    file.path = name(b'b');
    writer.append(&file, 10);
    agent.until("it goes on under another name", || host.delivered() == 30);
    agent.until_logged("\\xff\\xfeb.audit.log");
    append(&file.path, b"no record\n");
    agent.until("what is no record is reported", || host.delivered() == 31);
    agent.until_logged("cannot be read");
    // In a pattern too, and as a file that nobody has asked for.
    fs::write(path_with_bytes(&host, b"other\x80"), "").unwrap();
    agent.until_logged("other\\x80");
    assert_eq!(agent.stop(), 0);
    let events = fs::read_to_string(host.output()).unwrap();
    assert!(events.contains(r"20260105.\\xff\\xfeb.audit.log"), "{}", &events[..2000]);
    let printed = host.check().stdout;
    assert!(printed.contains(r"\xff\xfeb.audit.log") && printed.contains(r"other\x80"), "{printed}");
    let records: Vec<_> = host.events().into_iter().take(30).collect();
    judge(&writer, &records).is_exact();
}

#[test]
fn f94_patterns_match_names_that_are_no_text() {
    let mut host = Host::new();
    let mut dir: OsString = host.path("").canonicalize().unwrap().into();
    dir.push("/nodes");
    let pattern = PathBuf::from(dir.clone()).join("*/audit-??.log");
    let node = PathBuf::from(dir).join(OsString::from_vec(b"n\xc3".to_vec()));
    fs::create_dir_all(&node).unwrap();
    host.set("files", &format!("[{pattern:?}]"));
    let mut writer = Writer::new(&node, 1);
    let mut file = writer.create("made.as.text");
    let name = node.join(OsStr::from_bytes(b"audit-\xf01.log"));
    fs::rename(&file.path, &name).unwrap();
    file.path = name;
    writer.append(&file, 10);
    host.once_ok();
    judge(&writer, &host.events()).is_exact();
}

/// Confluence's user gives another user's file a second name, in the hope that the agent reads it with its own rights.
#[test]
fn f94_a_hard_link_to_another_users_file_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return skip("root", "only root can make files of several users");
    }
    let host = Host::new();
    let (mut writer, file) = host.audit_file(1, 10);
    for path in [host.audit().as_path(), &file.path] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let secret = host.path("secret");
    fs::write(&secret, "token of the agent\n").unwrap();
    let planted = host.audit().join(file_name(5, 1));
    fs::hard_link(&secret, &planted).unwrap();
    // The owner's own file may have as many names as its owner likes: a backup of hard links is no attack.
    fs::hard_link(&file.path, host.path("backup")).unwrap();
    let mut agent = host.start();
    agent.until("the other file is delivered", || host.delivered() == 10);
    agent.until_logged(planted.to_str().unwrap());
    agent.until_logged("belongs to `root`, its directory to `nobody`, and it has 2 hard links");
    writer.append(&file, 10);
    agent.until("it goes on", || host.delivered() == 20);
    let check = host.check();
    assert_eq!(check.code, 75, "{}", check.stdout);
    assert!(check.stdout.contains("belongs to `root`, its directory to `nobody`"), "{}", check.stdout);
    assert_eq!(agent.stop(), 0);
    let everything = fs::read_to_string(host.output()).unwrap() + &agent.stderr() + &check.stdout;
    assert!(!everything.contains("token of the agent"));
    judge(&writer, &host.events()).is_exact();
    // Alone, it is no longer somebody's trick.
    let mut agent = host.start();
    fs::remove_file(&secret).unwrap();
    agent.until("it is read when it has one name", || host.delivered() == 21);
    assert_eq!(agent.stop(), 0);
}
