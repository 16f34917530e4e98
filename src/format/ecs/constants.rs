//! The parts of an event that are the same for all events, rendered once.

use super::super::escape::quoted;
use super::super::{Agent, Context, tags};
use crate::enrich::cloud::Cloud;
use crate::enrich::host::{Host, Os};

/// The members between the time of an event and its own fields, indexed by [`tags::own_tag`].
#[derive(Clone, Debug)]
pub(super) struct Constants {
    pub data_center: [String; 3],
    pub cloud: [String; 3],
    pub unreadable: [String; 3],
}

/// `event.module` and `event.dataset`, with the values of Elastic's integration, whose fields the events use.
pub(super) const EVENT: &str =
    r#","event":{"dataset":"atlassian_confluence.audit","module":"atlassian_confluence","#;

impl Constants {
    pub(super) fn new(context: &Context) -> Self {
        let (local, forwarded) = (tags::data_center(context), tags::cloud(context));
        let host = context.host.as_ref().filter(|_| !local.iter().any(|tag| tag == tags::FORWARDED));
        let render_all = |host: Option<&Host>, cloud: Option<&Cloud>, tags: &[String]| {
            tags::OWN_TAGS.map(|own_tag| render(context, host, cloud, tags, own_tag))
        };
        Constants {
            data_center: render_all(host, context.cloud.as_ref(), &local),
            cloud: render_all(None, None, &forwarded),
            unreadable: render_all(None, None, &local),
        }
    }
}

fn render(
    context: &Context,
    host: Option<&Host>,
    cloud: Option<&Cloud>,
    tags: &[String],
    own_tag: Option<&str>,
) -> String {
    let Agent { id, ephemeral_id, name, version } = &context.agent;
    let mut json = JsonMembersWriter::default();
    json.object("agent", |agent| {
        agent.text("ephemeral_id", Some(ephemeral_id));
        agent.text("id", Some(id));
        agent.text("name", Some(name));
        agent.text("type", Some(crate::NAME));
        agent.text("version", Some(version));
    });
    if let Some(cloud) = cloud {
        json.object("cloud", |json| render_cloud(cloud, json));
    }
    json.object("data_stream", |stream| {
        stream.text("dataset", Some("atlassian_confluence.audit"));
        stream.text("namespace", Some(&context.namespace));
        stream.text("type", Some("logs"));
    });
    json.object("ecs", |ecs| ecs.text("version", Some("8.11.0")));
    if let Some(host) = host {
        json.object("host", |json| render_host(host, json));
    }
    let preserved = context.preserve_original_event.then(|| "preserve_original_event".to_owned());
    let mut all: Vec<String> = preserved.into_iter().chain(tags.iter().cloned()).collect();
    all.extend(own_tag.map(str::to_owned));
    json.list("tags", &all);
    json.0
}

fn render_cloud(cloud: &Cloud, json: &mut JsonMembersWriter) {
    let Cloud { provider, account_id, availability_zone, image_id, instance_id, machine_type, region } =
        cloud;
    let mut nested = |object: &str, key: &str, value: &Option<String>| {
        json.object(object, |json| json.text(key, value.as_deref()));
    };
    nested("account", "id", account_id);
    nested("image", "id", image_id);
    nested("instance", "id", instance_id);
    nested("machine", "type", machine_type);
    json.text("availability_zone", availability_zone.as_deref());
    json.text("provider", Some(provider));
    json.text("region", region.as_deref());
}

fn render_host(host: &Host, json: &mut JsonMembersWriter) {
    let Host { name, hostname, id, architecture, containerized, ip, mac, os } = host;
    json.text("architecture", architecture.as_deref());
    if let Some(containerized) = containerized {
        json.key("containerized");
        json.0.push_str(if *containerized { "true" } else { "false" });
    }
    json.text("hostname", hostname.as_deref());
    json.text("id", id.as_deref());
    json.list("ip", ip);
    json.list("mac", mac);
    json.text("name", name.as_deref());
    let Os { build, codename, family, kernel, name, platform, kind, version } = os;
    json.object("os", |json| {
        json.text("build", build.as_deref());
        json.text("codename", codename.as_deref());
        json.text("family", family.as_deref());
        json.text("kernel", kernel.as_deref());
        json.text("name", name.as_deref());
        json.text("platform", platform.as_deref());
        json.text("type", kind.as_deref());
        json.text("version", version.as_deref());
    });
}

/// The members of an object without its braces. Empty values are omitted.
#[derive(Default)]
struct JsonMembersWriter(String);

impl JsonMembersWriter {
    fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.string(key);
        self.0.push(':');
    }

    fn string(&mut self, text: &str) {
        self.0.push_str(&quoted(text));
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.key(key);
            self.string(text);
        }
    }

    fn list(&mut self, key: &str, texts: &[String]) {
        let texts: Vec<&String> = texts.iter().filter(|text| !text.is_empty()).collect();
        if texts.is_empty() {
            return;
        }
        self.key(key);
        self.0.push('[');
        for (at, text) in texts.iter().enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            self.string(text);
        }
        self.0.push(']');
    }

    fn object(&mut self, key: &str, members: impl FnOnce(&mut JsonMembersWriter)) {
        let mut nested = JsonMembersWriter::default();
        members(&mut nested);
        if !nested.0.is_empty() {
            self.key(key);
            self.0.push('{');
            self.0.push_str(&nested.0);
            self.0.push('}');
        }
    }
}
