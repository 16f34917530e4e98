//! Change notifications: notify watches the directories, linemux the growing files. A notification only triggers the
//! next sweep or read earlier. Sweeps find everything without them.

use linemux::MuxedEvents;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// What a notification says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file was written to: read it.
    Content,
    /// Names in a directory may have changed: sweep it.
    Names,
}

/// Wakes the reader.
pub(crate) type Wake = Arc<dyn Fn(Change) + Send + Sync>;

/// Watches the directories of one source.
pub(crate) struct DirectoryWatch {
    source: String,
    wake: Wake,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<(PathBuf, u64, u64)>,
    reported: bool,
}

impl DirectoryWatch {
    pub(crate) fn new(source: &str, wake: Wake) -> DirectoryWatch {
        DirectoryWatch {
            source: source.to_owned(),
            wake,
            watcher: None,
            watched: Vec::new(),
            reported: false,
        }
    }

    /// Watches exactly these directories, given as path, device and inode. A recreated directory has another inode
    /// and is watched again. Returns whether all of them are watched.
    pub(crate) fn set(&mut self, directories: Vec<(PathBuf, u64, u64)>) -> bool {
        if directories == self.watched && self.watcher.is_some() {
            return true;
        }
        match self.watch(&directories) {
            Ok(watcher) => {
                (self.watcher, self.watched, self.reported) = (Some(watcher), directories, false);
                true
            }
            Err(error) => {
                self.watcher = None;
                if !std::mem::replace(&mut self.reported, true) {
                    tracing::warn!(
                        source = self.source,
                        "{}; the directory is scanned at intervals instead",
                        explain(&error)
                    );
                }
                false
            }
        }
    }

    fn watch(&self, directories: &[(PathBuf, u64, u64)]) -> notify::Result<RecommendedWatcher> {
        let wake = self.wake.clone();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
                // The agent's own reads cause access events.
                Ok(event) if event.kind.is_access() && !event.need_rescan() => {}
                Ok(event) => wake(if event.need_rescan() || !event.kind.is_modify() || is_rename(&event) {
                    Change::Names
                } else {
                    Change::Content
                }),
                Err(_) => wake(Change::Names),
            })?;
        for (directory, _, _) in directories {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }
}

fn is_rename(event: &notify::Event) -> bool {
    matches!(event.kind, notify::EventKind::Modify(notify::event::ModifyKind::Name(_)))
}

fn explain(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the limit of inotify watches is reached (raise `fs.inotify.max_user_watches`)".to_owned()
        }
        notify::ErrorKind::Io(e) if e.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "the limit of inotify instances is reached (raise `fs.inotify.max_user_instances`)".to_owned()
        }
        _ => format!("cannot watch the audit directory: {error}"),
    }
}

/// Watches the growing files of one source until the sender of their names is dropped.
///
/// A new watcher is created for each set of files: linemux keeps a watch for every file it ever had, and misses
/// events of one that was deleted and recreated. Its channel is unbounded, so events are received at once even while
/// the reader is busy.
pub(crate) async fn watch_growing_files(mut files: UnboundedReceiver<Vec<PathBuf>>, wake: Wake) {
    let mut next = files.recv().await;
    while let Some(names) = next.take() {
        let mut events = match MuxedEvents::new() {
            Ok(events) => events,
            Err(error) => {
                tracing::debug!(%error, "growing files are not watched; sweeps continue");
                next = files.recv().await;
                continue;
            }
        };
        let mut added = 0;
        for name in names {
            match events.add_file(&name).await {
                Ok(_) => added += 1,
                Err(error) => {
                    tracing::debug!(path = %name.display(), %error, "growing file is not watched; sweeps continue")
                }
            }
        }
        loop {
            tokio::select! {
                names = files.recv() => {
                    next = names;
                    break;
                }
                event = events.next_event(), if added > 0 => match event {
                    Ok(Some(_)) => wake(Change::Content),
                    Ok(None) => added = 0,
                    Err(error) => {
                        tracing::debug!(%error, "watching growing files failed; sweeps continue");
                        added = 0;
                    }
                },
            }
        }
    }
}
