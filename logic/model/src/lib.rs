//! The nouns of pointsman: what the registry stores, what the balancer reads, what every protocol is
//! translated into. No I/O, no clock, no randomness.

mod aside;
mod balancing;
mod check;
mod circuit;
mod condition;
mod deadline;
mod endpoint_stats;
mod filter;
mod four_letter_word;
mod health;
mod hedging;
mod host;
mod instance;
mod limit;
mod moment;
mod name;
mod network;
mod password;
mod persistence;
mod policy;
mod regex;
mod retrying;
mod revision;
mod role;
mod route_index;
mod secret;
mod stats;
pub mod stream;
mod table;
mod template;
pub mod tree_pattern;
mod units;

pub use aside::{Aside, Cannot, Fallback, Mirror, MirrorStats, Share, Split, Sticky};
pub use balancing::{
    Balancing, Ejecting, Ejection, HashOn, Limiting, Priority, Reason, Respreading,
};
pub use check::{
    CheckKind, CheckProtocol, CheckSpec, Exchange, GrpcCheck, HttpCheck, ProtocolCheck,
    StatusRange, Transport,
};
pub use circuit::{Breaking, CIRCUIT_SLOTS, Circuit, CircuitState, MOST_PROBES, Phase};
pub use condition::{Conditions, Expected, PartCondition};
pub use deadline::{Deadlines, Heeded};
pub use endpoint_stats::{EndpointStats, Incarnation, Learned};
pub use filter::{
    Access, Bandwidth, Coding, Compress, Cors, ErrorPage, Filters, HeaderEdits, OriginPattern,
    Refusal, Rewrite,
};
pub use four_letter_word::FourLetterWord;
pub use health::Health;
pub use hedging::Hedging;
pub use host::Host;
pub use instance::{Instance, Lease, Weight};
pub use limit::{
    Concurrency, ConcurrencyLimit, Excess, KeySlot, KeyTable, LimitKey, Rate, RateLimit,
};
pub use moment::{Moment, Timestamp};
pub use name::{CertificateName, InstanceId, NameError, Namespace, ServiceKey, ServiceName};
pub use network::Network;
pub use password::{BasicAuth, Hashed, Users};
pub use persistence::{Cookie, PersistBy, Persistence, Persisting, SameSite};
pub use policy::Policy;
pub use regex::Regex;
pub use retrying::{RetryOn, Retrying};
pub use revision::Revision;
pub use role::{Role, View};
pub use route_index::{HostRoutes, PathEdge, PathNode, PathRoutes, RouteIndex};
pub use secret::Secret;
pub use stats::{
    Admission, CLASSES, Counter, DURATION_BOUNDS, FREED, Histogram, Latency, ListenerStats,
    LongConnections, MOST_TRIES, RouteStats, ServiceStats, Sharded, bucket, status_class,
};
pub use stream::{
    Closed, SourceLimits, Speaks, Stream, StreamMatch, StreamRoute, StreamStats, TcpLimits,
    UdpLimits,
};
pub use table::{
    Action, EjectionStats, Endpoint, HostPattern, Http2Limits, ListenerTable, PathPattern,
    PlacedMember, Placement, ProxyVersion, Redirect, Route, RoutingTable, ServiceTable, Timeouts,
    Tracing,
};
pub use template::{Part, Template, Variable};
pub use units::{ByteSize, Period, UnitError};
