/*
 * What Rust cannot call or lay out by itself: DPDK's inline functions, and control structures whose fields move between
 * releases, flattened. Written against DPDK 22.11; sources of later releases compile the same.
 */
#ifndef AIN_DPDK_SHIM_H
#define AIN_DPDK_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

/* Where Rust finds the fields of a packet buffer. Releases since 24.11 wrap them in unions: offsets do not care. */
enum shim_mbuf_offset {
    SHIM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
    SHIM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
    SHIM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
    SHIM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
    SHIM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
    SHIM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
};

static const uint64_t SHIM_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const uint64_t SHIM_MAX_PORTS = RTE_MAX_ETHPORTS;
static const uint64_t SHIM_NAME_SIZE = RTE_ETH_NAME_MAX_LEN;
static const uint64_t SHIM_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t SHIM_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t SHIM_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t SHIM_RSS_ESP = RTE_ETH_RSS_ESP;
static const uint64_t SHIM_RSS_AH = RTE_ETH_RSS_AH;
static const uint64_t SHIM_RX_IPV4_CHECKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHIM_TX_IPV4_CHECKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_TX_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;

struct shim_port_info {
    char driver[RTE_ETH_NAME_MAX_LEN];
    uint8_t mac[RTE_ETHER_ADDR_LEN];
    uint16_t max_rx_queues, max_tx_queues;
    uint16_t min_mtu, max_mtu, mtu;
    uint16_t reta_size;
    uint32_t max_rx_packet;
    uint32_t if_index;
    int socket;
    uint64_t rss_types, rx_offloads, tx_offloads;
};

struct shim_port_config {
    uint16_t rx_queues, tx_queues;
    uint32_t mtu; /* 0: the driver's default */
    uint64_t rss_types, rx_offloads, tx_offloads;
};

enum { SHIM_KEY_MAX = 128, SHIM_RETA_MAX = 4096 };

/* What a port says of its spreading by hash. */
struct shim_rss {
    uint64_t types;
    uint8_t key[SHIM_KEY_MAX];
    uint16_t key_len;              /* 0: unknown */
    uint16_t reta[SHIM_RETA_MAX];
    uint16_t reta_len;             /* 0: unknown */
};

struct shim_link {
    uint32_t speed_mbps;
    uint8_t up, full_duplex;
};

int shim_errno(void);
uint64_t shim_tsc(void);
unsigned int shim_lcore_id(void);
int shim_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **into, unsigned int count);
void shim_free(struct rte_mbuf *buf);
void shim_free_bulk(struct rte_mbuf **bufs, unsigned int count);
int shim_linearize(struct rte_mbuf *buf);
uint16_t shim_data_room(struct rte_mempool *pool);
int shim_port_info(uint16_t port, struct shim_port_info *into);
int shim_port_configure(uint16_t port, const struct shim_port_config *config);
int shim_link(uint16_t port, struct shim_link *into);
int shim_rss_read(uint16_t port, struct shim_rss *into);
int shim_rss_deal(uint16_t port, uint16_t queues);
int shim_rss_rule_ah(uint16_t port);

#endif
