/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// For no fault.
    None = 0x0,
    /// The peer broke the protocol in a way that has no code of its own.
    Protocol = 0x1,
    /// We cannot go on.
    Internal = 0x2,
    /// The peer sent more than the window had room for.
    FlowControl = 0x3,
    /// The peer did not say its settings in time.
    SettingsTimeout = 0x4,
    /// A frame on a stream that is closed for it.
    StreamClosed = 0x5,
    /// A frame of a size that it cannot have.
    FrameSize = 0x6,
    /// Nothing was done about the request: it may be sent again.
    Refused = 0x7,
    /// The answer is no longer wanted, or cannot be had.
    Cancel = 0x8,
    /// The state of the field compression is lost.
    Compression = 0x9,
    /// The peer makes more work than it lets us do.
    Calm = 0xb,
}
