//! What the metadata services answer. `None` where it is nothing of theirs: without an instance.

use super::Cloud;
use serde::Deserialize;

/// Ids and names are shorter; what is longer is none, and would stand in every event.
const TEXT_BYTES_MAX: usize = 512;

/// The identity document of EC2.
pub fn ec2(body: &[u8]) -> Option<Cloud> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        account_id: Option<String>,
        availability_zone: Option<String>,
        image_id: Option<String>,
        instance_id: Option<String>,
        instance_type: Option<String>,
        region: Option<String>,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    with_instance(Cloud {
        provider: "aws",
        account_id: text(document.account_id.as_deref()),
        availability_zone: text(document.availability_zone.as_deref()),
        image_id: text(document.image_id.as_deref()),
        instance_id: text(document.instance_id.as_deref()),
        machine_type: text(document.instance_type.as_deref()),
        region: text(document.region.as_deref()),
    })
}

/// The part `compute` of Azure's answer.
pub fn azure(body: &[u8]) -> Option<Cloud> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Compute {
        location: Option<String>,
        storage_profile: Option<Storage>,
        subscription_id: Option<String>,
        vm_id: Option<String>,
        vm_size: Option<String>,
        zone: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Storage {
        image_reference: Option<Image>,
    }
    #[derive(Deserialize)]
    struct Image {
        id: Option<String>,
    }
    let compute: Compute = serde_json::from_slice(body).ok()?;
    // An image from the marketplace has no id.
    let image = compute
        .storage_profile
        .and_then(|storage| storage.image_reference?.id);
    with_instance(Cloud {
        provider: "azure",
        account_id: text(compute.subscription_id.as_deref()),
        availability_zone: text(compute.zone.as_deref()),
        image_id: text(image.as_deref()),
        instance_id: text(compute.vm_id.as_deref()),
        machine_type: text(compute.vm_size.as_deref()),
        region: text(compute.location.as_deref()),
    })
}

/// Shortens Google's paths to their names: `projects/123/zones/europe-west1-b` is the zone `europe-west1-b` of the region
/// `europe-west1`.
pub fn gce(mut cloud: Cloud) -> Option<Cloud> {
    for path in [
        &mut cloud.availability_zone,
        &mut cloud.machine_type,
        &mut cloud.image_id,
    ] {
        *path = path.as_deref().and_then(|path| text(path.rsplit('/').next()));
    }
    let zone = cloud.availability_zone.as_deref();
    cloud.region = zone.and_then(|zone| text(Some(zone.rsplit_once('-')?.0)));
    with_instance(cloud)
}

/// A text that fits into a field.
pub fn text(text: Option<&str>) -> Option<String> {
    let text = text?.trim();
    let fits = !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

fn with_instance(cloud: Cloud) -> Option<Cloud> {
    cloud.instance_id.is_some().then_some(cloud)
}
