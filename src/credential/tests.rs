use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;

/// Everything that is logged while `work` runs, one event a line.
fn logged<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);
    struct Text<'t>(&'t mut String);
    impl Visit for Text<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            self.0.push_str(&format!(" {field}={value:?}"));
        }
    }
    impl<S: tracing::Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let mut line = event.metadata().level().to_string();
            event.record(&mut Text(&mut line));
            self.0.lock().unwrap().push(line);
        }
    }
    let lines = Lines::default();
    let result = tracing::subscriber::with_default(tracing_subscriber::registry().with(lines.clone()), work);
    let lines = lines.0.lock().unwrap().clone();
    (result, lines)
}

/// As `mv` and every careful writer do it.
fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    write(&new, content);
    fs::rename(new, path).unwrap();
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Makes a file look as if it had been quiet for a while.
fn age(path: &Path) {
    let file = File::options().append(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified - Duration::from_secs(10)).unwrap();
}

fn file() -> (tempfile::TempDir, PathBuf, Credential) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let credential = Credential::new(Reference::File(path.clone()));
    (dir, path, credential)
}

fn text(credential: &mut Credential) -> String {
    credential.read().unwrap().expose().to_string()
}

#[test]
fn f56_rotate_secret() {
    let (_dir, path, mut token) = file();
    let ((), log) = logged(|| {
        replace(&path, "first\n");
        assert!(token.changed(), "never read");
        assert_eq!(text(&mut token), "first");
        assert!(!token.changed());
        replace(&path, "second\n");
        assert!(token.changed());
        assert_eq!(text(&mut token), "second", "a replaced file is whole and taken at once");
        assert!(!token.changed());
    });
    assert_eq!(log, [""; 0]);
}

#[test]
fn f56_rotate_secret_bad_replacements_keep_the_old_one_and_warn_once() {
    let bad: [(&[u8], &str); 7] = [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"canary-\xff", "not valid UTF-8"),
        (b"canary\0\0\0", "control character"),
        (b"canary\tx", "control character"),
        (b"canary\nmore\n", "more than one line"),
        (&[b'a'; 70_000], "more than 64 KiB"),
    ];
    for (content, message) in bad {
        let (_dir, path, mut token) = file();
        replace(&path, "first\n");
        assert_eq!(text(&mut token), "first");
        let ((), log) = logged(|| {
            replace(&path, content);
            for _ in 0..5 {
                assert_eq!(text(&mut token), "first", "{message}");
                assert_eq!(token.reread().unwrap().expose(), "first");
            }
            assert!(!token.changed(), "{message}");
            replace(&path, "second\n");
            assert_eq!(text(&mut token), "second");
        });
        assert_eq!(log.len(), 2, "{log:?}");
        assert!(log[0].starts_with("WARN") && log[0].contains(message), "{log:?}");
        assert!(log[1].starts_with("INFO"), "{log:?}");
        assert!(!log.join("").contains("canary"), "{log:?}");
    }
}

#[test]
fn f56_rotate_secret_half_written_where_it_stands() {
    let (_dir, path, mut token) = file();
    write(&path, "first-token\n");
    age(&path);
    assert_eq!(text(&mut token), "first-token");
    let ((), log) = logged(|| {
        write(&path, "");
        assert_eq!(text(&mut token), "first-token");
        write(&path, "second-");
        assert_eq!(text(&mut token), "first-token", "it may be half a token");
        assert_eq!(token.reread().unwrap().expose(), "first-token");
        assert!(token.changed(), "to be looked at again");
        write(&path, "second-token\n");
        age(&path);
        assert_eq!(text(&mut token), "second-token", "it has been quiet");
        assert!(!token.changed());
    });
    assert_eq!(log.len(), 2, "{log:?}");
}

#[test]
fn f42_what_cannot_be_read_is_no_change_until_it_is_another() {
    let (_dir, path, mut token) = file();
    fs::create_dir(&path).unwrap();
    assert!(token.read().is_err());
    assert!(!token.changed(), "looked at, with nothing held");
    fs::remove_dir(&path).unwrap();
    replace(&path, "first");
    assert!(token.changed());
    assert_eq!(text(&mut token), "first");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(token.changed(), "something else is there");
    assert_eq!(text(&mut token), "first");
    assert!(!token.changed());
    fs::remove_dir(&path).unwrap();
    replace(&path, "second");
    assert!(token.changed());
    age(&path);
    assert_eq!(text(&mut token), "second");
}

#[test]
fn a_file_that_vanishes_and_returns() {
    let (_dir, path, mut token) = file();
    assert!(matches!(token.read(), Err(CredentialError::Missing { .. })));
    assert!(!token.changed(), "there is nothing yet");
    replace(&path, "first");
    assert!(token.changed());
    assert_eq!(text(&mut token), "first");
    let ((), log) = logged(|| {
        fs::remove_file(&path).unwrap();
        assert!(!token.changed());
        assert_eq!(token.reread().unwrap().expose(), "first");
        assert_eq!(token.reread().unwrap().expose(), "first");
        replace(&path, "second");
        // It may have got the old one's inode, and look as if that were being written.
        age(&path);
        assert_eq!(text(&mut token), "second");
    });
    assert_eq!(log.len(), 2, "{log:?}");
}

#[test]
fn a_link_that_is_switched_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    for version in ["one", "two"] {
        fs::create_dir(dir.path().join(version)).unwrap();
        write(&dir.path().join(version).join("token"), version);
    }
    let link = dir.path().join("data");
    std::os::unix::fs::symlink("one", &link).unwrap();
    let mut token = Credential::new(Reference::File(link.join("token")));
    assert_eq!(text(&mut token), "one");
    let new = dir.path().join("new");
    std::os::unix::fs::symlink("two", &new).unwrap();
    fs::rename(new, &link).unwrap();
    assert!(token.changed());
    assert_eq!(text(&mut token), "two");
}

#[test]
fn line_ends_and_a_byte_order_mark_are_not_part_of_it() {
    for content in ["a b", "a b\n", "a b\r\n", "\u{feff}a b\n", "a b\n\n"] {
        assert_eq!(secret(content.as_bytes().to_vec()).unwrap().expose(), "a b");
    }
    assert_eq!(secret("pässword".into()).unwrap().expose(), "pässword");
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();
    for path in [dir.path().to_path_buf(), pipe] {
        let error = Credential::new(Reference::File(path.clone())).read().unwrap_err();
        assert!(error.to_string().contains("is no regular file"), "{error}");
    }
}

#[test]
fn f59_a_secret_that_others_may_read_is_warned_of_once() {
    let (_dir, path, mut token) = file();
    replace(&path, "canary");
    assert_eq!(readable_by_others(&path), None);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(readable_by_others(&path), None, "the agent's own group");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let ((), log) = logged(|| {
        token.read().unwrap();
        token.reread().unwrap();
    });
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].starts_with("WARN") && log[0].contains("chmod o-rwx"), "{log:?}");
    assert!(!log[0].contains("canary"));
}

#[test]
fn environment_systemd_and_inline() {
    let mut path = Credential::new(Reference::Env("PATH".into()));
    assert_eq!(text(&mut path), std::env::var("PATH").unwrap());
    assert!(!path.changed());
    let mut unset = Credential::new(Reference::Env("NOT_SET_ANYWHERE".into()));
    let error = unset.read().unwrap_err();
    assert!(!unset.changed());
    assert!(error.to_string().contains("`NOT_SET_ANYWHERE` is not set"), "{error}");
    let error = Credential::new(Reference::Systemd("wiki".into())).read().unwrap_err();
    assert!(error.to_string().contains("LoadCredential=wiki:/path"), "{error}");
    let mut inline = Credential::new(Reference::Inline(Secret::new("canary")));
    assert_eq!(text(&mut inline), "canary");
    assert!(!format!("{inline:?}").contains("canary"));
}
