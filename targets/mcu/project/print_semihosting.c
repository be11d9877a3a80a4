/* SPDX-License-Identifier: Apache-2.0 */
#include "print.h"

#include "semihosting.h"

void qc_print(const char *text)
{
    qc_semihosting_print(text);
}
