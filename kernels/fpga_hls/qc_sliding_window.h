// Pixels to windows: a circular memory of rows is read for one output row while the next rows come in.
#ifndef QC_SLIDING_WINDOW_H
#define QC_SLIDING_WINDOW_H

#include "qc_types.h"

namespace qc {

// C: height, width, groups = channels / lanes, out_height, out_width; kernel, stride, dilation, pad each _h and _w;
// span = rows of a window, rows_kept, fill; by_channel: all taps of a group of channels before the next group;
// word_t.

// Rows that must have come before output row y is written.
template <class C> inline int rows_before(int y) {
#pragma HLS INLINE
    if (y >= C::out_height) {
        return C::height;
    }
    const int rows = y * C::stride_h - C::pad_h + C::span;
    return rows < 0 ? 0 : (rows > C::height ? C::height : rows);
}

template <class C> void sliding_window(hls::stream<typename C::word_t> &in, hls::stream<typename C::word_t> &out) {
    const int row_words = C::width * C::groups;
    const int taps = C::kernel_h * C::kernel_w;
    typename C::word_t rows[C::rows_kept][C::width * C::groups];
    int slot_in = 0, at_in = 0;               // where the next word goes
    int slot_top = 0;                         // slot of the first row of the window, whether or not it exists
    if (C::rows_kept < C::height) {
        slot_top = (C::rows_kept - C::pad_h % C::rows_kept) % C::rows_kept;
    }
    for (int i = 0; i < rows_before<C>(0) * row_words; ++i) {
#pragma HLS PIPELINE II=1
        rows[slot_in][at_in] = in.read();
        if (++at_in == row_words) {
            at_in = 0;
            slot_in = slot_in + 1 == C::rows_kept ? 0 : slot_in + 1;
        }
    }
    for (int y = 0; y < C::out_height; ++y) {
        const int reads = (rows_before<C>(y + 1) - rows_before<C>(y)) * row_words;
        const int writes = C::out_width * taps * C::groups;
        const int top = y * C::stride_h - C::pad_h;
        int x = 0, group = 0, ky = 0, kx = 0;
        for (int i = 0; i < (reads > writes ? reads : writes); ++i) {
#pragma HLS PIPELINE II=1
#pragma HLS DEPENDENCE variable=rows inter false
            if (i < writes) {
                const int row = top + ky * C::dilation_h;
                const int column = x * C::stride_w - C::pad_w + kx * C::dilation_w;
                typename C::word_t word;
                if (row >= 0 && row < C::height && column >= 0 && column < C::width) {
                    int slot = row;
                    if (C::rows_kept < C::height) {
                        slot = slot_top + ky * C::dilation_h;
                        slot = slot >= C::rows_kept ? slot - C::rows_kept : slot;
                    }
                    word = rows[slot][column * C::groups + group];
                } else {
                    for (int l = 0; l < C::lanes; ++l) {
#pragma HLS UNROLL
                        word.lane[l] = C::fill;
                    }
                }
                out.write(word);
                bool next_tap = true;
                if (!C::by_channel) {
                    next_tap = ++group == C::groups;
                    group = next_tap ? 0 : group;
                }
                if (next_tap && ++kx == C::kernel_w) {
                    kx = 0;
                    if (++ky == C::kernel_h) {
                        ky = 0;
                        const bool more_groups = C::by_channel && group + 1 < C::groups;
                        group = more_groups ? group + 1 : 0;
                        x = more_groups ? x : x + 1;
                    }
                }
            }
            if (i < reads) {
                rows[slot_in][at_in] = in.read();
                if (++at_in == row_words) {
                    at_in = 0;
                    slot_in = slot_in + 1 == C::rows_kept ? 0 : slot_in + 1;
                }
            }
        }
        slot_top += C::stride_h;
        slot_top = slot_top >= C::rows_kept ? slot_top - C::rows_kept : slot_top;
    }
}

}  // namespace qc

#endif
