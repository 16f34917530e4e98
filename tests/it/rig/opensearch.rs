//! A real OpenSearch, which tests/peers/opensearch.sh installs.

use super::{Port, free_port, rest, skip, until};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A JVM on a machine that is busy with other tests.
pub const START: Duration = Duration::from_secs(240);

pub struct OpenSearch {
    dir: PathBuf,
    pub port: Port,
    child: Option<Child>,
}

impl OpenSearch {
    /// `None` where it is not installed.
    pub fn start(dir: &Path) -> Option<OpenSearch> {
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/opensearch");
        if !installed.is_dir() {
            skip("opensearch", "OpenSearch is not installed; tests/peers/install.sh does it");
            return None;
        }
        let port = free_port();
        let mut server = OpenSearch { dir: dir.to_owned(), port, child: None };
        server.start_again();
        Some(server)
    }

    pub fn start_again(&mut self) {
        let log = self.dir.with_extension("log");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/opensearch.sh");
        let mut child = Command::new(script)
            .arg("start")
            .arg(&self.dir)
            .arg(self.port.to_string())
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until(START, "OpenSearch answers", || {
            let printed = || fs::read_to_string(&log).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "OpenSearch ended:\n{}", printed());
            let health = self.try_request("GET", "/_cluster/health", "");
            health.is_some_and(|(status, health)| status == 200 && health["status"] != "red")
        });
        self.child = Some(child);
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn try_request(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        rest::request(self.port.address(), method, path, body)
    }

    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.try_request(method, path, body).expect("OpenSearch answers");
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub fn count(&self, stream: &str) -> u64 {
        let refreshed = self.try_request("POST", &format!("/{stream}/_refresh"), "");
        if refreshed.is_none_or(|(status, _)| status != 200) {
            return 0;
        }
        let counted = self.try_request("GET", &format!("/{stream}/_count"), "");
        counted.map_or(0, |(_, counted)| counted["count"].as_u64().unwrap_or(0))
    }
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
