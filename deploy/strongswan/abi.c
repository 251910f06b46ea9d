/* The build identifier that the linker gave to each library, against those of the installed libraries when the plugin was made.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "abi.h"

#include <elf.h>
#include <link.h>
#include <library.h>

typedef struct {
	/** beginning of its file's name */
	const char *name;
	/** hexadecimal, as readelf shows it */
	const char *expected;
	bool fits;
} wanted_t;

/** Whether a note section holds the build identifier. */
static bool notes_hold(const uint8_t *notes, size_t len, const char *expected)
{
	ElfW(Nhdr) head;
	char hex[2 * 64 + 1];
	size_t name_len, desc_len;

	while (len >= sizeof(head))
	{
		memcpy(&head, notes, sizeof(head));
		notes += sizeof(head);
		len -= sizeof(head);
		name_len = ((size_t)head.n_namesz + 3) & ~(size_t)3;
		desc_len = ((size_t)head.n_descsz + 3) & ~(size_t)3;
		if (name_len > len || desc_len > len - name_len)
		{
			return false;
		}
		if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == sizeof("GNU") && memeq(notes, "GNU", sizeof("GNU")) && head.n_descsz <= 64)
		{
			chunk_to_hex(chunk_create((uint8_t *)notes + name_len, head.n_descsz), hex, FALSE);
			return streq(hex, expected);
		}
		notes += name_len + desc_len;
		len -= name_len + desc_len;
	}
	return false;
}

static int look_at(struct dl_phdr_info *info, size_t size, void *arg)
{
	wanted_t *wanted = arg;
	const char *slash = info->dlpi_name ? strrchr(info->dlpi_name, '/') : NULL;
	const char *file = slash ? slash + 1 : info->dlpi_name;
	int i;

	(void)size;
	if (!file || !strpfx(file, wanted->name))
	{
		return 0;
	}
	for (i = 0; i < info->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];

		if (part->p_type == PT_NOTE && notes_hold((const uint8_t *)(info->dlpi_addr + part->p_vaddr), part->p_memsz, wanted->expected))
		{
			wanted->fits = true;
		}
	}
	return 1;
}

bool abi_fits(void)
{
	wanted_t wanted[] = {
		{ .name = "libstrongswan.so", .expected = AIN_LIBSTRONGSWAN_BUILD },
		{ .name = "libcharon.so", .expected = AIN_LIBCHARON_BUILD },
	};
	size_t i;

	for (i = 0; i < countof(wanted); i++)
	{
		dl_iterate_phdr(look_at, &wanted[i]);
		if (!wanted[i].fits)
		{
			DBG1(DBG_KNL, "kernel-ain was built for strongSwan " AIN_STRONGSWAN ", and this %s is another build: make the plugin again (make plugin)",
				 wanted[i].name);
			return false;
		}
	}
	return true;
}
