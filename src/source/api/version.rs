//! Reads the version of a Data Center. The audit API exists since 7.5; only older versions are polled by the legacy
//! route.

use super::response::below;
use crate::http::Client;
use url::Url;

/// Every version has it, and it needs no permission.
const MANIFEST: &str = "rest/applinks/1.0/manifest";

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32);

impl Version {
    pub(crate) fn is_older_than_7_5(self) -> bool {
        self < Version(7, 5)
    }

    fn parse(text: &str) -> Option<Version> {
        let mut parts = text.trim().split(['.', '-']);
        Some(Version(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(out, "{}.{}", self.0, self.1)
    }
}

/// `None`: the server does not return a version at the moment.
pub(crate) async fn fetch(client: &mut Client, base: &Url) -> Option<Version> {
    let response = client.get(&below(base, MANIFEST)).await.ok()?;
    let version = of_manifest(&response.body);
    client.recycle(response.body);
    version.filter(|_| response.status == 200)
}

/// JSON as requested, or XML from servers that support nothing else.
fn of_manifest(body: &[u8]) -> Option<Version> {
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        return Version::parse(json.get("version")?.as_str()?);
    }
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<version>")?;
    Version::parse(rest.split_once("</version>")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f78_the_version_of_a_manifest() {
        for (body, expected, old) in [
            (r#"{"typeId":"confluence","version":"7.4.17","buildNumber":8401}"#, Some(Version(7, 4)), true),
            ("<manifest><id>x</id><version>6.15.9</version></manifest>", Some(Version(6, 15)), true),
            (r#"{"version":"7.5.0"}"#, Some(Version(7, 5)), false),
            (r#"{"version":"10.2.1-m1"}"#, Some(Version(10, 2)), false),
            (r#"{"version":7.4}"#, None, false),
            (r#"{"version":"next"}"#, None, false),
            ("<html>not found</html>", None, false),
            ("", None, false),
        ] {
            let version = of_manifest(body.as_bytes());
            assert_eq!(version, expected, "{body}");
            assert_eq!(version.is_some_and(Version::is_older_than_7_5), old, "{body}");
        }
    }
}
