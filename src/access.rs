//! What this user may reach, and which group would let them. Looks only.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use crate::telemetry::escape::shell_word;

/// Why something cannot be used. Displays what is wrong and what to do.
#[derive(Debug)]
pub(crate) enum AccessProblem {
    /// The first part of the path that does not exist.
    Missing(PathBuf),
    Denied(Box<Denied>),
    Other(PathBuf, Errno),
}

/// A path without a permission that is needed.
#[derive(Debug)]
pub(crate) struct Denied {
    path: PathBuf,
    is_dir: bool,
    /// Permission bits as in one digit of a mode.
    wanted: u32,
    mode: u32,
    owner: String,
    group: String,
    user: String,
    /// The user database puts the user into the group already; this process is older than that.
    member: bool,
    /// The user to run this command as, where that is what helps.
    run_as: Option<String>,
}

/// Follows a path from the root and finds the first part that is missing or may not be searched.
pub(crate) fn reach(path: &Path) -> Result<(), AccessProblem> {
    let mut parts: Vec<&Path> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    parts.reverse();
    for part in &parts {
        match part.metadata() {
            Ok(_) if *part == path => {}
            Ok(_) => allowed(part, Access::EXEC_OK)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(AccessProblem::Missing(part.into()));
            }
            Err(error) => return Err(AccessProblem::Other(part.into(), errno(&error))),
        }
    }
    Ok(())
}

/// Why a path cannot be read: who runs this, the path's owner and mode, and what helps.
pub(crate) fn denied_message(path: &Path) -> String {
    let wanted = if path.is_dir() { Access::READ_OK | Access::EXEC_OK } else { Access::READ_OK };
    format!("cannot read `{}`: {}", path.display(), refusal(path, wanted))
}

/// The same for a file or directory of the agent's own, its state for example. The one who runs this should have been
/// another user.
pub(crate) fn denied_message_own(action: &str, path: &Path) -> String {
    // What is missing is made in the directory that is there.
    let existing = path.ancestors().find(|part| part.exists()).unwrap_or(path);
    let wanted = match (existing.is_dir(), action) {
        (true, "read" | "open") => Access::READ_OK | Access::EXEC_OK,
        (true, _) => Access::WRITE_OK | Access::EXEC_OK,
        (false, "read") => Access::READ_OK,
        (false, _) => Access::READ_OK | Access::WRITE_OK,
    };
    let mut refused = reach(existing).and_then(|()| allowed(existing, wanted));
    if let Err(AccessProblem::Denied(denied)) = &mut refused
        && denied.run_as.is_none()
        && denied.owner != denied.user
    {
        denied.run_as = Some(denied.owner.clone());
    }
    format!("cannot {action} `{}`: {}", path.display(), described(refused))
}

/// The same for what another user made for itself, though this one, root perhaps, could reach it.
pub(crate) fn belongs_to_other(path: &Path, metadata: &std::fs::Metadata) -> String {
    let (owner, group) = (user_name(metadata.uid()), group_name(metadata.gid()));
    let (path, mode, user) = (path.display(), metadata.mode() & 0o7777, user().name);
    format!(
        "`{path}` ({mode:04o} {owner}:{group}) belongs to `{owner}`, and this runs as `{user}`; run: {}",
        sudo(&owner)
    )
}

fn refusal(path: &Path, wanted: Access) -> String {
    described(reach(path).and_then(|()| allowed(path, wanted)))
}

fn described(refused: Result<(), AccessProblem>) -> String {
    match refused {
        Err(problem) => problem.to_string(),
        Ok(()) => {
            let user = user();
            format!(
                "permission denied to `{}` (uid {}), though modes and groups allow it (SELinux or AppArmor?)",
                user.name, user.uid
            )
        }
    }
}

/// This call as another user, for a shell.
fn sudo(user: &str) -> String {
    let arguments = std::env::args_os().skip(1);
    let words = arguments.map(|word| shell_word(&word.to_string_lossy()).into_owned());
    let call: Vec<String> = std::iter::once(crate::NAME.to_owned()).chain(words).collect();
    format!("sudo -u {user} {}", call.join(" "))
}

impl From<glob::GlobError> for AccessProblem {
    fn from(error: glob::GlobError) -> AccessProblem {
        AccessProblem::Other(error.path().into(), errno(error.error()))
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Asks the kernel, which knows about access lists and capabilities too.
pub(crate) fn allowed(path: &Path, access: Access) -> Result<(), AccessProblem> {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else {
        return Err(AccessProblem::Other(path.into(), Errno::INVAL));
    };
    match rustix::fs::accessat(CWD, &name, access, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(AccessProblem::Missing(path.into())),
        Err(Errno::ACCESS | Errno::PERM) => Err(denied(path, access)),
        Err(error) => Err(AccessProblem::Other(path.into(), error)),
    }
}

fn denied(path: &Path, access: Access) -> AccessProblem {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return AccessProblem::Other(path.into(), errno(&error)),
    };
    let user = user();
    AccessProblem::Denied(Box::new(Denied {
        path: path.into(),
        is_dir: metadata.is_dir(),
        wanted: access.bits() & 0o7,
        mode: metadata.mode() & 0o7777,
        owner: user_name(metadata.uid()),
        group: group_name(metadata.gid()),
        member: is_member(&user.name, metadata.gid()),
        run_as: (user.name != crate::NAME && user_exists(crate::NAME)).then(|| crate::NAME.to_owned()),
        user: user.name,
    }))
}

impl fmt::Display for AccessProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessProblem::Missing(path) => write!(f, "`{}` does not exist", path.display()),
            AccessProblem::Other(path, error) => write!(f, "failed to look at `{}`: {error}", path.display()),
            AccessProblem::Denied(denied) => denied.fmt(f),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Denied { path, is_dir, wanted, mode, owner, group, user, member, run_as } = self;
        let text = path.to_string_lossy();
        let (shown, path) = (path.display(), shell_word(&text));
        write!(f, "`{user}` may not {} `{shown}` ({mode:04o} {owner}:{group}); ", verb(*wanted, *is_dir))?;
        let group_may = (mode >> 3) & wanted == *wanted;
        if let Some(other) = run_as {
            write!(f, "run: {}", sudo(other))
        } else if group_may && *member {
            write!(
                f,
                "`{user}` is in group `{group}`, but this process started before: log in again or restart the agent"
            )
        } else if group_may && group != "root" {
            write!(f, "group `{group}` is missing: usermod -aG {group} {user}, then restart the agent")
        } else {
            // The group would not help, and what belongs to root's group is not for anyone else to join.
            write!(f, "run: setfacl -m u:{user}:{} {path}", letters(*wanted))
        }
    }
}

fn verb(wanted: u32, is_dir: bool) -> &'static str {
    match (wanted & 0o4 != 0, wanted & 0o2 != 0, is_dir) {
        (_, true, true) => "write into",
        (_, true, false) => "write",
        (true, false, true) => "list",
        (true, false, false) => "read",
        (false, false, _) => "search",
    }
}

fn letters(wanted: u32) -> String {
    [(0o4, 'r'), (0o2, 'w'), (0o1, 'x')]
        .iter()
        .filter(|(bit, _)| wanted & bit != 0)
        .map(|(_, c)| *c)
        .collect()
}

/// Who runs this.
pub(crate) struct User {
    pub uid: u32,
    pub name: String,
}

pub(crate) fn user() -> User {
    let uid = rustix::process::geteuid().as_raw();
    User { uid, name: user_name(uid) }
}

/// The name of a user in the host's user database (files, LDAP, SSSD), or the number where there is none. The
/// static build knows the files alone, because musl has no other source.
pub(crate) fn user_name(uid: u32) -> String {
    uzers::get_user_by_uid(uid).map_or_else(|| uid.to_string(), |user| text(user.name()))
}

pub(crate) fn user_exists(name: &str) -> bool {
    uzers::get_user_by_name(name).is_some()
}

pub(crate) fn group_name(gid: u32) -> String {
    uzers::get_group_by_gid(gid).map_or_else(|| gid.to_string(), |group| text(group.name()))
}

/// The number of a group: of a name in the group database, or written as one.
pub(crate) fn group_id(group: &str) -> Option<u32> {
    match uzers::get_group_by_name(group) {
        Some(found) => Some(found.gid()),
        None => group.parse().ok(),
    }
}

/// Whether the user database has a user in a group, as the primary one or a further one.
fn is_member(user: &str, gid: u32) -> bool {
    let groups = uzers::get_user_by_name(user).and_then(|user| user.groups());
    groups.is_some_and(|groups| groups.iter().any(|group| group.gid() == gid))
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Whether this process may give files of its own to a group.
pub(crate) fn may_give_to(gid: u32) -> bool {
    let own = rustix::process::getegid().as_raw();
    let others = rustix::process::getgroups().unwrap_or_default();
    user().uid == 0 || own == gid || others.iter().any(|other| other.as_raw() == gid)
}

/// The first directory above a file that the members of a group may not enter, or, if it is the file's own, not list.
pub(crate) fn closed_to_group(file: &Path, gid: u32) -> Option<PathBuf> {
    let mut above: Vec<&Path> = file.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).collect();
    above.reverse();
    let is_closed = |dir: &&&Path| {
        let Ok(found) = dir.metadata() else { return false };
        let bits = if found.gid() == gid { found.mode() >> 3 } else { found.mode() };
        let wanted = if Some(**dir) == file.parent() { 0o5 } else { 0o1 };
        bits & wanted != wanted
    };
    above.iter().find(is_closed).map(|dir| dir.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(wanted: u32, mode: u32, member: bool, is_dir: bool) -> String {
        let [owner, group] = ["confluence", "wiki"].map(str::to_string);
        Denied {
            path: "/data/log".into(),
            is_dir,
            wanted,
            mode,
            owner,
            group,
            user: "agent".into(),
            member,
            run_as: None,
        }
        .to_string()
    }

    #[test]
    fn says_which_group_is_missing() {
        assert_eq!(
            denied(0o1, 0o750, false, true),
            "`agent` may not search `/data/log` (0750 confluence:wiki); \
             group `wiki` is missing: usermod -aG wiki agent, then restart the agent"
        );
        assert!(denied(0o1, 0o750, true, true).ends_with("log in again or restart the agent"));
        assert!(denied(0o4, 0o640, false, false).contains("may not read `/data/log`"));
    }

    #[test]
    fn says_what_helps_where_the_group_may_not_either() {
        assert!(denied(0o1, 0o700, false, true).ends_with("run: setfacl -m u:agent:x /data/log"));
        assert!(denied(0o5, 0o710, false, true).contains("may not list"));
        assert!(denied(0o5, 0o710, false, true).ends_with("setfacl -m u:agent:rx /data/log"));
        assert!(denied(0o3, 0o750, false, true).contains("may not write into"));
    }

    #[test]
    fn names_and_numbers_come_from_the_user_database() {
        assert_eq!((user_name(0), group_name(0)), ("root".into(), "root".into()));
        assert_eq!(
            (user_name(u32::MAX - 7), group_name(u32::MAX - 7)),
            ("4294967288".into(), "4294967288".into())
        );
        assert!(user_exists("root") && !user_exists("no such user") && !user_exists("nul\0"));
        assert_eq!(
            [group_id("root"), group_id("990990"), group_id("no such group")],
            [Some(0), Some(990_990), None]
        );
        assert!(is_member("root", 0) && !is_member("root", 990_990) && !is_member("no such user", 0));
    }

    #[test]
    fn names_the_first_part_that_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let Err(AccessProblem::Missing(path)) = reach(&dir.path().join("a/b/c")) else { panic!("found") };
        assert_eq!(path, dir.path().join("a"));
        assert!(reach(dir.path()).is_ok());
    }
}
