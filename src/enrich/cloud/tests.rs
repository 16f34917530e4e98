use super::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Mutex};

const LONG: Duration = Duration::from_secs(60);

/// A metadata service on its own port. Responds to each request by a closure, and closes the connection.
struct SimulatedService {
    url: Url,
    heads: Arc<Mutex<Vec<String>>>,
}

impl SimulatedService {
    fn new(respond: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SimulatedService {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let recorded = heads.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap() == 0 {
                        break;
                    }
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let respond = respond(&head);
                recorded.lock().unwrap().push(head);
                let _ = stream.write_all(&respond);
                let _ = stream.shutdown(Shutdown::Write);
            }
        });
        SimulatedService { url: Url::parse(&url).unwrap(), heads }
    }

    /// The first line of each request.
    fn requests(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().map(|head| head.lines().next().unwrap().to_owned()).collect()
    }
}

fn ok(headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").into()
}

fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

const EC2_DOCUMENT: &str = r#"{"accountId":"123456789012","architecture":"x86_64","availabilityZone":"eu-central-1b","billingProducts":null,
    "imageId":"ami-0abcd","instanceId":"i-0123456789abcdef0","instanceType":"m5.large","privateIp":"10.0.0.1","region":"eu-central-1","version":"2017-09-30"}"#;

/// Like the real service, refuses the document without the token.
fn ec2(head: &str) -> Vec<u8> {
    if head.starts_with("PUT /latest/api/token ")
        && head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60\r\n")
    {
        ok("", "TOKEN==")
    } else if head.starts_with("GET /latest/dynamic/instance-identity/document ")
        && head.contains("x-aws-ec2-metadata-token: TOKEN==\r\n")
    {
        ok("Content-Type: text/plain\r\n", EC2_DOCUMENT)
    } else {
        status("401 Unauthorized")
    }
}

#[test]
fn ec2_returns_its_document_for_a_token() {
    let service = SimulatedService::new(ec2);
    let cloud = request(Provider::Ec2, &service.url, LONG).unwrap();
    let expected = Cloud {
        provider: "aws",
        account_id: text("123456789012"),
        availability_zone: text("eu-central-1b"),
        image_id: text("ami-0abcd"),
        instance_id: text("i-0123456789abcdef0"),
        machine_type: text("m5.large"),
        region: text("eu-central-1"),
    };
    assert_eq!(cloud, expected);
    assert_eq!(service.requests().len(), 2);
}

#[test]
fn azure_requires_its_header() {
    let service = SimulatedService::new(|head| {
        let path = "GET /metadata/instance/compute?api-version=2021-02-01&format=json ";
        if !head.starts_with(path) || !head.contains("metadata: true\r\n") {
            return status("400 Bad Request");
        }
        ok(
            "Content-Type: application/json; charset=utf-8\r\n",
            r#"{"azEnvironment":"AzurePublicCloud","location":"westeurope","name":"wiki1","storageProfile":{"imageReference":
            {"id":"","offer":"debian-12","publisher":"Debian"}},"subscriptionId":"8d10da13-8125-4ba9-a717-bf7490507b3d",
            "tagsList":[],"vmId":"13f56399-bd52-4150-9748-7190aae1ff21","vmSize":"Standard_D2s_v3","zone":"1"}"#,
        )
    });
    let expected = Cloud {
        provider: "azure",
        account_id: text("8d10da13-8125-4ba9-a717-bf7490507b3d"),
        availability_zone: text("1"),
        image_id: None,
        instance_id: text("13f56399-bd52-4150-9748-7190aae1ff21"),
        machine_type: text("Standard_D2s_v3"),
        region: text("westeurope"),
    };
    assert_eq!(request(Provider::Azure, &service.url, LONG).unwrap(), expected);
}

#[test]
fn only_the_needed_fields_of_gce_are_requested() {
    let service = SimulatedService::new(|head| {
        if !head.contains("metadata-flavor: Google\r\n") {
            return status("403 Forbidden");
        }
        let path = head.split(' ').nth(1).unwrap();
        let body = match path {
            "/computeMetadata/v1/instance/id" => "5207356984739584193",
            "/computeMetadata/v1/instance/zone" => "projects/4711/zones/europe-west1-b",
            "/computeMetadata/v1/instance/machine-type" => "projects/4711/machineTypes/n2-standard-4",
            "/computeMetadata/v1/project/project-id" => "wiki-prod",
            // No image.
            _ => return status("404 Not Found"),
        };
        ok("Metadata-Flavor: Google\r\n", body)
    });
    let expected = Cloud {
        provider: "gcp",
        account_id: text("wiki-prod"),
        availability_zone: text("europe-west1-b"),
        image_id: None,
        instance_id: text("5207356984739584193"),
        machine_type: text("n2-standard-4"),
        region: text("europe-west1"),
    };
    assert_eq!(request(Provider::Gce, &service.url, LONG).unwrap(), expected);
    assert_eq!(service.requests().len(), 5);
}

#[test]
fn other_servers_are_errors() {
    let long = "x".repeat(BODY_BYTES_MAX + 1);
    let cases: [(Provider, Vec<u8>, &str); 7] = [
        (Provider::Ec2, status("403 Forbidden"), "with 403 Forbidden"),
        // A redirect is not followed.
        (
            Provider::Ec2,
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "with 302 Found",
        ),
        (Provider::Azure, ok("", "<html>"), "not from Microsoft Azure's"),
        (Provider::Azure, ok("", "{\"vmId\":\"\"}"), "not from Microsoft Azure's"),
        (Provider::Azure, ok("", &long), "has more than 262144 bytes"),
        (Provider::Gce, ok("", "1"), "not from Google Compute Engine's"),
        (Provider::Azure, b"SSH-2.0-OpenSSH\r\n".to_vec(), "the request to the metadata service failed"),
    ];
    for (provider, respond, expected) in cases {
        let service = SimulatedService::new(move |_| respond.clone());
        let error = request(provider, &service.url, LONG).unwrap_err();
        assert!(error.to_string().contains(expected), "{provider:?}: {error}");
        assert_eq!(service.requests().len(), 1);
    }
}

/// A service that accepts connections without a response, as behind a firewall or a hop limit, and a closed
/// port.
#[test]
fn the_wait_for_a_silent_service_is_limited() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let began = crate::clock::monotonic();
    let limit = Duration::from_millis(50);
    let error = request(Provider::Ec2, &url, limit).unwrap_err();
    assert!(matches!(error, CloudError::TimedOut), "{error}");
    assert!(began.elapsed() >= limit && began.elapsed() < LONG);
    drop(listener);
    let error = request(Provider::Ec2, &url, LONG).unwrap_err();
    assert!(matches!(error, CloudError::Http(_)), "{error}");
}

#[test]
fn firmware_names_the_cloud() {
    for (files, expected) in [
        (&[][..], None),
        (&[("sys/class/dmi/id/sys_vendor", "Amazon EC2\n")], Some(Provider::Ec2)),
        (
            &[("sys/class/dmi/id/sys_vendor", "Xen\n"), ("sys/class/dmi/id/bios_version", "4.11.amazon\n")],
            Some(Provider::Ec2),
        ),
        (&[("sys/hypervisor/uuid", "ec2e1916-9099-7caf-fd21-012345abcdef\n")], Some(Provider::Ec2)),
        (
            &[
                ("sys/class/dmi/id/sys_vendor", "Microsoft Corporation\n"),
                ("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n"),
            ],
            Some(Provider::Azure),
        ),
        // Hyper-V and Xen outside of a cloud, a laptop.
        (
            &[
                ("sys/class/dmi/id/sys_vendor", "Microsoft Corporation\n"),
                ("sys/class/dmi/id/chassis_asset_tag", "1234-5678-9012-3456-7890-1234-56\n"),
            ],
            None,
        ),
        (
            &[
                ("sys/class/dmi/id/sys_vendor", "Xen\n"),
                ("sys/class/dmi/id/bios_version", "4.11\n"),
                ("sys/hypervisor/uuid", "00000000-0000-0000-0000-000000000000\n"),
            ],
            None,
        ),
        (&[("sys/class/dmi/id/product_name", "Google Compute Engine\n")], Some(Provider::Gce)),
        (&[("sys/class/dmi/id/sys_vendor", "LENOVO\n")], None),
    ] {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(detect_in(root.path()), expected, "{files:?}");
    }
}
