//! The packet path through chains of AINs whose tables are written by hand: what goes in comes out, both ways.

mod both_ways;
mod crypto;
mod sim;
