//! What may be the matter with a packet, class by class: numbers, outer headers, AH, ESP, and plain noise.

use rand::RngExt;

use super::draft::{Draft, fix_checksum, fix_length};
use super::model::WINDOW;
use super::source::Source;

/// Packets of a class for a tunnel, each with what its datagram begins with; none where the tunnel can have none.
pub type Make = for<'t> fn(&mut Source<'t>, usize) -> Option<Vec<(u32, Vec<u8>)>>;

/// The classes, the first of them without anything the matter.
pub const CLASSES: &[(&str, Make)] = &[
    ("plain", |s, t| {
        let draft = s.draft(t);
        s.good(t, &draft)
    }),
    // Numbers.
    ("numbers skipped", |s, t| {
        let few = 1 + s.below(20) as u64;
        s.skip(t, few);
        let draft = s.draft(t);
        s.good(t, &draft)
    }),
    ("far ahead", |s, t| {
        let farthest = if s.tunnel(t).esn && s.below(4) == 0 {
            1 << 31
        } else {
            2 * WINDOW
        };
        let by = s.rng.random_range(WINDOW / 2..farthest);
        let number = s.ahead(t, by);
        let draft = s.numbered(t, number);
        s.good(t, &draft)
    }),
    ("late", |s, t| {
        let number = s.hole(t)?;
        let draft = s.numbered(t, number);
        s.as_it_is(&draft)
    }),
    ("window's edge", |s, t| {
        let number = s.ahead(t, WINDOW + 8);
        let last = s.numbered(t, number);
        let back = WINDOW - 2 + s.below(4) as u64;
        let edge = s.numbered(t, number - back);
        s.pieces([last.packet()?.0, edge.packet()?.0])
    }),
    ("number used again", |s, t| {
        let number = s.used(t)?;
        let draft = s.numbered(t, number);
        s.as_it_is(&draft)
    }),
    ("ESP number used again", |s, t| {
        let number = s.used(t)?;
        let mut draft = s.draft(t);
        draft.esp_number = number;
        s.as_it_is(&draft)
    }),
    ("replay", |s, t| s.sent(t).map(|sent| vec![sent])),
    ("wrong high half in AH", |s, t| {
        let mut draft = s.draft(t);
        draft.ah_number = draft.ah_number.wrapping_add(1 << 32);
        s.tunnel(t).esn.then(|| s.as_it_is(&draft))?
    }),
    ("wrong high half in ESP", |s, t| {
        let mut draft = s.draft(t);
        draft.esp_number = draft.esp_number.wrapping_add(1 << 32);
        s.tunnel(t).esn.then(|| s.as_it_is(&draft))?
    }),
    ("number changed", |s, t| {
        let draft = s.draft(t);
        s.en_route(&draft, |rng, packet, ah| {
            packet[ah + rng.random_range(8..12)] ^= rng.random_range(1..=255)
        })
    }),
    // Outer headers.
    ("mutable fields changed", |s, t| {
        let (draft, v6) = (s.draft(t), s.tunnel(t).v6);
        s.en_route(&draft, |rng, packet, _| {
            if v6 {
                (packet[0], packet[1], packet[2]) = (0x60 | rng.random_range(0..16), rng.random(), rng.random());
                (packet[3], packet[7]) = (rng.random(), rng.random());
            } else {
                (packet[1], packet[6], packet[8]) = (rng.random(), rng.random::<u8>() & 0xc0, rng.random());
                fix_checksum(packet);
            }
        })
    }),
    ("identification changed", |s, t| {
        let draft = (!s.tunnel(t).v6).then(|| s.draft(t))?;
        s.en_route(&draft, |rng, packet, _| {
            packet[4 + rng.random_range(0..2)] ^= rng.random_range(1..=255);
            fix_checksum(packet);
        })
    }),
    ("addresses changed", |s, t| {
        let (draft, v6) = (s.draft(t), s.tunnel(t).v6);
        s.en_route(&draft, |rng, packet, _| {
            // Not the link's own, nor a group's: the last byte of the source.
            packet[if v6 { 23 } else { 15 }] ^= rng.random_range(1..=255);
            fix_unless(packet, v6);
        })
    }),
    ("another protocol", |s, t| {
        let (draft, v6) = (s.draft(t), s.tunnel(t).v6);
        s.en_route(&draft, |rng, packet, _| {
            packet[if v6 { 6 } else { 9 }] = [50, 253, 254, 59][rng.random_range(0..4)];
            fix_unless(packet, v6);
        })
    }),
    ("wrong header checksum", |s, t| {
        let draft = (!s.tunnel(t).v6).then(|| s.draft(t))?;
        s.en_route(&draft, |rng, packet, _| {
            packet[10 + rng.random_range(0..2)] ^= rng.random_range(1..=255)
        })
    }),
    ("version or header length changed", |s, t| {
        let (draft, v6) = (s.draft(t), s.tunnel(t).v6);
        s.en_route(&draft, |rng, packet, _| {
            packet[0] ^= if v6 {
                16 * rng.random_range(1..=15)
            } else {
                rng.random_range(1..=255)
            };
        })
    }),
    ("link's padding", |s, t| {
        let draft = s.draft(t);
        s.en_route(&draft, |rng, packet, _| {
            packet.extend(vec![0xaa; rng.random_range(1..60)])
        })
    }),
    ("cut by the link", |s, t| {
        let draft = s.draft(t);
        s.en_route(&draft, |rng, packet, _| {
            packet.truncate(rng.random_range(20..packet.len()))
        })
    }),
    ("shortened", |s, t| {
        let (draft, v6) = (s.draft(t), s.tunnel(t).v6);
        s.en_route(&draft, |rng, packet, ah| {
            packet.truncate(rng.random_range(ah..packet.len()));
            fix_length(packet, v6);
        })
    }),
    ("lengthened", |s, t| {
        let (draft, v6) = (s.draft(t), s.tunnel(t).v6);
        s.en_route(&draft, |rng, packet, _| {
            packet.extend(vec![7; rng.random_range(1..60)]);
            fix_length(packet, v6);
        })
    }),
    ("fragments", |s, t| {
        let (mut draft, v6) = (s.draft(t), s.tunnel(t).v6);
        draft.id = s.rng.random_range(1..=u16::MAX);
        let (packet, ah) = draft.packet()?;
        let cut = 8 * s.rng.random_range(1..(packet.len() - ah) / 8);
        let id = s.rng.random();
        s.pieces(if v6 {
            fragments_ipv6(&packet, cut, id)
        } else {
            fragments_ipv4(&packet, cut)
        })
    }),
    ("a fragment that is whole", |s, t| {
        let draft = s.tunnel(t).v6.then(|| s.draft(t))?;
        s.en_route(&draft, |rng, packet, ah| {
            insert_header(packet, ah, 44, &[0, 0, 0, 1, 2, 3, rng.random()])
        })
    }),
    ("immutable options", |s, t| {
        let draft = with_options(s, t, false);
        s.as_it_is(&draft)
    }),
    ("immutable options changed", |s, t| {
        let (draft, v6) = (with_options(s, t, false), s.tunnel(t).v6);
        s.en_route(&draft, |_, packet, _| change_option(packet, v6))
    }),
    ("mutable options changed", |s, t| {
        let (draft, v6) = (with_options(s, t, true), s.tunnel(t).v6);
        s.en_route(&draft, |_, packet, _| change_option(packet, v6))
    }),
    ("unknown options changed", |s, t| {
        let mut draft = (!s.tunnel(t).v6).then(|| s.draft(t))?;
        let kind = [11, 12, 82, 94, 136, 142, 145, 150, 205, 222][s.below(10)];
        draft.options = vec![kind, 8, 1, 2, 3, 4, 5, 6];
        s.en_route(&draft, |_, packet, _| change_option(packet, false))
    }),
    ("an option added", |s, t| {
        let (draft, v6) = (s.draft(t), s.tunnel(t).v6);
        s.en_route(&draft, |_, packet, ah| {
            if v6 {
                insert_header(packet, ah, 60, &[0, 0x1e, 4, 1, 2, 3, 4]);
            } else {
                packet.splice(20..20, [1, 1, 1, 1]);
                packet[0] += 1;
                fix_length(packet, false);
            }
        })
    }),
    ("malformed options", |s, t| {
        let mut draft = with_options(s, t, false);
        let length = [0, 1, 61, 200][s.below(4)];
        // In the place of a right one, and signed as such: nobody could sign it otherwise.
        draft.extensions.truncate(1);
        let v6 = s.tunnel(t).v6;
        s.en_route(&draft, |_, packet, _| {
            packet[if v6 { 43 } else { 21 }] = if v6 { length.max(61) } else { length };
            fix_unless(packet, v6);
        })
    }),
    ("source route used up", |s, t| source_route(s, t, true)),
    ("source route", |s, t| source_route(s, t, false)),
    ("an option that must be known", |s, t| {
        let mut draft = s.tunnel(t).v6.then(|| s.draft(t))?;
        let kind = 0x1e | [0x40, 0x80, 0xc0][s.below(3)];
        draft.extensions = vec![([0, 60][s.below(2)], options(kind, &[0; 4]))];
        s.as_it_is(&draft)
    }),
    ("four headers", |s, t| {
        let mut draft = s.tunnel(t).v6.then(|| s.draft(t))?;
        draft.extensions = vec![(60, options(0x1e, &[0; 4])); 4];
        s.as_it_is(&draft)
    }),
    ("five headers", |s, t| {
        let mut draft = s.tunnel(t).v6.then(|| s.draft(t))?;
        draft.extensions = vec![(60, options(0x1e, &[0; 4])); 5];
        s.as_it_is(&draft)
    }),
    ("hop-by-hop options behind others", |s, t| {
        let mut draft = s.tunnel(t).v6.then(|| s.draft(t))?;
        draft.extensions = vec![(60, options(0x1e, &[0; 4])), (0, options(0x1e, &[0; 4]))];
        s.as_it_is(&draft)
    }),
    ("a routing header used up", |s, t| {
        let mut draft = s.tunnel(t).v6.then(|| s.draft(t))?;
        draft.extensions = vec![(43, vec![0, 253, 0, 0, 0, 0, 0])];
        s.as_it_is(&draft)
    }),
    // AH.
    ("AH's reserved field", |s, t| {
        let mut draft = s.draft(t);
        draft.reserved = s.rng.random_range(1..=u16::MAX);
        s.as_it_is(&draft)
    }),
    ("AH's reserved field changed", |s, t| {
        let draft = s.draft(t);
        s.en_route(&draft, |rng, packet, ah| {
            packet[ah + 2 + rng.random_range(0..2)] ^= rng.random_range(1..=255)
        })
    }),
    ("AH's padding", |s, t| {
        let mut draft = s.draft(t);
        (!draft.icv_padding.is_empty()).then_some(())?;
        draft.icv_padding.fill(0x5a);
        s.as_it_is(&draft)
    }),
    ("AH's padding changed", |s, t| {
        let mut draft = s.draft(t);
        if draft.icv_padding.is_empty() {
            draft.icv_padding = vec![0; 4];
        }
        let end = draft.tunnel.icv_parts().0 + draft.tunnel.icv_parts().1;
        s.en_route(&draft, |rng, packet, ah| {
            packet[ah + 12 + end + rng.random_range(0..4)] ^= 1
        })
    }),
    ("AH 4 bytes longer", |s, t| longer_ah(s, t, 4)),
    ("AH 8 bytes longer", |s, t| longer_ah(s, t, 8)),
    ("AH as long as the whole ICV", |s, t| {
        // 32 bytes of HMAC-SHA-256, 16 of CMAC and GMAC.
        let (iv, tag) = s.tunnel(t).icv_parts();
        let whole = 12 + iv + if iv == 0 && tag == 16 { 32 } else { 16 };
        let mut draft = s.draft(t);
        let length = whole.next_multiple_of(if s.tunnel(t).v6 { 8 } else { 4 });
        (length > 12 + iv + tag + draft.icv_padding.len()).then_some(())?;
        draft.icv_padding.resize(length - 12 - iv - tag, 0);
        s.as_it_is(&draft)
    }),
    ("AH's length changed", |s, t| {
        let draft = s.draft(t);
        s.en_route(&draft, |rng, packet, ah| packet[ah + 1] ^= rng.random_range(1..=255))
    }),
    ("AH carries something else", |s, t| {
        let mut draft = s.draft(t);
        draft.ah_next = [4, 41, 59, 99, 17, 51][s.below(6)];
        s.as_it_is(&draft)
    }),
    ("headers behind AH", |s, t| {
        let mut draft = s.tunnel(t).v6.then(|| s.draft(t))?;
        draft.ah_next = 60;
        draft.between = [&[50][..], &options(0x1e, &[0; 4])].concat();
        s.as_it_is(&draft)
    }),
    ("another SPI in AH", |s, t| {
        let mut draft = s.draft(t);
        draft.ah_spi = another_spi(s, t, draft.ah_spi);
        s.as_it_is(&draft)
    }),
    ("AH's ICV changed", |s, t| {
        let draft = s.draft(t);
        let (iv, tag) = draft.tunnel.icv_parts();
        s.en_route(&draft, |rng, packet, ah| match rng.random_range(0..3) {
            0 => packet[ah + 12 + rng.random_range(0..iv + tag)] ^= 1 << rng.random_range(0..8),
            1 => packet[ah + 12 + iv..][..tag].fill(0),
            _ => rng.fill(&mut packet[ah + 12..][..iv + tag]),
        })
    }),
    ("AH of one packet, ESP of another", |s, t| {
        let (first, second) = (s.draft(t), s.draft(t));
        let (other, _) = second.packet()?;
        s.en_route(&first, |_, packet, _| {
            // Its last bytes, ICV included.
            let (ours, theirs) = (packet.len() - 20, other.len() - 20);
            packet[ours..].copy_from_slice(&other[theirs..]);
        })
    }),
    // ESP, under an AH that is right.
    ("another SPI in ESP", |s, t| {
        let mut draft = s.draft(t);
        draft.esp_spi = another_spi(s, t, draft.esp_spi);
        s.as_it_is(&draft)
    }),
    ("ESP changed", |s, t| {
        let mut draft = s.draft(t);
        // Not SPI and number.
        let end = 32 + draft.body.len() + draft.padding.len() + 2;
        draft.esp_bits = vec![(s.rng.random_range(8..end), 1 << s.below(8))];
        s.as_it_is(&draft)
    }),
    ("ESP's number changed", |s, t| {
        let mut draft = s.draft(t);
        draft.esp_bits = vec![(s.rng.random_range(4..8), 1 << s.below(8))];
        s.as_it_is(&draft)
    }),
    ("ESP cut", |s, t| {
        let mut draft = s.draft(t);
        draft.esp_len = s.below(60);
        s.as_it_is(&draft)
    }),
    ("ESP not aligned", |s, t| {
        let mut draft = s.draft(t);
        draft.pad_len += 1 + s.below(3) as u8;
        draft.padding = (1..=draft.pad_len).collect();
        s.as_it_is(&draft)
    }),
    ("longer padding", |s, t| {
        let mut draft = s.draft(t);
        let more = s.below(63) as u8;
        draft.pad(more);
        s.as_it_is(&draft)
    }),
    ("padding that does not count", |s, t| {
        let mut draft = s.draft(t);
        draft.pad(1 + s.below(10) as u8);
        let at = s.below(draft.padding.len());
        draft.padding[at] ^= s.rng.random_range(1..=255);
        s.as_it_is(&draft)
    }),
    ("padding longer than the packet", |s, t| {
        let mut draft = s.draft(t);
        draft.pad_len = s.rng.random_range(draft.body.len() + draft.padding.len() + 1..256) as u8;
        s.as_it_is(&draft)
    }),
    ("padding that eats the datagram", |s, t| {
        let mut draft = s.draft(t);
        let most = draft.body.len() + draft.padding.len();
        draft.pad_len = s.rng.random_range(draft.padding.len() + 1..=most) as u8;
        s.as_it_is(&draft)
    }),
    ("traffic flow padding", |s, t| {
        let mut draft = s.draft(t);
        let more = s.below(200);
        draft.body.extend(vec![0; more]);
        draft.pad(0);
        s.as_it_is(&draft)
    }),
    ("a dummy", |s, t| {
        let mut draft = s.draft(t);
        draft.esp_next = 59;
        s.as_it_is(&draft)
    }),
    ("ESP carries something else", |s, t| {
        let mut draft = s.draft(t);
        draft.esp_next = [6, 17, 50, 51, 99, 255][s.below(6)];
        s.as_it_is(&draft)
    }),
    ("ESP names the other family", |s, t| {
        let mut draft = s.draft(t);
        draft.esp_next = if draft.esp_next == 4 { 41 } else { 4 };
        s.as_it_is(&draft)
    }),
    ("datagram longer than its packet", |s, t| {
        let mut draft = s.draft(t);
        let shorter = draft.body.len() - 1 - s.below(8);
        draft.body.truncate(shorter);
        draft.pad(0);
        s.as_it_is(&draft)
    }),
    // Noise.
    ("one bit", |s, t| {
        let (draft, v6) = (s.draft(t), s.tunnel(t).v6);
        s.en_route(&draft, |rng, packet, _| {
            let at = rng.random_range(0..packet.len());
            packet[at] ^= 1 << rng.random_range(0..8);
            if !matches!(at, 0 | 10 | 11) {
                fix_unless(packet, v6);
            }
        })
    }),
    ("several bytes", |s, t| {
        let (draft, v6) = (s.draft(t), s.tunnel(t).v6);
        s.en_route(&draft, |rng, packet, _| {
            for _ in 0..rng.random_range(2..8) {
                let at = rng.random_range(0..packet.len());
                packet[at] = rng.random();
            }
            if rng.random() {
                fix_unless(packet, v6);
            }
        })
    }),
];

/// Whether the reason of a drop is compared: where several things are the matter, any of them will do.
pub fn has_one_reason(class: usize) -> bool {
    CLASSES[class].0 != "several bytes"
}

/// The right checksum again, over IPv4.
fn fix_unless(packet: &mut [u8], v6: bool) {
    if !v6 {
        fix_checksum(packet);
    }
}

/// An options header from its length field on: one option, padded to 8 bytes.
fn options(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut rest = [&[0, kind, data.len() as u8][..], data].concat();
    while rest.len() % 8 != 7 {
        rest.push(0);
    }
    rest[0] = (rest.len() / 8) as u8;
    rest
}

/// With options of either family that are mutable or not, the first of them with data at [`change_option`]'s place.
fn with_options<'t>(s: &mut Source<'t>, t: usize, mutable: bool) -> Draft<'t> {
    let mut draft = s.draft(t);
    if s.tunnel(t).v6 {
        let kind = if mutable { 0x3e } else { 0x1e };
        let first = [0, 60][s.below(2)];
        let room = s.below(20);
        draft.extensions = vec![(first, options(kind, &[&[9; 4][..], &vec![3; room]].concat()))];
        if s.rng.random() {
            draft.extensions.push((60, options(0x1e, &[4; 4])));
        }
        return draft;
    }
    let choices: &[&[u8]] = match mutable {
        // Record route with an address and room for one more; a time stamp and room for one more.
        true => &[
            &[7, 11, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0],
            &[68, 12, 9, 0, 1, 2, 3, 4, 0, 0, 0, 0],
        ],
        // Security; router alert; extended security and the end of the list; sender-directed delivery and nothing; a list that ends.
        false => &[
            &[130, 11, 0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0],
            &[148, 4, 0, 0],
            &[133, 7, 1, 2, 3, 4, 5, 0],
            &[149, 7, 192, 0, 2, 9, 1, 1],
        ],
    };
    draft.options = choices[s.below(choices.len())].to_vec();
    draft
}

/// Changes the data of the first option.
fn change_option(packet: &mut [u8], v6: bool) {
    match (v6, packet.get(20)) {
        (true, _) => packet[44] ^= 0x10,
        (false, Some(68 | 7)) => packet[26] ^= 0x10,
        (false, _) => packet[23] ^= 0x10,
    }
    fix_unless(packet, v6);
}

fn source_route(s: &mut Source<'_>, t: usize, used_up: bool) -> Option<Vec<(u32, Vec<u8>)>> {
    let mut draft = (!s.tunnel(t).v6).then(|| s.draft(t))?;
    let kind = [131, 137][s.below(2)];
    let pointer = if used_up { 12 } else { [4, 8][s.below(2)] };
    draft.options = vec![kind, 11, pointer, 192, 0, 2, 33, 192, 0, 2, 34, 1];
    s.as_it_is(&draft)
}

fn longer_ah(s: &mut Source<'_>, t: usize, bytes: usize) -> Option<Vec<(u32, Vec<u8>)>> {
    let mut draft = s.draft(t);
    draft.icv_padding.resize(draft.icv_padding.len() + bytes, 0);
    s.as_it_is(&draft)
}

/// A reserved SPI, a random one, or that of the other association.
fn another_spi(s: &mut Source<'_>, t: usize, spi: u32) -> u32 {
    let tunnel = s.tunnel(t);
    match s.below(3) {
        0 => s.rng.random_range(0..256),
        1 => s.rng.random_range(0x10_0000..u32::MAX),
        _ if spi == tunnel.ah_spi => tunnel.esp_spi,
        _ => tunnel.ah_spi,
    }
}

/// Puts an extension header, from its second byte on, in front of the AH of a packet without any.
fn insert_header(packet: &mut Vec<u8>, ah: usize, kind: u8, rest: &[u8]) {
    packet.splice(ah..ah, [&[51][..], rest].concat());
    packet[6] = kind;
    fix_length(packet, true);
}

/// RFC 791 section 3.2: two pieces of a packet without options.
fn fragments_ipv4(packet: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let piece = |flags_offset: usize, payload: &[u8]| {
        let mut piece = [header, payload].concat();
        piece[6..8].copy_from_slice(&(flags_offset as u16).to_be_bytes());
        fix_length(&mut piece, false);
        piece
    };
    vec![piece(0x2000, &payload[..cut]), piece(cut / 8, &payload[cut..])]
}

/// RFC 8200 section 4.5: two pieces of a packet without extension headers.
fn fragments_ipv6(packet: &[u8], cut: usize, id: u32) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(40);
    let piece = |offset_more: usize, payload: &[u8]| {
        let (mut piece, offset_more) = (header.to_vec(), (offset_more as u16).to_be_bytes());
        piece.extend([51, 0, offset_more[0], offset_more[1]]);
        piece.extend(id.to_be_bytes());
        piece.extend(payload);
        piece[6] = 44;
        fix_length(&mut piece, true);
        piece
    };
    vec![piece(1, &payload[..cut]), piece(cut, &payload[cut..])]
}
