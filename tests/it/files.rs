//! How files are followed, on the real binary.

use crate::rig::{Host, Writer, file_name, judge};

/// A writer appends to a file for a while after the next one has appeared.
#[test]
fn f01_drains_predecessor() {
    let host = Host::new();
    let mut writer = Writer::new(&host.audit(), 1);
    let mut agent = host.start();
    let mut file = writer.create(&file_name(5, 0));
    writer.append(&file, 100);
    for number in 1..20 {
        let next = writer.create(&file_name(5, number));
        for _ in 0..5 {
            writer.append(&next, 50);
            writer.append(&file, 50);
        }
        file = next;
    }
    writer.append(&file, 400);
    assert_eq!(writer.count(), 10_000);
    agent.until("everything is delivered", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}
