//! The addresses that were looked up lately: most events come from few.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::GeoLocation;

/// Of each half. People of a large company at their addresses, in about 2 MB when all of both are there.
const ADDRESSES_MAX: usize = 2048;

/// When the young half is full, the old one is forgotten and the young becomes old: what is asked for stays, and nothing is
/// counted or sorted.
#[derive(Debug, Default)]
pub struct Cache {
    young: HashMap<IpAddr, Option<Arc<GeoLocation>>>,
    old: HashMap<IpAddr, Option<Arc<GeoLocation>>>,
}

impl Cache {
    /// `None`: not known here. `Some(None)`: known to be nowhere.
    pub fn get(&mut self, ip: IpAddr) -> Option<Option<Arc<GeoLocation>>> {
        if let Some(found) = self.young.get(&ip) {
            return Some(found.clone());
        }
        let found = self.old.remove(&ip)?;
        self.put(ip, found.clone());
        Some(found)
    }

    pub fn put(&mut self, ip: IpAddr, place: Option<Arc<GeoLocation>>) {
        if self.young.len() >= ADDRESSES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(ip, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_bounded() {
        let mut cache = Cache::default();
        let often = IpAddr::from([192, 0, 2, 1]);
        let place = Arc::new(GeoLocation::default());
        cache.put(often, Some(place.clone()));
        for number in 0..10 * ADDRESSES_MAX as u32 {
            let ip = IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + number));
            assert_eq!(cache.get(ip), None);
            cache.put(ip, None);
            assert_eq!(cache.get(ip), Some(None));
            assert_eq!(cache.get(often), Some(Some(place.clone())));
            assert!(cache.young.len() <= ADDRESSES_MAX && cache.old.len() <= ADDRESSES_MAX);
        }
        assert_eq!(cache.get(IpAddr::from([11, 0, 0, 0])), None);
    }
}
