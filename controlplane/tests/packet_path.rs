//! The packet path through chains of AINs whose tables are written by hand: what goes in comes out, both ways.

mod both_ways;
mod crypto;
mod sim;

#[test]
fn datagrams_cross_chains_both_ways() {
    both_ways::datagrams_cross_chains_both_ways();
}
