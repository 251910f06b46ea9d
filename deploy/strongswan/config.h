/* How Debian configures strongSwan (debian/rules), as far as its headers look different for it. headers.sh checks ME.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AIN_CONFIG_H_
#define AIN_CONFIG_H_

#define CONFIG_H_INCLUDED
#define ME 1 /* --enable-mediation: members of daemon_t and ike_sa_t */
#define HAVE_CLOCK_GETTIME 1
#define HAVE_CLOSEFROM 1
#define HAVE_CONDATTR_CLOCK_MONOTONIC 1
#define HAVE_EXPLICIT_BZERO 1
#define HAVE_FMEMOPEN 1
#define HAVE_GCC_ATOMIC_OPERATIONS 1
#define HAVE_INT128 1
#define HAVE_MEMRCHR 1
#define HAVE_SIGWAITINFO 1
#define HAVE_STDBOOL_H 1
#define HAVE__BOOL 1
#define HAVE_SYSLOG 1

#endif
