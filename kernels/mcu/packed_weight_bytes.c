/* Bytes of the packed weights of `channels` outputs of k inputs each: README.md, "Packed weights". */
#include "qc_internal.h"

int32_t qc_packed_weight_bytes(int32_t channels, int32_t k, int32_t weight_bits)
{
#if defined(QC_DSP)
    return ((channels + 1) / 2) * ((k + 3) / 4) * weight_bits;
#else
    return channels * (((k * weight_bits) + 7) / 8);
#endif
}
