use super::super::read as read_file;
use super::*;
use crate::config::{Config, ConfigErrors, FileLocation, SourceConfig};
use crate::secret::Secret;
use std::path::Path;
use std::time::Duration;

fn config(source: &str) -> Result<Config, ConfigErrors> {
    let text = format!("[[source]]\nname = \"x\"\n{source}\n[[sink]]\nname = \"out\"\ntype = \"stdout\"\n");
    read_file(Path::new("test.toml"), &text, false)
}

fn good(source: &str) -> (SourceConfig, Vec<String>) {
    let mut config = config(source).unwrap();
    let warnings = config.warnings.iter().map(ToString::to_string).collect();
    (config.sources.remove(0), warnings)
}

/// Each combination has one outcome: what is sent, or a message that names the remedy.
#[test]
fn f68_credential_table() {
    const PAT: &str = "personal_access_token = { file = \"/pat\" }\n";
    const USER: &str = "user = \"auditor@acme.example\"\n";
    const TOKEN: &str = "token = { file = \"/token\" }\n";
    let file = |path: &str| Reference::File(path.into());
    let pat = || Ok(Auth::Bearer(file("/pat")));
    let basic = || Ok(Auth::Basic { user: "auditor@acme.example".into(), password: file("/token") });
    let no_pat = || Err("`source.x.personal_access_token`: is for Data Center");
    let data_center = "type = \"data_center\"\nurl = \"https://c.example.com\"\n";
    let cloud = "type = \"cloud\"\nsite = \"acme.atlassian.net\"\n";
    type Row<'r> = (&'r str, &'r [&'r str], Result<Auth, &'r str>, usize);
    let table: [Row; 16] = [
        (
            data_center,
            &[],
            Err("add `personal_access_token = { file = \"/path\" }`, or `user` and `token`"),
            0,
        ),
        (data_center, &[USER], Err("add `token = {"), 0),
        (data_center, &[TOKEN], Err("add `user = "), 0),
        (data_center, &[USER, TOKEN], basic(), 0),
        (data_center, &[PAT], pat(), 0),
        (data_center, &[PAT, USER], pat(), 1),
        (data_center, &[PAT, TOKEN], pat(), 1),
        (data_center, &[PAT, USER, TOKEN], pat(), 2),
        (cloud, &[], Err("add `user = \"auditor@acme.example\"` and `token = "), 0),
        (cloud, &[USER], Err("add `token = {"), 0),
        (cloud, &[TOKEN], Err("add `user = "), 0),
        (cloud, &[USER, TOKEN], basic(), 0),
        (cloud, &[PAT], no_pat(), 0),
        (cloud, &[PAT, USER], no_pat(), 0),
        (cloud, &[PAT, TOKEN], no_pat(), 0),
        (cloud, &[PAT, USER, TOKEN], no_pat(), 0),
    ];
    for (kind, keys, expected, warnings) in table {
        let text = format!("{kind}{}", keys.concat());
        match (config(&text), expected) {
            (Ok(config), Ok(auth)) => {
                assert_eq!(config.sources[0].api.as_ref().unwrap().http.auth, auth, "{text}");
                assert_eq!(config.warnings.len(), warnings, "{text}");
                let names_the_winner =
                    |warning: &crate::config::ConfigError| warning.message.contains("is given too and wins");
                assert!(config.warnings.iter().all(names_the_winner), "{text}");
            }
            (Err(errors), Err(message)) => {
                assert_eq!(errors.0.len(), 1, "{text}: {errors}");
                assert!(errors.to_string().contains(message), "{text}: {errors}");
            }
            (Ok(_), Err(message)) => panic!("{text}: not refused with {message}"),
            (Err(errors), Ok(_)) => panic!("{text}: {errors}"),
        }
    }
}

#[test]
fn the_keys_say_the_mode_where_nothing_else_does() {
    let api = "url = \"https://c.example.com\"\npersonal_access_token = { env = \"T\" }\n";
    let table = [
        ("", true, false),
        ("home = \"/h\"", true, false),
        ("files = [\"/h/*\"]", true, false),
        ("mode = \"files\"", true, false),
        (api, false, true),
        (&format!("{api}mode = \"api\""), false, true),
        (&format!("{api}home = \"/h\""), true, true),
        (&format!("{api}files = [\"/h/*\"]"), true, true),
        (&format!("{api}mode = \"auto\""), true, true),
        (&format!("{api}home = \"/h\"\nmode = \"auto\"\nnotify = false\npage_size = 7"), true, true),
    ];
    for (text, files, has_api) in table {
        let (source, warnings) = good(&format!("type = \"data_center\"\n{text}"));
        assert_eq!((source.files.is_some(), source.api.is_some()), (files, has_api), "{text}");
        assert_eq!(warnings, [""; 0], "{text}");
        if let Some(files) = source.files.filter(|_| text.contains("files = ")) {
            assert_eq!(files.location, FileLocation::Files(vec!["/h/*".into()]));
        }
    }
}

#[test]
fn every_value_reaches_its_place() {
    let (source, warnings) = good(
        r#"
type = "data_center"
mode = "api"
url = "https://c.example.com:8443/wiki/"
user = "auditor"
token = { credential = "wiki" }
start = 2026-06-01T00:00:00Z
token_expires = 2027-03-01
token_name = "audit agent"
poll_interval = "2m"
page_size = 100
overlap = "3m"
late_rows_interval = "4h"
timeout = "50s"
connect_timeout = "5s"
first_byte_timeout = "6s"
idle_timeout = "7s"
ca_file = "/ca.pem"
client_certificate = "/c.pem"
client_key = "/c.key"
tls_version_min = "1.3"
user_agent = "audit 1"
body_bytes_max = "8MiB"
drop_self_polls = true
[source.proxy]
url = "http://proxy.example.com:3128"
user = "me"
password = { env = "PROXY_PASSWORD" }
no_proxy = ["localhost", "10.0.0.0/8"]
[source.headers]
X-Department = "security"
X-Gateway-Key = { file = "/key" }
"#,
    );
    assert_eq!(warnings, [""; 0]);
    let secs = Duration::from_secs;
    let url = |text: &str| url::Url::parse(text).unwrap();
    let expected = ApiConfig {
        product: Product::DataCenter,
        http: HttpConfig {
            base: url("https://c.example.com:8443/wiki"),
            auth: Auth::Basic { user: "auditor".into(), password: Reference::Systemd("wiki".into()) },
            timeouts: Timeouts { connect: secs(5), first_byte: secs(6), idle: secs(7), whole: secs(50) },
            proxy: Some(ProxyConfig {
                url: url("http://proxy.example.com:3128"),
                auth: Some(("me".into(), Reference::Env("PROXY_PASSWORD".into()))),
                no_proxy: vec!["localhost".into(), "10.0.0.0/8".into()],
            }),
            tls: TlsConfig {
                ca_file: Some("/ca.pem".into()),
                client_certificate: Some(("/c.pem".into(), "/c.key".into())),
                version_min: TlsVersion::V1_3,
            },
            headers: vec![
                ("X-Department".into(), Reference::Inline(Secret::new("security"))),
                ("X-Gateway-Key".into(), Reference::File("/key".into())),
            ],
            user_agent: "audit 1".into(),
            body_bytes_max: 8 << 20,
        },
        start: Start::At(1_780_272_000_000),
        poll_interval: secs(120),
        page_size: 100,
        overlap: secs(180),
        late_rows_interval: secs(4 * 3600),
        drop_self_polls: true,
        token: TokenConfig { name: Some("audit agent".into()), expires_ms: Some(1_803_859_200_000) },
    };
    assert_eq!(source.api, Some(expected));
    assert_eq!((source.files, source.site.as_deref()), (None, Some("x")));
}

#[test]
fn a_cloud_site_and_what_is_derived_from_other_values() {
    let (source, _) = good(
        "type = \"cloud\"\nsite = \"https://acme.atlassian.net/wiki\"\nuser = \"a@acme.example\"\ntoken = { env = \"T\" }\n\
         scoped = true\ncloud_id = \"1a2b3c4d-0000-4000-8000-123456789abc\"\nstart = \"30d\"\noverlap = \"2h\"\ntimeout = \"5s\"\n\
         proxy = \"http://127.0.0.1:3128\"\n",
    );
    let api = source.api.unwrap();
    let cloud_id = Some("1a2b3c4d-0000-4000-8000-123456789abc".to_string());
    assert_eq!(
        api.product,
        Product::Cloud {
            scoped: true,
            cloud_id,
            gateway: url::Url::parse("https://api.atlassian.com").unwrap(),
        }
    );
    assert_eq!(api.http.base.as_str(), "https://acme.atlassian.net/");
    assert_eq!(api.start, Start::Ago(30 * DAY));
    assert_eq!(api.late_rows_interval, api.overlap, "no shorter than the overlap");
    let five = Duration::from_secs(5);
    let timeouts = api.http.timeouts;
    assert_eq!([timeouts.connect, timeouts.first_byte, timeouts.idle], [five; 3]);
    assert_eq!(api.http.proxy.unwrap().url.as_str(), "http://127.0.0.1:3128/");
}

#[test]
fn scoped_tokens_may_be_used_elsewhere() {
    let cloud = "type = \"cloud\"\nsite = \"acme.atlassian.net\"\nuser = \"a@acme.example\"\ntoken = { env = \"T\" }\nscoped = true\n";
    let (source, warnings) = good(&format!("{cloud}gateway = \"http://127.0.0.1:8090/\""));
    let Product::Cloud { gateway, .. } = source.api.unwrap().product else { panic!("no Cloud") };
    assert_eq!(gateway.as_str(), "http://127.0.0.1:8090/");
    assert_eq!(warnings, [""; 0]);
    for text in
        ["api.atlassian.com", "https://api.atlassian.com/ex/confluence", "https://u:canary@gateway.example"]
    {
        let errors = config(&format!("{cloud}gateway = \"{text}\"")).unwrap_err().to_string();
        assert!(errors.contains("`source.x.gateway`: ") && !errors.contains("canary"), "{errors}");
    }
}

#[test]
fn what_works_and_should_not_be_is_warned_of() {
    let table = [
        (
            "url = \"http://c.example.com\"\npersonal_access_token = { env = \"T\" }",
            "test.toml:4: `source.x.url`: is not encrypted",
        ),
        (
            "url = \"https://c.example.com\"\npersonal_access_token = \"canary\"",
            "test.toml:5: `source.x.personal_access_token`: is in",
        ),
        (
            "url = \"https://c.example.com\"\nuser = \"u\"\ntoken = \"canary\"",
            "test.toml:6: `source.x.token`: is in",
        ),
        (
            "url = \"https://c.example.com\"\npersonal_access_token = { env = \"T\" }\nheaders = { X-Api-Key = \"canary\" }",
            "test.toml:6: `source.x.headers.X-Api-Key`: is in",
        ),
        (
            "url = \"https://c.example.com\"\npersonal_access_token = { env = \"T\" }\nstart = \"9999-01-01\"",
            "test.toml:6: `source.x.start`: is in the future",
        ),
        (
            "url = \"https://c.example.com\"\npersonal_access_token = { env = \"T\" }\n\
             proxy = { url = \"http://proxy\", user = \"u\", password = \"canary\" }",
            "test.toml:6: `source.x.proxy.password`: is in",
        ),
    ];
    for (text, expected) in table {
        let config = config(&format!("type = \"data_center\"\n{text}")).unwrap();
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(expected), "{warnings:?}");
        assert!(!format!("{config:?}").contains("canary"));
    }
    for url in ["http://localhost:8090", "http://127.0.0.1:8090/wiki", "http://[::1]:8090"] {
        let (_, warnings) = good(&format!(
            "type = \"data_center\"\nurl = \"{url}\"\npersonal_access_token = {{ env = \"T\" }}"
        ));
        assert_eq!(warnings, [""; 0], "{url}");
    }
}
