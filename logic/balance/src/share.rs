/// Moving begins when somebody has more than so many times its share, or its share is so many times what it has: of
/// many, none has much more when one is empty. It ends when all are closer than that. In between, chance is left alone.
pub(crate) const BEGINS: f64 = 1.10;
pub(crate) const ENDS: f64 = 1.02;

/// Long connections that somebody has, an instance or a node, beside its share of all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) open: f64,
    pub(crate) target: f64,
}

impl Share {
    /// Whether one of the two is more than so many times the other, and by so many connections at least.
    pub(crate) fn is_off(self, times: f64, connections: f64) -> bool {
        let (more, less) = match self.open > self.target {
            true => (self.open, self.target),
            false => (self.target, self.open),
        };
        more > less * times && more - less >= connections
    }

    /// How many there are too many.
    pub(crate) fn excess(self) -> f64 {
        (self.open - self.target).max(0.0)
    }

    /// How many are missing.
    pub(crate) fn lack(self) -> f64 {
        (self.target - self.open).max(0.0)
    }
}
