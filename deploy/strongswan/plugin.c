/* What libcharon calls: a kernel_ipsec_t whose kernel is `ain`.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#include <time.h>

#include <daemon.h>
#include <kernel/kernel_ipsec.h>
#include <plugins/plugin.h>

#include "abi.h"
#include "book.h"
#include "channel.h"

#define DEFAULT_SOCKET "/run/ain/ike.sock"

enum {
	FLAG_ESN = 1,
	FLAG_ENCAP = 2,
	FLAG_INITIATOR = 4,
};

typedef struct {
	kernel_ipsec_t public;
	channel_t *channel;
	book_t *book;
} ipsec_t;

static void put_name(frame_t *frame, kernel_ipsec_sa_id_t *id, policy_dir_t direction)
{
	put_u8(frame, (uint8_t)direction);
	put_u8(frame, id->proto);
	put_bytes(frame, &id->spi, sizeof(id->spi));
	put_address(frame, id->src);
	put_address(frame, id->dst);
}

/** The same where libcharon does not say the direction: the book knows it. */
static void put_known_name(ipsec_t *this, frame_t *frame, kernel_ipsec_sa_id_t *id)
{
	put_name(frame, id, POLICY_IN);
	if (book_has_outbound(this->book, frame->bytes + HEADER_LEN))
	{
		frame->bytes[HEADER_LEN] = POLICY_OUT;
	}
}

static status_t as_status(answer_t answer)
{
	return answer == ANSWER_OK ? SUCCESS : FAILED;
}

METHOD(kernel_ipsec_t, get_features, kernel_feature_t, ipsec_t *this)
{
	(void)this;
	return 0;
}

METHOD(kernel_ipsec_t, get_spi, status_t, ipsec_t *this, host_t *src, host_t *dst, uint8_t protocol, uint32_t *spi)
{
	frame_t request, answer;

	frame_init(&request, MSG_SPI);
	put_u8(&request, protocol);
	put_address(&request, src);
	put_address(&request, dst);
	if (channel_ask(this->channel, &request, true, NULL, &answer) != ANSWER_OK)
	{
		return FAILED;
	}
	*spi = take_spi(&answer);
	return answer.bad || !*spi ? FAILED : SUCCESS;
}

METHOD(kernel_ipsec_t, get_cpi, status_t, ipsec_t *this, host_t *src, host_t *dst, uint16_t *cpi)
{
	(void)this;
	(void)src;
	(void)dst;
	(void)cpi;
	return NOT_SUPPORTED;
}

static void put_lifetime(frame_t *frame, lifetime_cfg_t *lifetime)
{
	put_u64(frame, lifetime->time.rekey);
	put_u64(frame, lifetime->time.life);
	put_u64(frame, lifetime->packets.rekey);
	put_u64(frame, lifetime->packets.life);
	put_u64(frame, lifetime->bytes.rekey);
	put_u64(frame, lifetime->bytes.life);
}

static void put_sa(frame_t *frame, kernel_ipsec_add_sa_t *data)
{
	bool sealed = data->enc_alg != ENCR_UNDEFINED, proven = data->int_alg != AUTH_UNDEFINED;

	put_u16(frame, sealed ? data->enc_alg : 0);
	put_key(frame, sealed ? data->enc_key : chunk_empty);
	put_u16(frame, proven ? data->int_alg : 0);
	put_key(frame, proven ? data->int_key : chunk_empty);
	put_u8(frame, (data->esn ? FLAG_ESN : 0) | (data->encap ? FLAG_ENCAP : 0) | (data->initiator ? FLAG_INITIATOR : 0));
	put_u8(frame, (uint8_t)data->mode);
	put_u16(frame, data->tfc > UINT16_MAX ? UINT16_MAX : (uint16_t)data->tfc);
	put_u32(frame, data->replay_window);
	put_u32(frame, data->reqid);
	put_lifetime(frame, data->lifetime);
	put_selectors(frame, data->src_ts);
	put_selectors(frame, data->dst_ts);
}

METHOD(kernel_ipsec_t, add_sa, status_t, ipsec_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_add_sa_t *data)
{
	frame_t request, answer;
	uint8_t name[NAME_LEN];
	uint64_t process;
	answer_t outcome;

	if (data->ipcomp != IPCOMP_NONE)
	{
		DBG1(DBG_KNL, "ain compresses nothing: set ipcomp = no");
		return FAILED;
	}
	frame_init(&request, MSG_ADD);
	put_name(&request, id, data->inbound ? POLICY_IN : POLICY_OUT);
	memcpy(name, request.bytes + HEADER_LEN, sizeof(name));
	put_sa(&request, data);
	outcome = channel_ask(this->channel, &request, false, &process, &answer);
	if (outcome != ANSWER_REFUSED)
	{	/* nobody knows whether `ain` has what was lost: charon deletes it, or it is rekeyed */
		book_added(this->book, name, outcome == ANSWER_OK ? process : 0, data->reqid);
	}
	return as_status(outcome);
}

METHOD(kernel_ipsec_t, update_sa, status_t, ipsec_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_update_sa_t *data)
{
	frame_t request, answer;

	frame_init(&request, MSG_UPDATE);
	put_known_name(this, &request, id);
	put_address(&request, data->new_src);
	put_address(&request, data->new_dst);
	put_u8(&request, data->new_encap ? FLAG_ENCAP : 0);
	/* what charon makes of it is new SAs, which `ain` takes or not */
	return channel_ask(this->channel, &request, false, NULL, &answer) == ANSWER_OK ? SUCCESS : NOT_SUPPORTED;
}

METHOD(kernel_ipsec_t, query_sa, status_t, ipsec_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_query_sa_t *data, uint64_t *bytes,
	   uint64_t *packets, time_t *time_used)
{
	frame_t request, answer;
	uint64_t counted[3];
	time_t now = time(NULL);
	size_t i;

	(void)data;
	frame_init(&request, MSG_QUERY);
	put_known_name(this, &request, id);
	if (channel_ask(this->channel, &request, false, NULL, &answer) != ANSWER_OK)
	{
		return FAILED;
	}
	for (i = 0; i < countof(counted); i++)
	{
		counted[i] = take_u64(&answer);
	}
	if (answer.bad)
	{
		return FAILED;
	}
	*(packets ?: &counted[0]) = counted[0];
	*(bytes ?: &counted[1]) = counted[1];
	if (time_used)
	{	/* of the clock that libcharon uses */
		time_t ago = counted[2] >= (uint64_t)now ? 0 : now - (time_t)counted[2];

		*time_used = counted[2] ? time_monotonic(NULL) - ago : 0;
	}
	return SUCCESS;
}

METHOD(kernel_ipsec_t, del_sa, status_t, ipsec_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_del_sa_t *data)
{
	frame_t request, answer;
	uint8_t name[NAME_LEN];
	answer_t told;

	(void)data;
	frame_init(&request, MSG_DELETE);
	put_known_name(this, &request, id);
	memcpy(name, request.bytes + HEADER_LEN, sizeof(name));
	if (book_keeps(this->book, name))
	{
		return SUCCESS;
	}
	told = channel_ask(this->channel, &request, false, NULL, &answer);
	book_deleted(this->book, name, told != ANSWER_LOST);
	return SUCCESS;
}

METHOD(kernel_ipsec_t, flush_sas, status_t, ipsec_t *this)
{
	frame_t request, answer;

	frame_init(&request, MSG_FLUSH);
	return as_status(channel_ask(this->channel, &request, false, NULL, &answer));
}

/** A policy; without a connection it goes through, since SAs bring their traffic selectors again. */
static status_t tell_policy(ipsec_t *this, kernel_ipsec_policy_id_t *id, uint32_t reqid, bool add)
{
	frame_t request, answer;

	frame_init(&request, MSG_POLICY);
	put_u8(&request, (uint8_t)id->dir);
	put_u8(&request, add);
	put_selector(&request, id->src_ts);
	put_selector(&request, id->dst_ts);
	put_u32(&request, reqid);
	return channel_ask(this->channel, &request, false, NULL, &answer) == ANSWER_REFUSED ? FAILED : SUCCESS;
}

/** Whether charon sets a trap with this policy, towards a peer that it knows. */
static bool is_trap(kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	return id->dir == POLICY_OUT && data->type == POLICY_IPSEC && data->prio == POLICY_PRIORITY_ROUTED && !data->dst->is_anyaddr(data->dst);
}

METHOD(kernel_ipsec_t, add_policy, status_t, ipsec_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	if (tell_policy(this, id, data->sa->reqid, true) != SUCCESS)
	{
		return FAILED;
	}
	if (is_trap(id, data))
	{
		book_trapped(this->book, data->sa->reqid, chunk_compare(data->src->get_address(data->src), data->dst->get_address(data->dst)) < 0);
	}
	return SUCCESS;
}

METHOD(kernel_ipsec_t, query_policy, status_t, ipsec_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_query_policy_t *data, time_t *use_time)
{
	(void)this;
	(void)id;
	(void)data;
	(void)use_time;
	return NOT_SUPPORTED;
}

METHOD(kernel_ipsec_t, del_policy, status_t, ipsec_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	if (is_trap(id, data))
	{
		book_untrapped(this->book, data->sa->reqid);
	}
	return tell_policy(this, id, data->sa->reqid, false);
}

METHOD(kernel_ipsec_t, flush_policies, status_t, ipsec_t *this)
{
	(void)this;
	return SUCCESS;
}

METHOD(kernel_ipsec_t, bypass_socket, bool, ipsec_t *this, int fd, int family)
{	/* no policy of `ain` is about the machine's own sockets */
	(void)this;
	(void)fd;
	(void)family;
	return TRUE;
}

METHOD(kernel_ipsec_t, enable_udp_decap, bool, ipsec_t *this, int fd, int family, uint16_t port)
{
	(void)this;
	(void)fd;
	(void)family;
	(void)port;
	return FALSE;
}

METHOD(kernel_ipsec_t, destroy, void, ipsec_t *this)
{
	if (this->channel)
	{
		book_close(this->book, this->channel);
		channel_destroy(this->channel);
	}
	book_destroy(this->book);
	free(this);
}

static void expired(void *arg, frame_t *frame)
{
	uint8_t protocol = take_u8(frame);
	uint32_t spi = take_spi(frame);
	host_t *to = take_address(frame);
	uint8_t hard = take_u8(frame);

	(void)arg;
	if (to && !frame->bad)
	{
		charon->kernel->expire(charon->kernel, protocol, spi, to, hard);
	}
	DESTROY_IF(to);
}

static void tick(void *arg, uint64_t process)
{
	ipsec_t *this = arg;

	book_tick(this->book, this->channel, process);
}

static kernel_ipsec_t *ipsec_create(void)
{
	char *path = lib->settings->get_str(lib->settings, "%s.plugins.kernel-ain.socket", DEFAULT_SOCKET, lib->ns);
	ipsec_t *this;

	INIT(this,
		.public = {
			.get_features = _get_features,
			.get_spi = _get_spi,
			.get_cpi = _get_cpi,
			.add_sa = _add_sa,
			.update_sa = _update_sa,
			.query_sa = _query_sa,
			.del_sa = _del_sa,
			.flush_sas = _flush_sas,
			.add_policy = _add_policy,
			.query_policy = _query_policy,
			.del_policy = _del_policy,
			.flush_policies = _flush_policies,
			.bypass_socket = _bypass_socket,
			.enable_udp_decap = _enable_udp_decap,
			.destroy = _destroy,
		},
		.book = book_create(),
	);
	this->channel = channel_create(path, (channel_events_t){ .expired = expired, .tick = tick, .arg = this });
	if (!this->channel)
	{
		destroy(this);
		return NULL;
	}
	return &this->public;
}

METHOD(plugin_t, get_name, char *, plugin_t *this)
{
	(void)this;
	return "kernel-ain";
}

METHOD(plugin_t, get_plugin_features, int, plugin_t *this, plugin_feature_t *features[])
{
	static plugin_feature_t all[] = {
		PLUGIN_CALLBACK(kernel_ipsec_register, ipsec_create),
		PLUGIN_PROVIDE(CUSTOM, "kernel-ipsec"),
	};

	(void)this;
	*features = all;
	return countof(all);
}

METHOD(plugin_t, plugin_destroy, void, plugin_t *this)
{
	free(this);
}

/** Called by libstrongswan's loader. */
plugin_t *kernel_ain_plugin_create(void);

plugin_t *kernel_ain_plugin_create(void)
{
	plugin_t *this;

	if (!abi_fits())
	{
		return NULL;
	}
	INIT(this,
		.get_name = _get_name,
		.get_features = _get_plugin_features,
		.destroy = _plugin_destroy,
	);
	return this;
}
