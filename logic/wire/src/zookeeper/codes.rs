/// Numbers of requests that clients give no number of their own.
pub mod xid {
    /// An event of a watch.
    pub const EVENT: i32 = -1;
    /// A ping.
    pub const PING: i32 = -2;
    /// Authentication.
    pub const AUTH: i32 = -4;
    /// Watches being set again.
    pub const SET_WATCHES: i32 = -8;
}

macro_rules! codes {
    ($(#[$doc:meta])+ $name:ident { $($(#[$item_doc:meta])+ $item:ident = $code:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(i32)]
        pub enum $name {
            $($(#[$item_doc])+ $item = $code,)+
        }

        impl $name {
            /// The one with this number.
            pub fn of(code: i32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$item),)+
                    _ => None,
                }
            }

            /// Its number.
            pub fn code(self) -> i32 {
                self as i32
            }
        }
    };
}

codes! {
    /// What a request asks for.
    OpCode {
        /// Creates a node; answers its path.
        Create = 1,
        /// Deletes a node.
        Delete = 2,
        /// Says whether there is a node.
        Exists = 3,
        /// Reads a node's data.
        GetData = 4,
        /// Sets a node's data.
        SetData = 5,
        /// Reads a node's access list.
        GetAcl = 6,
        /// Sets a node's access list.
        SetAcl = 7,
        /// Lists a node's children.
        GetChildren = 8,
        /// Waits for everything that was committed before.
        Sync = 9,
        /// Keeps the session.
        Ping = 11,
        /// Lists a node's children; answers its statistics too.
        GetChildren2 = 12,
        /// Compares a node's version.
        Check = 13,
        /// Several changes at once.
        Multi = 14,
        /// Creates a node; answers its statistics too.
        Create2 = 15,
        /// Changes the ensemble.
        Reconfig = 16,
        /// Says whether there is a watch.
        CheckWatches = 17,
        /// Takes watches back.
        RemoveWatches = 18,
        /// Creates a container.
        CreateContainer = 19,
        /// Removes a container; servers' own.
        DeleteContainer = 20,
        /// Creates a node with a time to live.
        CreateTtl = 21,
        /// Several reads at once.
        MultiRead = 22,
        /// Proves an identity.
        Auth = 100,
        /// Sets watches again after a reconnection.
        SetWatches = 101,
        /// A step of SASL.
        Sasl = 102,
        /// Lists the session's ephemeral nodes.
        GetEphemerals = 103,
        /// Counts all nodes below one.
        GetAllChildrenNumber = 104,
        /// Sets watches of all kinds again after a reconnection.
        SetWatches2 = 105,
        /// Sets a watch that stays.
        AddWatch = 106,
        /// Lists the client's identities.
        WhoAmI = 107,
        /// Opens a session; servers' own.
        CreateSession = -10,
        /// Ends the session.
        CloseSession = -11,
        /// A failed change in an answer; servers' own.
        Error = -1,
    }
}

codes! {
    /// Why a request was not carried out.
    ErrorCode {
        /// Something is wrong with the server.
        SystemError = -1,
        /// An operation of a transaction that came after the one that failed.
        RuntimeInconsistency = -2,
        /// The connection went away.
        ConnectionLoss = -4,
        /// The request cannot be read.
        Marshalling = -5,
        /// There is no such operation here.
        Unimplemented = -6,
        /// An argument makes no sense.
        BadArguments = -8,
        /// No such node.
        NoNode = -101,
        /// Not allowed.
        NoAuth = -102,
        /// Another version than expected.
        BadVersion = -103,
        /// An ephemeral node has no children.
        NoChildrenForEphemerals = -108,
        /// There is a node of that path.
        NodeExists = -110,
        /// The node has children.
        NotEmpty = -111,
        /// The session is over.
        SessionExpired = -112,
        /// No such identities.
        InvalidAcl = -114,
        /// The identity was not proven.
        AuthFailed = -115,
        /// The session is served by another connection.
        SessionMoved = -118,
        /// The server only answers readers now.
        NotReadOnly = -119,
        /// There is no such watch.
        NoWatcher = -121,
        /// The ensemble cannot be changed from here.
        ReconfigDisabled = -123,
        /// A quota would be exceeded.
        QuotaExceeded = -125,
    }
}

codes! {
    /// What a watch has seen.
    EventType {
        /// The node is new.
        Created = 1,
        /// The node is gone.
        Deleted = 2,
        /// The node's data was set.
        DataChanged = 3,
        /// Children came or went.
        ChildrenChanged = 4,
        /// The watch of data was taken back.
        DataWatchRemoved = 5,
        /// The watch of children was taken back.
        ChildWatchRemoved = 6,
        /// The lasting watch was taken back.
        PersistentWatchRemoved = 7,
    }
}
