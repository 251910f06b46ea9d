/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef AIN_ABI_H_
#define AIN_ABI_H_

#include <stdbool.h>

/** Whether libcharon and libstrongswan of this process are the builds that the plugin was compiled for; says in the log if not. */
bool abi_fits(void);

#endif
