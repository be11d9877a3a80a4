// What flows in every stream of the network, shown to whoever sets the hook. For tests on this machine.
#ifndef QC_TRACE_H
#define QC_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include <vector>

extern "C" {
extern void (*qc_trace_hook)(int32_t edge, const int32_t *elements, int32_t count);
}

template <class S> void qc_trace(int32_t edge, S &stream) {
    if (qc_trace_hook == 0) {
        return;
    }
    std::vector<int32_t> elements;
    for (size_t left = stream.size(); left > 0; --left) {
        const auto word = stream.read();
        for (const auto &element : word.lane) {
            elements.push_back((int32_t)element);
        }
        stream.write(word);
    }
    qc_trace_hook(edge, elements.data(), (int32_t)elements.size());
}

#define QC_TAP(edge, stream) qc_trace(edge, stream);

#endif
