// C simulation: the network on a few frames, every output compared with the reference interpreter's.
#include <stdio.h>

#include "flat.h"
#include "vectors.h"

static int32_t computed[QC_OUTPUTS];

int main() {
    int differing = 0;
    for (int v = 0; v < QC_VECTORS; ++v) {
        qc_run(qc_vector_inputs[v], computed, 1);
        for (int i = 0; i < QC_OUTPUTS; ++i) {
            differing += computed[i] != qc_vector_outputs[v][i];
        }
    }
    printf("%d vectors, %d of %d values differ\n", QC_VECTORS, differing, QC_VECTORS * QC_OUTPUTS);
    return differing == 0 ? 0 : 1;
}
