#include "shim.h"

#include <errno.h>
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

/* Whole runs of one pool at once, as a driver with fast free does: a buffer of one segment, one reference and no attached memory
   needs nothing done to it. */
void shim_free_bulk(struct rte_mbuf **bufs, unsigned int count)
{
    unsigned int at = 0;
    while (at < count) {
        struct rte_mempool *pool = bufs[at]->pool;
        unsigned int end = at;
        while (end < count && bufs[end]->pool == pool && RTE_MBUF_DIRECT(bufs[end]) &&
               rte_mbuf_refcnt_read(bufs[end]) == 1 && bufs[end]->nb_segs == 1)
            end++;
        if (end == at) {
            rte_pktmbuf_free(bufs[at]);
            at++;
        } else {
            rte_mempool_put_bulk(pool, (void *const *)&bufs[at], end - at);
            at = end;
        }
    }
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

/* The table from hash to queue, in the groups that DPDK wants. */
static void reta_of(struct rte_eth_rss_reta_entry64 *groups, uint16_t entries, uint16_t queues)
{
    uint16_t at;

    memset(groups, 0, sizeof(*groups) * (SHIM_RETA_MAX / RTE_ETH_RETA_GROUP_SIZE));
    for (at = 0; at < entries; at++) {
        struct rte_eth_rss_reta_entry64 *group = &groups[at / RTE_ETH_RETA_GROUP_SIZE];

        group->mask |= UINT64_C(1) << (at % RTE_ETH_RETA_GROUP_SIZE);
        group->reta[at % RTE_ETH_RETA_GROUP_SIZE] = queues == 0 ? 0 : at % queues;
    }
}

int shim_rss_read(uint16_t port, struct shim_rss *into)
{
    struct rte_eth_rss_reta_entry64 groups[SHIM_RETA_MAX / RTE_ETH_RETA_GROUP_SIZE];
    struct rte_eth_rss_conf conf;
    struct rte_eth_dev_info info;
    uint16_t at;
    int failed;

    memset(into, 0, sizeof(*into));
    failed = rte_eth_dev_info_get(port, &info);
    if (failed != 0)
        return failed;
    memset(&conf, 0, sizeof(conf));
    conf.rss_key = into->key;
    conf.rss_key_len = sizeof(into->key);
    if (info.hash_key_size > sizeof(into->key))
        return -E2BIG;
    failed = rte_eth_dev_rss_hash_conf_get(port, &conf);
    if (failed != 0)
        return failed;
    into->types = conf.rss_hf;
    into->key_len = info.hash_key_size;
    if (info.reta_size == 0 || info.reta_size > SHIM_RETA_MAX)
        return 0;
    reta_of(groups, info.reta_size, 0);
    if (rte_eth_dev_rss_reta_query(port, groups, info.reta_size) != 0)
        return 0;
    for (at = 0; at < info.reta_size; at++)
        into->reta[at] = groups[at / RTE_ETH_RETA_GROUP_SIZE].reta[at % RTE_ETH_RETA_GROUP_SIZE];
    into->reta_len = info.reta_size;
    return 0;
}

int shim_rss_deal(uint16_t port, uint16_t queues)
{
    struct rte_eth_rss_reta_entry64 groups[SHIM_RETA_MAX / RTE_ETH_RETA_GROUP_SIZE];
    struct rte_eth_dev_info info;
    int failed = rte_eth_dev_info_get(port, &info);

    if (failed != 0)
        return failed;
    if (info.reta_size == 0 || info.reta_size > SHIM_RETA_MAX)
        return -ENOTSUP;
    reta_of(groups, info.reta_size, queues);
    return rte_eth_dev_rss_reta_update(port, groups, info.reta_size);
}

static int rss_rule_ah(uint16_t port, enum rte_flow_item_type ip)
{
    const struct rte_flow_attr attr = { .ingress = 1 };
    const struct rte_flow_item pattern[] = {
        { .type = RTE_FLOW_ITEM_TYPE_ETH },
        { .type = ip },
        { .type = RTE_FLOW_ITEM_TYPE_AH },
        { .type = RTE_FLOW_ITEM_TYPE_END },
    };
    const struct rte_flow_action_rss rss = { .func = RTE_ETH_HASH_FUNCTION_DEFAULT, .types = RTE_ETH_RSS_AH };
    const struct rte_flow_action actions[] = {
        { .type = RTE_FLOW_ACTION_TYPE_RSS, .conf = &rss },
        { .type = RTE_FLOW_ACTION_TYPE_END },
    };
    struct rte_flow_error error;

    memset(&error, 0, sizeof(error));
    if (rte_flow_create(port, &attr, pattern, actions, &error) != NULL)
        return 0;
    return rte_errno != 0 ? -rte_errno : -ENOTSUP;
}

/* Some drivers (ice, iavf) hash AH SPIs by a flow rule alone. The rules live as long as the port. One that takes the rule for IPv4
 * and not the one for IPv6 leaves the packets of the latter to be handed over. */
int shim_rss_rule_ah(uint16_t port)
{
    (void)rss_rule_ah(port, RTE_FLOW_ITEM_TYPE_IPV6);
    return rss_rule_ah(port, RTE_FLOW_ITEM_TYPE_IPV4);
}
