//! Says who keeps the agent out of a path, and which group would let it in.

use rustix::fs::Stat;
use std::path::{Path, PathBuf};

/// One sentence for a path that could not be read for lack of permission.
pub fn explain(path: &Path) -> String {
    let uid = rustix::process::geteuid().as_raw();
    match first_denied(path) {
        Some((at, stat)) => {
            let mode = stat.st_mode & 0o7777;
            let (owner, group) = (
                name_of("/etc/passwd", stat.st_uid),
                name_of("/etc/group", stat.st_gid),
            );
            let remedy = if mode & 0o050 == 0 {
                format!(
                    "its mode lets nobody in but its owner `{owner}`; give it group read and search (`chmod g+rX`)"
                )
            } else {
                format!(
                    "make the agent's user a member of group `{group}` (`usermod -aG {group} {}`) and restart the agent",
                    crate::NAME
                )
            };
            format!(
                "cannot read `{}`: uid {uid} has no permission on `{}` (mode {mode:04o}, owner `{owner}`, group `{group}`); {remedy}",
                path.display(),
                at.display()
            )
        }
        None => format!(
            "cannot read `{}`: permission denied for uid {uid}, though modes and groups allow it (SELinux or AppArmor?)",
            path.display()
        ),
    }
}

/// The first component on the way to `path` that this process may not search, or `path` itself if it may not read it.
fn first_denied(path: &Path) -> Option<(PathBuf, Stat)> {
    let mut ways: Vec<&Path> = path.ancestors().collect();
    ways.reverse();
    for at in ways {
        let stat = rustix::fs::stat(at).ok()?;
        let wanted = if at == path { 0o4 } else { 0o1 };
        if !permitted(&stat, wanted) {
            return Some((at.to_owned(), stat));
        }
    }
    None
}

fn permitted(stat: &Stat, wanted: u32) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    let groups = rustix::process::getgroups().unwrap_or_default();
    let member = rustix::process::getegid().as_raw() == stat.st_gid
        || groups.iter().any(|g| g.as_raw() == stat.st_gid);
    let shift = if uid == stat.st_uid {
        6
    } else if member {
        3
    } else {
        0
    };
    uid == 0 || (stat.st_mode >> shift) & wanted == wanted
}

/// The name behind a number in `/etc/passwd` or `/etc/group`, else the number.
fn name_of(table: &str, id: u32) -> String {
    let text = std::fs::read_to_string(table).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut columns = line.split(':');
        let name = columns.next()?;
        (columns.nth(1)? == id.to_string()).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| id.to_string())
}
