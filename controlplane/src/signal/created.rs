//! CREATED: the answer to CREATE, by which the entrance learns that every hop holds its key (protocol section 5).
//!
//! ```text
//! c_n = HMAC(confirm_n, 0^32)   c_i = HMAC(confirm_i, c_{i+1})   travels from the exit to the entrance, one link a hop
//! ```

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::key_schedule::{ConfirmKey, HopSecrets};

/// c_i.
pub type Confirmation = [u8; 32];

/// What stands for c_{n+1}.
pub const BEYOND_EXIT: Confirmation = [0; 32];

/// c_i from this hop's key and the next hop's c_{i+1}.
pub fn confirm(key: &ConfirmKey, beyond: &Confirmation) -> Confirmation {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes keys of any length");
    mac.update(beyond);
    mac.finalize().into_bytes().into()
}

/// Whether `given` is the c_2 of a path with the keys `hops`, in path order. Constant time.
pub fn is_confirmed(hops: &[HopSecrets], given: &Confirmation) -> bool {
    let wanted = hops
        .iter()
        .rev()
        .fold(BEYOND_EXIT, |beyond, hop| confirm(&hop.confirm, &beyond));
    wanted.ct_eq(given).into()
}
