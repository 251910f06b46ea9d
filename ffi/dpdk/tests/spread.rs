//! How ports of virtual devices spread packets, once they were asked and have answered.
mod common;

use dpdk_sys::eal::Handle;
use dpdk_sys::mempool::Mempool;
use dpdk_sys::port::{Port, PortConfig};
use dpdk_sys::spread::{Mode, Plan, Programmed, Spread, judge, plan};

#[test]
fn virtual_devices_hand_off() {
    let eal = common::eal();
    let handle = eal.handle();
    let pool = common::pool(&handle, "spread", 8191);
    addresses_are_hashed_but_no_spis(&handle, &pool);
    queues_without_a_hash(&handle, &pool);
    one_worker_asks_for_nothing(&handle, &pool);
    drop((pool, handle));
    eal.cleanup().expect("clean");
}

/// Plugs a device and has it spread its packets over `workers` workers.
fn spread(eal: &Handle, device: &str, workers: u16, pool: &Mempool) -> (Plan, Programmed, Spread) {
    eal.plug(device).expect("plug");
    let name = device.split(',').next().expect("name");
    let port = Port::open(eal, name).expect("open");
    let info = port.device().info().expect("info");
    let plan = plan(&info, workers);
    let config = PortConfig {
        rx_queues: plan.queues,
        tx_queues: plan.queues,
        rss: plan.rss,
        ..PortConfig::default()
    };
    let started = port.start(&config, pool).expect("start");
    let programmed = started.port.device().program_spread(&plan).expect("answer");
    let spread = judge(&info, workers, &plan, &programmed);
    (plan, programmed, spread)
}

/// `net_null` has a table: what is dealt can be read back.
fn addresses_are_hashed_but_no_spis(eal: &Handle, pool: &Mempool) {
    let (plan, programmed, spread) = spread(eal, "net_null5,size=64", 3, pool);
    assert_eq!(plan.queues, 3);
    assert!(!programmed.reta.is_empty(), "{programmed:?}");
    for (at, queue) in (0..).zip(&programmed.reta) {
        assert_eq!(*queue, at % 3, "entry {at} of the table");
    }
    assert_eq!(
        (spread.mode, spread.steering),
        (Mode::HandOff, None),
        "{}",
        spread.reason
    );
}

fn queues_without_a_hash(eal: &Handle, pool: &Mempool) {
    let (plan, _, spread) = spread(eal, "net_ring5", 2, pool);
    assert_eq!(spread.mode, Mode::HandOff, "{}", spread.reason);
    assert!(plan.queues == 2 || spread.reason.contains("1 pair of queues for 2 workers"));
}

fn one_worker_asks_for_nothing(eal: &Handle, pool: &Mempool) {
    let (plan, programmed, spread) = spread(eal, "net_null6,size=64", 1, pool);
    assert_eq!((plan.queues, programmed), (1, Programmed::default()));
    assert_eq!(spread.mode, Mode::OneQueue);
}
