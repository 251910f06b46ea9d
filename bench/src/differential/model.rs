//! What an IPsec receiver does with a packet of an ESP+AH tunnel, written from the text of RFC 4302, 4303 and 4301 and, where it is
//! narrower on purpose, of section 2 of docs/protocol.md. Nothing here is shared with the packet path but the names of algorithms:
//! bytes are read by hand, windows are sets of numbers. It is slow and plain, so that it can be read beside the RFCs.
//!
//! Each rule can be left out, which a run must notice: a model that nothing tells from a wrong one would prove nothing.

use std::collections::BTreeSet;

use super::tunnel::Tunnel;

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It carries this datagram.
    Datagram(Vec<u8>),
    /// It is a dummy (RFC 4303 section 2.6).
    Dummy,
    /// It is dropped.
    Dropped(Why),
}

/// Why a packet is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// It carries no AH.
    NotAh,
    /// A header is cut, or contradicts itself or the associations.
    Malformed,
    /// A fragment.
    Fragment,
    /// Headers between IPv6 and AH that no tunnel has use for.
    Extension,
    /// No association has these addresses and this SPI.
    NoAssociation,
    /// The AH carries no ESP.
    Protocol,
    /// AH's number was seen or is behind the window.
    AhReplay,
    /// AH's ICV is wrong.
    AhIcv,
    /// ESP's number was seen or is behind the window.
    EspReplay,
    /// ESP's ICV is wrong.
    EspIcv,
    /// What ESP holds is no datagram.
    Inner,
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A rule of the model.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Rule { $($(#[doc = $doc])+ $name,)+ }

        #[cfg(test)]
        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

rules! {
    /// What lies behind the IP packet is the link's (RFC 894).
    LinkPadding,
    /// A wrong header checksum drops an IPv4 packet (RFC 1122 section 3.2.1.2).
    HeaderChecksum,
    /// Narrower than RFC 4302 section 3.4.1: outer fragments are dropped, not put together.
    Fragments,
    /// DSCP, ECN, flags, TTL; class, flow label, hop limit (RFC 4302 sections 3.3.3.1.1.1, 3.3.3.1.2.1).
    MutableFields,
    /// Every IPv4 option but those of RFC 4302 appendix A1 is zero.
    MutableOptions,
    /// Those are covered.
    ImmutableOptions,
    /// The final address of a source route takes the place of the destination (appendix A1).
    SourceRoute,
    /// Data of IPv6 options with bit 0x20 is zero (RFC 4302 section 3.3.3.1.2.2).
    MutableOptionData,
    /// That of other IPv6 options is covered.
    ImmutableOptionData,
    /// Narrower than RFC 8200: an option that may not be skipped drops the packet.
    MustKnowOption,
    /// Narrower than RFC 4302: so does a routing header.
    RoutingHeader,
    /// Narrower than RFC 8200: and a fifth header before the AH.
    FourHeaders,
    /// Hop-by-hop options come first (RFC 8200 section 4.1).
    HopByHopFirst,
    /// An association has an SPI (RFC 4302 section 2.4).
    AhSpi,
    /// SPIs up to 255 are reserved (RFC 4302 section 2.4).
    ReservedSpi,
    /// Narrower than RFC 4301 section 5.2: the AH of a tunnel carries ESP and nothing else.
    CarriesEsp,
    /// A number seen before is refused (RFC 4302 section 3.4.3).
    AhSeen,
    /// A number behind the window is refused, one in it is not: 8192 numbers.
    AhWindow,
    /// The high half of an extended number is the one that puts it into the window or ahead of it (RFC 4303 appendix A2.2).
    HighHalfInferred,
    /// It is covered by AH's ICV (RFC 4302 section 2.5.1).
    HighHalfOfAh,
    /// It is covered by ESP's ICV (RFC 4106 section 5).
    HighHalfOfEsp,
    /// The ICV field is as long as the algorithm and the family's alignment make it (RFC 4302 section 2.2).
    IcvLength,
    /// HMAC over IPv4 may be aligned to 8 bytes.
    LongHmac,
    /// Padding behind the ICV is covered (RFC 4302 section 3.3.3.2.1).
    IcvPadding,
    /// AH's ICV (RFC 4302 section 3.4.4).
    AhIcv,
    /// An association of ESP has an SPI (RFC 4303 section 3.4.2).
    EspSpi,
    /// A number seen before is refused (RFC 4303 section 3.4.3).
    EspSeen,
    /// The text ends on a boundary of 4 bytes (RFC 4303 section 2.4).
    EspAlignment,
    /// ESP's ICV (RFC 4303 section 3.4.4.2).
    EspIcv,
    /// Next header 59 is a dummy (RFC 4303 section 2.6).
    Dummies,
    /// Padding is 1, 2, 3, ... and no longer than there is room (RFC 4303 section 2.4).
    EspPadding,
    /// Next header and datagram agree on the family (RFC 4303 section 2.6).
    InnerFamily,
    /// What is longer than the datagram is padding (RFC 4303 section 2.7); shorter it may not be.
    InnerLength,
}

/// Numbers that a window spans (docs/protocol.md section 2).
pub const WINDOW: u64 = 8192;

/// The numbers seen of one association.
struct Window {
    highest: u64,
    /// Up to here all count as seen.
    floor: u64,
    seen: BTreeSet<u64>,
}

impl Window {
    const fn after(start: u64) -> Self {
        Self {
            highest: start,
            floor: start,
            seen: BTreeSet::new(),
        }
    }

    fn mark(&mut self, number: u64) {
        self.highest = self.highest.max(number);
        self.seen.insert(number);
        while self.seen.first().is_some_and(|least| least + 2 * WINDOW < self.highest) {
            self.seen.pop_first();
        }
    }
}

/// An IP packet that carries an AH.
struct Outer<'p> {
    /// From the IP header to the end of the payload.
    packet: &'p [u8],
    /// Where the AH begins.
    ah_at: usize,
}

/// The receiver.
pub struct Model<'t> {
    tunnels: &'t [Tunnel],
    /// Of AH and ESP of each tunnel.
    windows: Vec<[Window; 2]>,
    without: Option<Rule>,
}

const AH: usize = 0;
const ESP: usize = 1;

impl<'t> Model<'t> {
    /// A receiver of these tunnels that has seen nothing, and does not know the rule `without`.
    pub fn new(tunnels: &'t [Tunnel], without: Option<Rule>) -> Self {
        let windows = |tunnel: &Tunnel| [Window::after(tunnel.start), Window::after(tunnel.start)];
        Self {
            tunnels,
            windows: tunnels.iter().map(windows).collect(),
            without,
        }
    }

    fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Judges what came in a frame that announced IPv6 or IPv4.
    pub fn judge(&mut self, v6: bool, bytes: &[u8]) -> Verdict {
        self.weigh(v6, bytes).unwrap_or_else(Verdict::Dropped)
    }

    fn weigh(&mut self, v6: bool, bytes: &[u8]) -> Result<Verdict, Why> {
        let outer = if v6 { self.ipv6(bytes) } else { self.ipv4(bytes) }?;
        let at = self.association(v6, &outer)?;
        let tunnel = &self.tunnels[at];
        let ah = &outer.packet[outer.ah_at..];
        let ah_len = ah_length(ah)?;
        let spi = word(ah, 4);
        if spi <= 255 && self.has(Rule::ReservedSpi) {
            return Err(Why::Malformed);
        }
        if spi != tunnel.ah_spi && self.has(Rule::AhSpi) {
            return Err(Why::NoAssociation);
        }
        if ah[0] != 50 && self.has(Rule::CarriesEsp) {
            return Err(Why::Protocol);
        }
        let number = self.number(at, AH, word(ah, 8)).ok_or(Why::AhReplay)?;
        self.integrity(tunnel, &outer, ah_len, number)?;
        self.windows[at][AH].mark(number);
        self.esp(at, &ah[ah_len..])
    }

    /// RFC 791 section 3.1.
    fn ipv4<'p>(&self, bytes: &'p [u8]) -> Result<Outer<'p>, Why> {
        let header = bytes.get(..20).ok_or(Why::Malformed)?;
        let header_len = usize::from(header[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4 || header_len < 20 || total < header_len || total > bytes.len() {
            return Err(Why::Malformed);
        }
        if ones_complement(&bytes[..header_len]) != 0xffff && self.has(Rule::HeaderChecksum) {
            return Err(Why::Malformed);
        }
        if header[9] != 51 {
            return Err(Why::NotAh);
        }
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        if fragment && self.has(Rule::Fragments) {
            return Err(Why::Fragment);
        }
        Ok(Outer {
            packet: self.cut(bytes, total),
            ah_at: header_len,
        })
    }

    /// RFC 8200 sections 3 and 4.
    fn ipv6<'p>(&self, bytes: &'p [u8]) -> Result<Outer<'p>, Why> {
        let header = bytes.get(..40).ok_or(Why::Malformed)?;
        let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || total > bytes.len() {
            return Err(Why::Malformed);
        }
        let packet = self.cut(bytes, total);
        let (mut next, mut at, mut headers) = (header[6], 40, 0);
        loop {
            let extension = &packet[at..];
            match next {
                51 => return Ok(Outer { packet, ah_at: at }),
                0 if at > 40 && self.has(Rule::HopByHopFirst) => return Err(Why::Extension),
                43 if self.has(Rule::RoutingHeader) => return Err(Why::Extension),
                44 if self.has(Rule::Fragments) => return Err(fragment(extension)),
                0 | 60 | 43 | 44 => {}
                _ => return Err(Why::NotAh),
            }
            let length = match (next, extension.get(1)) {
                (44, _) => 8,
                (_, Some(units)) => (usize::from(*units) + 1) * 8,
                (_, None) => return Err(Why::Malformed),
            };
            if length > extension.len() {
                return Err(Why::Malformed);
            }
            (next, at, headers) = (extension[0], at + length, headers + 1);
            if headers > 4 && self.has(Rule::FourHeaders) {
                return Err(Why::Extension);
            }
        }
    }

    fn cut<'p>(&self, bytes: &'p [u8], total: usize) -> &'p [u8] {
        if self.has(Rule::LinkPadding) {
            &bytes[..total]
        } else {
            bytes
        }
    }

    /// RFC 4301 section 4.1: here by SPI and both addresses.
    fn association(&self, v6: bool, outer: &Outer<'_>) -> Result<usize, Why> {
        let addresses = if v6 {
            &outer.packet[8..40]
        } else {
            &outer.packet[12..20]
        };
        let of = |tunnel: &Tunnel| {
            let (source, destination) = addresses.split_at(tunnel.source.len().min(addresses.len()));
            tunnel.v6 == v6 && source == tunnel.source && destination == tunnel.destination
        };
        self.tunnels.iter().position(of).ok_or(Why::NoAssociation)
    }

    /// The whole number behind its low half, if the window welcomes it (RFC 4302 section 3.4.3, RFC 4303 appendix A2).
    fn number(&self, at: usize, which: usize, low: u32) -> Option<u64> {
        let window = &self.windows[at][which];
        // The oldest number in the window may lie before 0.
        let oldest = i128::from(window.highest) - i128::from(WINDOW - 1);
        let mut number = i128::from(low);
        if self.tunnels[at].esn {
            // The one number with this low half from the oldest on, before the low halves repeat.
            number = match self.has(Rule::HighHalfInferred) {
                true => oldest + (number - oldest).rem_euclid(1 << 32),
                false => i128::from(window.highest >> 32 << 32) + number,
            };
        }
        if number < oldest && (self.has(Rule::AhWindow) || which == ESP) {
            return None;
        }
        let number = u64::try_from(number).ok()?;
        let seen = number <= window.floor || window.seen.contains(&number);
        let heeds = self.has(if which == AH { Rule::AhSeen } else { Rule::EspSeen });
        (!seen || !heeds).then_some(number)
    }

    /// RFC 4302 section 3.4.4.
    fn integrity(&self, tunnel: &Tunnel, outer: &Outer<'_>, ah_len: usize, number: u64) -> Result<(), Why> {
        let (iv, tag) = tunnel.icv_parts();
        let exact = (12 + iv + tag).next_multiple_of(if tunnel.v6 { 8 } else { 4 });
        let long = !tunnel.v6 && exact == 28 && ah_len == 32 && self.has(Rule::LongHmac);
        if ah_len < 12 + iv + tag || (ah_len != exact && !long && self.has(Rule::IcvLength)) {
            return Err(Why::Malformed);
        }
        let field = &outer.packet[outer.ah_at + 12..];
        let covered = self.covered(tunnel, outer, ah_len, number)?;
        if tunnel.tag(&covered, &field[..iv]) != field[iv..iv + tag] && self.has(Rule::AhIcv) {
            return Err(Why::AhIcv);
        }
        Ok(())
    }

    /// What the ICV is computed over (RFC 4302 section 3.3.3).
    fn covered(&self, tunnel: &Tunnel, outer: &Outer<'_>, ah_len: usize, number: u64) -> Result<Vec<u8>, Why> {
        let mut bytes = outer.packet.to_vec();
        let (header, ah) = bytes.split_at_mut(outer.ah_at);
        if tunnel.v6 {
            self.cover_ipv6(header)
        } else {
            self.cover_ipv4(header)
        }?;
        let (iv, tag) = tunnel.icv_parts();
        let zeroed = if self.has(Rule::IcvPadding) {
            12 + iv + tag
        } else {
            ah_len
        };
        ah[12..zeroed].fill(0);
        if tunnel.esn && self.has(Rule::HighHalfOfAh) {
            bytes.extend(high_half(number));
        }
        Ok(bytes)
    }

    /// RFC 4302 section 3.3.3.1.1 and appendix A1.
    fn cover_ipv4(&self, header: &mut [u8]) -> Result<(), Why> {
        if self.has(Rule::MutableFields) {
            (header[1], header[6], header[7], header[8]) = (0, 0, 0, 0);
        }
        header[10..12].fill(0);
        let mut at = 20;
        while at < header.len() && header[at] != 0 {
            if header[at] == 1 {
                at += 1;
                continue;
            }
            let length = usize::from(*header.get(at + 1).ok_or(Why::Malformed)?);
            if length < 2 || at + length > header.len() {
                return Err(Why::Malformed);
            }
            let kind = header[at];
            if kind == 131 || kind == 137 {
                self.source_route(header, at, length)?;
            }
            // Security, extended and commercial security, router alert, sender-directed delivery.
            let immutable = [130, 133, 134, 148, 149].contains(&kind) && self.has(Rule::ImmutableOptions);
            if !immutable && self.has(Rule::MutableOptions) {
                header[at..at + length].fill(0);
            }
            at += length;
        }
        Ok(())
    }

    /// RFC 791: the option is type, length, pointer, addresses; the route is used up when the pointer is behind them.
    fn source_route(&self, header: &mut [u8], at: usize, length: usize) -> Result<(), Why> {
        if length < 3 {
            return Err(Why::Malformed);
        }
        let pointer = usize::from(header[at + 2]);
        if pointer > length {
            return Ok(());
        }
        if pointer < 4 || length < 7 || !(length - 3).is_multiple_of(4) {
            return Err(Why::Malformed);
        }
        if self.has(Rule::SourceRoute) {
            header.copy_within(at + length - 4..at + length, 16);
        }
        Ok(())
    }

    /// RFC 4302 section 3.3.3.1.2.
    fn cover_ipv6(&self, headers: &mut [u8]) -> Result<(), Why> {
        if self.has(Rule::MutableFields) {
            headers[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            headers[7] = 0;
        }
        let (mut kind, mut at) = (headers[6], 40);
        while at < headers.len() {
            let end = (at + (usize::from(headers[at + 1]) + 1) * 8).min(headers.len());
            let following = headers[at];
            if kind == 0 || kind == 60 {
                self.cover_options(&mut headers[at + 2..end])?;
            }
            (kind, at) = (following, end);
        }
        Ok(())
    }

    /// RFC 8200 section 4.2.
    fn cover_options(&self, options: &mut [u8]) -> Result<(), Why> {
        let mut at = 0;
        while at < options.len() {
            if options[at] == 0 {
                at += 1;
                continue;
            }
            let length = usize::from(*options.get(at + 1).ok_or(Why::Malformed)?);
            let data = at + 2..at + 2 + length;
            if data.end > options.len() {
                return Err(Why::Malformed);
            }
            if options[at] & 0xc0 != 0 && self.has(Rule::MustKnowOption) {
                return Err(Why::Extension);
            }
            let mutable = options[at] & 0x20 != 0;
            if (mutable && self.has(Rule::MutableOptionData)) || (!mutable && !self.has(Rule::ImmutableOptionData)) {
                options[data.clone()].fill(0);
            }
            at = data.end;
        }
        Ok(())
    }

    /// RFC 4303 section 3.4 with the combined-mode algorithm of RFC 4106.
    fn esp(&mut self, at: usize, esp: &[u8]) -> Result<Verdict, Why> {
        let tunnel = &self.tunnels[at];
        let text_len = esp
            .len()
            .checked_sub(8 + 8 + 16)
            .filter(|len| *len >= 2)
            .ok_or(Why::Malformed)?;
        if !text_len.is_multiple_of(4) && self.has(Rule::EspAlignment) {
            return Err(Why::Malformed);
        }
        let spi = word(esp, 0);
        if spi <= 255 {
            return Err(Why::Malformed);
        }
        if spi != tunnel.esp_spi && self.has(Rule::EspSpi) {
            return Err(Why::NoAssociation);
        }
        let number = self.number(at, ESP, word(esp, 4)).ok_or(Why::EspReplay)?;
        let mut additional = tunnel.esp_spi.to_be_bytes().to_vec();
        if tunnel.esn && self.has(Rule::HighHalfOfEsp) {
            additional.extend(high_half(number));
        }
        additional.extend(&esp[4..8]);
        let (text, icv) = esp[16..].split_at(text_len);
        let mut text = text.to_vec();
        if !tunnel.open(&esp[8..16], &additional, &mut text, icv) && self.has(Rule::EspIcv) {
            return Err(Why::EspIcv);
        }
        self.windows[at][ESP].mark(number);
        self.inner(&text)
    }

    /// RFC 4303 sections 2.4 to 2.7.
    fn inner(&self, text: &[u8]) -> Result<Verdict, Why> {
        let (body, trailer) = text.split_at(text.len() - 2);
        let padding = usize::from(trailer[0]);
        let length = body.len().checked_sub(padding).ok_or(Why::Inner)?;
        if trailer[1] == 59 && self.has(Rule::Dummies) {
            return Ok(Verdict::Dummy);
        }
        let (body, padding) = body.split_at(length);
        let counts = padding
            .iter()
            .enumerate()
            .all(|(at, byte)| usize::from(*byte) == at + 1);
        if !counts && self.has(Rule::EspPadding) {
            return Err(Why::Inner);
        }
        let version = match trailer[1] {
            4 => 4,
            41 => 6,
            _ => return Err(Why::Inner),
        };
        let first = *body.first().ok_or(Why::Inner)?;
        if first >> 4 != version && self.has(Rule::InnerFamily) {
            return Err(Why::Inner);
        }
        let (field, header) = if first >> 4 == 6 { (4, 40) } else { (2, 0) };
        let field = body.get(field..field + 2).ok_or(Why::Inner)?;
        let total = header + usize::from(u16::from_be_bytes([field[0], field[1]]));
        if !self.has(Rule::InnerLength) {
            return Ok(Verdict::Datagram(body.to_vec()));
        }
        if first >> 4 == 4 && total < 20 {
            return Err(Why::Inner);
        }
        body.get(..total)
            .map(|datagram| Verdict::Datagram(datagram.to_vec()))
            .ok_or(Why::Inner)
    }
}

/// What the fragments of a packet carry: an AH, or headers that may lead to one.
fn fragment(header: &[u8]) -> Why {
    match header.first() {
        Some(51 | 60) => Why::Fragment,
        Some(_) => Why::NotAh,
        None => Why::Malformed,
    }
}

/// RFC 4302 section 2.2: in words of 4 bytes, less 2.
fn ah_length(ah: &[u8]) -> Result<usize, Why> {
    let units = *ah.get(1).ok_or(Why::Malformed)?;
    let length = (usize::from(units) + 2) * 4;
    if length < 12 || length > ah.len() {
        Err(Why::Malformed)
    } else {
        Ok(length)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn high_half(number: u64) -> [u8; 4] {
    ((number >> 32) as u32).to_be_bytes()
}

/// Sum of RFC 1071; all ones over a header whose checksum is right.
pub fn ones_complement(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The ICV field that a sender puts into `packet`, whose AH begins at `ah_at`, under the whole `number`; its IV stands there already.
/// None for headers that no receiver could cover.
pub fn tag_of(tunnel: &Tunnel, packet: &[u8], ah_at: usize, number: u64) -> Option<Vec<u8>> {
    let model = Model::new(&[], Some(Rule::MustKnowOption)); // who sends one knows it
    let ah_len = ah_length(&packet[ah_at..]).ok()?;
    let covered = model.covered(tunnel, &Outer { packet, ah_at }, ah_len, number).ok()?;
    let iv = tunnel.icv_parts().0;
    Some(tunnel.tag(&covered, &packet[ah_at + 12..][..iv]))
}
