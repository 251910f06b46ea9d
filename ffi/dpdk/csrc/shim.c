#include "shim.h"

#include <string.h>

int shim_errno(void)
{
    return rte_errno;
}

uint64_t shim_tsc(void)
{
    return rte_rdtsc();
}

unsigned int shim_lcore_id(void)
{
    return rte_lcore_id();
}

int shim_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **into, unsigned int count)
{
    return rte_pktmbuf_alloc_bulk(pool, into, count);
}

void shim_free(struct rte_mbuf *buf)
{
    rte_pktmbuf_free(buf);
}

int shim_linearize(struct rte_mbuf *buf)
{
    return rte_pktmbuf_linearize(buf);
}

uint16_t shim_data_room(struct rte_mempool *pool)
{
    return rte_pktmbuf_data_room_size(pool);
}

int shim_port_info(uint16_t port, struct shim_port_info *into)
{
    struct rte_eth_dev_info info;
    struct rte_ether_addr mac;
    int failed;

    memset(into, 0, sizeof(*into));
    failed = rte_eth_dev_info_get(port, &info);
    if (failed != 0)
        return failed;
    failed = rte_eth_macaddr_get(port, &mac);
    if (failed != 0)
        return failed;
    failed = rte_eth_dev_get_mtu(port, &into->mtu);
    if (failed != 0)
        return failed;
    if (info.driver_name != NULL)
        strncpy(into->driver, info.driver_name, sizeof(into->driver) - 1);
    memcpy(into->mac, mac.addr_bytes, sizeof(into->mac));
    into->max_rx_queues = info.max_rx_queues;
    into->max_tx_queues = info.max_tx_queues;
    into->min_mtu = info.min_mtu;
    into->max_mtu = info.max_mtu;
    into->reta_size = info.reta_size;
    into->max_rx_packet = info.max_rx_pktlen;
    into->if_index = info.if_index;
    into->socket = rte_eth_dev_socket_id(port);
    into->rss_types = info.flow_type_rss_offloads;
    into->rx_offloads = info.rx_offload_capa;
    into->tx_offloads = info.tx_offload_capa;
    return 0;
}

int shim_port_configure(uint16_t port, const struct shim_port_config *config)
{
    struct rte_eth_conf conf;

    memset(&conf, 0, sizeof(conf));
    conf.rxmode.mtu = config->mtu;
    conf.rxmode.offloads = config->rx_offloads;
    conf.txmode.offloads = config->tx_offloads;
    if (config->rss_types != 0) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = config->rss_types;
    }
    return rte_eth_dev_configure(port, config->rx_queues, config->tx_queues, &conf);
}

int shim_link(uint16_t port, struct shim_link *into)
{
    struct rte_eth_link link;
    int failed = rte_eth_link_get_nowait(port, &link);

    if (failed != 0)
        return failed;
    into->speed_mbps = link.link_speed;
    into->up = link.link_status == RTE_ETH_LINK_UP;
    into->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
    return 0;
}
