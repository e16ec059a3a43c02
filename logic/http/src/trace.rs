//! Trace context (W3C Trace Context, levels 1 and 2): which trace a request belongs to, and which part of it is its parent,
//! in the fields `traceparent` and `tracestate`.

use crate::h1::{Fields, Known};

/// The trace is recorded by who is before us.
pub const SAMPLED: u8 = 1;
/// The lower seven bytes of the trace's id are random (level 2): who decides by them decides as others do.
pub const RANDOM: u8 = 2;

/// The most members that a `tracestate` may have (§3.3.1.1); one with more is dropped whole.
const MOST_MEMBERS: usize = 32;

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace's id; not all zeros.
    pub trace: [u8; 16],
    /// The id of the span that is the parent of whatever comes of this request; not all zeros.
    pub span: [u8; 8],
    /// [`SAMPLED`] and [`RANDOM`]; all others are zero.
    pub flags: u8,
}

/// The length of a `traceparent` of version 00.
pub const LEN: usize = 55;

/// Where in it the span's id stands.
pub const SPAN_AT: usize = 36;

impl TraceParent {
    /// Reads the value of a `traceparent`. `None`: it is none, or one of which nothing can be understood (§3.2). Versions that
    /// are not known yet are read as far as version 00 goes.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LEN)?;
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let [version] = bytes(&known[..2])?;
        let whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            // What is more has to be parted from it.
            _ => rest.first().is_none_or(|&b| b == b'-'),
        };
        let trace: [u8; 16] = bytes(&known[3..35])?;
        let span: [u8; 8] = bytes(&known[36..52])?;
        let [flags] = bytes(&known[53..])?;
        // Of another version only the first flag is known to mean what it means here.
        let known_flags = if version == 0 {
            SAMPLED | RANDOM
        } else {
            SAMPLED
        };
        (dashes && whole && trace != [0; 16] && span != [0; 8]).then_some(Self {
            trace,
            span,
            flags: flags & known_flags,
        })
    }

    /// The one that a request has. Two are none (§3.2): nobody can say which is meant.
    pub fn of(fields: &Fields<'_>) -> Option<Self> {
        let mut all = fields.all(Known::TraceParent);
        let value = all.next()?;
        match all.next() {
            None => Self::parse(value),
            Some(_) => None,
        }
    }

    /// In version 00.
    pub fn text(&self) -> [u8; LEN] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace, &mut text[3..35]);
        write_hex(&self.span, &mut text[SPAN_AT..SPAN_AT + 16]);
        write_hex(&[self.flags], &mut text[53..]);
        text
    }

    /// Whether who is before us records the trace.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Bytes in lower-case hexadecimal, two digits for each; `out` has as much room.
pub fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, out) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        out[0] = DIGITS[usize::from(byte >> 4)];
        out[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Lower case only, as the specification wants it: a different spelling would be a different id to others.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// What a request's `tracestate` fields say together, as one value without blanks and empty members. `None`: nothing, or
/// something that is no `tracestate` (§3.3); it is dropped then, and the trace goes on without.
pub fn state(fields: &Fields<'_>) -> Option<Box<str>> {
    let mut state = Vec::new();
    let mut count = 0;
    let members = fields.all(Known::TraceState);
    for member in members.flat_map(|value| value.split(|&b| b == b',')) {
        let member = trim(member);
        if member.is_empty() {
            continue;
        }
        count += 1;
        if count > MOST_MEMBERS || !is_member(member) {
            return None;
        }
        if !state.is_empty() {
            state.push(b',');
        }
        state.extend_from_slice(member);
    }
    // Members are visible ASCII.
    let state = String::from_utf8(state).ok()?;
    (!state.is_empty()).then(|| state.into())
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// `key=value` (§3.3.1.3).
fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|&b| b == b'=') else {
        return false;
    };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let in_key = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(b);
    let first = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let in_value = |b: &u8| matches!(b, 0x20..=0x7e) && !b",=".contains(b);
    key.first().is_some_and(first)
        && key.len() <= 256
        && key.iter().all(in_key)
        && (1..=256).contains(&value.len())
        && value.iter().all(in_value)
}

/// Whether a trace that begins here is among the so many of a million that are recorded. Decided by the random part of its id,
/// as OpenTelemetry's samplers do, so that whoever decides by the same share decides the same.
pub fn is_chosen(trace: &[u8; 16], per_million: u32) -> bool {
    let mut low = [0; 8];
    low[1..].copy_from_slice(&trace[9..]);
    // 56 bits, of which the greatest values are chosen.
    let place = (u128::from(u64::from_be_bytes(low)) * 1_000_000) >> 56;
    place + u128::from(per_million) >= 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, parse_request};

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with<T>(fields: &str, read: impl Fn(&Fields<'_>) -> T) -> T {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let request = parse_request(head.as_bytes(), &mut 0, &Limits::default());
        read(&request.unwrap().unwrap().fields)
    }

    fn state_of(fields: &str) -> Option<Box<str>> {
        with(fields, state)
    }

    #[test]
    fn a_parent_is_written_as_it_was_read() {
        let parent = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert!(parent.is_sampled());
        assert_eq!(parent.trace[0], 0x0a);
        assert_eq!(
            parent.span,
            [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]
        );
        assert_eq!(parent.text(), GOOD.as_bytes());
        assert_eq!(&GOOD[SPAN_AT..SPAN_AT + 16], "b7ad6b7169203331");
    }

    #[test]
    fn what_is_no_parent_is_none() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for good in [
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future",
        ] {
            let parent = TraceParent::parse(good.as_bytes()).unwrap();
            assert_eq!(parent.text(), GOOD.as_bytes(), "{good}");
        }
        let random = GOOD.replace("-01", "-ff");
        let parent = TraceParent::parse(random.as_bytes()).unwrap();
        assert_eq!(parent.flags, SAMPLED | RANDOM);
    }

    #[test]
    fn two_parents_are_none() {
        let one = format!("TraceParent: {GOOD}\r\n");
        assert!(with(&one, TraceParent::of).is_some());
        assert_eq!(with(&format!("{one}{one}"), TraceParent::of), None);
        assert_eq!(with("", TraceParent::of), None);
    }

    #[test]
    fn states_of_several_fields_become_one() {
        let fields = "tracestate: a=1 , b@c=2\r\nTraceState: ,\t0x=y z\r\n";
        assert_eq!(state_of(fields).as_deref(), Some("a=1,b@c=2,0x=y z"));
        assert_eq!(state_of(""), None);
        assert_eq!(state_of("tracestate: \r\n"), None);
    }

    #[test]
    fn a_state_with_anything_odd_in_it_is_dropped_whole() {
        for odd in ["A=1", "a", "a=", "=1", "a=b=c", "a b=1", "a=é", "a=1,b"] {
            let fields = format!("tracestate: good=1,{odd}\r\n");
            assert_eq!(state_of(&fields), None, "{odd}");
        }
        let members = |n: usize| {
            let members: Vec<_> = (0..n).map(|n| format!("k{n}=v")).collect();
            format!("tracestate: {}\r\n", members.join(","))
        };
        assert!(state_of(&members(32)).is_some());
        assert_eq!(state_of(&members(33)), None);
        let long = |n| format!("tracestate: a={}\r\n", "x".repeat(n));
        assert!(state_of(&long(256)).is_some());
        assert_eq!(state_of(&long(257)), None);
    }

    #[test]
    fn the_share_of_traces_that_are_chosen_is_what_was_asked_for() {
        let mut id = 1u64;
        let mut ids = Vec::new();
        for _ in 0..20_000 {
            id = id.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut trace = [7; 16];
            trace[8..].copy_from_slice(&(id ^ id >> 29).to_be_bytes());
            ids.push(trace);
        }
        let chosen = |share| ids.iter().filter(|id| is_chosen(id, share)).count();
        assert_eq!((chosen(0), chosen(1_000_000)), (0, ids.len()));
        let tenth = chosen(100_000);
        assert!((1_800..2_200).contains(&tenth), "{tenth}");
        // Whoever is chosen for a small share is chosen for a larger one.
        assert!(
            ids.iter()
                .all(|id| !is_chosen(id, 10_000) || is_chosen(id, 20_000))
        );
    }
}
