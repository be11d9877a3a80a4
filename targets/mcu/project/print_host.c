/* SPDX-License-Identifier: Apache-2.0 */
#include "print.h"

#include <stdio.h>

void qc_print(const char *text)
{
    (void)fputs(text, stdout);
}
