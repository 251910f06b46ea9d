/* The connection to `ain`: requests with a time limit, and one thread that reads, connects again and wakes once a second.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AIN_CHANNEL_H_
#define AIN_CHANNEL_H_

#include "frame.h"

typedef struct channel_t channel_t;

/** What became of a request. */
typedef enum {
	/** the answer's body can be read */
	ANSWER_OK,
	/** `ain` refused; its text is in the log */
	ANSWER_REFUSED,
	/** there is no connection, or none any more */
	ANSWER_LOST,
} answer_t;

/** Called by the channel's own thread, which holds no lock then. */
typedef struct {
	/** an EXPIRE, opened */
	void (*expired)(void *arg, frame_t *frame);
	/** as soon as there is a connection, and every second; `process` is `ain`'s, 0 without a connection */
	void (*tick)(void *arg, uint64_t process);
	void *arg;
} channel_events_t;

/** NULL if a thread or a random number is not to be had. */
channel_t *channel_create(const char *path, channel_events_t events);

/**
 * Sends a request, waits for its answer.
 *
 * @param request	wiped when sent
 * @param patient	whether to wait for a connection too, where there is none
 * @param process	set to the process of `ain` that was asked; may be NULL
 * @param answer	opened if ANSWER_OK
 */
answer_t channel_ask(channel_t *channel, frame_t *request, bool patient, uint64_t *process, frame_t *answer);

/** Sends a request whose answer nobody waits for; whether it went out. */
bool channel_post(channel_t *channel, frame_t *request);

/** Fails whoever waits, ends the thread. */
void channel_destroy(channel_t *channel);

#endif
