//! What `check` says of the admin endpoint.

use crate::rig::{Host, free_port, unwrap_lines};
use std::fs;

/// Exit code and the lines about the endpoint.
fn check(host: &Host) -> (i32, String) {
    let checked = host.check();
    let printed = unwrap_lines(&checked.stdout);
    let lines = printed.lines().filter(|line| line.get(9..).is_some_and(|text| text.starts_with("admin: ")));
    (checked.code, lines.map(|line| format!("{line}\n")).collect())
}

#[test]
fn an_endpoint_that_cannot_be_opened_is_a_failure() {
    let port = free_port();
    let mut host = Host::new();
    host.audit_file(1, 1);
    let token = host.path("token");
    host.admin();
    host.root += &format!("admin.listen = \"{}\"\nadmin.token = {{ file = {token:?} }}\n", port.address());
    fs::write(&token, "open sesame\n").unwrap();
    let (code, printed) = check(&host);
    assert_eq!((code, printed.matches("ok ").count()), (0, 2), "{printed}");
    fs::remove_file(&token).unwrap();
    let (code, printed) = check(&host);
    assert!(code == 75 && printed.contains("failure  admin: the token cannot be read: "), "{printed}");
    fs::write(&token, "open sesame\n").unwrap();
    let other = port.listen();
    let (code, printed) = check(&host);
    let expected = format!("failure  admin: {} cannot be listened at: ", port.address());
    assert!(code == 75 && printed.contains(&expected), "{printed}");
    drop(other);
    let mut agent = host.start();
    agent.until("the endpoint is open", || host.path("admin.sock").exists());
    agent.until("the address is the agent's", || check(&host).1.contains("in use while the agent runs"));
    assert_eq!(check(&host).0, 0);
    assert_eq!(agent.stop(), 0);
    host.root = host.root.replace("/admin.sock\"", "/no/such/directory/admin.sock\"");
    let (code, printed) = check(&host);
    assert!(code == 75 && printed.contains("failure  admin: the socket `"), "{printed}");
}
