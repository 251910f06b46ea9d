/* Messages of the socket (docs/ike-socket.md), put together and taken apart.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AIN_FRAME_H_
#define AIN_FRAME_H_

#include <ipsec/ipsec_types.h>
#include <networking/host.h>
#include <selectors/traffic_selector.h>

enum {
	FRAME_MAX = 4096,
	HEADER_LEN = 8,
	NAME_LEN = 40,
};

/** Types of messages. */
enum {
	MSG_HELLO = 1,
	MSG_SPI = 2,
	MSG_ADD = 3,
	MSG_UPDATE = 4,
	MSG_QUERY = 5,
	MSG_DELETE = 6,
	MSG_FLUSH = 7,
	MSG_POLICY = 8,
	MSG_OK = 128,
	MSG_REFUSED = 129,
	MSG_EXPIRE = 130,
};

typedef struct frame_t frame_t;

/** A message, or as much of it as has been put together or read. */
struct frame_t {
	uint8_t bytes[FRAME_MAX];
	/** how many of them there are */
	size_t len;
	/** where the next one is read */
	size_t at;
	/** whether something did not fit, or was not there */
	bool bad;
};

/** An empty message. Its id is written by the channel. */
void frame_init(frame_t *frame, uint8_t type);

void put_u8(frame_t *frame, uint8_t value);
void put_u16(frame_t *frame, uint16_t value);
void put_u32(frame_t *frame, uint32_t value);
void put_u64(frame_t *frame, uint64_t value);
void put_bytes(frame_t *frame, const void *bytes, size_t len);
/** A key, after its length. */
void put_key(frame_t *frame, chunk_t key);
void put_address(frame_t *frame, host_t *host);
void put_selector(frame_t *frame, traffic_selector_t *ts);
/** A list of traffic selectors after their number; too many make it bad. */
void put_selectors(frame_t *frame, linked_list_t *list);

/** Where the id stands. */
void frame_set_id(frame_t *frame, uint32_t id);
/** Checks the header of what came in; reading begins after it. */
bool frame_open(frame_t *frame, size_t len);
uint8_t frame_type(const frame_t *frame);
uint32_t frame_id(const frame_t *frame);

uint8_t take_u8(frame_t *frame);
uint64_t take_u64(frame_t *frame);
/** Four bytes as they are: libcharon keeps SPIs in network order. */
uint32_t take_spi(frame_t *frame);
/** NULL for what is no address; the caller destroys it. */
host_t *take_address(frame_t *frame);

#endif
