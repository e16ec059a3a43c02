use thiserror::Error;

/// Why a message is refused. The connection it came on cannot be read further: where the next message begins is
/// unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The first bytes are no HTTP/1 message.
    #[error("this is not HTTP/1: a TLS client on a plain port, or another protocol")]
    NotHttp,
    /// No `method SP target SP version CRLF`.
    #[error("the request line is not \"METHOD target HTTP/1.1\" with single spaces")]
    RequestLine,
    /// No `version SP status SP reason CRLF`.
    #[error("the status line is not \"HTTP/1.1 NNN reason\"")]
    StatusLine,
    /// The status code is out of range.
    #[error("the status code is not between 100 and 599")]
    Status,
    /// HTTP, but neither 1.0 nor 1.1.
    #[error("the HTTP version is neither 1.0 nor 1.1")]
    Version,
    /// The target has a byte that no URL has.
    #[error(
        "the request target has a control character, a space, a '#' or a byte beyond ASCII in it"
    )]
    TargetByte,
    /// The target is in no form that its method allows.
    #[error(
        "the request target is not a path, an http(s) URL, \"*\" for OPTIONS or host:port for CONNECT"
    )]
    TargetForm,
    /// The request line alone is longer than a head may be.
    #[error("the request line is longer than the limit for a whole head")]
    TargetTooLong,
    /// The head is longer than allowed.
    #[error("the head is longer than the limit")]
    HeadTooLarge,
    /// More fields than allowed.
    #[error("the head has more fields than the limit")]
    TooManyFields,
    /// A field name over 255 bytes.
    #[error("a field name is longer than 255 bytes")]
    NameTooLong,
    /// A line that ends in LF without CR.
    #[error("a line ends in LF alone; lines end in CR LF")]
    BareLf,
    /// A CR that no LF follows.
    #[error("a CR is not followed by LF")]
    BareCr,
    /// A line that begins with a space or tab.
    #[error("a field is folded over several lines, which RFC 9112 §5.2 forbids")]
    Folded,
    /// `name : value`.
    #[error("there is whitespace between a field name and its colon")]
    SpaceBeforeColon,
    /// The name is empty or has a byte that no name has, or there is no colon.
    #[error(
        "a field name is empty, has a character that no name may have, or has no colon after it"
    )]
    Name,
    /// A control character in a value.
    #[error("a field value has a control character in it")]
    ValueByte,
    /// HTTP/1.1 without Host.
    #[error("an HTTP/1.1 request has no Host field")]
    HostMissing,
    /// More than one Host.
    #[error("the request has more than one Host field")]
    HostTwice,
    /// Host or the target's authority is no `host[:port]`.
    #[error("the Host field or the target's host is not \"host\" or \"host:port\"")]
    Authority,
    /// `user:password@host`.
    #[error("the request target has a user name in it")]
    Userinfo,
    /// Not one plain decimal number.
    #[error("Content-Length is not one decimal number below 2^63")]
    Length,
    /// Content-Length more than once, equal or not.
    #[error("there is more than one Content-Length")]
    LengthTwice,
    /// Both framings at once.
    #[error("there are both a Content-Length and a Transfer-Encoding")]
    LengthAndCoding,
    /// A transfer coding other than exactly `chunked`.
    #[error("the Transfer-Encoding is not exactly \"chunked\"")]
    Coding,
    /// Transfer-Encoding more than once.
    #[error("there is more than one Transfer-Encoding")]
    CodingTwice,
    /// Transfer-Encoding in HTTP/1.0.
    #[error("an HTTP/1.0 message has a Transfer-Encoding")]
    CodingInHttp10,
    /// Connection names more fields than anyone does.
    #[error(
        "the Connection field names more than {} other fields",
        super::connection::NOMINATIONS
    )]
    Nominations,
    /// An expectation other than `100-continue`.
    #[error("the Expect field is not exactly one \"100-continue\"")]
    Expectation,
    /// A chunk size that is not 1 to 16 hexadecimal digits.
    #[error("a chunk size is not a hexadecimal number of 1 to 16 digits below 2^63")]
    ChunkSize,
    /// A chunk size line or a chunk that does not end as it must.
    #[error("a chunk, or the line with its size, does not end in CR LF where it must")]
    ChunkEnd,
    /// A control character in a chunk extension.
    #[error("a chunk extension has a control character in it")]
    ExtensionByte,
    /// Chunk extensions over the bound.
    #[error(
        "the chunk extensions of a body add up to more than {} bytes",
        super::body::EXTENSIONS
    )]
    Extensions,
    /// Trailers over the bound.
    #[error(
        "the trailer section is longer than {} bytes",
        super::trailer::TRAILERS
    )]
    Trailers,
    /// A body over its limit.
    #[error("the body is longer than the limit")]
    BodyTooLong,
    /// The connection ended within a message.
    #[error("the connection ended in the middle of a message")]
    Truncated,
}

impl Fault {
    /// The status that tells a client whose request this was. For an origin's response it is 502 whatever the fault.
    pub fn status(self) -> u16 {
        match self {
            Self::BodyTooLong => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyFields | Self::NameTooLong | Self::Trailers => 431,
            // RFC 9112 §6.1: a coding that is not understood.
            Self::Coding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// A word for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotHttp => "not_http",
            Self::RequestLine => "request_line",
            Self::StatusLine => "status_line",
            Self::Status => "status",
            Self::Version => "version",
            Self::TargetByte => "target_byte",
            Self::TargetForm => "target_form",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::NameTooLong => "field_name_too_long",
            Self::BareLf => "bare_lf",
            Self::BareCr => "bare_cr",
            Self::Folded => "field_folded",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::Name => "field_name",
            Self::ValueByte => "field_value",
            Self::HostMissing => "host_missing",
            Self::HostTwice => "host_twice",
            Self::Authority => "host",
            Self::Userinfo => "userinfo",
            Self::Length => "content_length",
            Self::LengthTwice => "content_length_twice",
            Self::LengthAndCoding => "content_length_and_transfer_encoding",
            Self::Coding => "transfer_encoding",
            Self::CodingTwice => "transfer_encoding_twice",
            Self::CodingInHttp10 => "transfer_encoding_in_http_1_0",
            Self::Nominations => "connection",
            Self::Expectation => "expect",
            Self::ChunkSize => "chunk_size",
            Self::ChunkEnd => "chunk_end",
            Self::ExtensionByte => "chunk_extension",
            Self::Extensions => "chunk_extensions_too_long",
            Self::Trailers => "trailers_too_long",
            Self::BodyTooLong => "body",
            Self::Truncated => "truncated",
        }
    }
}
