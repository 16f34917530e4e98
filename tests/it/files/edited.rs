//! Files that are edited after they were read.

use crate::rig::{Host, Writer, descriptors, file_name};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How a file is edited.
#[derive(Clone, Copy, Debug)]
enum Edit {
    InPlace,
    /// As editors do: a copy takes the file's place.
    ByCopy,
}

/// Other bytes of the same length in the middle.
fn edit(path: &Path, how: Edit) {
    let target = match how {
        Edit::InPlace => path.to_owned(),
        Edit::ByCopy => {
            let copy = path.with_extension("swp");
            fs::copy(path, &copy).unwrap();
            copy
        }
    };
    let file = File::options().write(true).open(&target).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    file.write_all_at(b"0000", middle).unwrap();
    fs::rename(&target, path).unwrap();
}

fn tampered(host: &Host) -> usize {
    let output = fs::read_to_string(host.output()).unwrap_or_default();
    output.lines().filter(|line| line.contains("\"action\":\"agent.file.tampered\"")).count()
}

/// While the agent runs, and while it is away. What was not edited is reported by no one.
#[test]
fn f92_an_edit_in_the_middle_of_a_finished_file_is_reported() {
    for how in [Edit::InPlace, Edit::ByCopy] {
        let host = Host::poll_only();
        let mut writer = Writer::new(&host.audit(), 1);
        let files: Vec<_> = (0..4)
            .map(|number| {
                let file = writer.create(&file_name(5, number));
                writer.append(&file, 50);
                file
            })
            .collect();
        let mut agent = host.start();
        agent.until("all is delivered", || host.delivered() == 200);
        let pid = agent.pid();
        agent.until("what has a successor is closed", || {
            let open = descriptors(pid);
            !files[..3].iter().any(|file| open.contains(&file.path))
        });
        edit(&files[0].path, how);
        agent.until("the edit is reported", || tampered(&host) == 1);
        assert_eq!(agent.stop(), 0);
        edit(&files[1].path, how);
        // The same bytes under a new time and inode: nobody's concern.
        let copy = files[2].path.with_extension("copy");
        fs::copy(&files[2].path, &copy).unwrap();
        fs::rename(&copy, &files[2].path).unwrap();
        let once = host.once_ok();
        assert_eq!(tampered(&host), 2, "{how:?}: {}", once.stderr);
        assert!(once.stderr.contains(files[1].path.to_str().unwrap()), "{}", once.stderr);
        host.once_ok();
        assert_eq!(tampered(&host), 2, "{how:?}");
    }
}
