/* What the plugin remembers: names of SAs, never keys, and the traps that charon has set.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AIN_BOOK_H_
#define AIN_BOOK_H_

#include "channel.h"

typedef struct book_t book_t;

book_t *book_create(void);
void book_destroy(book_t *book);

/** An SA that `process` of `ain` has taken; 0: nobody knows. `name` has NAME_LEN bytes, as on the socket. */
void book_added(book_t *book, const uint8_t *name, uint64_t process, uint32_t reqid);
/**
 * Whether an SA that charon deletes stays with `ain` for some seconds, because nothing else carries its traffic and charon is to make a
 * successor: the other end has begun anew, or both are about to. The book tells `ain` when they are over.
 */
bool book_keeps(book_t *book, const uint8_t *name);
/** An SA that charon has deleted; `told` whether `ain` knows. */
void book_deleted(book_t *book, const uint8_t *name, bool told);

/** Whether it has this name as one of an outbound SA, whatever direction the name says. */
bool book_has_outbound(book_t *book, const uint8_t *name);

/** Charon wants SAs with this `reqid`. `first`: this end of the tunnel begins, if both could. */
void book_trapped(book_t *book, uint32_t reqid, bool first);
/** One of what `book_trapped` told is over. */
void book_untrapped(book_t *book, uint32_t reqid);

/** Tells `ain` at once of all that is deleted. */
void book_close(book_t *book, channel_t *channel);

/**
 * Makes up for what was missed: deletes what `ain` was not told of, has charon rekey what an earlier process of `ain` took with it, and
 * bring up what is wanted and not there.
 *
 * @param process	of `ain` now; 0: there is none, and nothing happens
 */
void book_tick(book_t *book, channel_t *channel, uint64_t process);

#endif
