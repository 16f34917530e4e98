//! Looks up the cloud id of a site, which the URL for scoped tokens contains.

use serde::Deserialize;
use url::Url;

use super::response::{self, ResponseClass};
use crate::config::Product;
use crate::http::Client;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TenantInfo {
    cloud_id: String,
}

/// Requests it from the site, without credentials. `site` is `https://<name>.atlassian.net`.
pub(crate) async fn look_up(
    client: &mut Client,
    site: &Url,
    product: &Product,
) -> Result<String, ResponseClass> {
    let result = client.get_anonymously(&response::below(site, "_edge/tenant_info")).await;
    match (response::classify(&result, product), &result) {
        (ResponseClass::Ok, Ok(found)) => {
            parse(&found.body).map_err(|what| ResponseClass::Protocol { what: found.redacted(&what) })
        }
        (ResponseClass::NotFound { .. }, _) => Err(ResponseClass::Protocol {
            what: format!("`{site}` is not a Cloud site (status 404); correct `site`, or set `cloud_id`"),
        }),
        (class, _) => Err(class),
    }
}

fn parse(body: &[u8]) -> Result<String, String> {
    let found: TenantInfo = serde_json::from_slice(body)
        .map_err(|error| format!("the site does not return its cloud id: {error}; set `cloud_id`"))?;
    // It becomes part of a URL to which credentials are sent.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if found.cloud_id.is_empty() || !found.cloud_id.bytes().all(plain) {
        return Err("the site returned an invalid cloud id; set `cloud_id`".into());
    }
    Ok(found.cloud_id)
}

/// The base URL for a scoped token: `<api>/ex/confluence/<id>`.
pub(crate) fn scoped_base(api: &Url, cloud_id: &str) -> Url {
    response::below(api, &format!("ex/confluence/{cloud_id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_id_becomes_part_of_a_path() {
        assert_eq!(parse(br#"{"cloudId":"1f3a-BC"}"#).unwrap(), "1f3a-BC");
        for wrong in [
            r#"{"cloudId":""}"#,
            r#"{"cloudId":"../x"}"#,
            r#"{"cloudId":"a/b"}"#,
            r#"{"cloudId":"a?b"}"#,
            r#"{"cloudId":7}"#,
            "{}",
            "",
        ] {
            assert!(parse(wrong.as_bytes()).unwrap_err().contains("set `cloud_id`"), "{wrong}");
        }
        let base = scoped_base(&Url::parse("https://api.atlassian.com").unwrap(), "1f3a");
        assert_eq!(base.as_str(), "https://api.atlassian.com/ex/confluence/1f3a");
    }
}
