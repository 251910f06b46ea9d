//! Packets by hand, as the other end of a tunnel would send them, with everything in reach that a sender could get wrong.

use super::model::{ones_complement, tag_of};
use super::tunnel::Tunnel;

/// A packet before it is sealed and signed.
pub struct Draft<'t> {
    /// Whose associations sign it.
    pub tunnel: &'t Tunnel,
    /// Number in the AH; its high half is covered with ESN.
    pub ah_number: u64,
    /// Number in the ESP.
    pub esp_number: u64,
    /// The AH's SPI.
    pub ah_spi: u32,
    /// The ESP's SPI.
    pub esp_spi: u32,
    /// The AH's next header.
    pub ah_next: u8,
    /// The AH's reserved field.
    pub reserved: u16,
    /// What follows the tag in the AH.
    pub icv_padding: Vec<u8>,
    /// Headers between AH and ESP.
    pub between: Vec<u8>,
    /// ESP's next header.
    pub esp_next: u8,
    /// ESP's text up to its padding: a datagram, and what pads its length.
    pub body: Vec<u8>,
    /// ESP's padding.
    pub padding: Vec<u8>,
    /// Length of the padding, as it says.
    pub pad_len: u8,
    /// What is changed in the sealed ESP before AH signs it: where, and which bits.
    pub esp_bits: Vec<(usize, u8)>,
    /// Bytes of the sealed ESP that are left.
    pub esp_len: usize,
    /// IPv4 options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers, by type, each from its length field on.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// IPv4's identification.
    pub id: u16,
}

impl<'t> Draft<'t> {
    /// One that a receiver takes, if it likes its number.
    pub fn new(tunnel: &'t Tunnel, number: u64, datagram: Vec<u8>) -> Self {
        let (iv, tag) = tunnel.icv_parts();
        let end = 12 + iv + tag;
        let mut draft = Self {
            tunnel,
            ah_number: number,
            esp_number: number,
            ah_spi: tunnel.ah_spi,
            esp_spi: tunnel.esp_spi,
            ah_next: 50,
            reserved: 0,
            icv_padding: vec![0; end.next_multiple_of(if tunnel.v6 { 8 } else { 4 }) - end],
            between: Vec::new(),
            esp_next: if datagram[0] >> 4 == 6 { 41 } else { 4 },
            body: datagram,
            padding: Vec::new(),
            pad_len: 0,
            esp_bits: Vec::new(),
            esp_len: usize::MAX,
            options: Vec::new(),
            extensions: Vec::new(),
            id: 0,
        };
        draft.pad(0);
        draft
    }

    /// Pads the text to a boundary of 4 bytes, and by `more` times 4.
    pub fn pad(&mut self, more: u8) {
        let least = (self.body.len() + 2).next_multiple_of(4) - self.body.len() - 2;
        self.pad_len = least as u8 + 4 * more;
        self.padding = (1..=self.pad_len).collect();
    }

    /// Seals and signs it. None where its headers are such that nobody could.
    pub fn packet(&self) -> Option<(Vec<u8>, usize)> {
        let esp = self.esp();
        let (iv, tag) = self.tunnel.icv_parts();
        let ah_len = 12 + iv + tag + self.icv_padding.len();
        let mut behind = vec![self.ah_next, (ah_len / 4).checked_sub(2)? as u8];
        behind.extend(self.reserved.to_be_bytes());
        behind.extend(self.ah_spi.to_be_bytes());
        behind.extend((self.ah_number as u32).to_be_bytes());
        behind.extend(&self.ah_number.to_be_bytes()[..iv]);
        behind.resize(12 + iv + tag, 0);
        behind.extend(&self.icv_padding);
        behind.extend(&self.between);
        behind.extend(esp);
        let mut packet = if self.tunnel.v6 {
            self.ipv6(behind.len())
        } else {
            self.ipv4(behind.len())
        };
        let ah_at = packet.len();
        packet.extend(behind);
        let icv = tag_of(self.tunnel, &packet, ah_at, self.ah_number)?;
        packet[ah_at + 12 + iv..][..tag].copy_from_slice(&icv);
        Some((packet, ah_at))
    }

    fn esp(&self) -> Vec<u8> {
        let iv = self.esp_number.to_be_bytes();
        let mut additional = self.tunnel.esp_spi.to_be_bytes().to_vec();
        match self.tunnel.esn {
            true => additional.extend(iv),
            false => additional.extend(&iv[4..]),
        }
        let mut text = [&self.body[..], &self.padding, &[self.pad_len, self.esp_next]].concat();
        let icv = self.tunnel.seal(&iv, &additional, &mut text);
        let mut esp = [&self.esp_spi.to_be_bytes()[..], &iv[4..], &iv, &text, &icv].concat();
        for (at, bits) in &self.esp_bits {
            let at = at % esp.len();
            esp[at] ^= bits;
        }
        esp.truncate(self.esp_len);
        esp
    }

    fn ipv4(&self, behind: usize) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut header = vec![0x40 | (header_len / 4) as u8, 0];
        header.extend(((header_len + behind) as u16).to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend([0x40, 0, 64, 51, 0, 0]);
        header.extend(
            self.tunnel
                .source
                .iter()
                .chain(&self.tunnel.destination)
                .chain(&self.options),
        );
        fix_checksum(&mut header);
        header
    }

    fn ipv6(&self, behind: usize) -> Vec<u8> {
        let types: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).chain([51]).collect();
        let mut extensions = Vec::new();
        for ((_, rest), following) in self.extensions.iter().zip(&types[1..]) {
            extensions.push(*following);
            extensions.extend(rest);
        }
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(((extensions.len() + behind) as u16).to_be_bytes());
        header.extend([types[0], 64]);
        header.extend(self.tunnel.source.iter().chain(&self.tunnel.destination));
        header.extend(extensions);
        header
    }
}

/// Puts the right header checksum into an IPv4 packet, if its header is all there.
pub fn fix_checksum(packet: &mut [u8]) {
    let header_len = usize::from(packet[0] & 15) * 4;
    if let Some(header) = packet.get_mut(..header_len).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let sum = !ones_complement(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Has the IP header say how long the packet is.
pub fn fix_length(packet: &mut [u8], v6: bool) {
    let (at, length) = if v6 { (4, packet.len() - 40) } else { (2, packet.len()) };
    packet[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    if !v6 {
        fix_checksum(packet);
    }
}

/// A UDP datagram over IPv4 or IPv6 whose payload begins with `id`, from an address of tunnel `number` to one that all share.
pub fn datagram(v6: bool, number: u8, id: u32, filler: usize) -> Vec<u8> {
    let payload = [&id.to_be_bytes()[..], &vec![id as u8; filler]].concat();
    let length = (8 + payload.len()) as u16;
    let addresses: Vec<u8> = match v6 {
        false => vec![10, 88, 0, number, 10, 77, 0, 1],
        true => [&[0xfd, 0x88][..], &[0; 13], &[number, 0xfd, 0x77], &[0; 13], &[1]].concat(),
    };
    let mut udp = [4000u16, 5000, length, 0].map(u16::to_be_bytes).concat();
    udp.extend(payload);
    let pseudo = [&addresses[..], &[0, 17], &length.to_be_bytes(), &udp].concat();
    let sum = match !ones_complement(&pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let [high, low] = length.to_be_bytes();
    if v6 {
        return [&[0x60, 0, 0, 0, high, low, 17, 64][..], &addresses, &udp].concat();
    }
    let [high, low] = (20 + length).to_be_bytes();
    let mut header = [&[0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0][..], &addresses].concat();
    fix_checksum(&mut header);
    [header, udp].concat()
}
