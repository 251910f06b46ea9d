//! A port that loops its packets back, from plugging to clean-up.

use arrayvec::ArrayVec;
use dpdk_sys::eal::{Eal, EalError, Handle};
use dpdk_sys::lcore::{self, Lcore};
use dpdk_sys::mbuf::{Mbuf, NoRoom};
use dpdk_sys::mempool::{Exhausted, HEADROOM, Mempool, PoolConfig, PoolError};
use dpdk_sys::port::{self, Port, PortConfig, PortError};

use super::{Burst, fill, frame, pool, receive, send_all, started};

/// All of it, on one EAL.
pub fn whole_life(eal: Eal) {
    let handle = eal.handle();
    let twice = Eal::init(["--no-pci"]);
    assert!(matches!(twice, Err(EalError::AlreadyStarted)));
    let buffers = pool(&handle, "ring", 1023);
    assert_eq!((buffers.size(), buffers.available(), buffers.in_use()), (1023, 1023, 0));
    buffer_geometry(&buffers);
    pool_limits(&handle, &buffers);
    packets_come_back_as_sent(&handle, &buffers);
    two_threads(&handle, &buffers);
    stop_and_start(&handle, &buffers);
    refusals(&handle, &buffers);
    assert_eq!(buffers.in_use(), 0, "a buffer leaked");
    drop((buffers, handle));
    assert_eq!(eal.cleanup(), Ok(()));
}

fn buffer_geometry(pool: &Mempool) {
    let mut buf = pool.alloc().expect("buffer");
    let capacity = pool.data_room();
    assert_eq!(
        (buf.len(), buf.headroom(), buf.tailroom()),
        (0, HEADROOM, capacity - HEADROOM)
    );
    assert_eq!(buf.capacity(), capacity);
    assert!(buf.is_empty());
    buf.append(10).expect("room behind");
    buf.data_mut().copy_from_slice(b"0123456789");
    buf.prepend(4).expect("room before");
    buf.data_mut()[..4].copy_from_slice(b"abcd");
    assert_eq!(buf.data(), b"abcd0123456789");
    buf.adj(2).expect("bytes at the front");
    buf.trim(3).expect("bytes at the back");
    assert_eq!(buf.data(), b"cd0123456");
    assert_eq!(buf.headroom() + buf.len() + buf.tailroom(), capacity);
    assert_eq!(
        buf.prepend(HEADROOM - 1),
        Err(NoRoom {
            asked: HEADROOM - 1,
            there: HEADROOM - 2
        })
    );
    assert_eq!(
        buf.append(capacity),
        Err(NoRoom {
            asked: capacity,
            there: buf.tailroom()
        })
    );
    assert_eq!(buf.adj(10), Err(NoRoom { asked: 10, there: 9 }));
    assert_eq!(buf.trim(10), Err(NoRoom { asked: 10, there: 9 }));
    assert_eq!(buf.data(), b"cd0123456", "a refusal changes nothing");
    assert_eq!(pool.in_use(), 1);
    drop(buf);
    assert_eq!(pool.in_use(), 0);
}

fn pool_limits(eal: &Handle, pool: &Mempool) {
    let mut all: ArrayVec<Mbuf, 1023> = ArrayVec::new();
    pool.alloc_bulk(1000, &mut all).expect("most of the pool");
    assert_eq!(
        pool.alloc_bulk(23 + 1, &mut ArrayVec::<Mbuf, 24>::new()),
        Err(Exhausted),
        "all or none"
    );
    assert_eq!(pool.in_use(), 1000);
    pool.alloc_bulk(23, &mut all).expect("the rest");
    assert!(pool.alloc().is_none());
    Mbuf::free_bulk(&mut all);
    assert_eq!((all.len(), pool.in_use()), (0, 0));
    let again = PoolConfig {
        name: "ring",
        buffers: 63,
        data_room: 2176,
        cache: 0,
        socket: None,
    };
    let Err(PoolError::Create { name, errno, .. }) = Mempool::create(eal, &again) else {
        panic!("a name taken twice")
    };
    assert_eq!((name.as_str(), errno.0), ("ring", libc::EEXIST));
}

fn packets_come_back_as_sent(eal: &Handle, pool: &Mempool) {
    let mut port = started(eal, "net_ring0", 1, pool);
    let mut burst = Burst::new();
    for first in (0..32 * 200).step_by(32) {
        fill(pool, first, 32, &mut burst);
        send_all(&mut port.tx[0], &mut burst);
        receive(&mut port.rx[0], 32, &mut burst, |_| true);
        for (number, buf) in (first..).zip(&burst) {
            assert_eq!(buf.data(), frame(number), "packet {number}");
        }
        Mbuf::free_bulk(&mut burst);
    }
    assert_eq!(port.rx[0].rx_burst(&mut burst), 0, "nothing is left");
    let stats = port.port.device().stats().expect("stats");
    assert_eq!((stats.rx_packets, stats.tx_packets), (6400, 6400));
    let extended = port.port.device().extended_stats().expect("xstats");
    let found = extended
        .iter()
        .find(|(name, _)| name == "rx_good_packets")
        .map(|(_, value)| *value);
    assert_eq!(found, Some(6400), "{extended:?}");
    assert_eq!(pool.in_use(), 0);
}

/// One lcore sends, another receives; each returns what it gave to the pool's ring or its own cache.
fn two_threads(eal: &Handle, pool: &Mempool) {
    const PACKETS: u64 = 32 * 300;
    let mut port = started(eal, "net_ring1", 1, pool);
    let (mut rx, mut tx) = (port.rx.remove(0), port.tx.remove(0));
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let place = Lcore::register(eal).expect("lcore");
            assert_eq!(lcore::current_id(), Some(place.id()));
            assert!(Lcore::register(eal).is_err(), "registered twice");
            let mut burst = Burst::new();
            for first in (0..PACKETS).step_by(32) {
                while pool.alloc_bulk(32, &mut burst).is_err() {
                    std::thread::yield_now();
                }
                for (number, buf) in (first..).zip(&mut burst) {
                    buf.append(8).expect("room");
                    buf.data_mut().copy_from_slice(&number.to_be_bytes());
                }
                send_all(&mut tx, &mut burst);
            }
            drop(place);
            assert_eq!(lcore::current_id(), None);
        });
        threads.spawn(move || {
            let _place = Lcore::register(eal).expect("lcore");
            let mut burst = Burst::new();
            let mut next = 0;
            while next < PACKETS {
                receive(&mut rx, 1, &mut burst, |_| true);
                for buf in burst.drain(..) {
                    assert_eq!(buf.data(), next.to_be_bytes());
                    next += 1;
                }
            }
        });
    });
    assert_eq!(pool.in_use(), 0, "caches of lcores that are gone count as free");
    let (earlier, later) = (lcore::tsc(), lcore::tsc());
    assert!(lcore::tsc_hz(eal) > 1_000_000 && later >= earlier && earlier > 0);
}

fn stop_and_start(eal: &Handle, pool: &Mempool) {
    let mut first = started(eal, "net_ring2", 1, pool);
    assert!(matches!(Port::open(eal, "net_ring2"), Err(PortError::InUse(name)) if name == "net_ring2"));
    let refused = first.port.stop().expect_err("its queues are in our hands");
    assert_eq!(refused.queues, 2);
    let mut burst = Burst::new();
    fill(pool, 7, 1, &mut burst);
    send_all(&mut first.tx[0], &mut burst);
    receive(&mut first.rx[0], 1, &mut burst, |_| true);
    assert_eq!(
        burst.pop().expect("packet").data(),
        frame(7),
        "it runs on after the refusal"
    );
    drop((first.rx, first.tx));
    let stopped = refused.port.stop().expect("no queue is left");
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 2,
        promiscuous: true,
        ..PortConfig::default()
    };
    let mut second = stopped.start(&config, pool).expect("start again");
    assert!(second.port.device().is_promiscuous());
    assert!(second.port.device().link().expect("link").up);
    for queue in [1, 0] {
        fill(pool, 8, 1, &mut burst);
        send_all(&mut second.tx[queue], &mut burst);
        assert_eq!(second.rx[1 - queue].rx_burst(&mut burst), 0, "the other queue");
        receive(&mut second.rx[queue], 1, &mut burst, |_| true);
        assert_eq!(burst.pop().expect("packet").data(), frame(8));
        assert_eq!(usize::from(second.rx[queue].index()), queue);
    }
}

fn refusals(eal: &Handle, pool: &Mempool) {
    let Err(PortError::Unknown(name, known)) = Port::open(eal, "net_ring9") else {
        panic!("a port of no such name")
    };
    assert_eq!(name, "net_ring9");
    assert_eq!(known, port::names(eal));
    assert!(matches!(eal.plug("net_nosuchdriver0"), Err(EalError::Probe { .. })));
    let fresh = |device: &str| {
        eal.plug(device).expect("plug");
        Port::open(eal, device).expect("open")
    };
    let port = fresh("net_ring3");
    assert!(port::names(eal).contains(&"net_ring3".to_owned()));
    let info = port.device().info().expect("info");
    assert_eq!((info.driver.as_str(), info.if_index), ("net_ring", None));
    let many = PortConfig {
        rx_queues: info.max_rx_queues + 1,
        ..PortConfig::default()
    };
    let error = port.start(&many, pool).expect_err("too many queues");
    assert!(matches!(&error, PortError::Queues { direction: "rx", .. }), "{error}");
    let none = PortConfig {
        tx_queues: 0,
        ..PortConfig::default()
    };
    let error = fresh("net_ring4").start(&none, pool).expect_err("no queue");
    assert!(
        matches!(
            &error,
            PortError::Queues {
                direction: "tx",
                asked: 0,
                ..
            }
        ),
        "{error}"
    );
    let spread = PortConfig {
        rss: dpdk_sys::info::RssTypes::AH,
        ..PortConfig::default()
    };
    let error = fresh("net_ring5")
        .start(&spread, pool)
        .expect_err("a ring hashes nothing");
    assert!(matches!(&error, PortError::Rss { .. }), "{error}");
    let long = PortConfig {
        mtu: Some(9000),
        ..PortConfig::default()
    };
    let error = fresh("net_ring6")
        .start(&long, pool)
        .expect_err("frames longer than buffers");
    assert!(
        matches!(
            &error,
            PortError::Buffers {
                mtu: 9000,
                room: 2176,
                ..
            }
        ),
        "{error}"
    );
}
