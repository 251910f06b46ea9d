/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "frame.h"

enum {
	VERSION_BYTE = 1,
	ADDRESS_LEN = 16,
};

void frame_init(frame_t *frame, uint8_t type)
{
	frame->len = 0;
	frame->at = 0;
	frame->bad = false;
	put_u8(frame, VERSION_BYTE);
	put_u8(frame, type);
	put_u16(frame, 0);
	put_u32(frame, 0);
}

void put_bytes(frame_t *frame, const void *bytes, size_t len)
{
	if (frame->bad || len > sizeof(frame->bytes) - frame->len)
	{
		frame->bad = true;
		return;
	}
	memcpy(frame->bytes + frame->len, bytes, len);
	frame->len += len;
}

void put_u8(frame_t *frame, uint8_t value)
{
	put_bytes(frame, &value, sizeof(value));
}

void put_u16(frame_t *frame, uint16_t value)
{
	value = htobe16(value);
	put_bytes(frame, &value, sizeof(value));
}

void put_u32(frame_t *frame, uint32_t value)
{
	value = htobe32(value);
	put_bytes(frame, &value, sizeof(value));
}

void put_u64(frame_t *frame, uint64_t value)
{
	value = htobe64(value);
	put_bytes(frame, &value, sizeof(value));
}

void put_key(frame_t *frame, chunk_t key)
{
	if (key.len > UINT16_MAX)
	{
		frame->bad = true;
		return;
	}
	put_u16(frame, (uint16_t)key.len);
	put_bytes(frame, key.ptr, key.len);
}

/** An address of either family, padded to the length of the longer. */
static void put_raw_address(frame_t *frame, chunk_t address)
{
	static const uint8_t zeros[ADDRESS_LEN];

	if (address.len != 4 && address.len != ADDRESS_LEN)
	{
		frame->bad = true;
		return;
	}
	put_u8(frame, address.len == 4 ? 4 : 6);
	put_bytes(frame, address.ptr, address.len);
	put_bytes(frame, zeros, ADDRESS_LEN - address.len);
}

void put_address(frame_t *frame, host_t *host)
{
	put_raw_address(frame, host->get_address(host));
}

void put_selector(frame_t *frame, traffic_selector_t *ts)
{
	put_u8(frame, ts->get_protocol(ts));
	put_u16(frame, ts->get_from_port(ts));
	put_u16(frame, ts->get_to_port(ts));
	put_raw_address(frame, ts->get_from_address(ts));
	put_raw_address(frame, ts->get_to_address(ts));
}

void put_selectors(frame_t *frame, linked_list_t *list)
{
	enumerator_t *all;
	traffic_selector_t *ts;

	if (list->get_count(list) > UINT8_MAX)
	{
		frame->bad = true;
		return;
	}
	put_u8(frame, (uint8_t)list->get_count(list));
	all = list->create_enumerator(list);
	while (all->enumerate(all, &ts))
	{
		put_selector(frame, ts);
	}
	all->destroy(all);
}

void frame_set_id(frame_t *frame, uint32_t id)
{
	id = htobe32(id);
	memcpy(frame->bytes + 4, &id, sizeof(id));
}

bool frame_open(frame_t *frame, size_t len)
{
	frame->len = len;
	frame->at = HEADER_LEN;
	frame->bad = false;
	return len >= HEADER_LEN && frame->bytes[0] == VERSION_BYTE && frame->bytes[2] == 0 && frame->bytes[3] == 0;
}

uint8_t frame_type(const frame_t *frame)
{
	return frame->bytes[1];
}

uint32_t frame_id(const frame_t *frame)
{
	uint32_t id;

	memcpy(&id, frame->bytes + 4, sizeof(id));
	return be32toh(id);
}

/** Zeros for what is not there. */
static void take_bytes(frame_t *frame, void *bytes, size_t len)
{
	if (frame->bad || len > frame->len - frame->at)
	{
		frame->bad = true;
		memset(bytes, 0, len);
		return;
	}
	memcpy(bytes, frame->bytes + frame->at, len);
	frame->at += len;
}

uint8_t take_u8(frame_t *frame)
{
	uint8_t value;

	take_bytes(frame, &value, sizeof(value));
	return value;
}

uint64_t take_u64(frame_t *frame)
{
	uint64_t value;

	take_bytes(frame, &value, sizeof(value));
	return be64toh(value);
}

uint32_t take_spi(frame_t *frame)
{
	uint32_t spi;

	take_bytes(frame, &spi, sizeof(spi));
	return spi;
}

host_t *take_address(frame_t *frame)
{
	uint8_t family = take_u8(frame), bytes[ADDRESS_LEN];

	take_bytes(frame, bytes, sizeof(bytes));
	if (frame->bad || (family != 4 && family != 6))
	{
		frame->bad = true;
		return NULL;
	}
	return host_create_from_chunk(family == 4 ? AF_INET : AF_INET6, chunk_create(bytes, family == 4 ? 4 : ADDRESS_LEN), 0);
}
