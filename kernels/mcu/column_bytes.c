/* Bytes of one gathered column of k codes. */
#include "qc_internal.h"

int32_t qc_column_bytes(int32_t k)
{
#if defined(QC_DSP)
    return ((k + 3) / 4) * 8;
#else
    return k;
#endif
}
