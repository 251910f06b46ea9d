//! DESTROY: ends an AIVT, or refuses a CREATE (protocol section 6, the paper's section 4.5).

/// Why an AIVT ends. Passed along it is a hint and never shown to the initiator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Reason {
    /// No reason given: a host asked, or the flow moved to another AIVT.
    None = 0,
    /// Its time was up.
    Expired = 1,
    /// Nothing moved on it.
    Inactive = 2,
    /// The next node does not answer.
    NextHopUnreachable = 3,
    /// The SPI drawn is taken.
    SpiCollision = 4,
    /// The ticket is spent or stale.
    TicketRefused = 5,
    /// A limit of the node is reached.
    ResourceLimit = 6,
    /// A signal or a cell that should not be.
    ProtocolError = 7,
    /// The CREATE is too old, too new, or was seen before.
    ReplayedCreate = 8,
    /// The exit does not serve the responder.
    ExitRefused = 9,
    /// (responder, source) belongs to another flow.
    AddressCollision = 10,
    /// The node goes down.
    Shutdown = 11,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::None,
        Self::Expired,
        Self::Inactive,
        Self::NextHopUnreachable,
        Self::SpiCollision,
        Self::TicketRefused,
        Self::ResourceLimit,
        Self::ProtocolError,
        Self::ReplayedCreate,
        Self::ExitRefused,
        Self::AddressCollision,
        Self::Shutdown,
    ];

    /// The reason of number `number`; a number this version does not know is no reason to keep an AIVT, and reads as
    /// [`Reason::None`].
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::None)
    }

    /// Name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Expired => "expired",
            Self::Inactive => "inactive",
            Self::NextHopUnreachable => "next_hop_unreachable",
            Self::SpiCollision => "spi_collision",
            Self::TicketRefused => "ticket_refused",
            Self::ResourceLimit => "resource_limit",
            Self::ProtocolError => "protocol_error",
            Self::ReplayedCreate => "replayed_create",
            Self::ExitRefused => "exit_refused",
            Self::AddressCollision => "address_collision",
            Self::Shutdown => "shutdown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions() {
        for (number, reason) in (0..).zip(Reason::ALL) {
            assert_eq!(reason as u8, number);
            assert_eq!(Reason::from_number(number), reason);
        }
        assert_eq!(Reason::from_number(12), Reason::None);
    }
}
