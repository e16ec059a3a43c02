//! Limits by the client's address: how many connections at a time, and how many new ones a second.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use model::{Moment, SourceLimits};
use thiserror::Error;

/// Why a source gets no further connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Excess {
    /// It has as many as it may.
    #[error("the source has too many connections")]
    Open,
    /// It comes too often.
    #[error("the source opens connections too fast")]
    Rate,
}

/// Who has how many connections, and who came how often lately.
///
/// What it remembers is bounded: a source is forgotten once it has nothing open and its burst is whole again, which
/// takes a second. Every admission looks at two entries for that, so that the forgotten never outnumber the others
/// by much.
#[derive(Debug, Default)]
pub struct Sources {
    entries: BTreeMap<IpAddr, Entry>,
    /// Where the search for entries to forget goes on.
    cursor: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    open: u32,
    /// When its burst will be whole again (the "theoretical arrival time" of the generic cell rate algorithm).
    whole: Moment,
}

impl Sources {
    /// Counts a new connection of `source`'s, unless it is one too many. Each admission needs a [`Sources::leave`].
    ///
    /// # Errors
    /// Which limit it would break.
    pub fn admit(
        &mut self,
        source: IpAddr,
        limits: &SourceLimits,
        now: Moment,
    ) -> Result<(), Excess> {
        self.forget_some(now);
        let new = Entry {
            open: 0,
            whole: now,
        };
        let entry = self.entries.entry(holder(source)).or_insert(new);
        if limits.open != 0 && entry.open >= limits.open {
            return Err(Excess::Open);
        }
        if limits.rate != 0 {
            let burst = 1_000_000_000;
            let whole = entry.whole.max(now).as_nanos() + burst / u64::from(limits.rate);
            if whole > now.as_nanos() + burst {
                return Err(Excess::Rate);
            }
            entry.whole = Moment::from_nanos(whole);
        }
        entry.open += 1;
        Ok(())
    }

    /// A connection of `source`'s ended.
    pub fn leave(&mut self, source: IpAddr) {
        if let Some(entry) = self.entries.get_mut(&holder(source)) {
            debug_assert_ne!(entry.open, 0, "every end has its begin");
            entry.open = entry.open.saturating_sub(1);
        }
    }

    /// Sources remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn forget_some(&mut self, now: Moment) {
        for _ in 0..2 {
            let from = self.cursor.unwrap_or(IpAddr::from([0, 0, 0, 0]));
            let Some((&at, entry)) = self.entries.range(from..).next() else {
                self.cursor = None;
                return;
            };
            if entry.open == 0 && entry.whole <= now {
                self.entries.remove(&at);
            }
            self.cursor = after(at);
        }
    }
}

/// Whom an address is counted as: the network of an IPv6 client, which has 2^64 addresses of its own.
pub fn holder(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// The next address in the order of `IpAddr`: all of version 4, then all of version 6.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(ip) => Some(match ip.to_bits().checked_add(1) {
            Some(next) => IpAddr::V4(next.into()),
            None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }),
        IpAddr::V6(ip) => ip
            .to_bits()
            .checked_add(1)
            .map(|next| IpAddr::V6(next.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(open: u32, rate: u32) -> SourceLimits {
        SourceLimits { open, rate }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_so_many_connections_at_a_time() {
        let mut sources = Sources::default();
        let two = limits(2, 0);
        for source in ["10.0.0.1", "10.0.0.2"] {
            assert_eq!(sources.admit(ip(source), &two, Moment::ZERO), Ok(()));
            assert_eq!(sources.admit(ip(source), &two, Moment::ZERO), Ok(()));
            assert_eq!(
                sources.admit(ip(source), &two, Moment::ZERO),
                Err(Excess::Open)
            );
        }
        sources.leave(ip("10.0.0.1"));
        assert_eq!(
            sources.admit(ip("::ffff:10.0.0.1"), &two, Moment::ZERO),
            Ok(())
        );
        assert_eq!(
            sources.admit(ip("10.0.0.2"), &two, Moment::ZERO),
            Err(Excess::Open)
        );
    }

    #[test]
    fn a_network_of_version_6_is_one_source() {
        let mut sources = Sources::default();
        let one = limits(1, 0);
        assert_eq!(sources.admit(ip("2001:db8::1"), &one, Moment::ZERO), Ok(()));
        assert_eq!(
            sources.admit(ip("2001:db8::ffff:2"), &one, Moment::ZERO),
            Err(Excess::Open)
        );
        assert_eq!(
            sources.admit(ip("2001:db8:0:1::1"), &one, Moment::ZERO),
            Ok(())
        );
    }

    #[test]
    fn new_connections_come_at_a_rate_with_a_burst_of_a_second() {
        let mut sources = Sources::default();
        let ten = limits(0, 10);
        let admitted = |sources: &mut Sources, now| {
            let admit = |_: &u32| sources.admit(ip("10.0.0.1"), &ten, now).is_ok();
            (0..100).filter(admit).count()
        };
        assert_eq!(admitted(&mut sources, Moment::ZERO), 10);
        assert_eq!(admitted(&mut sources, Moment::from_millis(99)), 0);
        assert_eq!(admitted(&mut sources, Moment::from_millis(100)), 1);
        assert_eq!(admitted(&mut sources, Moment::from_millis(400)), 3);
        assert_eq!(admitted(&mut sources, Moment::from_millis(5_000)), 10);
    }

    #[test]
    fn a_million_sources_leave_nothing_behind() {
        let mut sources = Sources::default();
        let some = limits(1, 1);
        let mut most = 0;
        for n in 0..1_000_000_u32 {
            // Ten thousand a second, each gone as soon as it came.
            let now = Moment::from_nanos(u64::from(n) * 100_000);
            let source = IpAddr::V4(n.wrapping_mul(2_654_435_761).into());
            assert_eq!(sources.admit(source, &some, now), Ok(()));
            sources.leave(source);
            most = most.max(sources.len());
        }
        assert!(most < 60_000, "{most}");
    }
}
