//! Parses the responses of metadata services. `None` if a response has no instance id and is therefore not
//! from such a service.

use super::Cloud;
use serde::Deserialize;

/// Longer texts are neither ids nor names, and would be in every event.
const TEXT_BYTES_MAX: usize = 512;

/// Parses the identity document of EC2.
pub(super) fn ec2(body: &[u8]) -> Option<Cloud> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Ec2Document {
        account_id: Option<String>,
        availability_zone: Option<String>,
        image_id: Option<String>,
        instance_id: Option<String>,
        instance_type: Option<String>,
        region: Option<String>,
    }
    let document: Ec2Document = serde_json::from_slice(body).ok()?;
    require_instance(Cloud {
        provider: "aws",
        account_id: text(document.account_id.as_deref()),
        availability_zone: text(document.availability_zone.as_deref()),
        image_id: text(document.image_id.as_deref()),
        instance_id: text(document.instance_id.as_deref()),
        machine_type: text(document.instance_type.as_deref()),
        region: text(document.region.as_deref()),
    })
}

/// Parses the part `compute` of Azure's response.
pub(super) fn azure(body: &[u8]) -> Option<Cloud> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct AzureCompute {
        location: Option<String>,
        storage_profile: Option<AzureStorage>,
        subscription_id: Option<String>,
        vm_id: Option<String>,
        vm_size: Option<String>,
        zone: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct AzureStorage {
        image_reference: Option<AzureImage>,
    }
    #[derive(Deserialize)]
    struct AzureImage {
        id: Option<String>,
    }
    let compute: AzureCompute = serde_json::from_slice(body).ok()?;
    // An image from the marketplace has no id.
    let image = compute.storage_profile.and_then(|storage| storage.image_reference?.id);
    require_instance(Cloud {
        provider: "azure",
        account_id: text(compute.subscription_id.as_deref()),
        availability_zone: text(compute.zone.as_deref()),
        image_id: text(image.as_deref()),
        instance_id: text(compute.vm_id.as_deref()),
        machine_type: text(compute.vm_size.as_deref()),
        region: text(compute.location.as_deref()),
    })
}

/// Shortens Google's paths to names: `projects/123/zones/europe-west1-b` is the zone `europe-west1-b` in the
/// region `europe-west1`.
pub(super) fn gce(mut cloud: Cloud) -> Option<Cloud> {
    for path in [&mut cloud.availability_zone, &mut cloud.machine_type, &mut cloud.image_id] {
        *path = path.as_deref().and_then(|path| text(path.rsplit('/').next()));
    }
    let zone = cloud.availability_zone.as_deref();
    cloud.region = zone.and_then(|zone| text(Some(zone.rsplit_once('-')?.0)));
    require_instance(cloud)
}

/// A trimmed text. `None` if it is empty, too long or has control characters.
pub(super) fn text(text: Option<&str>) -> Option<String> {
    let text = text?.trim();
    let fits = !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

fn require_instance(cloud: Cloud) -> Option<Cloud> {
    cloud.instance_id.is_some().then_some(cloud)
}
