//! The fields of messages, read strictly and written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zeroize::Zeroizing;

use super::{
    Add, Direction, Flags, HEADER_BYTES, KEY_BYTES_MAX, Keyed, Limit, MESSAGE_BYTES_MAX, MessageError, Mode, Name,
    Policy, PolicyDirection, Protocol, Selector, TEXT_BYTES_MAX, VERSION,
};
use crate::config::secret::KeyMaterial;

const ESN: u8 = 1;
const UDP: u8 = 2;
const INITIATOR: u8 = 4;

/// What is left of a message.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn take(&mut self, bytes: usize, field: &'static str) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(MessageError::Short(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(MessageError::Short(field))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, MessageError> {
        self.array(field).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, MessageError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, MessageError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, MessageError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// All that is left, as text.
    pub(super) fn text(&mut self, field: &'static str) -> Result<String, MessageError> {
        let bytes = std::mem::take(&mut self.0);
        let text = std::str::from_utf8(bytes).map_err(|_| MessageError::NotText(field))?;
        Ok(text.to_owned())
    }

    pub(super) fn address(&mut self, field: &'static str) -> Result<IpAddr, MessageError> {
        let family = self.u8(field)?;
        let bytes: [u8; 16] = self.array(field)?;
        match (family, bytes) {
            (4, [a, b, c, d, rest @ ..]) if rest == [0; 12] => Ok(Ipv4Addr::new(a, b, c, d).into()),
            (6, bytes) => Ok(Ipv6Addr::from(bytes).into()),
            (family, _) => Err(wrong(field, family)),
        }
    }

    pub(super) fn protocol(&mut self) -> Result<Protocol, MessageError> {
        match self.u8("protocol")? {
            50 => Ok(Protocol::Esp),
            51 => Ok(Protocol::Ah),
            other => Err(wrong("protocol", other)),
        }
    }

    pub(super) fn name(&mut self) -> Result<Name, MessageError> {
        let direction = match self.u8("direction")? {
            0 => Direction::In,
            1 => Direction::Out,
            other => return Err(wrong("direction", other)),
        };
        Ok(Name {
            direction,
            protocol: self.protocol()?,
            spi: self.u32("spi")?,
            source: self.address("source")?,
            destination: self.address("destination")?,
        })
    }

    pub(super) fn flags(&mut self) -> Result<Flags, MessageError> {
        match self.u8("flags")? {
            flags if flags & !(ESN | UDP | INITIATOR) == 0 => Ok(Flags {
                esn: flags & ESN != 0,
                udp: flags & UDP != 0,
                initiator: flags & INITIATOR != 0,
            }),
            flags => Err(wrong("flags", flags)),
        }
    }

    fn selector(&mut self, field: &'static str) -> Result<Selector, MessageError> {
        let selector = Selector {
            protocol: self.u8(field)?,
            ports: (self.u16(field)?, self.u16(field)?),
            first: self.address(field)?,
            last: self.address(field)?,
        };
        let of_one_family = selector.first.is_ipv4() == selector.last.is_ipv4();
        if !of_one_family || selector.first > selector.last {
            return Err(MessageError::Value { field, value: 0 });
        }
        Ok(selector)
    }

    fn selectors(&mut self, field: &'static str) -> Result<Vec<Selector>, MessageError> {
        (0..self.u8(field)?).map(|_| self.selector(field)).collect()
    }

    fn keyed(&mut self, id: &'static str, key: &'static str) -> Result<Keyed, MessageError> {
        let id = self.u16(id)?;
        let bytes = self.u16(key)?;
        if usize::from(bytes) > KEY_BYTES_MAX {
            return Err(MessageError::Value {
                field: key,
                value: bytes.into(),
            });
        }
        let key = self.take(bytes.into(), key)?;
        Ok(Keyed {
            id,
            key: KeyMaterial::new(key.to_vec()),
        })
    }

    fn limit(&mut self, soft: &'static str, hard: &'static str) -> Result<Limit, MessageError> {
        Ok(Limit {
            soft: self.u64(soft)?,
            hard: self.u64(hard)?,
        })
    }

    pub(super) fn add(&mut self) -> Result<Add, MessageError> {
        Ok(Add {
            name: self.name()?,
            encryption: self.keyed("encr", "encr key")?,
            integrity: self.keyed("integ", "integ key")?,
            flags: self.flags()?,
            mode: match self.u8("mode")? {
                1 => Mode::Transport,
                2 => Mode::Tunnel,
                other => Mode::Other(other),
            },
            tfc: self.u16("tfc")?,
            window: self.u32("window")?,
            reqid: self.u32("reqid")?,
            seconds: self.limit("soft s", "hard s")?,
            packets: self.limit("soft packets", "hard packets")?,
            bytes: self.limit("soft bytes", "hard bytes")?,
            source: self.selectors("source selectors")?,
            destination: self.selectors("destination selectors")?,
        })
    }

    pub(super) fn policy(&mut self) -> Result<Policy, MessageError> {
        let direction = match self.u8("direction")? {
            0 => PolicyDirection::In,
            1 => PolicyDirection::Out,
            2 => PolicyDirection::Forward,
            other => return Err(wrong("direction", other)),
        };
        let is_added = match self.u8("verb")? {
            0 => false,
            1 => true,
            other => return Err(wrong("verb", other)),
        };
        Ok(Policy {
            direction,
            is_added,
            source: self.selector("source selector")?,
            destination: self.selector("destination selector")?,
            reqid: self.u32("reqid")?,
        })
    }

    pub(super) fn finish(self) -> Result<(), MessageError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(MessageError::Long(bytes)),
        }
    }
}

fn wrong(field: &'static str, value: u8) -> MessageError {
    MessageError::Value {
        field,
        value: value.into(),
    }
}

/// A message under way. Its room is there from the start, so that growing leaves no copies of keys behind.
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    pub(super) fn new(kind: u8, id: u32) -> Self {
        let mut writer = Self(Zeroizing::new(Vec::with_capacity(MESSAGE_BYTES_MAX)));
        writer.u8(VERSION);
        writer.u8(kind);
        writer.u16(0);
        writer.u32(id);
        debug_assert_eq!(writer.0.len(), HEADER_BYTES);
        writer
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend(value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend(value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_be_bytes());
    }

    /// As much of `text` as a message has room for, in whole characters.
    pub(super) fn text(&mut self, text: &str) {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.extend(&text.as_bytes()[..end]);
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                self.u8(4);
                self.0.extend(v4.octets());
                self.0.extend([0; 12]);
            }
            IpAddr::V6(v6) => {
                self.u8(6);
                self.0.extend(v6.octets());
            }
        }
    }

    pub(super) fn name(&mut self, name: &Name) {
        self.u8(match name.direction {
            Direction::In => 0,
            Direction::Out => 1,
        });
        self.u8(name.protocol.number());
        self.u32(name.spi);
        self.address(name.source);
        self.address(name.destination);
    }

    pub(super) fn flags(&mut self, flags: Flags) {
        let of = |set: bool, bit| if set { bit } else { 0 };
        self.u8(of(flags.esn, ESN) | of(flags.udp, UDP) | of(flags.initiator, INITIATOR));
    }

    fn selector(&mut self, selector: &Selector) {
        self.u8(selector.protocol);
        self.u16(selector.ports.0);
        self.u16(selector.ports.1);
        self.address(selector.first);
        self.address(selector.last);
    }

    fn selectors(&mut self, selectors: &[Selector]) {
        self.u8(selectors.len() as u8);
        selectors.iter().for_each(|selector| self.selector(selector));
    }

    fn keyed(&mut self, keyed: &Keyed) {
        self.u16(keyed.id);
        self.u16(keyed.key.expose().len() as u16);
        self.0.extend(keyed.key.expose());
    }

    pub(super) fn add(&mut self, add: &Add) {
        self.name(&add.name);
        self.keyed(&add.encryption);
        self.keyed(&add.integrity);
        self.flags(add.flags);
        self.u8(match add.mode {
            Mode::Transport => 1,
            Mode::Tunnel => 2,
            Mode::Other(number) => number,
        });
        self.u16(add.tfc);
        self.u32(add.window);
        self.u32(add.reqid);
        for limit in [add.seconds, add.packets, add.bytes] {
            self.u64(limit.soft);
            self.u64(limit.hard);
        }
        self.selectors(&add.source);
        self.selectors(&add.destination);
    }

    pub(super) fn policy(&mut self, policy: &Policy) {
        self.u8(match policy.direction {
            PolicyDirection::In => 0,
            PolicyDirection::Out => 1,
            PolicyDirection::Forward => 2,
        });
        self.u8(policy.is_added.into());
        self.selector(&policy.source);
        self.selector(&policy.destination);
        self.u32(policy.reqid);
    }

    pub(super) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}
