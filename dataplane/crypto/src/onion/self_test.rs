//! What a level must answer before it is given a packet.

use super::{Hctr2Key, Level, Onion, OnionKey, OnionKey256};
use crate::{LayerJob, LayerOp};
use hex_literal::hex;

/// Cells that reach every turn of the code: less than a register, whole registers, groups of them, ends that do not fill a block.
const LENGTHS: [usize; 8] = [16, 47, 63, 64, 200, 321, 1408, 1451];

/// Whether the engine gives two published answers (HCTR2_AES128.json and HCTR2_AES256.json of google/hctr2) and, on longer cells,
/// those of the portable level.
pub(super) fn passes(engine: Onion) -> bool {
    let published_128 = answers(
        engine,
        &OnionKey::new(&hex!("1bb314eb8e12c8b5eb543f56c5eba8e1")),
        hex!("318cc4fbb58e8e1c71d66de69a916ba6"),
        hex!("ca19cbcea68945e4dc7fbd24723028f4d360ef75d6bc0e1bde1c27a4c5ca80"),
        hex!("6cda4aff0713541390daedc3657c523338c8c366cb0f75487403e35b1c6b0a"),
    );
    let published_256 = answers(
        engine,
        &OnionKey256::new(&hex!(
            "af78fd378503404216ce5cc1e142491f6e05e19833a974cd847580e9796005f8"
        )),
        hex!("5af1d993908473577cc5c5510fae6a37"),
        hex!("84b4f4cd1bcd2a869ba4cb77d93f08b1efbd639ec59304b1be22b828cf7897e1834d27e7c973ce257503b235e2809e55"),
        hex!("96c8ee2482382f2f33c939d9b6b5f1aff6c06b5a3a4ebebee71f960be32f001b160cdcc11241772343e052801d094303"),
    );
    published_128
        && published_256
        && (engine.level() == Level::Portable || LENGTHS.into_iter().all(|length| agrees(engine, length)))
}

/// Whether `plain` becomes `cipher` under a key, and `plain` again.
fn answers<const R: usize, const N: usize>(
    engine: Onion,
    key: &Hctr2Key<R>,
    tweak: [u8; 16],
    plain: [u8; N],
    cipher: [u8; N],
) -> bool {
    let mut text = plain;
    run(engine, key, tweak, LayerOp::Encrypt, &mut text);
    let sealed = text == cipher;
    run(engine, key, tweak, LayerOp::Decrypt, &mut text);
    sealed && text == plain
}

/// Whether a cell comes out of the engine as it does of the portable one, both ways.
fn agrees(engine: Onion, length: usize) -> bool {
    let Some(portable) = Onion::with_level(Level::Portable) else {
        return false;
    };
    let key = OnionKey::new(&[length as u8; 16]);
    let cell: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
    [LayerOp::Encrypt, LayerOp::Decrypt].into_iter().all(|op| {
        let [mut ours, mut theirs] = [cell.clone(), cell.clone()];
        run(engine, &key, [9; 16], op, &mut ours);
        run(portable, &key, [9; 16], op, &mut theirs);
        ours == theirs
    })
}

fn run<const R: usize>(engine: Onion, key: &Hctr2Key<R>, tweak: [u8; 16], op: LayerOp, cell: &mut [u8]) {
    engine.run(&mut [LayerJob { key, tweak, op, cell }]);
}
