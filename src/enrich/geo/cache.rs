//! Cache of recently used addresses: most events come from few of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::GeoLocation;

/// Maximum size of each half: about 2 MB when both are full.
const ADDRESSES_MAX: usize = 2048;

/// When the young half is full, it replaces the old half. Addresses in use stay, without counting or sorting.
#[derive(Debug, Default)]
pub(super) struct Cache {
    young: HashMap<IpAddr, Option<Arc<GeoLocation>>>,
    old: HashMap<IpAddr, Option<Arc<GeoLocation>>>,
}

impl Cache {
    /// `None`: not in the cache. `Some(None)`: cached as unknown.
    pub(super) fn get(&mut self, ip: IpAddr) -> Option<Option<Arc<GeoLocation>>> {
        if let Some(found) = self.young.get(&ip) {
            return Some(found.clone());
        }
        let found = self.old.remove(&ip)?;
        self.put(ip, found.clone());
        Some(found)
    }

    pub(super) fn put(&mut self, ip: IpAddr, location: Option<Arc<GeoLocation>>) {
        if self.young.len() >= ADDRESSES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(ip, location);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn used_addresses_stay_and_the_size_is_bounded() {
        let mut cache = Cache::default();
        let often = IpAddr::from([192, 0, 2, 1]);
        let location = Arc::new(GeoLocation::default());
        cache.put(often, Some(location.clone()));
        for number in 0..10 * ADDRESSES_MAX as u32 {
            let ip = IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + number));
            assert_eq!(cache.get(ip), None);
            cache.put(ip, None);
            assert_eq!(cache.get(ip), Some(None));
            assert_eq!(cache.get(often), Some(Some(location.clone())));
            assert!(cache.young.len() <= ADDRESSES_MAX && cache.old.len() <= ADDRESSES_MAX);
        }
        assert_eq!(cache.get(IpAddr::from([11, 0, 0, 0])), None);
    }
}
