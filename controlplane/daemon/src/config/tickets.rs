//! `[tickets]`: what a node asks of those who want it in their AIVTs, and how many of others' tickets it keeps.

use ain_controlplane::limits::{TICKET_QUOTA, TICKETS_A_BATCH, WALLET};
use serde::Deserialize;
use toml::Spanned;

use super::raw::unplaced;
use super::report::Checker;

/// Tickets that can be issued to one entrance in a slice, or held of one issuer, at most.
const TICKETS_MAX: u32 = 1 << 20;

/// `[tickets]` as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTickets {
    /// Whether a creating signal needs one.
    demand: bool,
    /// Issued to one entrance in a slice.
    quota: Spanned<u32>,
    /// Held of each issuer and slice.
    wallet: Spanned<u32>,
}

impl Default for RawTickets {
    fn default() -> Self {
        Self {
            demand: false,
            quota: unplaced(TICKET_QUOTA),
            wallet: unplaced(WALLET as u32),
        }
    }
}

/// Tickets of this node and of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tickets {
    /// Whether this node issues tickets, and refuses creating signals without one.
    pub demand: bool,
    /// Issued to one entrance in a slice at most.
    pub quota: u32,
    /// Held of each issuer and slice; 0: none are fetched.
    pub wallet: usize,
}

pub(super) fn check_tickets(checker: &mut Checker, raw: &RawTickets) -> Tickets {
    let (quota, wallet) = (*raw.quota.get_ref(), *raw.wallet.get_ref());
    let batch = TICKETS_A_BATCH as u32;
    if !(batch..=TICKETS_MAX).contains(&quota) {
        let problem = format_args!("{quota} is not {batch} to {TICKETS_MAX}");
        checker.at(raw.quota.span(), "tickets.quota", problem);
    }
    if wallet != 0 && !(batch..=TICKETS_MAX).contains(&wallet) {
        let problem = format_args!("{wallet} is neither 0 nor {batch} to {TICKETS_MAX}");
        checker.at(raw.wallet.span(), "tickets.wallet", problem);
    }
    Tickets {
        demand: raw.demand,
        quota,
        wallet: wallet as usize,
    }
}
