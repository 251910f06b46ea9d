//! Cache hints: the packet path names what a later packet of the burst will touch.

/// Asks for every cache line of a value (and, of a long one, up to three behind it), to be there when it is read a little later. A hint: it changes nothing that a program can
/// see, and does nothing on processors other than x86-64.
#[inline(always)]
pub fn prefetch<T: ?Sized>(place: &T) {
    lines(std::ptr::from_ref(place).cast(), size_of_val(place));
}

/// Bytes of a cache line.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const LINE_BYTES: usize = 64;

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
#[allow(unsafe_code)]
fn lines(start: *const i8, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let end = start.wrapping_add(bytes);
    let mut line = start.map_addr(|address| address & !(LINE_BYTES - 1));
    // SAFETY: PREFETCHT0 is of SSE, which every x86-64 has, and reads nothing that the program could see: by the
    // processor's manual it cannot fault, whatever the address.
    let ask = |line| unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    if bytes <= 4 * LINE_BYTES {
        while line < end {
            ask(line);
            line = line.wrapping_add(LINE_BYTES);
        }
        return;
    }
    // By fours, past the end if need be: the loop would cost more than the hints.
    while line < end {
        ask(line);
        ask(line.wrapping_add(LINE_BYTES));
        ask(line.wrapping_add(2 * LINE_BYTES));
        ask(line.wrapping_add(3 * LINE_BYTES));
        line = line.wrapping_add(4 * LINE_BYTES);
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
fn lines(_start: *const i8, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::prefetch;

    #[test]
    fn a_value_is_as_it_was() {
        let value: Vec<u8> = (0..=255).collect();
        for start in 0..value.len() {
            prefetch(&value[start..]);
            prefetch(&value[..start]);
        }
        prefetch(&());
        assert!(value.iter().copied().eq(0..=255));
    }
}
