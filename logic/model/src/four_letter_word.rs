/// A question of four letters that ZooKeeper's clients and tools ask without a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FourLetterWord {
    /// Whether the process is well.
    Ruok,
    /// How the server is.
    Srvr,
    /// How the server is, and its connections.
    Stat,
    /// Figures for monitoring.
    Mntr,
    /// The connections.
    Cons,
    /// The configuration.
    Conf,
    /// The environment, and the version.
    Envi,
    /// Whether it only reads.
    Isro,
    /// Sessions and their ephemeral nodes.
    Dump,
    /// Bytes on disk.
    Dirs,
    /// How many watches there are.
    Wchs,
    /// Watches by session.
    Wchc,
    /// Watches by path.
    Wchp,
    /// Forgets what connections counted.
    Crst,
    /// Forgets what the server counted.
    Srst,
    /// Digests of the tree's history.
    Hash,
    /// What is traced.
    Gtmk,
    /// Sets what is traced.
    Stmk,
}

impl FourLetterWord {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Ruok,
        Self::Srvr,
        Self::Stat,
        Self::Mntr,
        Self::Cons,
        Self::Conf,
        Self::Envi,
        Self::Isro,
        Self::Dump,
        Self::Dirs,
        Self::Wchs,
        Self::Wchc,
        Self::Wchp,
        Self::Crst,
        Self::Srst,
        Self::Hash,
        Self::Gtmk,
        Self::Stmk,
    ];

    /// Those that change nothing, and cost little however many clients there are.
    pub const HARMLESS: [Self; 10] = [
        Self::Ruok,
        Self::Srvr,
        Self::Stat,
        Self::Mntr,
        Self::Cons,
        Self::Conf,
        Self::Envi,
        Self::Isro,
        Self::Dirs,
        Self::Wchs,
    ];

    /// Its letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ruok => "ruok",
            Self::Srvr => "srvr",
            Self::Stat => "stat",
            Self::Mntr => "mntr",
            Self::Cons => "cons",
            Self::Conf => "conf",
            Self::Envi => "envi",
            Self::Isro => "isro",
            Self::Dump => "dump",
            Self::Dirs => "dirs",
            Self::Wchs => "wchs",
            Self::Wchc => "wchc",
            Self::Wchp => "wchp",
            Self::Crst => "crst",
            Self::Srst => "srst",
            Self::Hash => "hash",
            Self::Gtmk => "gtmk",
            Self::Stmk => "stmk",
        }
    }
}
