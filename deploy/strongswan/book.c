/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "book.h"

#include <daemon.h>
#include <threading/mutex.h>

enum {
	/** what has no successor is expired again */
	EXPIRE_AGAIN_S = 5,
	/** and after this for good */
	EXPIRE_HARD_S = 20,
	/** head start of the end that begins: of a trap that is new, and of one whose SAs are gone (their successors may be on the way) */
	HEAD_START_S = 2,
	GONE_S = 1,
	/** how long what has no successor yet is kept after charon has deleted it */
	GRACE_S = 5,
	/** between attempts; doubled by each that came to nothing */
	ATTEMPT_MIN_S = 5,
	ATTEMPT_MAX_S = 60,

	/** places in a name */
	AT_DIRECTION = 0,
	AT_PROTOCOL = 1,
	AT_SPI = 2,
	AT_DESTINATION = 23,
};

typedef struct {
	uint8_t name[NAME_LEN];
	uint64_t process;
	uint32_t reqid;
	/** charon has deleted it, `ain` does not know yet */
	bool gone;
	/** since when `process` is over; 0: it is not */
	time_t orphan;
	/** when it is expired again or, once it is gone, `ain` is told */
	time_t due;
} sa_t;

typedef struct {
	uint32_t reqid;
	bool first;
	/** policies of the trap */
	u_int policies;
	/** outbound SAs that are there */
	u_int standing;
	time_t due;
	u_int pause;
} trap_t;

struct book_t {
	mutex_t *mutex;
	/** sa_t */
	linked_list_t *sas;
	/** trap_t */
	linked_list_t *traps;
};

book_t *book_create(void)
{
	book_t *this;

	INIT(this,
		.mutex = mutex_create(MUTEX_TYPE_DEFAULT),
		.sas = linked_list_create(),
		.traps = linked_list_create(),
	);
	return this;
}

void book_destroy(book_t *this)
{
	this->sas->destroy_function(this->sas, free);
	this->traps->destroy_function(this->traps, free);
	this->mutex->destroy(this->mutex);
	free(this);
}

static trap_t *find_trap(book_t *this, uint32_t reqid)
{
	enumerator_t *all = this->traps->create_enumerator(this->traps);
	trap_t *trap, *found = NULL;

	while (!found && all->enumerate(all, &trap))
	{
		found = trap->reqid == reqid ? trap : NULL;
	}
	all->destroy(all);
	return found;
}

static bool stands(const sa_t *sa)
{
	return !sa->gone && sa->name[AT_DIRECTION] == POLICY_OUT;
}

void book_added(book_t *this, const uint8_t *name, uint64_t process, uint32_t reqid)
{
	trap_t *trap;
	sa_t *sa;

	INIT(sa,
		.process = process,
		.reqid = reqid,
	);
	memcpy(sa->name, name, NAME_LEN);
	this->mutex->lock(this->mutex);
	this->sas->insert_last(this->sas, sa);
	trap = stands(sa) ? find_trap(this, reqid) : NULL;
	if (trap)
	{
		trap->standing++;
		trap->pause = ATTEMPT_MIN_S;
	}
	this->mutex->unlock(this->mutex);
}

/** An SA is over for charon: what waits for it to be there counts again. */
static void fall(book_t *this, const sa_t *sa)
{
	trap_t *trap = stands(sa) ? find_trap(this, sa->reqid) : NULL;

	if (trap && --trap->standing == 0)
	{
		trap->due = time_monotonic(NULL) + GONE_S + (trap->first ? 0 : HEAD_START_S);
	}
}

/** Whether no other SA has its direction and its traffic. */
static bool is_last(book_t *this, const sa_t *sa)
{
	enumerator_t *all = this->sas->create_enumerator(this->sas);
	bool last = true;
	sa_t *other;

	while (last && all->enumerate(all, &other))
	{
		last = other == sa || other->gone || other->reqid != sa->reqid || other->name[AT_DIRECTION] != sa->name[AT_DIRECTION];
	}
	all->destroy(all);
	return last;
}

/** The SA of that name that charon has not deleted. */
static sa_t *find_sa(book_t *this, const uint8_t *name)
{
	enumerator_t *all = this->sas->create_enumerator(this->sas);
	sa_t *sa, *found = NULL;

	while (!found && all->enumerate(all, &sa))
	{
		found = !sa->gone && memeq(sa->name, name, NAME_LEN) ? sa : NULL;
	}
	all->destroy(all);
	return found;
}

bool book_keeps(book_t *this, const uint8_t *name)
{
	bool keeps;
	sa_t *sa;

	this->mutex->lock(this->mutex);
	sa = find_sa(this, name);
	keeps = sa && find_trap(this, sa->reqid) && is_last(this, sa);
	if (keeps)
	{
		fall(this, sa);
		sa->gone = true;
		sa->due = time_monotonic(NULL) + GRACE_S;
	}
	this->mutex->unlock(this->mutex);
	return keeps;
}

void book_deleted(book_t *this, const uint8_t *name, bool told)
{
	sa_t *sa;

	this->mutex->lock(this->mutex);
	sa = find_sa(this, name);
	if (sa)
	{
		fall(this, sa);
		sa->gone = true;
		if (told)
		{
			this->sas->remove(this->sas, sa, NULL);
			free(sa);
		}
	}
	else if (!told)
	{	/* a number that has never become an SA */
		INIT(sa,
			.gone = true,
		);
		memcpy(sa->name, name, NAME_LEN);
		this->sas->insert_last(this->sas, sa);
	}
	this->mutex->unlock(this->mutex);
}

bool book_has_outbound(book_t *this, const uint8_t *name)
{
	enumerator_t *all;
	bool found = false;
	sa_t *sa;

	this->mutex->lock(this->mutex);
	all = this->sas->create_enumerator(this->sas);
	while (!found && all->enumerate(all, &sa))
	{
		found = stands(sa) && memeq(sa->name + AT_PROTOCOL, name + AT_PROTOCOL, NAME_LEN - AT_PROTOCOL);
	}
	all->destroy(all);
	this->mutex->unlock(this->mutex);
	return found;
}

/** Outbound SAs with a reqid. */
static u_int count_standing(book_t *this, uint32_t reqid)
{
	enumerator_t *all = this->sas->create_enumerator(this->sas);
	u_int standing = 0;
	sa_t *sa;

	while (all->enumerate(all, &sa))
	{
		standing += sa->reqid == reqid && stands(sa);
	}
	all->destroy(all);
	return standing;
}

void book_trapped(book_t *this, uint32_t reqid, bool first)
{
	trap_t *trap;

	this->mutex->lock(this->mutex);
	trap = find_trap(this, reqid);
	if (!trap)
	{
		INIT(trap,
			.reqid = reqid,
			.first = first,
			.standing = count_standing(this, reqid),
			.due = time_monotonic(NULL) + (first ? 0 : HEAD_START_S),
			.pause = ATTEMPT_MIN_S,
		);
		this->traps->insert_last(this->traps, trap);
	}
	trap->policies++;
	this->mutex->unlock(this->mutex);
}

void book_untrapped(book_t *this, uint32_t reqid)
{
	trap_t *trap;

	this->mutex->lock(this->mutex);
	trap = find_trap(this, reqid);
	if (trap && --trap->policies == 0)
	{
		this->traps->remove(this->traps, trap, NULL);
		free(trap);
	}
	this->mutex->unlock(this->mutex);
}

/** Has charon rekey an SA, or delete it and make it anew. */
static void expire(const sa_t *sa, bool hard)
{
	const uint8_t *address = sa->name + AT_DESTINATION;
	bool four = address[0] == 4;
	uint32_t spi;
	host_t *to;

	memcpy(&spi, sa->name + AT_SPI, sizeof(spi));
	to = host_create_from_chunk(four ? AF_INET : AF_INET6, chunk_create((uint8_t *)address + 1, four ? 4 : 16), 0);
	if (to)
	{
		charon->kernel->expire(charon->kernel, sa->name[AT_PROTOCOL], spi, to, hard);
		to->destroy(to);
	}
}

/** An SA of a process of `ain` that is over. */
static void replace(sa_t *sa, time_t now)
{
	if (!sa->orphan)
	{
		sa->orphan = now;
		sa->due = now;
	}
	if (now >= sa->due)
	{
		sa->due = now + EXPIRE_AGAIN_S;
		expire(sa, now - sa->orphan >= EXPIRE_HARD_S);
	}
}

/** Tells `ain` what is gone, as of `now`; what it cannot be told now is told later. */
static void tell_gone(book_t *this, channel_t *channel, time_t now)
{
	enumerator_t *all = this->sas->create_enumerator(this->sas);
	frame_t frame;
	sa_t *sa;

	while (all->enumerate(all, &sa))
	{
		if (sa->gone && now >= sa->due)
		{
			frame_init(&frame, MSG_DELETE);
			put_bytes(&frame, sa->name, NAME_LEN);
			if (!channel_post(channel, &frame))
			{
				break;
			}
			this->sas->remove_at(this->sas, all);
			free(sa);
		}
	}
	all->destroy(all);
}

static void replace_orphans(book_t *this, uint64_t process, time_t now)
{
	enumerator_t *all = this->sas->create_enumerator(this->sas);
	sa_t *sa;

	while (all->enumerate(all, &sa))
	{
		if (!sa->gone && sa->process != process)
		{
			replace(sa, now);
		}
	}
	all->destroy(all);
}

static void tick_traps(book_t *this, time_t now)
{
	enumerator_t *all = this->traps->create_enumerator(this->traps);
	kernel_acquire_data_t no_packet = {};
	trap_t *trap;

	while (all->enumerate(all, &trap))
	{
		if (!trap->standing && now >= trap->due)
		{
			trap->due = now + trap->pause;
			trap->pause = min(2 * trap->pause, (u_int)ATTEMPT_MAX_S);
			charon->kernel->acquire(charon->kernel, trap->reqid, &no_packet);
		}
	}
	all->destroy(all);
}

void book_close(book_t *this, channel_t *channel)
{
	this->mutex->lock(this->mutex);
	tell_gone(this, channel, time_monotonic(NULL) + GRACE_S);
	this->mutex->unlock(this->mutex);
}

void book_tick(book_t *this, channel_t *channel, uint64_t process)
{
	time_t now = time_monotonic(NULL);

	if (!process)
	{
		return;
	}
	this->mutex->lock(this->mutex);
	tell_gone(this, channel, now);
	replace_orphans(this, process, now);
	tick_traps(this, now);
	this->mutex->unlock(this->mutex);
}
