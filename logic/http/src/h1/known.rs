//! The fields that the proxy itself has to do with, recognised once while parsing.

use super::class::{self, FOLDED};

/// What a field is to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    /// None of its business: passed on.
    Other,
    /// `Connection`
    Connection,
    /// `Content-Length`
    ContentLength,
    /// `Date`
    Date,
    /// `Expect`
    Expect,
    /// `Forwarded` (RFC 7239)
    Forwarded,
    /// `Host`
    Host,
    /// `TE`
    Te,
    /// `Trailer`
    Trailer,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `traceparent` (W3C Trace Context)
    TraceParent,
    /// `tracestate` (W3C Trace Context)
    TraceState,
    /// `Upgrade`
    Upgrade,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Request-Id`
    XRequestId,
    /// `Client-Cert`, `Client-Cert-Chain`: who the client proved to be, to whoever ended its TLS (RFC 9440).
    ClientCert,
    /// Another claim about where a request comes from: `X-Forwarded-Port` and its kind, `X-Real-IP`.
    Claim,
    /// Of this connection only, and of no use to anyone else: `Keep-Alive`, `Proxy-Connection`,
    /// `HTTP2-Settings`, and every field that `Connection` names (RFC 9110 §7.6.1).
    HopByHop,
    /// `Proxy`: CGI hands it to programs as `HTTP_PROXY`, which many take for their own proxy (httpoxy,
    /// CVE-2016-5385).
    Proxy,
    /// Not one of these names, but turned into one by servers that fold punctuation into `_`, as CGI and WSGI do:
    /// `X_Forwarded_For`, `Content_Length`, `X.Real.IP`.
    Shadow,
}

impl Known {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 22] = [
        Self::Other,
        Self::Connection,
        Self::ContentLength,
        Self::Date,
        Self::Expect,
        Self::Forwarded,
        Self::Host,
        Self::Te,
        Self::Trailer,
        Self::TransferEncoding,
        Self::TraceParent,
        Self::TraceState,
        Self::Upgrade,
        Self::XForwardedFor,
        Self::XForwardedHost,
        Self::XForwardedProto,
        Self::XRequestId,
        Self::ClientCert,
        Self::Claim,
        Self::HopByHop,
        Self::Proxy,
        Self::Shadow,
    ];

    /// The bit of a set of these.
    #[inline]
    pub(crate) const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// What the field of that name is. `classes` are the classes of all the name's bytes together.
    #[inline]
    pub(crate) fn of(name: &[u8], classes: u8) -> Self {
        if classes & FOLDED == 0 {
            Self::spelt(name)
        } else {
            Self::shadow(name)
        }
    }

    #[inline]
    fn spelt(name: &[u8]) -> Self {
        let Some(first) = name.first() else {
            return Self::Other;
        };
        let (known, spelling): (Self, &[u8]) = match (name.len(), first | 0x20) {
            (2, b't') => (Self::Te, b"te"),
            (4, b'd') => (Self::Date, b"date"),
            (4, b'h') => (Self::Host, b"host"),
            (5, b'p') => (Self::Proxy, b"proxy"),
            (6, b'e') => (Self::Expect, b"expect"),
            (7, b't') => (Self::Trailer, b"trailer"),
            (7, b'u') => (Self::Upgrade, b"upgrade"),
            (9, b'f') => (Self::Forwarded, b"forwarded"),
            (9, b'x') => (Self::Claim, b"x-real-ip"),
            (10, b'c') => (Self::Connection, b"connection"),
            (10, b'k') => (Self::HopByHop, b"keep-alive"),
            (10, b't') => (Self::TraceState, b"tracestate"),
            (11, b'c') => (Self::ClientCert, b"client-cert"),
            (11, b't') => (Self::TraceParent, b"traceparent"),
            (12, b'x') => (Self::XRequestId, b"x-request-id"),
            (14, b'c') => (Self::ContentLength, b"content-length"),
            (14, b'h') => (Self::HopByHop, b"http2-settings"),
            (16, b'p') => (Self::HopByHop, b"proxy-connection"),
            (17, b'c') => (Self::ClientCert, b"client-cert-chain"),
            (17, b't') => (Self::TransferEncoding, b"transfer-encoding"),
            (13.., b'x') => return Self::forwarding(name),
            _ => return Self::Other,
        };
        if is(name, spelling) {
            known
        } else {
            Self::Other
        }
    }

    fn forwarding(name: &[u8]) -> Self {
        const PREFIX: &[u8] = b"x-forwarded-";
        let Some((prefix, what)) = name.split_at_checked(PREFIX.len()) else {
            return Self::Other;
        };
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            Self::Other
        } else if what.eq_ignore_ascii_case(b"for") {
            Self::XForwardedFor
        } else if what.eq_ignore_ascii_case(b"host") {
            Self::XForwardedHost
        } else if what.eq_ignore_ascii_case(b"proto") {
            Self::XForwardedProto
        } else {
            Self::Claim
        }
    }

    #[cold]
    fn shadow(name: &[u8]) -> Self {
        let mut folded = [0; 255];
        let Some(folded) = folded.get_mut(..name.len()) else {
            return Self::Other;
        };
        for (to, &from) in folded.iter_mut().zip(name) {
            *to = if class::class(from) & FOLDED != 0 {
                b'-'
            } else {
                from
            };
        }
        match Self::spelt(folded) {
            Self::Other => Self::Other,
            _ => Self::Shadow,
        }
    }
}

/// Whether the name is that one, which is given in lower case. Both are of one length, and made of letters, digits and
/// `-`: among these, setting bit 5 makes letters small and changes nothing else.
#[inline]
fn is(name: &[u8], lower: &[u8]) -> bool {
    const SMALL: u64 = u64::from_ne_bytes([0x20; 8]);
    let (mut name, mut lower) = (name, lower);
    while let (Some((a, more)), Some((b, rest))) =
        (name.split_first_chunk(), lower.split_first_chunk())
    {
        if u64::from_ne_bytes(*a) | SMALL != u64::from_ne_bytes(*b) {
            return false;
        }
        (name, lower) = (more, rest);
    }
    name.iter().zip(lower).all(|(a, b)| a | 0x20 == *b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Known {
        Known::of(
            name.as_bytes(),
            name.bytes().fold(0, |all, b| all | class::class(b)),
        )
    }

    #[test]
    fn every_kind_stands_at_its_own_number() {
        for (at, known) in Known::ALL.into_iter().enumerate() {
            assert_eq!(known as usize, at);
        }
    }

    #[test]
    fn names_are_recognised_in_any_case() {
        for (name, what) in [
            ("Host", Known::Host),
            ("tE", Known::Te),
            ("CONTENT-LENGTH", Known::ContentLength),
            ("transfer-Encoding", Known::TransferEncoding),
            ("x-forwarded-FOR", Known::XForwardedFor),
            ("X-Forwarded-Proto", Known::XForwardedProto),
            ("X-Forwarded-Host", Known::XForwardedHost),
            ("X-Forwarded-Port", Known::Claim),
            ("X-Real-IP", Known::Claim),
            ("Keep-Alive", Known::HopByHop),
            ("Proxy-Connection", Known::HopByHop),
            ("Proxy", Known::Proxy),
            ("X-Request-ID", Known::XRequestId),
            ("traceparent", Known::TraceParent),
            ("TraceState", Known::TraceState),
            ("Client-Cert", Known::ClientCert),
            ("client-cert-Chain", Known::ClientCert),
        ] {
            assert_eq!(known(name), what, "{name}");
        }
    }

    #[test]
    fn near_misses_are_other_fields() {
        for name in [
            "Hosts",
            "Hos",
            "Accept",
            "Content-Type",
            "X-Forwarded",
            "X-Forwarded-",
            "X-Requested-With",
            "X_Custom",
            "Content-Lengthy",
            "Te2",
        ] {
            let other = matches!(known(name), Known::Other | Known::Claim);
            assert!(other, "{name}: {:?}", known(name));
        }
    }

    #[test]
    fn names_that_fold_into_a_known_one_are_its_shadows() {
        for name in [
            "X_Forwarded_For",
            "Content_Length",
            "x-real_ip",
            "X.Forwarded.Proto",
            "Transfer_Encoding",
            "X_Forwarded_Anything",
            "Keep_Alive",
            "Client_Cert",
        ] {
            assert_eq!(known(name), Known::Shadow, "{name}");
        }
    }
}
