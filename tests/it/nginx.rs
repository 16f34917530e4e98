//! Servers stand behind proxies: the sink of type `http` through a real nginx with TLS, which demands a client
//! certificate, limits bodies and loses its backend. tests/peers/nginx.sh installs it.

use crate::rig::collector::{Collector, Plain};
use crate::rig::{Host, Port, free_port, judge, skip, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.0),
            rustix::process::Signal::TERM,
        );
        let _ = self.0.wait();
    }
}

/// A CA, and certificates of it for a server and a client, as PEM files in `dir`.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Its name is not that of the certificates below it: they would look self-signed.
    params.distinguished_name.push(DnType::CommonName, "the test's CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    for name in ["localhost", "agent"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// TLS and a client certificate before `backend`; bodies up to 8 KiB.
fn start(dir: &Path, backend: &str) -> Option<(Nginx, Port)> {
    let binary = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists());
    let Some(binary) = binary else {
        skip("nginx", "nginx is not installed; tests/peers/install.sh does it");
        return None;
    };
    let port = free_port();
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let at = dir.display();
    let config = format!(
        "daemon off; {user} pid {at}/nginx.pid; error_log {at}/error.log; worker_processes 1; events {{}}
        http {{
            access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
            fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {at}/localhost.pem; ssl_certificate_key {at}/localhost.key;
                ssl_client_certificate {at}/ca.pem; ssl_verify_client on;
                client_max_body_size 8k;
                location / {{ proxy_pass {backend}; proxy_connect_timeout 2s; }}
            }}
        }}"
    );
    fs::write(dir.join("nginx.conf"), config).unwrap();
    let child = Command::new(binary)
        .arg("-e")
        .arg(dir.join("error.log"))
        .arg("-c")
        .arg(dir.join("nginx.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let nginx = Nginx(child);
    until(crate::rig::SOON, "nginx listens", || TcpStream::connect(port.address()).is_ok());
    Some((nginx, port))
}

#[test]
fn a_proxy_with_tls_client_certificates_a_limit_and_a_backend_that_goes_away() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = place.path();
    certificates(dir);
    let mut collector = Collector::start(Plain);
    let Some((_nginx, port)) = start(dir, &collector.url()) else {
        return;
    };
    let mut host = Host::new();
    let sink = format!(
        "type = \"http\"\nurl = \"https://localhost:{port}/audit\"\nca_file = {:?}\nbatch_wait = \"100ms\"\nbatch_events = 20\n",
        dir.join("ca.pem")
    );
    host.remote = Some(sink.clone());
    let (mut writer, file) = host.audit_file(1, 60);

    // Without its certificate nobody is let in, and nothing is set aside for that.
    let run = host.once();
    assert_eq!((run.code, collector.stored_count()), (75, 0), "{}", run.stderr);
    run.logged("certificate");
    assert!(!host.state().join("quarantine").exists());

    // 20 events are larger than nginx takes: halved, all of them come.
    let own = format!(
        "client_certificate = {:?}\nclient_key = {:?}\n",
        dir.join("agent.pem"),
        dir.join("agent.key")
    );
    host.remote = Some(sink + &own);
    let mut agent = host.start();
    agent.until("all events are there", || collector.distinct() == 60);
    agent.until_logged("refused as too large");

    // 502 while the backend is away.
    collector.stop();
    writer.append(&file, 20);
    agent.until_logged("status 502");
    collector.start_again();
    agent.until("all events are there", || collector.distinct() == 80);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let judged = judge(&writer, &collector.events());
    assert!(judged.missing.is_empty() && judged.damaged.is_empty(), "{judged:?}");
}
