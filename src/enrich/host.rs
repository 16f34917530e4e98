//! Describes the agent's host with ECS fields. Unknown fields are omitted.

use crate::config::HostFields;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// The fields `host.*` of ECS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    pub name: Option<String>,
    pub hostname: Option<String>,
    /// From `/etc/machine-id`.
    pub id: Option<String>,
    pub architecture: Option<String>,
    pub containerized: Option<bool>,
    pub ip: Vec<String>,
    /// In the notation of ECS: `02-42-AC-17-00-07`.
    pub mac: Vec<String>,
    pub os: Os,
}

/// The fields `host.os.*` of ECS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Os {
    pub build: Option<String>,
    pub codename: Option<String>,
    pub family: Option<String>,
    pub kernel: Option<String>,
    pub name: Option<String>,
    pub platform: Option<String>,
    pub kind: Option<String>,
    pub version: Option<String>,
}

/// Gathers the fields. Reads a dozen small files.
pub(crate) fn gather(fields: HostFields) -> Host {
    let host = gather_in(Path::new("/"));
    match fields {
        HostFields::All => host,
        HostFields::Minimal => {
            Host { name: host.name, hostname: host.hostname, id: host.id, ..Host::default() }
        }
    }
}

fn gather_in(root: &Path) -> Host {
    let uname = rustix::system::uname();
    let hostname = text(uname.nodename());
    let mut os = read(&root.join("etc/os-release"))
        .or_else(|| read(&root.join("usr/lib/os-release")))
        .map(|release| os_release(&release))
        .unwrap_or_default();
    os.kernel = text(uname.release());
    os.kind = text(uname.sysname()).map(|name| name.to_lowercase());
    Host {
        name: hostname.clone(),
        hostname,
        id: read(&root.join("etc/machine-id")).filter(|id| id != "uninitialized"),
        architecture: text(uname.machine()),
        containerized: Some(is_container(root)),
        ip: addresses(),
        mac: hardware_addresses(&root.join("sys/class/net")),
        os,
    }
}

fn text(value: &std::ffi::CStr) -> Option<String> {
    value.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Parses os-release(5), for example `name = "Ubuntu"`, `platform = "ubuntu"`, `version = "20.04.5 LTS (Focal
/// Fossa)"`, `codename = "focal"`.
fn os_release(release: &str) -> Os {
    let value = |name: &str| {
        release.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix('=')?.trim().trim_matches(['"', '\'']);
            (!value.is_empty()).then(|| value.to_owned())
        })
    };
    let platform = value("ID");
    Os {
        build: value("BUILD_ID"),
        codename: value("VERSION_CODENAME"),
        family: family(platform.as_deref(), value("ID_LIKE").as_deref()),
        name: value("NAME"),
        version: value("VERSION").or_else(|| value("VERSION_ID")),
        platform,
        ..Os::default()
    }
}

/// The families as in Beats, so that dashboards find them.
fn family(id: Option<&str>, like: Option<&str>) -> Option<String> {
    let family_of = |id: &str| match id {
        "debian" | "ubuntu" | "linuxmint" | "raspbian" => Some("debian"),
        "rhel" | "centos" | "fedora" | "rocky" | "almalinux" | "ol" | "amzn" | "scientific" => Some("redhat"),
        "suse" | "sles" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" => Some("suse"),
        "arch" | "manjaro" => Some("arch"),
        "alpine" => Some("alpine"),
        _ => None,
    };
    id.into_iter().chain(like.unwrap_or("").split_whitespace()).find_map(family_of).map(str::to_owned)
}

fn is_container(root: &Path) -> bool {
    root.join(".dockerenv").exists()
        || root.join("run/.containerenv").exists()
        || read(&root.join("run/systemd/container")).is_some()
        || read(&root.join("proc/1/cgroup")).is_some_and(|groups| {
            ["docker", "kubepods", "containerd", "lxc"].iter().any(|name| groups.contains(name))
        })
}

fn addresses() -> Vec<String> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<IpAddr> = interfaces
        .into_iter()
        .filter(|interface| !interface.is_loopback())
        .map(|interface| interface.ip())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.iter().map(IpAddr::to_string).collect()
}

fn hardware_addresses(interfaces: &Path) -> Vec<String> {
    let entries = fs::read_dir(interfaces).into_iter().flatten().flatten();
    let mut addresses: Vec<String> = entries
        .filter_map(|entry| read(&entry.path().join("address")))
        .filter(|address| address.len() == 17 && address.chars().any(|c| c.is_ascii_hexdigit() && c != '0'))
        .map(|address| address.to_uppercase().replace(':', "-"))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_from_files() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("etc/machine-id", "cff3d165179d4aef9596ddbb263e3adb\n");
        put(
            "etc/os-release",
            "NAME=\"Ubuntu\"\nVERSION=\"20.04.5 LTS (Focal Fossa)\"\nID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=focal\n",
        );
        put("sys/class/net/eth0/address", "02:42:ac:17:00:07\n");
        put("sys/class/net/lo/address", "00:00:00:00:00:00\n");
        put("run/.containerenv", "");
        let host = gather_in(root.path());
        assert_eq!(host.id.as_deref(), Some("cff3d165179d4aef9596ddbb263e3adb"));
        assert_eq!(host.mac, ["02-42-AC-17-00-07"]);
        assert_eq!(host.containerized, Some(true));
        assert_eq!(host.os.name.as_deref(), Some("Ubuntu"));
        assert_eq!(host.os.platform.as_deref(), Some("ubuntu"));
        assert_eq!(host.os.family.as_deref(), Some("debian"));
        assert_eq!(host.os.version.as_deref(), Some("20.04.5 LTS (Focal Fossa)"));
        assert_eq!(host.os.codename.as_deref(), Some("focal"));
        assert_eq!(host.os.kind.as_deref(), Some("linux"));
        assert!(host.os.kernel.is_some() && host.architecture.is_some());
        assert_eq!(host.os.build, None);
    }

    #[test]
    fn missing_files_are_omitted() {
        let root = tempfile::tempdir().unwrap();
        let host = gather_in(root.path());
        assert_eq!(host.id, None);
        assert_eq!(host.containerized, Some(false));
        assert!(host.mac.is_empty());
        assert_eq!(host.os.name, None);
    }
}
