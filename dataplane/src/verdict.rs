//! Every way the packet path can lose a packet: one variant, one counter, one sentence.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet went no further.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant,)+ }

        impl DropReason {
            /// Every reason, in counter order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Name of the counter.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What happened, in a sentence for operators.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

drop_reasons! {
    /// Not for the packet path: the kernel, which shares the interface, has its own copy.
    ForTheKernel = "for_the_kernel",
    /// Neither the packet path's nor the kernel's, on a port that the kernel does not share: no IP and no ARP, or ESP without AH.
    ForNobody = "for_nobody",
    /// To or from the kernel, on a port that it does not share, and more of its kind than may come in a second.
    ExceptionRate = "exception_rate",
    /// To or from the kernel, on a port that it does not share, and there was no room for it on the way.
    ExceptionFull = "exception_full",
    /// The Ethernet, IP, AH or ESP header is malformed or the packet is shorter than it says.
    Malformed = "malformed",
    /// A fragment of an outer packet; tunnels never fragment outside.
    OuterFragment = "outer_fragment",
    /// An outer IPv6 packet with a routing header, an option that may not be skipped, or too many extension headers.
    OuterExtension = "outer_extension",
    /// The outer source address belongs to no peer.
    UnknownPeer = "unknown_peer",
    /// No security association has this SPI for this peer.
    UnknownSpi = "unknown_spi",
    /// The tunnel has no security association to send with: its source has made none, or those that there were are over.
    NoAssociation = "no_association",
    /// The AH integrity check value is wrong.
    AhIcv = "ah_icv",
    /// The AH sequence number lies before the anti-replay window.
    AhReplayOld = "ah_replay_old",
    /// The AH sequence number was seen before.
    AhReplay = "ah_replay",
    /// The ESP tag is wrong.
    EspIcv = "esp_icv",
    /// The ESP sequence number lies before the anti-replay window or was seen before.
    EspReplay = "esp_replay",
    /// What the tunnel carries is not what its selectors allow.
    WrongProtocol = "wrong_protocol",
    /// A TVT packet whose payload is not one cell of the network's length.
    CellLength = "cell_length",
    /// The cell's redundancy is not zero or its header is malformed after the last layer.
    CellBroken = "cell_broken",
    /// The cell's inner sequence number was seen before or is too old.
    CellReplay = "cell_replay",
    /// A datagram in a cell is malformed.
    InnerMalformed = "inner_malformed",
    /// Parts of a datagram waited too long for the rest, or had to make room.
    ReassemblyLost = "reassembly_lost",
    /// The datagram's addresses are not those its AIVT or tunnel is bound to.
    WrongPair = "wrong_pair",
    /// A responder's datagram that no AIVT is bound to, or an initiator's where none may begin.
    NoBinding = "no_binding",
    /// The source address is not registered to this initiator.
    SourceNotRegistered = "source_not_registered",
    /// The datagram cannot be rewritten to a private source: an inner AH, or an unknown structure.
    NotRewritable = "not_rewritable",
    /// The inner TTL ran out at the entrance.
    TtlExceeded = "ttl_exceeded",
    /// Larger than the tunnel's inner MTU and not to be fragmented.
    TooBig = "too_big",
    /// Waited for an AIVT too long, or had to make room for newer ones.
    WaitedTooLong = "waited_too_long",
    /// The flow was refused.
    Refused = "refused",
    /// No buffer was free.
    NoBuffer = "no_buffer",
    /// The ring to another worker was full.
    HandoffFull = "handoff_full",
    /// The ring to the control thread was full.
    ControlFull = "control_full",
    /// A host asked this node for more in a second than it may.
    TooManyRequests = "too_many_requests",
    /// The initiator sends more bytes a second than it may.
    InitiatorRate = "initiator_rate",
    /// The initiator begins more flows a second than it may.
    InitiatorFlows = "initiator_flows",
    /// The tunnel has a rate, and its queue was full.
    RateFull = "rate_full",
    /// The link-layer address of the next hop is not known.
    NoNeighbour = "no_neighbour",
    /// The sequence numbers or IVs that may be used are used up.
    SequenceExhausted = "sequence_exhausted",
    /// The security association went away while the packet was on its way.
    Gone = "gone",
    /// The open exit's policy refuses the destination, protocol or port.
    OpenExitPolicy = "open_exit_policy",
    /// The AIVT has all the mappings at the open exit that it may have, or makes them too fast.
    OpenExitMappings = "open_exit_mappings",
    /// The AIVT sends more packets a second through the open exit than it may.
    OpenExitRate = "open_exit_rate",
    /// No external port was free at the open exit.
    OpenExitExhausted = "open_exit_exhausted",
    /// A fragment at the open exit, and the first of its datagram did not come in time.
    OpenExitFragment = "open_exit_fragment",
    /// From the Internet to an address of the open exit, and no AIVT expects it from there.
    OpenExitUnsolicited = "open_exit_unsolicited",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_sentences_end() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        assert!(DropReason::ALL.iter().all(|r| r.sentence().ends_with('.')));
        assert!(DropReason::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
    }
}
