/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <library.h>
#include <threading/condvar.h>
#include <threading/mutex.h>
#include <threading/thread.h>

enum {
	ANSWER_MS = 3000,
	TICK_MS = 1000,
	/** bytes of a text of `ain` that reach the log */
	TEXT_MAX = 300,
};

typedef struct waiter_t waiter_t;

/** A request that has no answer yet; it lives on the stack of whoever asks. */
struct waiter_t {
	uint32_t id;
	frame_t *answer;
	bool done;
	bool lost;
	waiter_t *next;
};

struct channel_t {
	struct sockaddr_un address;
	channel_events_t events;
	uint64_t session;
	thread_t *thread;
	/** an eventfd: the thread is to end */
	int stop;
	/** protects everything below */
	mutex_t *mutex;
	/** an answer has come, or the connection has come or gone */
	condvar_t *changed;
	/** closed by the thread alone */
	int fd;
	/** of `ain`; 0: no connection, or none that has been greeted */
	uint64_t process;
	uint32_t last_id;
	waiter_t *waiters;
	/** so that the log says once that there is no `ain` */
	bool absent_said;
};

/** Shows a text of `ain` in the log, whatever its bytes are. */
static void log_refusal(frame_t *frame)
{
	char text[TEXT_MAX + 1];
	size_t len = min(frame->len - frame->at, (size_t)TEXT_MAX), i;

	for (i = 0; i < len; i++)
	{
		uint8_t byte = frame->bytes[frame->at + i];

		text[i] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
	}
	text[len] = '\0';
	DBG1(DBG_KNL, "ain refuses: %s", text);
}

/** The connection is no good any more. Call with the mutex held. */
static void lose(channel_t *this)
{
	waiter_t *waiter;

	this->process = 0;
	if (this->fd >= 0)
	{
		shutdown(this->fd, SHUT_RDWR);
	}
	for (waiter = this->waiters; waiter; waiter = waiter->next)
	{
		if (!waiter->done)
		{
			waiter->done = waiter->lost = true;
		}
	}
	this->changed->broadcast(this->changed);
}

static bool send_frame(int fd, frame_t *frame)
{
	ssize_t sent = send(fd, frame->bytes, frame->len, MSG_NOSIGNAL);

	return sent == (ssize_t)frame->len;
}

static uint32_t new_id(channel_t *this)
{
	this->last_id = this->last_id == UINT32_MAX ? 1 : this->last_id + 1;
	return this->last_id;
}

static timeval_t in_ms(u_int ms)
{
	timeval_t tv;

	time_monotonic(&tv);
	tv.tv_sec += ms / 1000;
	tv.tv_usec += (suseconds_t)(ms % 1000) * 1000;
	if (tv.tv_usec >= 1000000)
	{
		tv.tv_usec -= 1000000;
		tv.tv_sec++;
	}
	return tv;
}

static void remove_waiter(channel_t *this, waiter_t *waiter)
{
	waiter_t **at = &this->waiters;

	while (*at != waiter)
	{
		at = &(*at)->next;
	}
	*at = waiter->next;
}

/** Sends and waits. Call with the mutex held and a connection. */
static void exchange(channel_t *this, frame_t *request, waiter_t *waiter)
{
	timeval_t deadline;

	waiter->id = new_id(this);
	frame_set_id(request, waiter->id);
	waiter->next = this->waiters;
	this->waiters = waiter;
	if (!send_frame(this->fd, request))
	{
		DBG1(DBG_KNL, "ain does not read: connection given up");
		lose(this);
	}
	deadline = in_ms(ANSWER_MS);
	while (!waiter->done)
	{
		if (this->changed->timed_wait_abs(this->changed, this->mutex, deadline) && !waiter->done)
		{
			DBG1(DBG_KNL, "ain does not answer: connection given up");
			lose(this);
		}
	}
	remove_waiter(this, waiter);
}

answer_t channel_ask(channel_t *this, frame_t *request, bool patient, uint64_t *process, frame_t *answer)
{
	waiter_t waiter = { .answer = answer, .lost = true };
	timeval_t deadline = in_ms(ANSWER_MS);

	if (request->bad)
	{
		DBG1(DBG_KNL, "a message for ain would be longer than %d bytes", FRAME_MAX);
		memwipe(request, sizeof(*request));
		return ANSWER_REFUSED;
	}
	this->mutex->lock(this->mutex);
	while (patient && !this->process && !this->changed->timed_wait_abs(this->changed, this->mutex, deadline));
	if (process)
	{
		*process = this->process;
	}
	if (this->process)
	{
		waiter.lost = false;
		exchange(this, request, &waiter);
	}
	this->mutex->unlock(this->mutex);
	memwipe(request, sizeof(*request));
	if (waiter.lost)
	{
		return ANSWER_LOST;
	}
	if (frame_type(answer) == MSG_OK)
	{
		return ANSWER_OK;
	}
	log_refusal(answer);
	return ANSWER_REFUSED;
}

bool channel_post(channel_t *this, frame_t *request)
{
	bool sent = false;

	this->mutex->lock(this->mutex);
	if (this->process && !request->bad)
	{
		frame_set_id(request, new_id(this));
		sent = send_frame(this->fd, request);
		if (!sent)
		{
			lose(this);
		}
	}
	this->mutex->unlock(this->mutex);
	return sent;
}

/** A connected socket, or -1. */
static int connect_socket(channel_t *this)
{
	/* a packet is sent whole or not at all; no request waits longer than this for room */
	struct timeval limit = { .tv_sec = ANSWER_MS / 1000 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
	{
		return -1;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
		connect(fd, (struct sockaddr *)&this->address, sizeof(this->address)) != 0)
	{
		if (!this->absent_said)
		{
			DBG1(DBG_KNL, "no ain at %s: %s", this->address.sun_path, strerror(errno));
			this->absent_said = true;
		}
		close(fd);
		return -1;
	}
	return fd;
}

/** Says HELLO; returns the process of `ain`, 0 if it does not answer as it should. */
static uint64_t greet(channel_t *this, int fd)
{
	frame_t frame;
	uint64_t process;
	uint32_t id = new_id(this);
	ssize_t got;

	frame_init(&frame, MSG_HELLO);
	frame_set_id(&frame, id);
	put_u64(&frame, this->session);
	put_bytes(&frame, AIN_STRONGSWAN, strlen(AIN_STRONGSWAN));
	if (!send_frame(fd, &frame))
	{
		return 0;
	}
	got = recv(fd, frame.bytes, sizeof(frame.bytes), 0);
	if (got < 0 || !frame_open(&frame, (size_t)got) || frame_id(&frame) != id)
	{
		return 0;
	}
	if (frame_type(&frame) == MSG_REFUSED)
	{
		log_refusal(&frame);
		return 0;
	}
	process = take_u64(&frame);
	return frame_type(&frame) == MSG_OK && !frame.bad ? process : 0;
}

static bool connect_channel(channel_t *this)
{
	uint64_t process;
	int fd = connect_socket(this);

	if (fd < 0)
	{
		return false;
	}
	process = greet(this, fd);
	if (!process)
	{
		if (!this->absent_said)
		{
			DBG1(DBG_KNL, "ain at %s does not answer as it should", this->address.sun_path);
			this->absent_said = true;
		}
		close(fd);
		return false;
	}
	DBG1(DBG_KNL, "connected to ain at %s", this->address.sun_path);
	this->absent_said = false;
	this->mutex->lock(this->mutex);
	this->fd = fd;
	this->process = process;
	this->changed->broadcast(this->changed);
	this->mutex->unlock(this->mutex);
	return true;
}

static void disconnect(channel_t *this)
{
	this->mutex->lock(this->mutex);
	lose(this);
	close(this->fd);
	this->fd = -1;
	this->mutex->unlock(this->mutex);
	DBG1(DBG_KNL, "connection to ain lost");
}

/** Gives an answer to whoever waits for it. */
static void deliver(channel_t *this, frame_t *frame)
{
	waiter_t *waiter;
	uint32_t id = frame_id(frame);

	this->mutex->lock(this->mutex);
	for (waiter = this->waiters; waiter; waiter = waiter->next)
	{
		if (waiter->id == id && !waiter->done)
		{
			*waiter->answer = *frame;
			waiter->done = true;
			this->changed->broadcast(this->changed);
			break;
		}
	}
	this->mutex->unlock(this->mutex);
}

/** Reads one message; false when the connection is over. */
static bool read_frame(channel_t *this)
{
	frame_t frame;
	ssize_t got = recv(this->fd, frame.bytes, sizeof(frame.bytes), MSG_DONTWAIT | MSG_TRUNC);

	if (got < 0)
	{
		return errno == EAGAIN || errno == EINTR;
	}
	if ((size_t)got > sizeof(frame.bytes) || !frame_open(&frame, (size_t)got))
	{
		if (got)
		{
			DBG1(DBG_KNL, "ain says what is not in docs/ike-socket.md: connection given up");
		}
		return false;
	}
	if (frame_type(&frame) == MSG_EXPIRE)
	{
		this->events.expired(this->events.arg, &frame);
	}
	else
	{
		deliver(this, &frame);
	}
	return true;
}

/** Waits for at most `ms` for something to read or the end; true when there is something to read. */
static bool wait_for(channel_t *this, int ms, bool *ended)
{
	struct pollfd polled[] = {
		{ .fd = this->stop, .events = POLLIN },
		{ .fd = this->fd, .events = POLLIN },
	};

	if (poll(polled, countof(polled), ms) <= 0)
	{
		return false;
	}
	*ended = polled[0].revents != 0;
	return polled[1].revents != 0;
}

static uint64_t now_ms(void)
{
	timeval_t tv;

	time_monotonic(&tv);
	return (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000;
}

/** The thread. A negative descriptor is none to poll(). */
static void *serve(channel_t *this)
{
	uint64_t next = 0, now, process;
	bool ended = false;

	while (!ended)
	{
		now = now_ms();
		if (now >= next)
		{
			if (this->fd < 0)
			{
				connect_channel(this);
			}
			this->mutex->lock(this->mutex);
			process = this->process;
			this->mutex->unlock(this->mutex);
			this->events.tick(this->events.arg, process);
			next = now_ms() + TICK_MS;
			now = next - TICK_MS;
		}
		if (wait_for(this, (int)(next - now), &ended) && !read_frame(this))
		{
			disconnect(this);
		}
	}
	return NULL;
}

channel_t *channel_create(const char *path, channel_events_t events)
{
	channel_t *this;

	INIT(this,
		.address = { .sun_family = AF_UNIX },
		.events = events,
		.stop = eventfd(0, EFD_CLOEXEC),
		.mutex = mutex_create(MUTEX_TYPE_DEFAULT),
		.changed = condvar_create(CONDVAR_TYPE_DEFAULT),
		.fd = -1,
	);
	if (strlen(path) >= sizeof(this->address.sun_path))
	{
		DBG1(DBG_KNL, "the path of ain's socket is too long");
	}
	else if (this->stop >= 0 && getrandom(&this->session, sizeof(this->session), 0) == sizeof(this->session))
	{
		memcpy(this->address.sun_path, path, strlen(path) + 1);
		this->thread = thread_create((thread_main_t)serve, this);
	}
	if (!this->thread)
	{
		channel_destroy(this);
		return NULL;
	}
	return this;
}

void channel_destroy(channel_t *this)
{
	if (this->thread)
	{
		eventfd_write(this->stop, 1);
		this->thread->join(this->thread);
	}
	if (this->fd >= 0)
	{
		close(this->fd);
	}
	if (this->stop >= 0)
	{
		close(this->stop);
	}
	this->changed->destroy(this->changed);
	this->mutex->destroy(this->mutex);
	free(this);
}
